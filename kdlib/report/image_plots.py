"""Pictures of what the networks see: test images, their probabilities, and the maps of hidden layers.

Which images are shown follows from a rule that the docstring names; none is chosen by eye.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from kdlib.datasets import Data
from kdlib.models import ConvNet
from kdlib.regressors import Regressor
from kdlib.report import figure
from kdlib.report.figure import GREY
from kdlib.study import STUDY

TELLING = 0.7  # a probability of the right class that leaves some for the others
EXTREME = 3  # standard deviations at which the colours of maps end
COUNT = 1000  # test images on which the share explained of each channel is computed


def dark_knowledge(data: Data, teacher: ConvNet, student: ConvNet, temperature: float, count: int = 6) -> Figure:
    """The probabilities of the teacher at T = 1 and at ``temperature``, and the student's, for some test images.

    Of each class the one which the teacher classifies correctly with a probability closest to 70 %, of the first
    ``count`` classes that have one.
    """
    logits = {"teacher": _logits(teacher, data), "student": _logits(student, data)}  # (M, classes)
    right, labels = logits["teacher"].softmax(1), data.test_labels.cpu()
    distance = (right.gather(1, labels[:, None])[:, 0] - TELLING).abs()
    distance[right.argmax(1) != labels] = torch.inf
    nearest = [int(torch.where(labels == number, distance, torch.inf).argmin()) for number in range(len(data.classes))]
    chosen = [index for index in nearest if distance[index] < torch.inf][:count]
    kinds = {
        "teacher, T = 1": ("teacher", 1.0, STUDY.arm("teacher").colour),
        f"teacher, T = {temperature:g}": ("teacher", temperature, GREY),
        "student, T = 1": ("student", 1.0, STUDY.arm("distill").colour),
    }
    columns = 3
    rows = max(1, -(-len(chosen) // columns))
    title = "Dark knowledge: the probabilities of the wrong classes"
    heights = [1, 2] * rows  # images, and below them their probabilities
    picture, axes = figure.new(
        title, data.name, "", 2 * rows, columns, 4.4 * rows + 0.6, squeeze=False, height_ratios=heights
    )
    places = np.arange(len(data.classes))
    above, below = axes[::2], axes[1::2]
    for image, panel, index in zip(above.flat, below.flat, chosen, strict=False):
        draw_image(image, data, index)
        image.set_title(f"true class: {data.classes[labels[index]]}")
        for number, (label, (network, divisor, colour)) in enumerate(kinds.items()):
            values = 100 * (logits[network][index] / divisor).softmax(0).numpy()
            panel.barh(places + (number - 1) * 0.27, values, 0.25, color=colour, label=label)
        panel.set(xlim=(0, 100), xlabel="probability (%)", ylim=(len(places) - 0.5, -0.5))
        panel.set_yticks(places, data.classes)
        panel.grid(False, axis="y")
    for panel in [*above.flat[len(chosen) :], *below.flat[len(chosen) :]]:
        panel.set_axis_off()
    if chosen:
        below[0, 0].legend(loc="center right")
    return picture


def hint_maps(
    data: Data, teacher: ConvNet, student: ConvNet, regressor: Regressor, explained: Tensor, count: int = 3
) -> Figure:
    """The hint, what the regressor predicts from the guided layer, and their difference, in three channels.

    They are the channels with the highest, the median and the lowest R² (see `explained_channels`); the images are the
    first test image of each of the first ``count`` classes.
    """
    order = explained.argsort(descending=True)
    channels = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    images = [_first_of_class(data, number) for number in range(count)]
    target, predicted = _hints(data.normalise(data.test_images[images]), teacher, student, regressor)  # (B, C, H, W)
    kinds = {"hint": target, "prediction": predicted, "difference": predicted - target}
    title = "Stage one: the hint, and what the student predicts of it"
    columns = 1 + len(channels) * len(kinds)
    picture, axes = figure.new(title, data.name, f"{COUNT:,} test images for R²", count, columns, 0.75 * count + 1.7)
    for row, index in zip(axes, images, strict=True):
        draw_image(row[0], data, index)
        row[0].set_ylabel(data.classes[data.test_labels[index]])
    for group, (name, channel) in enumerate(channels.items()):
        for place, (kind, maps) in enumerate(kinds.items()):
            column = axes[:, 1 + group * len(kinds) + place]
            for panel, values in zip(column, maps[:, channel], strict=True):
                colours = _map(panel, values, EXTREME)
            above = f"{name}: channel {channel + 1}\nR² = {explained[channel]:.2f}\n" if place == 1 else ""
            column[0].set_title(above + kind, fontsize="medium")
    picture.colorbar(colours, ax=axes, label="standard deviations of the channel", fraction=0.02)
    return picture


def explained_channels(data: Data, teacher: ConvNet, student: ConvNet, regressor: Regressor) -> Tensor:
    """R² of each channel of the target, on the first 1,000 test images: (C,)."""
    parts = [
        _hints(data.normalise(images), teacher, student, regressor) for images in data.test_images[:COUNT].split(250)
    ]
    target, predicted = (torch.cat(part) for part in zip(*parts, strict=True))
    return 1 - (predicted - target).square().mean((0, 2, 3)) / target.square().mean((0, 2, 3))


def fine_tuned(data: Data, before: ConvNet, after: ConvNet, stage: int) -> Figure:
    """The first filters, and maps of the guided layer at the end of ``stage``, before and after fine-tuning.

    Each filter, and each map, has the same scale before and after. The images are the first test image of each of the
    first two classes; the channels are the first ones.
    """
    count = 2
    times = {"after stage one": before, "after stage two": after}
    filters = [model.stages[0][0].weight.detach().cpu() for model in times.values()]  # (C, 3, 3, 3)
    columns = len(filters[0])
    title = "What fine-tuning changes: filters of the first convolution, maps of the guided layer"
    rows = 2 + 2 * count
    picture, axes = figure.new(title, data.name, "", rows, columns, 0.48 * rows + 1.2)
    scale = torch.stack(filters).abs().amax((0, 2, 3, 4))  # (C,)
    for row, values, time in zip(axes, filters, times, strict=False):
        for panel, weights, largest in zip(row, values, scale, strict=True):
            _show(panel, (weights / (2 * largest) + 0.5).permute(1, 2, 0))
        row[0].set_ylabel(f"filters\n{time}", rotation=0, ha="right", va="center")
    for number in range(count):
        index = _first_of_class(data, number)
        pair = axes[2 + 2 * number :][:2]
        with torch.inference_mode():
            image = data.normalise(data.test_images[index : index + 1])
            maps = [model.eval().features(image, through=stage)[0].cpu() for model in times.values()]  # (C, H, W)
        scale = torch.stack(maps).abs().amax((0, 2, 3))
        for row, values, time in zip(pair, maps, times, strict=True):
            draw_image(row[0], data, index)
            for panel, channel, largest in zip(row[1:], values, scale, strict=False):
                _map(panel, channel / largest, 1)
            row[0].set_ylabel(f"{data.classes[number]},\n{time}", rotation=0, ha="right", va="center")
    return picture


# Parts of pictures


def _logits(model: ConvNet, data: Data) -> Tensor:
    """Of all test images: (M, classes), on the CPU."""
    with torch.inference_mode():
        return torch.cat([model.eval()(images).cpu() for images, _ in data.test_batches()])


def _hints(images: Tensor, teacher: ConvNet, student: ConvNet, regressor: Regressor) -> tuple[Tensor, Tensor]:
    """The regressor's target and its prediction for normalised images, on the CPU: (B, C, H, W) each."""
    with torch.inference_mode():
        target = regressor.target(teacher.eval().features(images, through=regressor.stage))
        predicted = regressor.eval()(student.eval().features(images, through=regressor.stage))
    return target.cpu(), predicted.cpu()


def _first_of_class(data: Data, number: int) -> int:
    """The index of the first test image of a class."""
    return int((data.test_labels == number).nonzero()[0])


def _show(axes: Axes, pixels: Tensor) -> None:
    axes.imshow(pixels.cpu().numpy(), interpolation="nearest")
    _bare(axes)


def draw_image(axes: Axes, data: Data, index: int) -> None:
    """Draw a test image."""
    _show(axes, data.test_images[index])


def _map(axes: Axes, values: Tensor, extreme: float) -> AxesImage:
    colours = axes.imshow(values.numpy(), cmap="PuOr", vmin=-extreme, vmax=extreme, interpolation="nearest")
    _bare(axes)
    return colours


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[], frame_on=False)
    axes.grid(False)

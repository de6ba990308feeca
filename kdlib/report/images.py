"""Pictures of what the networks see: test images, and the maps of hidden layers.

Which images are shown follows from a rule that the docstring names; none is chosen by eye.
"""

from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from torch import Tensor

from kdlib.data import Data
from kdlib.models import GUIDED_BLOCK, ConvNet
from kdlib.regressors import Regressor
from kdlib.report import comparisons, plots, stats
from kdlib.storage.runs import Results

COUNT = 1000  # test images on which the R² of each channel is computed
EXTREME = 3  # standard deviations at which the colours of hints end
MAPPED = 2  # images whose hints are shown
SHOWN = 5  # images in a row of those won or lost


def hint_maps(data: Data, teacher: ConvNet, student: ConvNet, regressor: Regressor) -> Figure:
    """The hint, what the regressor predicts from the guided layer, and their difference, in three channels.

    They are those with the highest, the median and the lowest R² on the first 1,000 test images; the images are the
    first of each of the first two classes.
    """
    batches = data.test_images[:COUNT].split(250)
    parts = [_hints(data.normalise(images), teacher, student, regressor) for images in batches]
    target, predicted = (torch.cat(part) for part in zip(*parts, strict=True))  # (N, C, H, W)
    explained = 1 - (predicted - target).square().mean((0, 2, 3)) / target.square().mean((0, 2, 3))  # (C,)
    order = explained.argsort(descending=True)
    channels = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    images = [int((data.test_labels == number).nonzero()[0]) for number in range(MAPPED)]
    target, predicted = _hints(data.normalise(data.test_images[images]), teacher, student, regressor)  # (B, C, H, W)
    kinds = {"hint": target, "predicted": predicted, "error": predicted - target}
    title = "Stage one: the hint, and what the student predicts"
    layout = (len(channels), MAPPED * (1 + len(kinds)), 3.4)
    figure, axes = plots.new(title, data.name, f"R² on {min(COUNT, len(data.test_images)):,} test images", *layout)
    for row, (name, channel) in zip(axes, channels.items(), strict=True):
        label = f"{name}:\nchannel {channel + 1}\nR² = {explained[channel]:.2f}"
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
        for place, index in enumerate(images):
            image, *panels = row[place * (1 + len(kinds)) :][: 1 + len(kinds)]
            _show(image, data.test_images[index])
            for panel, (kind, maps) in zip(panels, kinds.items(), strict=True):
                colours = _show(panel, maps[place, channel], cmap="PuOr", vmin=-EXTREME, vmax=EXTREME)
                panel.set_title(kind if name == "best" else "", fontsize="medium")
    colour_bar = {"orientation": "horizontal", "fraction": 0.04, "label": "standard deviations of the channel"}
    figure.colorbar(colours, ax=axes, **colour_bar)
    return figure


def won_and_lost(data: Data, results: Results, seed: int, first: str, second: str) -> Figure:
    """The first test images that arm ``first`` classifies correctly and ``second`` does not, and the reverse."""
    results, title = results.only(seed), "Test images won and lost"
    arms = [results.study.arm(name) for name in (first, second)]
    pairs = results.together(first, second)
    if not pairs:
        return comparisons.new(results, f"{title}: one of the two was not trained", height=1)[0]
    one, other = pairs[0]
    figure, axes = comparisons.new(results, title, 2, SHOWN, 4.4)
    rows = (*arms, other), (*reversed(arms), one)  # who is right, who is wrong, and the record of the latter
    for row, only, (winner, loser, wrong) in zip(axes, stats.discordant(one, other), rows, strict=True):
        heading = f"right by {winner.title}, wrong by {loser.title}: {only.sum():,} images"
        # Not part of the layout, which would make the first column as wide as the heading.
        row[0].text(0, 1.1, heading, transform=row[0].transAxes).set_in_layout(False)
        indices = np.flatnonzero(only)[:SHOWN].tolist()
        for panel, index in zip(row, indices, strict=False):
            _show(panel, data.test_images[index])
            text = f"{data.classes[one.labels[index]]}\nnot {data.classes[wrong.predictions[index]]}"
            panel.set_xlabel(text)
        for panel in row[len(indices) :]:
            panel.set_axis_off()
    return figure


def _hints(images: Tensor, teacher: ConvNet, student: ConvNet, regressor: Regressor) -> tuple[Tensor, Tensor]:
    """The regressor's target and its prediction for normalised images, on the CPU: (B, C, H, W) each."""
    with torch.inference_mode():
        target = regressor.target(teacher.eval().features(images, through=GUIDED_BLOCK))
        predicted = regressor.eval()(student.eval().features(images, through=GUIDED_BLOCK))
    return target.cpu(), predicted.cpu()


def _show(axes: Axes, pixels: Tensor, **options: Any) -> AxesImage:
    """Draw pixels, without ticks and frame."""
    axes.set(xticks=[], yticks=[], frame_on=False)
    axes.grid(False)
    return axes.imshow(pixels.cpu().numpy(), interpolation="nearest", **options)

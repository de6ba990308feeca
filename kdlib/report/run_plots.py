"""Pictures of the data, and of one run: each takes records and returns a matplotlib `Figure`.

A model has the same colour in every picture, that of its arm in `study`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdlib.datasets import Data
from kdlib.report import figure, measures
from kdlib.report.figure import SPLITS, STYLES
from kdlib.storage.records import Record
from kdlib.study import STUDY

LOSS, ACCURACY = "loss (nats)", "accuracy (%)"


def display_name(record: Record) -> str:
    """A run's name in pictures, a reader's changes included: "student (distilled), temperature 8"."""
    _, *changes = re.split(r"-(?=[a-z])", record.run)
    return ", ".join([STUDY.arm(record.run).title, *(re.sub(r"^([a-z]+)", r"\1 ", change) for change in changes)])


def images(data: Data, count: int = 12) -> Figure:
    """The first ``count`` training images of each class, one class a row."""
    side = data.train_images.shape[1] + 2  # pixels, with the gap to the next image
    sheet = np.full((len(data.classes) * side, count * side, 3), 255, np.uint8)
    for row in range(len(data.classes)):
        for column, image in enumerate(data.train_images[data.train_labels == row][:count].cpu().numpy()):
            sheet[row * side :, column * side :][: side - 2, : side - 2] = image
    picture, axes = figure.new("Training images, class by class", data.name, height=8)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks((np.arange(len(data.classes)) + 0.5) * side, data.classes, fontsize="large")
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.grid(False)
    return picture


def four_plots(record: Record) -> Figure:
    """Training and validation × loss and accuracy, over the epochs."""
    picture, axes = _new(record, "loss and accuracy", 2, 2, 6)
    _losses_and_accuracies(axes, record)
    return picture


def losses_by_epoch(record: Record) -> Figure:
    """Total, soft and hard loss of a distilled student after each epoch, in training and validation."""
    return _three_losses(record, "losses over the epochs", _by_epoch)


def losses_by_step(record: Record) -> Figure:
    """Total, soft and hard loss of a distilled student on every training batch, with a running mean."""
    return _three_losses(record, "losses at each training step", _by_step)


def explained(record: Record, channels: Sequence[float]) -> Figure:
    """What stage one explains of the hint: R² after each epoch, and at the end of each of the hint's ``channels``."""
    picture, (over_epochs, by_channel) = _new(record, "the explained share of the hint", 1, 2, 3.8, sharey=True)
    for split in SPLITS:
        _curve(over_epochs, record, split, measures.explained(record, split))
    over_epochs.set(ylabel="R²")
    over_epochs.legend(loc="lower right")
    _title_with_r2(over_epochs, "all channels", record)
    by_channel.plot(range(1, len(channels) + 1), sorted(channels, reverse=True), ".-", color=_colour(record))
    by_channel.set(title="each channel of the hint, at the end", ylabel="R²", xlabel="channels, the best first")
    for panel in (over_epochs, by_channel):
        panel.axhline(0, color=figure.GREY, linewidth=1)
    over_epochs.set_ylim(min(-0.05, over_epochs.get_ylim()[0]), 1)
    return picture


def six_plots(stage_one: Record, stage_two: Record) -> Figure:
    """The note's six plots: hint loss per step and per epoch, then stage two's losses and accuracies."""
    picture, axes = _new(stage_two, "stage one (left) and stage two", 2, 3, 6)
    _hint_losses(axes[:, 0], stage_one)
    _title_with_r2(axes[1, 0], "hint loss over the epochs", stage_one)
    _losses_and_accuracies(axes[:, 1:], stage_two)
    return picture


def per_class(record: Record) -> Figure:
    """Bars of each class's accuracy, and the accuracy over all classes."""
    picture, axes = _new(record, "accuracy of each class")
    values, overall = measures.per_class(record), measures.accuracy(record)
    bars = axes.bar(values.index, values, color=_colour(record), alpha=0.7)
    if len(values) <= figure.MANY:
        axes.bar_label(bars, fmt="%.1f", padding=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    else:
        axes.tick_params("x", rotation=90, labelsize=6)
    axes.axhline(overall, color=figure.GREY, linestyle=":", label=f"all classes: {overall:.2f} %")
    axes.set(xlabel="true class", ylabel=f"validation {ACCURACY}", ylim=(0, 122), yticks=range(0, 101, 20))
    axes.grid(False, axis="x")
    axes.legend(loc="upper right")
    return picture


# Parts of pictures


def _new(record: Record, title: str, *layout: float, **options: Any) -> tuple[Figure, np.ndarray]:
    title = f"{display_name(record).capitalize()}: {title}"
    details = f"profile {record.profile}, seed {record.identity.seed}"
    return figure.new(title, record.identity.data["name"], details, *layout, **options)


def _colour(record: Record) -> str:
    return STUDY.arm(record.run).colour


def _curve(axes: Axes, record: Record, split: str, values: list[float]) -> None:
    axes.plot(record.epochs(split), values, STYLES[split], color=_colour(record), marker=".", label=SPLITS[split])
    figure.label_epochs(axes)


def _by_epoch(axes: Axes, record: Record, loss: str) -> None:
    for split in SPLITS:
        _curve(axes, record, split, getattr(record, split)[loss])
    axes.legend()


def _by_step(axes: Axes, record: Record, loss: str) -> None:
    """Draw a loss at each step, and its centred running mean over a window that suits their number."""
    values = pd.Series(record.steps[loss])
    window = max(5, len(values) // 50)
    axes.plot(values, color=_colour(record), alpha=0.3, linewidth=0.8, label="each step")
    mean = values.rolling(window, center=True, min_periods=1).mean()
    axes.plot(mean, color=_colour(record), label=f"mean of {window} steps")
    axes.set_xlabel("step")
    axes.legend()


def _three_losses(record: Record, title: str, draw: Callable[[Axes, Record, str], None]) -> Figure:
    picture, axes = _new(record, title, 1, 3, 3.8)
    alpha, temperature = record.identity.objective["alpha"], record.identity.objective["temperature"]
    titles = {
        "total": f"total: {alpha:g} · soft + {1 - alpha:g} · hard",
        "soft": f"soft: T² · KL(teacher ‖ student), T = {temperature:g}",
        "hard": "hard: cross-entropy",
    }
    for panel, loss in zip(axes, titles, strict=True):
        draw(panel, record, loss)
        panel.set_title(titles[loss])
        figure.log_losses(panel)
    return picture


def _losses_and_accuracies(axes: np.ndarray, record: Record) -> None:
    """Losses in the upper and accuracies in the lower row, training on the left of each."""
    for row, (curve, quantity) in zip(axes, (("total", LOSS), ("accuracy", ACCURACY)), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            _curve(panel, record, split, getattr(record, split)[curve])
            panel.set(title=f"{SPLITS[split]} {quantity.split()[0]}", ylabel=quantity)
        row[1].sharey(row[0])


def _hint_losses(panels: Iterable[Axes], record: Record) -> None:
    for panel, draw, when in zip(panels, (_by_step, _by_epoch), ("at each step", "over the epochs"), strict=True):
        draw(panel, record, "total")
        panel.set(title=f"hint loss {when}", ylabel="hint loss (s.d.² of the hint)")


def _title_with_r2(axes: Axes, title: str, record: Record) -> None:
    """Say in the title how much of the hint stage one explains; in red if that is next to nothing."""
    r2 = measures.final_explained(record)
    little = r2 < measures.LITTLE
    ending = ": almost nothing" if little else " at the end"
    axes.set_title(f"{title}\nR² = {r2:.2f}{ending}", color=figure.RED if little else "black")

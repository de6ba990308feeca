"""What all pictures of the report share, and the pictures of the data and of one run.

A picture takes records and returns a matplotlib `Figure`. A model has the same colour in every picture. Training is
dashed, the test split solid. A curve that a record lacks is left out.
"""

import io
import re
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kdlib.data import DATASETS, Data
from kdlib.report import stats
from kdlib.storage import files
from kdlib.storage.records import Record
from kdlib.study import STUDY

SPLITS = {"train": "training", "test": "test"}
STYLES = {"train": "--", "test": "-"}
GREY, RED, BAND = "#666666", "#B2182B", "#E5E5E5"
LOSS, ACCURACY = "loss (nats)", "accuracy (%)"

WIDTH = 6.5  # inches, so that labels of 10 points are 8 pixels high on a telephone, 390 pixels wide
DOTS_PER_INCH = 200  # of saved pictures
EXAMPLES = 12  # images of each class

_LOOK = {
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": BAND,
}  # fmt: skip


def new(
    title: str, dataset: str, details: str = "", rows: int = 1, columns: int = 1, height: float = 4.0, **options: Any
) -> tuple[Figure, Any]:
    """A figure with title and foot, and its axes; ``height`` in inches, ``options`` of ``plt.subplots``.

    The foot says what a picture was made from, in red if that is digits.
    """
    # Made through pyplot, or a notebook would not show it; closed at once, or it would show it twice.
    with plt.rc_context(_LOOK):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)
    plt.close(figure)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)  # inches, so that no label touches the edge
    figure.suptitle(title, fontsize="x-large")
    foot = ", ".join(filter(None, [DATASETS[dataset].title if dataset in DATASETS else dataset, details]))
    figure.supxlabel(foot, color=RED if dataset == "digits" else GREY, fontsize="medium", x=0.99, ha="right")
    return figure, axes


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write ``figure`` as PNG into ``folder``; return it, to be shown. Raises ``StorageError`` as `write_bytes`."""
    content = io.BytesIO()
    # Without matplotlib's version in it, the same records give the same file for longer.
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    files.write_bytes(folder / f"{name}.png", content.getvalue())
    return figure


def curve(record: Record, split: Literal["train", "test"], name: str) -> list[float]:
    """The values of a curve after each of the split's epochs; empty if the record has no such curve."""
    return getattr(record, split).get(name, [])


def label_epochs(axes: Axes) -> None:
    """A horizontal axis of whole epochs."""
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def log_losses(axes: Axes) -> None:
    """A logarithmic axis: the soft loss falls by a factor of ten in an epoch or two, and then by a few percent."""
    axes.set(yscale="log", ylabel="loss (nats, log scale)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def images(data: Data) -> Figure:
    """The first twelve training images of each class, one class a row."""
    side = data.train_images.shape[1] + 2  # pixels, with the gap to the next image
    sheet = np.full((len(data.classes) * side, EXAMPLES * side, 3), 255, np.uint8)
    for row in range(len(data.classes)):
        for column, image in enumerate(data.train_images[data.train_labels == row][:EXAMPLES].cpu().numpy()):
            sheet[row * side :, column * side :][: side - 2, : side - 2] = image
    figure, axes = new("Training images, class by class", data.name, height=6)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks((np.arange(len(data.classes)) + 0.5) * side, data.classes)
    axes.set(xticks=[], frame_on=False)
    axes.tick_params(length=0)
    axes.grid(False)
    return figure


def four_plots(record: Record) -> Figure:
    """Training and test × loss and accuracy, over the epochs."""
    figure, axes = _new(record, "loss and accuracy", 2, 2, 6)
    _losses_and_accuracies(axes, record)
    return figure


def six_plots(stage_one: Record, stage_two: Record) -> Figure:
    """The note's six plots: hint loss per step and per epoch, then stage two's losses and accuracies."""
    figure, axes = _new(stage_two, "stage one (above) and stage two", 3, 2, 8)
    for panel, draw, when in zip(axes[0], (_by_step, _by_epoch), ("at each step", "over the epochs"), strict=True):
        draw(panel, stage_one, "total")
        panel.set(title=f"hint loss {when}", ylabel="hint loss (s.d.² of the hint)")
    axes[0, 1].set_title(f"hint loss over the epochs\nR² = {stats.final_explained(stage_one):.2f} at the end")
    _losses_and_accuracies(axes[1:], stage_two)
    return figure


def losses(record: Record) -> Figure:
    """Total, soft and hard loss of a distilled student after each epoch, in training and test."""
    settings = record.identity.objective
    titles = {
        "total": f"total: {settings['alpha']:g} · soft + {1 - settings['alpha']:g} · hard",
        "soft": f"soft: T² · KL(teacher ‖ student), T = {settings['temperature']:g}",
        "hard": "hard: cross-entropy",
    }
    figure, axes = _new(record, "losses over the epochs", 3, 1, 7.8)
    for panel, (loss, title) in zip(axes, titles.items(), strict=True):
        _by_epoch(panel, record, loss)
        panel.set_title(title)
        log_losses(panel)
    return figure


def _new(record: Record, title: str, *layout: float, **options: Any) -> tuple[Figure, Any]:
    """The title names the run, a reader's changes included: "Student (distilled), temperature 8: …"."""
    _, *changes = re.split(r"-(?=[a-z])", record.run)
    name = ", ".join([STUDY.arm(record.run).title, *(re.sub(r"^([a-z]+)", r"\1 ", change) for change in changes)])
    details = f"profile {record.profile}, seed {record.identity.seed}"
    return new(f"{name[:1].upper()}{name[1:]}: {title}", record.identity.data["name"], details, *layout, **options)


def _colour(record: Record) -> str:
    return STUDY.arm(record.run).colour


def _curve(axes: Axes, record: Record, split: Literal["train", "test"], values: list[float]) -> None:
    if values:
        axes.plot(record.epochs(split), values, STYLES[split], color=_colour(record), marker=".", label=SPLITS[split])
    label_epochs(axes)


def _by_epoch(axes: Axes, record: Record, loss: str) -> None:
    for split in SPLITS:
        _curve(axes, record, split, curve(record, split, loss))
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


def _losses_and_accuracies(axes: np.ndarray, record: Record) -> None:
    """Losses in the upper and accuracies in the lower row, training on the left of each."""
    for row, (name, quantity) in zip(axes, (("total", LOSS), ("accuracy", ACCURACY)), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            _curve(panel, record, split, curve(record, split, name))
            panel.set(title=f"{SPLITS[split]} {quantity.split()[0]}", ylabel=quantity)
        row[1].sharey(row[0])

"""What all pictures of the report share: size, look, foot, saving.

Training is dashed, validation (the test split) solid. The foot says what a picture was made from, in red if that is not
CIFAR-10.
"""

import io
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kdlib.datasets import DATASETS
from kdlib.storage import files

STYLES = {"train": "--", "test": "-"}
SPLITS = {"train": "training", "test": "validation"}
GREY, RED, BAND = "#666666", "#B2182B", "#E5E5E5"

WIDTH = 10  # inches
DOTS_PER_INCH = 200  # of saved pictures
MANY = 20  # classes: of more, a picture has no room for numbers or for all names

_LOOK = {
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": BAND,
}  # fmt: skip


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write ``figure`` as PNG into ``folder``; return it, to be shown. Raises ``StorageError`` as `write_bytes`."""
    content = io.BytesIO()
    # Without matplotlib's version in it, the same records give the same file for longer.
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    files.write_bytes(folder / f"{name}.png", content.getvalue())
    return figure


def new(
    title: str, dataset: str, details: str = "", rows: int = 1, columns: int = 1, height: float = 4.0, **options: Any
) -> tuple[Figure, Any]:
    """A figure with title and foot, and its axes; ``height`` in inches, ``options`` of ``plt.subplots``.

    Made through pyplot, without which a notebook does not show it, and closed at once, so that the notebook shows it
    where it is returned and nowhere else.
    """
    with plt.rc_context(_LOOK):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)
    plt.close(figure)
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.06)  # inches, so that no label touches the edge
    figure.suptitle(title, fontsize="x-large")
    name = DATASETS[dataset].title if dataset in DATASETS else dataset
    foot = ", ".join(part for part in (name, details) if part)
    figure.supxlabel(foot, color=GREY if dataset == "cifar10" else RED, fontsize="small", x=0.99, ha="right")
    return figure, axes


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

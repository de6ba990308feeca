"""Every picture of the report: takes records, returns a matplotlib `Figure`.

A model has the same colour in all of them (Okabe and Ito's palette, which colour-blind readers can tell
apart); training is dashed, validation (the test split) solid. Each figure's foot says what it was made
from, in red if that is not CIFAR-10.
"""

import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kdlib import statistics, storage
from kdlib.datasets import Data
from kdlib.records import Record
from kdlib.statistics import MODELS, NAMES, Replicates

COLOURS = {
    "teacher": "#000000",
    "baseline": "#E69F00",
    "distill": "#56B4E9",
    "hint": "#CC79A7",
    "exp1": "#D55E00",
    "exp2": "#009E73",
}
STYLES = {"train": "--", "test": "-"}
SPLITS = {"train": "training", "test": "validation"}
LOSS, ACCURACY = "loss (nats)", "accuracy (%)"

WIDTH = 10  # inches
DOTS_PER_INCH = 200  # of saved pictures

_DATASETS = {"cifar10": "CIFAR-10", "digits": "handwritten digits, not CIFAR-10"}
_ERRORS = "share of the true class (%)"
_GREY, _RED = "#666666", "#B2182B"
_LOOK = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
}


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write ``figure`` as PNG into ``folder``, atomically; return it, to be shown.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    content = io.BytesIO()
    # Without matplotlib's version in it, the same records give the same file for longer.
    figure.savefig(content, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
    storage.write_bytes(folder / f"{name}.png", content.getvalue())
    return figure


def display_name(record: Record) -> str:
    """A run's name in figures, a reader's changes included: "student (distilled), temperature 8"."""
    run, *changes = re.split(r"-(?=[a-z])", record.run)
    return ", ".join([NAMES[run], *(re.sub(r"^([a-z]+)", r"\1 ", change) for change in changes)])


# The data


def images(data: Data, count: int = 12) -> Figure:
    """The first ``count`` training images of each class, one class a row."""
    side = data.train_images.shape[1] + 2  # pixels, with the gap to the next image
    sheet = np.full((len(data.classes) * side, count * side, 3), 255, np.uint8)
    for row in range(len(data.classes)):
        for column, image in enumerate(data.train_images[data.train_labels == row][:count].cpu().numpy()):
            sheet[row * side :, column * side :][: side - 2, : side - 2] = image
    figure, axes = _figure("Training images, class by class", _foot(data.name), height=8)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_yticks((np.arange(len(data.classes)) + 0.5) * side, data.classes, fontsize="large")
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.grid(False)
    return figure


# One run


def four_plots(record: Record) -> Figure:
    """Training and validation × loss and accuracy, over the epochs."""
    figure, axes = _run_figure(record, "loss and accuracy", 2, 2, 6)
    _losses_and_accuracies(axes, record)
    return figure


def losses_by_epoch(record: Record) -> Figure:
    """Total, soft and hard loss of a distilled student after each epoch, in training and validation."""
    figure, axes = _run_figure(record, "losses after each epoch", 1, 3, 3.8)
    for panel, (loss, title) in zip(axes, _loss_titles(record).items(), strict=True):
        for split in SPLITS:
            _by_epoch(panel, record, split, getattr(record, split)[loss])
        panel.set_title(title)
        _log_losses(panel)
        panel.legend()
    return figure


def losses_by_step(record: Record) -> Figure:
    """Total, soft and hard loss of a distilled student on every training batch, with a running mean."""
    figure, axes = _run_figure(record, "losses at each training step", 1, 3, 3.8)
    for panel, (loss, title) in zip(axes, _loss_titles(record).items(), strict=True):
        _by_step(panel, record, loss)
        panel.set_title(title)
        _log_losses(panel)
    return figure


def hint(record: Record) -> Figure:
    """Stage one: hint loss per step and per epoch, and the explained variance R² per epoch."""
    figure, (by_step, by_epoch, variance) = _run_figure(record, "learning to predict the teacher's hint", 1, 3, 3.8)
    _hint_losses(by_step, by_epoch, record)
    for split in SPLITS:
        _by_epoch(variance, record, split, statistics.explained(record, split))
    variance.axhline(0, color=_GREY, linewidth=1)
    variance.set(ylabel="R²", ylim=(min(-0.05, variance.get_ylim()[0]), 1))
    variance.legend()
    variance.set_title("explained variance")
    _mark_explained(variance, record)
    return figure


def six_plots(stage_one: Record, stage_two: Record) -> Figure:
    """The note's six plots: hint loss per step and per epoch, then stage two's losses and accuracies."""
    figure, axes = _run_figure(stage_two, "stage one (left) and stage two", 2, 3, 6)
    _hint_losses(*axes[:, 0], stage_one)
    _mark_explained(axes[1, 0], stage_one)
    _losses_and_accuracies(axes[:, 1:], stage_two)
    return figure


def per_class(record: Record) -> Figure:
    """Bars of each class's accuracy, and the accuracy over all classes."""
    figure, axes = _run_figure(record, "accuracy of each class", height=4)
    values, overall = statistics.per_class(record), statistics.accuracy(record)
    bars = axes.bar(values.index, values, color=_colour(record), alpha=0.7)
    axes.bar_label(bars, fmt="%.1f", padding=2, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    axes.axhline(overall, color=_GREY, linestyle=":", label=f"all classes: {overall:.2f} %")
    axes.set(xlabel="true class", ylabel=f"validation {ACCURACY}", ylim=(0, 122), yticks=range(0, 101, 20))
    axes.grid(False, axis="x")
    axes.legend(loc="upper right")
    return figure


def confusion(record: Record) -> Figure:
    """One model's confusion matrix as a heat map."""
    figure, axes = _run_figure(record, "what is taken for what (bold: right)", height=7)
    shares = _shares(record)
    figure.colorbar(_confusion(axes, shares, _highest_error([shares]), ".1f"), ax=axes, label=_ERRORS)
    return figure


# Records of one seed


def confusion_difference(student: Record, teacher: Record) -> Figure:
    """By how many points of a true class a student's confusion matrix differs from its teacher's."""
    title = f"{display_name(student)} minus {display_name(teacher)}: what is taken for what"
    figure, axes = _figure(title.capitalize(), _foot_of(student), height=7)
    change = _shares(student) - _shares(teacher)
    better = change * np.where(np.eye(len(change)), 1, -1)  # more on the diagonal, less beside it
    limit = change.abs().to_numpy().max() or 1.0
    sns.heatmap(better, ax=axes, cmap="RdBu", vmin=-limit, vmax=limit, annot=_texts(change, "+.1f"), fmt="",
                square=True, linewidths=0.5, cbar=False)  # fmt: skip
    _label_classes(axes)
    label = "share of the true class (points): the student is better where blue, worse where red"
    figure.colorbar(axes.collections[0], ax=axes, label=label, format=lambda value, _: f"{abs(value):g}")
    return figure


def confusions(runs: Mapping[str, Record]) -> Figure:
    """Confusion matrices of the five models of one seed, on one colour scale."""
    figure, axes = _figure("What is taken for what (bold: right)", _foot_of(runs["teacher"]), 2, 3, 7.4)
    *panels, spare = axes.flat
    spare.set_axis_off()
    shares = {model: _shares(runs[model]) for model in MODELS}
    for panel, model in zip(panels, MODELS, strict=True):
        colours = _confusion(panel, shares[model], _highest_error(shares.values()), ".0f")
        panel.set_title(f"{NAMES[model]}\n{statistics.accuracy(runs[model]):.2f} % right")
        panel.tick_params(labelsize="small")
    for panel in axes[:, 1:].flat:  # the classes stand in the same order as on the left
        panel.set(ylabel="", yticklabels=[])
    figure.colorbar(colours, cax=spare.inset_axes((0, 0, 0.06, 1)), label=_ERRORS)
    return figure


def agreement(runs: Mapping[str, Record]) -> Figure:
    """How often each two of the five models of one seed put a test image into the same class."""
    figure, axes = _figure("Same answer to the same image, right or wrong", _foot_of(runs["teacher"]), height=5)
    shares = [[statistics.agreement(runs[one], runs[other]) for other in MODELS[:-1]] for one in MODELS[1:]]
    table = pd.DataFrame(shares, [NAMES[model] for model in MODELS[1:]], [NAMES[model] for model in MODELS[:-1]])
    label = "test images with the same prediction (%)"
    repeated = np.triu(np.ones(table.shape, bool), k=1)  # each pair is shown once
    sns.heatmap(table, ax=axes, mask=repeated, cmap="viridis", annot=True, fmt=".1f", cbar_kws={"label": label})
    axes.tick_params(length=0, rotation=0)
    axes.grid(False)
    return figure


def reliability(runs: Mapping[str, Record]) -> Figure:
    """Reliability diagram: how often each of the five models is right when it is so or so sure."""
    foot = _foot_of(runs["teacher"])
    figure, (above, below) = _figure("Calibration", foot, 2, 1, 7, sharex=True, height_ratios=[3, 1])
    above.plot([0, 100], [0, 100], ":", color=_GREY, label="as often right as sure")
    for model in MODELS:
        bins = pd.DataFrame(runs[model].calibration).query("count > 0")
        error = statistics.calibration_error(runs[model])
        label = f"{NAMES[model]}: expected calibration error {error:.2f} points"
        above.plot(100 * bins["confidence"], 100 * bins["correct"], ".-", color=COLOURS[model], label=label)
        share = 100 * bins["count"] / bins["count"].sum()
        below.plot(100 * bins["confidence"], share, ".-", color=COLOURS[model])
    above.set(ylabel="correct predictions (%)", title="below the diagonal: more confident than right")
    below.set(xlabel="confidence, mean of a bin (%)", ylabel="images (%)", yscale="log")
    above.legend()
    return figure


# Replicates


def accuracy_curves(replicates: Replicates) -> Figure:
    """Test accuracy of the five models: over the epochs, and where they end, beside the note's figures for CIFAR-10."""
    figure, (curves, ends) = _figure(
        "Accuracy on the validation images", _foot_of_all(replicates), 1, 2, 5, width_ratios=[3, 2]
    )
    finals = {model: statistics.final_accuracy(replicates, model) for model in MODELS}
    # The note's figures are of CIFAR-10; beside those of digits they would mislead.
    comparable = all(runs["teacher"].dataset == "cifar10" for runs in replicates.values())
    worst_first = sorted(MODELS, key=lambda model: finals[model].mean)
    for row, model in enumerate(worst_first):
        _mean_and_range(curves, model, [runs[model].test["accuracy"] for runs in replicates.values()])
        final, look = finals[model], {"color": COLOURS[model], "markersize": 8}
        ends.errorbar(final.mean, row, xerr=final.half_width, fmt="o", capsize=4, **look)
        if comparable:
            note = float(statistics.NOTE["validation accuracy, best epoch"][model])
            ends.plot(note, row, "D", fillstyle="none", **look)
        ends.annotate(final.text(2, " %"), (final.mean, row), (0, 9), textcoords="offset points", ha="center")
    # The models part late: the first quarter of the epochs may begin below the frame.
    later = [line.get_ydata()[len(line.get_ydata()) // 4 :].min() for line in curves.lines]
    curves.set(title=f"after each epoch{_mean_of(replicates)}", ylabel=ACCURACY, ylim=(min(later) - 1, None))
    curves.legend(reverse=True)
    ends.plot([], [], "o", color=_GREY, label=f"here, with 95 % interval\nover {final.n:,} {final.source}")
    if comparable:
        ends.plot([], [], "D", color=_GREY, fillstyle="none", label="the note (best epoch)")
    ends.legend(loc="lower right")
    mean = f"\n(mean of {len(replicates)} seeds)" if len(replicates) > 1 else ""
    ends.set(title=f"after the last epoch{mean}", xlabel=ACCURACY, ylim=(-1.7, len(MODELS) - 0.4))
    ends.set_yticks(range(len(MODELS)), [NAMES[model] for model in worst_first])
    ends.margins(x=0.25)
    return figure


def loss_curves(replicates: Replicates) -> Figure:
    """Hard loss of the five models and soft loss of the three distilled ones, over the epochs.

    Unlike the totals, which each objective weighs in its own way, these compare.
    """
    figure, axes = _figure("Losses", _foot_of_all(replicates), 2, 2, 7, sharey="row")
    for row, loss in zip(axes, ("hard", "soft"), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            for model in MODELS:
                curves = [getattr(runs[model], split) for runs in replicates.values()]
                if "soft" in curves[0]:
                    _mean_and_range(panel, model, [curve[loss] for curve in curves], STYLES[split])
                elif loss == "hard":  # where there are only labels to learn from, it is all of the loss
                    _mean_and_range(panel, model, [curve["total"] for curve in curves], STYLES[split])
            panel.set_title(f"{SPLITS[split]}: {loss} loss{_mean_of(replicates)}")
            _log_losses(panel)
        row[1].legend()
    return figure


def differences(replicates: Replicates) -> Figure:
    """The paired differences in test accuracy with their 95 % intervals, and the band of the 0.8-point rule."""
    title = "Differences in validation accuracy, with 95 % intervals"
    figure, axes = _figure(title, _foot_of_all(replicates), height=4.6)
    axes.axvspan(-statistics.GAP, statistics.GAP, color="#E5E5E5")
    axes.set_title(f"an interval within ±{statistics.GAP} points (grey): no gap; wholly outside: a gap")
    axes.axvline(0, color=_GREY, linewidth=1)
    for row, (first, second) in enumerate(statistics.COMPARISONS):
        estimate = statistics.difference(replicates, first, second)
        axes.errorbar(estimate.mean, row, xerr=estimate.half_width, fmt="o", color="black", capsize=4)
        text = f"{statistics.signed(estimate.mean)}  {statistics.verdict(estimate)}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center")
    names = [f"{NAMES[first]} − {NAMES[second]}" for first, second in statistics.COMPARISONS]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"difference (points; intervals over {estimate.n:,} {estimate.source})")
    axes.grid(False, axis="y")
    return figure


# Parts of figures


def _figure(
    title: str, foot: Mapping[str, str], rows: int = 1, columns: int = 1, height: float = 4.0, **options: Any
) -> tuple[Figure, Any]:
    """A figure with title and foot, and its axes; ``height`` in inches.

    Made through pyplot, without which a notebook does not show it, and closed at once, so that the notebook shows
    it where it is returned and nowhere else.
    """
    with plt.rc_context(_LOOK):
        figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, height), layout="constrained", **options)
    plt.close(figure)
    figure.suptitle(title, fontsize="x-large")
    figure.supxlabel(**foot, fontsize="small", x=0.99, ha="right")
    return figure, axes


def _run_figure(record: Record, title: str, *shape: float, **options: Any) -> tuple[Figure, Any]:
    return _figure(f"{display_name(record).capitalize()}: {title}", _foot_of(record), *shape, **options)


def _foot(dataset: str, *details: str) -> dict[str, str]:
    colour = _GREY if dataset == "cifar10" else _RED
    return {"t": ", ".join([_DATASETS[dataset], *details]), "color": colour}


def _foot_of(record: Record) -> dict[str, str]:
    return _foot(record.dataset, f"profile {record.profile}", f"seed {record.seed}")


def _foot_of_all(replicates: Replicates) -> dict[str, str]:
    record = next(iter(replicates.values()))["teacher"]
    if len(replicates) == 1:
        return _foot_of(record)
    return _foot(record.dataset, f"profile {record.profile}", f"{len(replicates)} seeds")


def _mean_of(replicates: Replicates) -> str:
    return f" (mean and range of {len(replicates)} seeds)" if len(replicates) > 1 else ""


def _colour(record: Record) -> str:
    return COLOURS[record.run.split("-")[0]]


def _by_epoch(axes: Axes, record: Record, split: str, values: list[float]) -> None:
    epochs = range(1, len(values) + 1)
    axes.plot(epochs, values, STYLES[split], color=_colour(record), marker=".", label=SPLITS[split])
    _label_epochs(axes)


def _by_step(axes: Axes, record: Record, loss: str) -> None:
    values = pd.Series(record.steps[loss])
    window = max(5, len(values) // 50)
    mean = values.rolling(window, center=True, min_periods=1).mean()
    axes.plot(values, color=_colour(record), alpha=0.3, linewidth=0.8, label="each step")
    axes.plot(mean, color=_colour(record), label=f"mean of {window} steps")
    axes.set_xlabel("step")
    axes.legend()


def _mean_and_range(axes: Axes, model: str, values: list[list[float]], style: str = "-") -> None:
    """Draw the mean of one curve a seed, and the range of the seeds as a band."""
    curves = np.array(values)  # (seeds, epochs)
    epochs = np.arange(1, curves.shape[1] + 1)
    axes.plot(epochs, curves.mean(axis=0), style, color=COLOURS[model], marker=".", label=NAMES[model])
    if len(curves) > 1:
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=COLOURS[model], alpha=0.2, linewidth=0)
    _label_epochs(axes)


def _label_epochs(axes: Axes) -> None:
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _log_losses(axes: Axes) -> None:
    """A logarithmic axis: the soft loss falls by a factor of ten in an epoch or two, and then by a few percent."""
    axes.set(yscale="log", ylabel="loss (nats, log scale)")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())


def _losses_and_accuracies(axes: np.ndarray, record: Record) -> None:
    """Losses in the upper and accuracies in the lower row, training on the left of each."""
    for row, (curve, quantity) in zip(axes, (("total", LOSS), ("accuracy", ACCURACY)), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            _by_epoch(panel, record, split, getattr(record, split)[curve])
            panel.set(title=f"{SPLITS[split]} {quantity.split()[0]}", ylabel=quantity)
        row[1].sharey(row[0])


def _hint_losses(by_step: Axes, by_epoch: Axes, record: Record) -> None:
    _by_step(by_step, record, "total")
    for split in SPLITS:
        _by_epoch(by_epoch, record, split, getattr(record, split)["total"])
    by_epoch.legend()
    by_step.set_title("hint loss at each step")
    by_epoch.set_title("hint loss after each epoch")
    for panel in (by_step, by_epoch):
        panel.set_ylabel("hint loss (s.d.² of the hint)")


def _mark_explained(axes: Axes, record: Record) -> None:
    """Add to the title how much of the hint stage one explains; in red if that is next to nothing."""
    r2 = statistics.explained(record, "test")[-1]
    little = r2 < statistics.LITTLE
    text = f"R² = {r2:.2f}" + (": almost nothing" if little else " at the end")
    axes.set_title(f"{axes.get_title()}\n{text}", color=_RED if little else "black")


def _loss_titles(record: Record) -> dict[str, str]:
    alpha, temperature = record.settings["alpha"], record.settings["temperature"]
    return {
        "total": f"total: {alpha:g} · soft + {1 - alpha:g} · hard",
        "soft": f"soft: T² · KL(teacher ‖ student), T = {temperature:g}",
        "hard": "hard: cross-entropy",
    }


def _shares(record: Record) -> pd.DataFrame:
    """The confusion matrix in percent of each true class (row)."""
    counts = statistics.confusion(record)
    return 100 * counts.div(counts.sum(axis=1), axis=0)


def _highest_error(shares: Collection[pd.DataFrame]) -> float:
    return max((table - np.diag(np.diag(table))).to_numpy().max() for table in shares) or 1.0


def _confusion(axes: Axes, shares: pd.DataFrame, highest: float, digits: str) -> QuadMesh:
    """Draw a confusion matrix whose colours show the errors alone: what is right would outshine them."""
    texts = _texts(shares, digits)
    right = np.eye(len(shares), dtype=bool)
    sns.heatmap(shares, ax=axes, mask=right, cmap="Reds", vmin=0, vmax=highest, annot=texts, fmt="", square=True,
                linewidths=0.5, cbar=False)  # fmt: skip
    for number in range(len(shares)):
        axes.text(number + 0.5, number + 0.5, texts.iloc[number, number], ha="center", va="center", weight="bold")
    _label_classes(axes)
    return axes.collections[0]


def _texts(values: pd.DataFrame, digits: str) -> pd.DataFrame:
    """What stands in the cells: nothing where it would be a zero."""
    return values.map(lambda value: f"{value:{digits}}".replace("-", "−") if float(f"{value:{digits}}") else "")


def _label_classes(axes: Axes) -> None:
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    axes.tick_params("x", rotation=90)
    axes.tick_params("y", rotation=0)
    axes.grid(False)

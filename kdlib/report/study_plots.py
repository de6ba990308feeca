"""Pictures that compare the arms of a study: each takes its records and returns a matplotlib `Figure`.

An arm that was not run is named at the foot.
"""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from kdlib.design import GAP, Arm
from kdlib.report import figure, inference, measures, tables
from kdlib.report.figure import BAND, GREY, MANY, SPLITS, STYLES
from kdlib.report.inference import Estimate, signed
from kdlib.report.run_plots import ACCURACY
from kdlib.storage.runs import Replicate, Results

_ERRORS = "share of the true class (%)"


# Over the seeds


def accuracy_curves(results: Results) -> Figure:
    """Test accuracy of all models: over the epochs, and where they end, beside the note's figures for CIFAR-10."""
    estimates = {arm: inference.accuracy(results, arm.name) for arm in results.models}
    models = sorted(estimates, key=lambda arm: estimates[arm].mean)
    height = max(5.0, 0.7 * len(models) + 1.5)
    picture, (curves, ends) = new(results, "Accuracy on the validation images", 1, 2, height, width_ratios=[3, 2])
    # The note's figures are of CIFAR-10; beside those of digits they would mislead.
    comparable = results.any_record.identity.data["name"] == "cifar10"
    notes = results.study.note.figures.get("validation accuracy, best epoch", {}) if comparable else {}
    for row, arm in enumerate(models):
        final = estimates[arm]
        _mean_and_range(curves, results, arm, "test", "accuracy")
        look = {"color": arm.colour, "markersize": 8}
        ends.errorbar(final.mean, row, xerr=final.half_width, fmt="o", capsize=4, **look)
        if arm.name in notes:
            ends.plot(float(notes[arm.name]), row, "D", fillstyle="none", **look)
        ends.annotate(final.text(2, " %"), (final.mean, row), (0, 9), textcoords="offset points", ha="center")
    # The models part late: the first quarter of the epochs may begin below the frame.
    later = [line.get_ydata()[len(line.get_ydata()) // 4 :].min() for line in curves.lines]
    title = "over the epochs" + _of_seeds(results, " (mean and range of {} seeds)")
    curves.set(title=title, ylabel=ACCURACY, ylim=(min(later) - 1, None))
    curves.legend(reverse=True)
    ends.plot([], [], "o", color=GREY, label=f"here, with 95 % interval\nover {over(map(estimates.get, models))}")
    if notes:
        ends.plot([], [], "D", color=GREY, fillstyle="none", label="the note (best epoch)")
    ends.legend(loc="lower right")
    title = "after the final epoch" + _of_seeds(results, "\n(mean of {} seeds)")
    ends.set(title=title, xlabel=ACCURACY, ylim=(-1.7, len(models) - 0.4))
    ends.set_yticks(range(len(models)), [arm.title for arm in models])
    ends.margins(x=0.25)
    return picture


def loss_curves(results: Results) -> Figure:
    """Hard loss of all models and soft loss of the distilled ones, over the epochs.

    Unlike the totals, which each objective weighs in its own way, these compare.
    """
    picture, axes = new(results, "Losses", 2, 2, 7, sharey="row")
    for row, loss in zip(axes, ("hard", "soft"), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            for arm in results.models:
                # Without a teacher the hard loss is the whole, and there is no soft one.
                labels_alone = "hard" not in results.records(arm.name)[0].train
                if loss == "hard" or not labels_alone:
                    _mean_and_range(panel, results, arm, split, "total" if labels_alone else loss)
            panel.set_title(f"{SPLITS[split]}: {loss} loss" + _of_seeds(results, " (mean and range of {} seeds)"))
            figure.log_losses(panel)
        if row[1].lines:
            row[1].legend()
    return picture


def differences(results: Results) -> Figure:
    """The paired differences in test accuracy with their 95 % intervals, and the band of the 0.8-point rule.

    Primary contrasts have filled markers, exploratory ones open markers; strokes show the difference of each seed.
    """
    contrasts = inference.available(results, results.study.contrasts)
    title = "Differences in validation accuracy, with 95 % intervals"
    picture, axes = new(results, title, height=0.36 * len(contrasts) + 1.8)
    if not contrasts:
        axes.set_axis_off()
        axes.set_title("no contrast has both its arms trained")
        return picture
    axes.axvspan(-GAP, GAP, color=BAND)
    axes.set_title(
        f"an interval within ±{GAP} points (grey): no gap; wholly outside: a gap\n"
        "filled: primary; open: exploratory; strokes: single seeds"
    )
    axes.axvline(0, color=GREY, linewidth=1)
    estimates = [inference.difference(results, contrast) for contrast in contrasts]
    for row, (contrast, estimate) in enumerate(zip(contrasts, estimates, strict=True)):
        inside = "black" if contrast in results.study.primary else "white"
        axes.errorbar(estimate.mean, row, xerr=estimate.half_width, fmt="o", color="black", mfc=inside, capsize=4)
        if estimate.source == "seeds":
            axes.plot(seeds := inference.by_seed(results, contrast), [row - 0.2] * len(seeds), "|", color=GREY)
        text = f"{signed(estimate.mean)}  {inference.verdict(estimate)}"
        axes.text(1.02, row, text, transform=axes.get_yaxis_transform(), va="center")
    axes.set_yticks(range(len(contrasts)), [tables.title(results, contrast) for contrast in contrasts])
    axes.set_ylim(len(contrasts) - 0.4, -0.6)
    axes.set_xlabel(f"difference (points; intervals over {over(estimates)})")
    axes.grid(False, axis="y")
    return picture


# Of one seed


def confusions(results: Results, seed: int) -> Figure:
    """Confusion matrices of all models of one seed, on one colour scale."""
    models = tables.models_of(results, seed)
    rows = len(models) // 3 + 1
    title = "What is misclassified as what (bold: correct)"
    picture, axes = new(results.only(seed), title, rows, 3, 3.7 * rows, squeeze=False)
    counts = {arm: measures.confusion(record) for arm, record in models.items()}
    shares = {arm: 100 * table.div(table.sum(axis=1), axis=0) for arm, table in counts.items()}  # of the true class
    highest = max((table - np.diag(np.diag(table))).to_numpy().max() for table in shares.values()) or 1.0
    *panels, spare = axes.flat
    for panel, arm in zip(panels, models, strict=False):
        colours = _confusion(panel, shares[arm], highest)
        panel.set_title(f"{arm.title}\n{measures.accuracy(models[arm]):.2f} % correct")
        panel.tick_params(labelsize="small")
    for panel in axes[:, 1:].flat:  # the classes stand in the same order as on the left
        panel.set(ylabel="", yticklabels=[])
    for panel in [*panels[len(models) :], spare]:
        panel.set_axis_off()
    picture.colorbar(colours, cax=spare.inset_axes((0, 0, 0.06, 1)), label=_ERRORS)
    return picture


def agreement(results: Results, seed: int) -> Figure:
    """How often each two models of one seed put a test image into the same class."""
    models = tables.models_of(results, seed)
    names, runs = [arm.title for arm in models], list(models.values())
    title = "Same prediction for the same image, right or wrong"
    picture, axes = new(results.only(seed), title, height=max(5.0, 0.6 * len(models) + 2))
    if len(runs) < 2:
        axes.set_axis_off()
        axes.set_title("only one model was trained")
        return picture
    shares = [[measures.agreement(one, other) for other in runs[:-1]] for one in runs[1:]]
    table = pd.DataFrame(shares, names[1:], names[:-1])
    label = "test images with the same prediction (%)"
    repeated = np.triu(np.ones(table.shape, bool), k=1)  # each pair is shown once
    sns.heatmap(table, ax=axes, mask=repeated, cmap="viridis", annot=True, fmt=".1f", cbar_kws={"label": label})
    axes.tick_params(length=0, rotation=0)
    axes.grid(False)
    return picture


def reliability(results: Results, seed: int) -> Figure:
    """Reliability diagram: how often each model of one seed is right when it is so or so confident."""
    picture, (above, below) = new(results.only(seed), "Calibration", 2, 1, 7, sharex=True, height_ratios=[3, 1])
    above.plot([0, 100], [0, 100], ":", color=GREY, label="as often right as confident")
    for arm, record in tables.models_of(results, seed).items():
        bins = pd.DataFrame(record.calibration).query("count > 0")
        label = f"{arm.title}: expected calibration error {measures.calibration_error(record):.2f} points"
        above.plot(100 * bins["confidence"], 100 * bins["correct"], ".-", color=arm.colour, label=label)
        share = 100 * bins["count"] / bins["count"].sum()
        below.plot(100 * bins["confidence"], share, ".-", color=arm.colour)
    above.set(ylabel="correct predictions (%)", title="below the diagonal: more confident than right")
    below.set(xlabel="confidence, mean of a bin (%)", ylabel="images (%)", yscale="log")
    above.legend()
    return picture


def accuracy_over_minutes(results: Results, replicate: Replicate) -> Figure:
    """Test accuracy of each model of a replicate against the minutes that it was trained for.

    Students with a stage one begin when that has ended; what the teacher took is not added. Models whose timing is not
    kept are left out.
    """
    picture, axes = new(results.only(replicate.seed), "Accuracy against the time of training", height=5)
    for arm, record in tables.models_of(results, replicate.seed).items():
        before = [need for need in arm.needs if results.study.arm(need).stage == "stage one"]
        seconds = [replicate.run(name).timing().get("train_seconds", []) for name in (*before, arm.name)]
        if all(seconds):
            minutes = (sum(map(sum, seconds[:-1])) + np.cumsum(seconds[-1])) / 60
            tested = minutes[np.array(record.epochs("test")) - 1]
            label = f"{arm.title}: {measures.accuracy(record):.2f} % in {minutes[-1]:.1f} min"
            axes.plot(tested, record.test["accuracy"], ".-", color=arm.colour, label=label)
    axes.set(xlabel="minutes of training, tests aside", ylabel=f"validation {ACCURACY}", xlim=(0, None))
    axes.legend(loc="lower right")
    return picture


# Parts of pictures


def new(results: Results, title: str, *layout: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of a study, and its axes: `figure.new` with the study's records at the foot."""
    record, seeds = results.any_record, list(results.by_seed)
    details = [f"profile {record.profile}", f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"]
    missing = results.missing
    if missing:  # the foot has room for a few names
        titles = ", ".join(arm.title for arm in missing)
        details.append(f"not run: {titles if len(missing) < 6 else f'{len(missing)} of the arms'}")
    return figure.new(title, record.identity.data["name"], ", ".join(details), *layout, **options)


def _of_seeds(results: Results, text: str) -> str:
    """``text`` with the number of seeds in it: "3", or "2 to 3" where the models differ; nothing for a single seed."""
    counts = sorted({len(results.seeds(arm.name)) for arm in results.models})
    numbers = " to ".join(map(str, dict.fromkeys([counts[0], counts[-1]])))
    return text.format(numbers) if len(results.by_seed) > 1 else ""


def over(estimates: Iterable[Estimate]) -> str:
    """What the intervals are over: "3 seeds", or all that there is where they differ in that."""
    several = (estimate for estimate in estimates if not np.isnan(estimate.half_width))
    return " / ".join(dict.fromkeys(f"{estimate.n:,} {estimate.source}" for estimate in several))


def _mean_and_range(axes: Axes, results: Results, arm: Arm, split: Literal["train", "test"], name: str) -> None:
    """Draw the mean over an arm's seeds of the curve ``name``, and their range as a band."""
    records = results.records(arm.name)
    curves = np.array([getattr(record, split)[name] for record in records])  # (seeds, epochs)
    epochs = records[0].epochs(split)
    axes.plot(epochs, curves.mean(axis=0), STYLES[split], color=arm.colour, marker=".", label=arm.title)
    if len(curves) > 1:
        axes.fill_between(epochs, curves.min(axis=0), curves.max(axis=0), color=arm.colour, alpha=0.2, linewidth=0)
    figure.label_epochs(axes)


def _confusion(axes: Axes, shares: pd.DataFrame, highest: float) -> QuadMesh:
    """Draw a confusion matrix whose colours show the errors alone: correct predictions would outshine them.

    Only a matrix of a few classes has room for numbers.
    """
    few = len(shares) <= MANY
    texts = shares.map(lambda value: f"{value:.0f}" if round(value) else "")
    correct = np.eye(len(shares), dtype=bool)
    sns.heatmap(shares, ax=axes, mask=correct, cmap="Reds", vmin=0, vmax=highest, annot=texts if few else None, fmt="",
                square=True, linewidths=0.5 if few else 0, cbar=False)  # fmt: skip
    for number in range(len(shares) if few else 0):
        axes.text(number + 0.5, number + 0.5, texts.iloc[number, number], ha="center", va="center", weight="bold")
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params("x", length=0, rotation=90)
    axes.tick_params("y", length=0, rotation=0)
    axes.grid(False)
    return axes.collections[0]

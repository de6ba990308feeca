"""Pictures that compare arms: each takes `Results`, leaves out what was not run, and returns a matplotlib `Figure`."""

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kdlib.report import note, plots, stats
from kdlib.report.plots import ACCURACY, BAND, GREY, SPLITS, STYLES
from kdlib.report.stats import Estimate
from kdlib.storage.runs import Results
from kdlib.study import GAP, STUDY, Arm

# What is compared with S′ without a matrix, and the arms: what is without it, and its opposites.
WITH = (
    "same student:\nS′ without − S′ with",
    "note's protocol:\nS′ without − S with",
    "random rotation:\nS′ without − S′ with it",
)
MATRIX = {
    "guided layers frozen": ("wide_none_frozen", ("wide_learned_frozen", "exp1", "wide_random_frozen")),
    "all layers trained (fine-tuned)": ("wide_none_tuned", ("wide_learned_tuned", "exp2", "wide_random_tuned")),
}


def accuracy_curves(results: Results) -> Figure:
    """Test accuracy of all models: over the epochs, and where they end, beside the note's figures for CIFAR-10."""
    estimates, title = {arm: stats.mean_accuracy(results, arm.name) for arm in results.models}, "Test accuracy"
    models = sorted(estimates, key=lambda arm: estimates[arm].mean)
    figure, (curves, ends) = new(results, title, 2, 1, 6.2 + 0.6 * len(models))
    # The note's figures are of CIFAR-10: beside those of digits they would mislead.
    notes = note.FIGURES["test accuracy"] if results.any_record.identity.data["name"] == "cifar10" else {}
    for row, arm in enumerate(models):
        _mean_and_range(curves, results, arm, "test", "accuracy")
        _interval(ends, estimates[arm], row, arm.colour, estimates[arm].text(2, " %"))
        if arm.name in notes:
            ends.plot(float(notes[arm.name]), row, "D", fillstyle="none", color=arm.colour, markersize=8)
    # The models part late: the first quarter of the epochs may begin below the frame.
    later = [line.get_ydata()[len(line.get_ydata()) // 4 :].min() for line in curves.lines]
    curves.set(title="over the epochs" + _spread(results), ylabel=f"test {ACCURACY}", ylim=(min(later) - 1, None))
    curves.legend(reverse=True)
    ends.plot([], [], "o", color=GREY, label=f"here, with 95 % interval\nover {_over(estimates.values())}")
    if notes:
        ends.plot([], [], "D", color=GREY, fillstyle="none", label="the note (validation\naccuracy, best epoch)")
    ends.legend(loc="lower right")
    ends.set(title="after the final epoch", xlabel=f"test {ACCURACY}", xmargin=0.25, ylim=(-2.6, len(models) - 0.4))
    ends.set_yticks(range(len(models)), [arm.title for arm in models])
    return figure


def loss_curves(results: Results) -> Figure:
    """Hard loss of all models and soft loss of the distilled ones, over the epochs: unlike the totals these compare."""
    figure, axes = new(results, "Losses" + _spread(results), 2, 2, 7, sharey="row")
    for row, loss in zip(axes, ("hard", "soft"), strict=True):
        for panel, split in zip(row, SPLITS, strict=True):
            for arm in results.models:
                # Of a model that learns from the labels alone, the hard loss is the total.
                alone = results.records(arm.name)[0].identity.objective["name"] == "Classify"
                _mean_and_range(panel, results, arm, split, "total" if alone and loss == "hard" else loss)
            panel.set_title(f"{SPLITS[split]}: {loss} loss")
            plots.log_losses(panel)
    axes[1, 0].legend(*axes[0, 1].get_legend_handles_labels(), loc="upper right", labelspacing=0.2)
    return figure


def confusions(results: Results, seed: int) -> Figure:
    """Confusion matrices of all models of one seed, on one colour scale."""
    results = results.only(seed)
    models = {arm: results.records(arm.name)[0] for arm in results.models}
    rows = len(models) // 2 + 1
    figure, axes = new(results, "What is misclassified as what (bold: correct)", rows, 2, 3.6 * rows, squeeze=False)
    counts = map(stats.confusion, models.values())
    shares = [100 * table.div(table.sum(axis=1), axis=0) for table in counts]  # of the true class
    errors = [table - np.diag(np.diag(table)) for table in shares]
    colours = ScalarMappable(Normalize(0, max((table.to_numpy().max() for table in errors), default=0) or 1), "Reds")
    *panels, last = axes.flat
    for panel, (arm, record), table, wrong in zip(panels, models.items(), shares, errors, strict=False):
        # The colours show the errors alone: correct predictions would outshine them.
        texts = table.map(lambda value: f"{value:.0f}" if round(value) else "")
        sns.heatmap(wrong, ax=panel, cmap=colours.cmap, norm=colours.norm, annot=texts, fmt="", square=True,
                    linewidths=0.5, cbar=False)  # fmt: skip
        for text in panel.texts[:: len(table) + 1]:
            text.set_weight("bold")
        title = f"{arm.title}\n{stats.accuracy(record):.2f} % correct"
        panel.set(xlabel="predicted class", ylabel="true class", title=title)
        panel.tick_params("x", length=0, rotation=90)
        panel.tick_params("y", length=0, rotation=0)
        panel.grid(False)
    for panel in axes[:, 1:].flat:  # the classes stand in the same order as on the left
        panel.set(ylabel="", yticklabels=[])
    for panel in [*panels[len(models) :], last]:
        panel.set_axis_off()
    figure.colorbar(colours, cax=last.inset_axes((0, 0, 0.06, 1)), label="share of the true class (%)")
    return figure


def matrix(results: Results) -> Figure:
    """What leaving out the matrix changes, frozen and fine-tuned: S′ without one minus three students that had one."""
    title = "Test accuracy without the extra matrix, minus with it"
    pairs = [(without, other) for without, others in MATRIX.values() for other in others]
    estimates = {pair: stats.difference(results, *pair) for pair in pairs if results.seeds(*pair)}
    alike = len({estimate.over for estimate in estimates.values()}) == 1
    figure, axes = new(results, title, len(MATRIX), 1, 6.5, sharex=True, sharey=True)
    for panel, (end, (without, others)) in zip(axes, MATRIX.items(), strict=True):
        panel.axvspan(-GAP, GAP, color=BAND)
        panel.axvline(0, color=GREY, linewidth=1)
        panel.grid(False, axis="y")
        panel.set_title(f"stage two: {end}", fontsize="medium")
        panel.margins(x=0.35)  # for the texts
        for row, other in enumerate(others):
            if estimate := estimates.get((without, other)):
                text = f"{stats.signed(estimate.mean)} ({estimate.ends})" + ("" if alike else f", {estimate.over}")
                _interval(panel, estimate, row, results.study.arm(without).colour, text)
                values = stats.by_seed(results, without, other)
                panel.plot(values, [row + 0.2] * len(values), "o", color=GREY, markersize=4, alpha=0.6)
    ends = "← better with the matrix     better without it →\ndifference in test accuracy (points), grey: ±0.8"
    axes[-1].set_xlabel(f"{ends}\nintervals over {_over(estimates.values())}; dots: single seeds")
    axes[0].set_yticks(range(len(WITH)), WITH)
    axes[0].set_ylim(len(WITH) - 0.5, -0.5)
    return figure


def scales(results: Results) -> Figure:
    """Final test accuracy over the guided layers' learning rate: of exp. 2 and of the arms with another one, of which
    the frozen have the schedule of their group.
    """
    title, exp2 = "From frozen to fine-tuned guided layers", STUDY.arm("exp2")
    arms = [arm for arm in results.models if arm.settings == exp2.settings | {"guided_rate": arm.guided_rate}]
    arms = [arm for arm in arms if (arm.needs, arm.own) == (exp2.needs, exp2.own)]
    arms.sort(key=lambda arm: arm.guided_rate)
    figure, axes = new(results, title)
    estimates = [stats.mean_accuracy(results, arm.name) for arm in arms]
    for place, (arm, estimate) in enumerate(zip(arms, estimates, strict=True)):
        axes.errorbar(place, estimate.mean, yerr=estimate.half_width, fmt="o", capsize=4, color=arm.colour)
        axes.annotate(f"{estimate.mean:.2f}", (place, estimate.mean), (9, 0), textcoords="offset points", va="center")
    if results.seeds("distill"):
        mean, arm = stats.mean_accuracy(results, "distill").mean, results.study.arm("distill")
        axes.axhline(mean, color=arm.colour, linestyle="--", label=f"{arm.title}: {mean:.2f} %")
        axes.legend(loc="lower right")
    ends = {arm.name: f"\n{arm.title}" for arm in arms if arm.name in results.study.core}
    axes.set_xticks(range(len(arms)), [f"{arm.guided_rate:g}{ends.get(arm.name, '')}" for arm in arms])
    axes.set(xlabel="scale of the guided layers' learning rate in stage two", xlim=(-0.4, max(len(arms), 1) - 0.4),
             ylabel=f"test {ACCURACY}", title=f"after the final epoch; intervals over {_over(estimates)}")  # fmt: skip
    return figure


def cost(results: Results) -> Figure:
    """Final test accuracy over the epochs of both stages together: a line for each way to train S."""
    figure, axes = new(results, "What hints and more epochs gain")
    estimates, places = [], set()
    for number, way in enumerate(map(STUDY.arm, ("baseline", "distill", "exp2", "joint_distill"))):
        alike = [arm for arm in results.models if (arm.settings, arm.group, arm.own) == (way.settings, way.group, {})]
        points = {}  # {epochs: estimate}
        for arm in alike:
            if len(arm.needs) != len(way.needs) or not results.seeds(arm.name, *arm.needs):
                continue
            trained = [results.records(name)[0] for name in (arm.name, *arm.needs) if name != "teacher"]
            points[sum(len(record.epochs("train")) for record in trained)] = stats.mean_accuracy(results, arm.name)
        if not points:
            continue
        points = dict(sorted(points.items()))
        means, halves = [value.mean for value in points.values()], [value.half_width for value in points.values()]
        beside = [epochs * 1.01 ** (number - 1.5) for epochs in points]  # so that no interval hides another
        axes.errorbar(beside, means, yerr=halves, fmt="o-", capsize=4, color=way.colour, label=way.title)
        estimates, places = [*estimates, *points.values()], places | points.keys()
    axes.set(xscale="log", xlabel="epochs trained in all, stage one included (log scale)", ylabel=f"test {ACCURACY}",
             title=f"after the final epoch; intervals over {_over(estimates)}")  # fmt: skip
    axes.set_xticks(sorted(places), sorted(places), minor=False)
    axes.set_xticks([], minor=True)
    if places:
        axes.legend()
    return figure


def new(results: Results, title: str, *layout: float, **options: Any) -> tuple[Figure, Any]:
    """A figure of several arms, and its axes: `plots.new` with what the records are at the foot."""
    record, missing = results.any_record, results.missing
    seeds = [seed for seed, runs in results.by_seed.items() if runs]
    details = [f"profile {record.profile}", f"{len(seeds)} seeds" if len(seeds) > 1 else f"seed {seeds[0]}"]
    names = ", ".join(arm.title for arm in missing) if len(missing) < 3 else f"{len(missing)} arms"
    details += [f"not run: {names}"] * bool(missing)
    return plots.new(title, record.identity.data["name"], ", ".join(details), *layout, **options)


def _over(estimates: Iterable[Estimate]) -> str:
    """What the intervals are over: "3 seeds", or all that there is where they differ in that."""
    return " / ".join(dict.fromkeys(estimate.over for estimate in estimates))


def _spread(results: Results) -> str:
    """What the bands of `_mean_and_range` are."""
    return " (mean and range of the seeds)" if len(results.by_seed) > 1 else ""


def _interval(axes: Axes, end: Estimate, row: float, colour: str, text: str) -> None:
    """Draw a mean with its interval in a row, and a text above."""
    axes.errorbar(end.mean, row, xerr=end.half_width, fmt="o", color=colour, capsize=4)
    axes.annotate(text, (end.mean, row), (0, 6), textcoords="offset points", ha="center", va="bottom")


def _mean_and_range(axes: Axes, results: Results, arm: Arm, split: Literal["train", "test"], name: str) -> None:
    """Draw the mean over an arm's seeds of the curve ``name``, and their range as a band, if it has such a curve."""
    plots.label_epochs(axes)
    records = results.records(arm.name)
    if curves := [values for record in records if (values := plots.curve(record, split, name))]:  # one a seed
        epochs, low, high = records[0].epochs(split), np.min(curves, axis=0), np.max(curves, axis=0)
        axes.plot(epochs, np.mean(curves, axis=0), STYLES[split], color=arm.colour, marker=".", label=arm.title)
        if len(curves) > 1:
            axes.fill_between(epochs, low, high, color=arm.colour, alpha=0.2, linewidth=0)

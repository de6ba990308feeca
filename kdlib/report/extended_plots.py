"""Pictures of the arms beyond the note: each takes the records of a study and returns a matplotlib `Figure`."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.figure import Figure

from kdlib.design import Guidance
from kdlib.report import figure, inference, measures
from kdlib.report.figure import GREY
from kdlib.report.run_plots import ACCURACY
from kdlib.report.study_plots import new, over
from kdlib.storage.runs import Results


def explained(results: Results, ways: Iterable[Guidance]) -> Figure:
    """Hint loss and R² of each stage one on the test images over the epochs, means over the seeds; where R² ends."""
    ends = {
        way: inference.over_seeds(results, way.stage_one, measures.final_explained)
        for way in ways
        if results.seeds(way.stage_one)
    }
    order = sorted(ends, key=lambda way: ends[way].mean)
    picture, (losses, shares, last) = new(results, "How well stage one learns", 1, 3, 0.4 * len(ends) + 2.5)
    for row, way in enumerate(order):
        records, end, colour = results.records(way.stage_one), ends[way], results.study.arm(way.stage_one).colour
        loss = np.mean([record.test["total"] for record in records], axis=0)
        share = np.mean([measures.explained(record, "test") for record in records], axis=0)
        for panel, values in ((losses, loss), (shares, share)):
            panel.plot(records[0].epochs("test"), values, ".-", color=colour, label=way.title)
        last.errorbar(end.mean, row, xerr=end.half_width, fmt="o", capsize=4, color=colour)
        last.annotate(end.text(3), (end.mean, row), (0, 7), textcoords="offset points", ha="center")
    for panel in (losses, shares):
        figure.label_epochs(panel)
    losses.set(title="over the epochs", ylabel="hint loss (s.d.² of the target)")
    shares.set(title="over the epochs", ylabel="R²")
    several = len(results.by_seed) > 1
    title = f"at the end; intervals\nover {over(ends.values())}" if several else "at the end"
    last.set(title=title, xlabel="R²", ylim=(-0.5, len(ends)))
    last.set_yticks(range(len(ends)), [way.title for way in order])
    last.margins(x=0.4)
    return picture


def guided(results: Results, ways: Iterable[Guidance]) -> Figure:
    """Final test accuracy of each way to guide a student, frozen and fine-tuned, beside its distilled student."""
    ways = [way for way in ways if results.seeds(way.frozen, way.tuned, way.distilled)]
    picture, axes = new(results, "Accuracy with and without the extra matrix", height=0.9 * len(ways) + 2)
    titles = {"frozen": "guided layers frozen", "tuned": "fine-tuned", "distilled": "distilled, no hint"}
    estimates = []
    for row, way in enumerate(ways):
        for place, kind in zip((-0.22, 0.0, 0.22), titles, strict=True):
            arm = results.study.arm(getattr(way, kind))
            estimate = inference.accuracy(results, arm.name)
            estimates.append(estimate)
            look = {"color": arm.colour, "fmt": "D" if kind == "distilled" else "o", "capsize": 3}
            label = None if row else titles[kind]
            axes.errorbar(estimate.mean, row + place, xerr=estimate.half_width, label=label, **look)
            below = kind == "distilled"  # two of a row may be alike
            axes.annotate(f"{estimate.mean:.2f}", (estimate.mean, row + place), (0, -5 if below else 5),
                          textcoords="offset points", ha="center", va="top" if below else "bottom",
                          fontsize="small")  # fmt: skip
    axes.set_yticks(range(len(ways)), [way.title for way in ways])
    axes.invert_yaxis()
    axes.set_xlabel(f"validation {ACCURACY}, after the final epoch; intervals over {over(estimates)}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(titles))
    axes.grid(False, axis="y")
    return picture


def scales(results: Results) -> Figure:
    """Final test accuracy of the arms that go on from the note's stage one, over the scale of the guided layers."""
    arms = [arm for arm in results.models if "hint" in arm.needs and arm.recipe.length == arm.recipe.rate == 1]
    arms.sort(key=lambda arm: arm.recipe.scale)
    picture, axes = new(results, "From frozen to fine-tuned guided layers")
    estimates = [inference.accuracy(results, arm.name) for arm in arms]
    for place, (arm, estimate) in enumerate(zip(arms, estimates, strict=True)):
        axes.errorbar(place, estimate.mean, yerr=estimate.half_width, fmt="o", capsize=4, color=arm.colour)
        axes.annotate(f"{estimate.mean:.2f}", (place, estimate.mean), (9, 0), textcoords="offset points", va="center")
    if results.seeds("distill"):
        mean, arm = inference.accuracy(results, "distill").mean, results.study.arm("distill")
        axes.axhline(mean, color=arm.colour, linestyle="--", label=f"{arm.title}: {mean:.2f} %")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize="small")  # above, where no interval is
    axes.set_xticks(range(len(arms)), [f"{arm.recipe.scale:g}\n{arm.title}" for arm in arms])
    axes.set(xlabel="scale of the guided layers' learning rate in stage two", xlim=(-0.4, len(arms) - 0.4))
    axes.set(ylabel=f"validation {ACCURACY}", title=f"after the final epoch; intervals over {over(estimates)}")
    return picture


def crossing(results: Results, seed: int, first: str, second: str) -> Figure:
    """Test accuracy of two arms of one seed over the epochs, and from when on the one that ends ahead stays ahead."""
    picture, axes = new(results.only(seed).of(first, second), "Which of the two is ahead", height=4.5)
    records = [results.by_seed[seed][name] for name in (first, second)]
    for record in records:
        arm = results.study.arm(record.run)
        axes.plot(record.epochs("test"), record.test["accuracy"], ".-", color=arm.colour, label=arm.title)
    turn = measures.crossing(*records)
    if turn is None:
        axes.set_title("the one that ends ahead leads from the first test on")
    else:
        axes.axvline(turn, color=GREY, linestyle=":")
        axes.set_title(f"the one that ends ahead is behind until epoch {turn} (dotted)")
    figure.label_epochs(axes)
    axes.set_ylabel(f"validation {ACCURACY}")
    axes.legend(loc="lower right")
    return picture


def lengths(results: Results, seed: int, lines: Mapping[str, Iterable[str]]) -> Figure:
    """Final test accuracy of one seed over the length of training: {arm: the same arm with other lengths}."""
    picture, axes = new(results.only(seed).of(*lines), "Accuracy by length of training")
    for name, others in lines.items():
        records = [results.by_seed[seed][run] for run in (name, *others) if run in results.by_seed[seed]]
        points = sorted((record.epochs("train")[-1], measures.accuracy(record)) for record in records)
        arm = results.study.arm(name)
        axes.plot(
            [epochs for epochs, _ in points], [last for _, last in points], "o-", color=arm.colour, label=arm.title
        )
        for epochs, last in points:
            axes.annotate(f"{last:.2f}", (epochs, last), (0, 6), textcoords="offset points", ha="center")
    figure.label_epochs(axes)
    axes.set(xlabel="epochs of stage two", ylabel=f"validation {ACCURACY}")
    axes.set_title("after the final epoch, one training each")
    axes.margins(y=0.15)
    axes.legend(loc="lower right")
    return picture

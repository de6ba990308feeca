"""What the tuning study found: the rule that chooses each group's learning rate, its tables and its picture.

The rule was written down before any rate was tried. A group's rate is the one with the highest mean over its members
and seeds, of held-out accuracy or, in stage one, of R². Of those within `CLOSE` of it the lowest held-out loss decides.
A seed counts where all members were trained, a rate if it has all seeds; the chosen one must have neighbours on both
sides.
"""

import contextlib

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from kdlib.report import comparisons, plots, stats
from kdlib.report.stats import signed
from kdlib.storage.runs import Results
from kdlib.study import STUDY

CLOSE = 0.1  # points of accuracy or percent of R²
GROUPS = {
    "teacher": "teacher",
    "hint": "stage one",
    "scratch": "from scratch",
    "tuned": "fine-tuned after stage one",
    "frozen": "guided layers frozen",
}  # the fields of a profile


def grid(results: Results) -> pd.DataFrame:
    """All that was trained to choose a rate, a row each: group, member, rate, seed, score (%), loss (held out)."""
    rows, (profile,) = [], results.study.profiles
    for arm in (arm for arm in results.study.arms if "learning_rate" in arm.own):
        member, rate = arm.title.partition(", rate")[0], arm.schedule(profile).learning_rate
        for record in results.records(arm.name):
            score = stats.accuracy(record) if arm.classifies else 100 * stats.final_explained(record)
            loss = record.test.get("hard", record.test["total"])[-1]
            rows.append((arm.group, member, rate, record.identity.seed, score, loss, arm.colour))
    return pd.DataFrame(rows, columns=["group", "member", "rate", "seed", "score", "loss", "colour"])


def chosen(table: pd.DataFrame, group: str) -> float:
    """The rate that the rule gives for a group of `grid`. ``ValueError`` if it gives none."""
    own = table[table["group"] == group]
    scores, losses = _complete(own, "score"), _complete(own, "loss")
    means = scores.dropna().mean(axis=1)  # of the rates that have all seeds
    close = means[means >= means.max() - CLOSE].index
    if not len(close):
        raise ValueError(f"{group}: at no rate were all trained")
    rate = float(losses.loc[close].mean(axis=1).idxmin())
    if rate in (own["rate"].min(), own["rate"].max()):
        raise ValueError(f"{group}: the best rate, {rate:g}, is at the edge of those that were tried")
    return rate


def _complete(own: pd.DataFrame, column: str) -> pd.DataFrame:
    """The mean over a group's members by rate (row) and seed, where all of them were trained; else nothing."""
    return own.pivot(index=["rate", "seed"], columns="member", values=column).dropna().mean(axis=1).unstack("seed")


def rates(results: Results) -> pd.DataFrame:
    """The mean of each group at each rate over the seeds of which all its members were trained, as text with their
    number; the rule's rate, and that of full.
    """
    table, rows = grid(results), {}
    for group in dict.fromkeys(table["group"]):
        means = _complete(table[table["group"] == group], "score")
        texts = (means.mean(axis=1).map("{:.2f}".format) + " (" + means.count(axis=1).astype(str) + ")").items()
        row = rows[GROUPS[group]] = {f"{rate:g}": text for rate, text in texts}
        row["profile full"] = f"{getattr(STUDY.profile('full'), group).learning_rate:g}"
        with contextlib.suppress(ValueError):
            row["the rule"] = f"{chosen(table, group):g}"
    found = pd.DataFrame.from_dict(rows, orient="index").fillna("–")
    ends = [name for name in ("the rule", "profile full") if name in found]
    return found[[*sorted(found.columns.drop(ends), key=float), *ends]].rename_axis("mean (%) at the rate")


def protocol(results: Results) -> pd.DataFrame:
    """The note's contrast at each rate, as text: held-out accuracy of S′ without a matrix minus that of S with one."""
    rows: dict[str, dict[str, str]] = {}
    for end, without, other in (("frozen", "wide_none_frozen", "exp1"), ("fine-tuned", "wide_none_tuned", "exp2")):
        for arm in (arm for arm in results.study.arms if arm.name.startswith(without)):
            pair = arm.name, arm.name.replace(without, other)
            if values := stats.by_seed(results, *pair):
                rows.setdefault(end, {})[f"{arm.own['learning_rate']:g}"] = ", ".join(map(signed, values))
    found = pd.DataFrame.from_dict(rows, orient="index").fillna("–")
    return found[sorted(found.columns, key=float)].rename_axis("difference (points) at the rate")


def picture(results: Results) -> Figure:
    """Held-out accuracy (of stage one: R²) over the learning rate, group by group; a line a member, a dot a seed."""
    table = grid(results)
    figure, axes = comparisons.new(results, "Which learning rate suits what is trained?", 3, 2, 12)
    for panel, (group, title) in zip(axes.flat, GROUPS.items(), strict=False):
        own = table[table["group"] == group]
        for (member, rows), style in zip(own.groupby("member", sort=False), ("o-", "s--"), strict=False):
            means, colour = rows.groupby("rate")["score"].mean(), rows["colour"].iloc[0]
            panel.plot(means, style[1:], color=colour, label=member)
            panel.plot(rows["rate"], rows["score"], style[0], color=colour, alpha=0.6, markersize=4)
        rate = getattr(STUDY.profile("full"), group).learning_rate
        panel.axvline(rate, color=plots.GREY, linestyle=":", label=f"chosen: {rate:g}")
        quantity = "R² on held-out images (%)" if group == "hint" else f"held-out {plots.ACCURACY}"
        panel.set(xscale="log", title=title, xlabel="learning rate (log scale)", ylabel=quantity)
        panel.xaxis.set_major_locator(FixedLocator(sorted(own["rate"].unique())))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter("{x:g}")
        panel.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22), frameon=False)  # below: no line is there
    axes.flat[-1].set_axis_off()
    return figure

"""The tables of the report: each takes records and returns a pandas table; numbers are means over the seeds."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from kdlib.report import note, stats
from kdlib.report.stats import signed
from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import GAP, Arm

NOTHING, NOT_RUN, NOTED = "–", "not run", "the note (best epoch)"
ACCURACIES = ["parameters", "training accuracy", "test accuracy", NOTED]
LOSSES = ["loss", "soft loss", "hard loss", "hint loss", "R² of the hint"]


def summary(results: Results) -> pd.DataFrame:
    """One row a model, as text, with the columns `ACCURACIES` and `LOSSES`, first "seeds" where models differ in it.

    Losses are those of the final epoch on the training batches (nats; the hint loss in squared standard deviations of
    the hint); R² is that of the test images. The note reports the best epoch, here it is the final one.
    """
    arms = [arm for arm in results.study.arms if arm.classifies]
    rows = {arm.title: _row(results, arm) for arm in arms}
    table = pd.DataFrame.from_dict(rows, orient="index", columns=ACCURACIES + LOSSES)
    counts = [len(results.seeds(arm.name)) for arm in arms]
    if len({*counts} - {0}) > 1:
        table.insert(0, "seeds", counts)
    return table


def _row(results: Results, arm: Arm) -> dict[str, str]:
    noted = note.FIGURES["test accuracy"].get(arm.name)
    row = dict.fromkeys(ACCURACIES + LOSSES, NOTHING) | ({NOTED: f"{noted} %"} if noted else {})
    if not results.seeds(arm.name):
        return dict.fromkeys(row, NOT_RUN) | {NOTED: row[NOTED]}
    record = results.records(arm.name)[0]
    count = record.parameters  # written as the note does: "1.35 M", "306 k"
    row["parameters"] = f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
    row["training accuracy"] = stats.over_seeds(results, arm.name, stats.training_accuracy).text(2, " %")
    row["test accuracy"] = stats.mean_accuracy(results, arm.name).text(2, " %")
    losses = {"loss": "total"} | {f"{name} loss": name for name in ("soft", "hard") if name in record.train}
    measures = [(column, arm.name, stats.final_loss(name)) for column, name in losses.items()]
    for need in (need for need in arm.needs if results.study.arm(need).stage == "stage one"):
        measures += [("hint loss", need, stats.final_loss("total")), ("R² of the hint", need, stats.final_explained)]
    for column, name, measure in measures:
        row[column] = stats.over_seeds(results, name, measure).text(3) if results.seeds(name) else NOT_RUN
    return row


def contrasts(results: Results, among: Collection[str] = ()) -> pd.DataFrame:
    """The paired differences of test accuracy, in points, as text; only those with an arm ``among`` some, if named.

    What the intervals are over heads the table or, where it differs, a column.

    p is that of the paired t-test over seeds. Those of the primary contrasts are adjusted by Holm's method for the
    number of all primary contrasts in ``results``, shown or not: so name arms here rather than select records.
    """
    compared = [pair for pair in results.study.contrasts if results.seeds(pair.first, pair.second)]
    p_values = {pair: stats.p_value(results, pair.first, pair.second) for pair in compared}
    primary = [pair for pair in compared if pair.kind == "primary"]
    adjusted = dict(zip(primary, stats.holm([p_values[pair] for pair in primary]), strict=True))
    rows, over = {}, []
    for pair in compared:
        if among and not {pair.first, pair.second} & set(among):
            continue
        estimate = stats.difference(results, pair.first, pair.second)
        p = _p_text(adjusted.get(pair, p_values[pair]))
        over.append(estimate.over)
        title = " − ".join(results.study.arm(name).title for name in (pair.first, pair.second))
        rows[f"{title} (exploratory)" if pair.kind == "exploratory" else title] = {
            "difference": signed(estimate.mean),
            "95 % interval": estimate.ends,
            "±0.8": stats.verdict(estimate),
            "p": f"{p} (Holm)" if pair in adjusted and p != NOTHING else p,
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "95 % interval", "±0.8", "p"])
    if len(set(over)) == 1:
        return table.rename_axis(f"contrast, over {over[0]}")
    table.insert(2, "over", over)
    return table.rename_axis("contrast")


def freezing(results: Results) -> pd.DataFrame:
    """What freezing costs after each stage one, as text: a row for each, with its student frozen and fine-tuned."""
    rows = {}
    for frozen in (arm for arm in results.models if arm.guided_rate == 0):
        alike = (frozen.needs, frozen.own, frozen.settings | {"guided_rate": 1.0})
        for tuned in (arm for arm in results.models if (arm.needs, arm.own, arm.settings) == alike):
            if results.seeds(tuned.name, frozen.name):
                cost = stats.difference(results, tuned.name, frozen.name)
                texts = [stats.mean_accuracy(results, arm.name).text(2, " %") for arm in (frozen, tuned)]
                rows[results.study.arm(frozen.needs[-1]).title] = [*texts, signed(cost.mean), cost.ends, cost.over]
    columns = ["frozen", "fine-tuned", "difference", "95 % interval", "over"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("after")


def _p_text(p: float) -> str:
    return NOTHING if np.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def conclusions(results: Results) -> pd.DataFrame:
    """What the note concludes, and whether it holds here, as text: "yes", "no", "undecided" or "one seed".

    Of test accuracies the interval of the difference decides: "undecided" is where it includes zero. Other measures are
    compared after rounding, and "undecided" is where the seeds disagree. Accuracies within `GAP` points are equal where
    the note calls them so. A single seed decides nothing.
    """
    rows = []
    for claim in note.CLAIMS:
        arms, (measure, digits) = (claim.first, claim.second), stats.CLAIMED[claim.measure]
        pairs = [[measure(record) for record in pair] for pair in results.together(*arms)]
        if not pairs:
            continue
        if measure is stats.accuracy:  # of these the note only says that the first is higher
            estimate = stats.difference(results, *arms)
            agree = [estimate.low > 0, estimate.high > 0]
        else:
            agree = [_relation(pair, digits, claim.sign) == claim.sign for pair in pairs]
        holds = "yes" if all(agree) else "undecided" if any(agree) else "no"
        if len(pairs) == 1:
            holds = "one seed"
        mean = np.mean(pairs, axis=0)
        noted = f" {claim.sign} ".join(results.study.arm(arm).title for arm in arms)
        here = f" {_relation(mean, digits, claim.sign)} ".join(signed(value, digits) for value in mean)
        rows.append((claim.measure, noted, here, holds))
    return pd.DataFrame(rows, columns=["measure", "the note", "here", "holds"]).set_index("measure")


def _relation(values: Sequence[float], digits: str, claimed: str) -> str:
    """The sign, "<", "≈" or ">", between two values; what looks equal in print is equal."""
    one, other = values
    if f"{one:{digits}}" == f"{other:{digits}}" or (claimed == "≈" and abs(one - other) <= GAP):
        return "≈"
    return "<" if one < other else ">"


def _models(results: Results, seed: int) -> dict[str, Record]:
    """The models of one seed, by title."""
    return {arm.title: results.by_seed[seed][arm.name] for arm in results.only(seed).models}


def most_confused(results: Results, seed: int) -> pd.DataFrame:
    """The two classes that each model confuses most, counted both ways."""
    rows = {}
    for model, record in _models(results, seed).items():
        wrong = stats.confusion(record).to_numpy()
        wrong = wrong - np.diag(np.diag(wrong))
        pairs = np.triu(wrong + wrong.T)
        one, other = np.unravel_index(pairs.argmax(), pairs.shape)
        share = 100 * pairs.max() / max(wrong.sum(), 1)
        rows[model] = [f"{record.names[one]} – {record.names[other]}", pairs.max(), round(share, 1)]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["most confused", "errors", "of all errors (%)"])


def by_class(results: Results, seed: int) -> pd.DataFrame:
    """Test accuracy (%) of one seed's models (columns) on each class (row)."""
    return pd.DataFrame({model: stats.per_class(record) for model, record in _models(results, seed).items()}).round(1)


def expected(own: Results, path: Path) -> pd.DataFrame:
    """One's own test accuracies (%) beside those of a file with the columns arm, mean, lowest, highest and n."""
    yours = {arm.name: f"{stats.mean_accuracy(own, arm.name).mean:.2f}" for arm in own.models}
    table = pd.read_csv(path, index_col="arm", dtype=str)
    table.insert(0, "yours", yours)
    return (
        table.dropna()
        .rename(index=lambda name: own.study.arm(name).title)
        .add_suffix(" (%)")
        .rename(columns={"n (%)": "n"})
    )


def summary_csv(results: Results) -> pd.DataFrame:
    """One row an arm and seed, for a file: accuracies (%), training losses, and R² on the test images.

    All are of the final epoch; what an arm does not have is left empty.
    """
    rows = []
    for name, seed in ((arm.name, seed) for arm in results.study.arms for seed in results.seeds(arm.name)):
        record = results.by_seed[seed][name]
        last = {curve: values[-1] for curve, values in record.train.items()}
        accuracies = [stats.accuracy(record) if "accuracy" in last else None, last.get("accuracy")]
        r2 = stats.final_explained(record) if "power" in last else None
        losses = [last.get(curve) for curve in ("total", "soft", "hard")]
        rows.append([name, seed, *accuracies, *losses, r2])
    columns = ["test_accuracy", "training_accuracy", "train_total", "train_soft", "train_hard", "r2"]
    return pd.DataFrame(rows, columns=["arm", "seed", *columns]).round(4)

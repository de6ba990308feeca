"""The tables of the report: each takes the records of a study and returns a pandas table, as text or numbers.

An arm that was not run is named and left empty; contrasts and conclusions about it are left out.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from kdlib.design import GAP, Arm, Contrast
from kdlib.report import inference, measures
from kdlib.report.inference import Estimate, signed
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate, Results, load_variants

# Rows of the summary table: decimals and unit.
ROWS = {
    "loss": (3, ""),
    "training accuracy": (2, " %"),
    "validation accuracy, final epoch": (2, " %"),
    "validation accuracy, best epoch": (2, " %"),
    "fit (hint) loss": (3, ""),
    "explained variance R² of the hint": (3, ""),
    "soft loss": (3, ""),
    "hard loss": (3, ""),
    "parameters": (0, ""),
}
_OF_THE_MODEL = {
    "loss": measures.final_loss("total"),
    "training accuracy": measures.training_accuracy,
    "validation accuracy, best epoch": measures.best,
}
_OF_STAGE_ONE = {
    "fit (hint) loss": measures.final_loss("total"),
    "explained variance R² of the hint": measures.final_explained,
}
NOTHING, NOT_RUN = "–", "not run"


def summary(results: Results) -> pd.DataFrame:
    """The note's summary table, row for row, as text: columns (model, "here") and (model, "note").

    Cells are the mean over the seeds ± its 95 % interval (see `inference`). Losses are those of the final epoch on the
    training batches (nats; the hint loss in squared standard deviations of the hint); R² is that of the test images.
    """
    columns = {}
    for arm in results.study.arms:
        if not arm.classifies:
            continue
        cells = _cells(results, arm) if results.seeds(arm.name) else dict.fromkeys(ROWS, NOT_RUN)
        note = {row: figures.get(arm.name) for row, figures in results.study.note.figures.items()}
        columns[arm.title, "here"] = [cells.get(row, NOTHING) for row in ROWS]
        columns[arm.title, "note"] = [note[row] + unit if note.get(row) else NOTHING for row, (_, unit) in ROWS.items()]
    return pd.DataFrame(columns, index=list(ROWS))


def _cells(results: Results, arm: Arm) -> dict[str, str]:
    """{row: text} of the rows that a model has."""
    record = results.records(arm.name)[0]
    losses = {f"{name} loss": measures.final_loss(name) for name in ("soft", "hard") if name in record.train}
    sources = [(arm.name, _OF_THE_MODEL | losses)]
    sources += [(need, _OF_STAGE_ONE) for need in arm.needs if results.study.arm(need).stage == "stage one"]
    cells = {
        row: inference.over_seeds(results, run, measure).text(*ROWS[row]) if results.seeds(run) else NOT_RUN
        for run, rows in sources
        for row, measure in rows.items()
    }
    cells["validation accuracy, final epoch"] = inference.accuracy(results, arm.name).text(2, " %")
    count = record.parameters  # written as the note does: "1.35 M", "306 k"
    cells["parameters"] = f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"
    return cells


def contrasts(results: Results, seed: int, among: Collection[str] = ()) -> pd.DataFrame:
    """The paired differences of test accuracy, primary contrasts first; only those ``among`` some arms, if it is given.

    The verdict is that of the interval over seeds; beside it stand the interval that covers new test images too, and
    its verdict. p over seeds is that of the paired t-test, of primary contrasts adjusted by Holm's method for their
    number, shown or not; McNemar's p is that of one ``seed``.
    """
    primary = inference.available(results, results.study.primary)
    compared = inference.available(results, results.study.contrasts)
    p_values = {contrast: inference.p_value(results, contrast) for contrast in compared}
    p_values |= dict(zip(primary, inference.holm([p_values[contrast] for contrast in primary]), strict=True))
    rows = {}
    for contrast in compared:
        if among and not {contrast.first, contrast.second} <= set(among):
            continue
        estimate = inference.difference(results, contrast)
        rows[title(results, contrast)] = {
            "contrast": "primary" if contrast in primary else "exploratory",
            "difference (points)": signed(estimate.mean),
            "95 % interval": interval_text(estimate),
            "n": f"{estimate.n:,} {estimate.source}",
            "verdict": inference.verdict(estimate),
        }
        if estimate.source == "seeds":
            crossed = inference.crossed(results, contrast)
            rows[title(results, contrast)] |= {
                "for new images too": interval_text(crossed),
                "verdict for these": inference.verdict(crossed),
                "p over seeds": _p_value(p_values[contrast]) + (" (Holm)" if contrast in primary else ""),
            }
        if seed in results.seeds(contrast.first, contrast.second):
            runs = results.by_seed[seed]
            p = measures.mcnemar(runs[contrast.first], runs[contrast.second])
            rows[title(results, contrast)][f"McNemar's p (seed {seed})"] = _p_value(p)
    return pd.DataFrame.from_dict(rows, orient="index").fillna(NOTHING)


def title(results: Results, contrast: Contrast) -> str:
    """How tables and pictures call a contrast: "student (exp. 2) − student (exp. 1)"."""
    return f"{results.study.arm(contrast.first).title} − {results.study.arm(contrast.second).title}"


def dynamics(results: Results) -> pd.DataFrame:
    """How each model's training went, as means over the seeds."""
    columns = {
        "convergence (epoch)": (measures.convergence_epoch, 1),
        "swing of the loss (nats)": (measures.swing, 3),
        "train–test gap (points)": (measures.train_test_gap, 2),
    }
    means = {
        column: [round(inference.over_seeds(results, arm.name, measure).mean, decimals) for arm in results.models]
        for column, (measure, decimals) in columns.items()
    }
    return pd.DataFrame(means, index=[arm.title for arm in results.models])


def conclusions(results: Results) -> pd.DataFrame:
    """What the note concludes, and whether it holds here: "yes", "no" or "undecided", as text.

    Of validation accuracies the interval of the difference decides: "undecided" is where it includes zero. Of the other
    measures, compared after rounding, the seeds decide, where they agree. Accuracies within `GAP` points are equal
    where the note calls them so.
    """
    rows = []
    for claim in results.study.note.claims:
        arms, (measure, digits) = (claim.first, claim.second), measures.CLAIMED[claim.measure]
        pairs = [[measure(record) for record in pair] for pair in results.together(*arms)]
        if not pairs:
            continue
        if measure is measures.accuracy:  # of these the note only says that the first is higher
            estimate = inference.difference(results, Contrast(*arms))
            agree = [estimate.low > 0, estimate.high > 0]
        else:
            agree = [_relation(pair, digits, claim.sign) == claim.sign for pair in pairs]
        mean = np.mean(pairs, axis=0)
        note = f" {claim.sign} ".join(results.study.arm(arm).title for arm in arms)
        here = f" {_relation(mean, digits, claim.sign)} ".join(signed(value, digits) for value in mean)
        rows.append((claim.measure, note, here, "yes" if all(agree) else "undecided" if any(agree) else "no"))
    return pd.DataFrame(rows, columns=["measure", "the note", "here", "holds"]).set_index("measure")


def _relation(values: Sequence[float], digits: str, claimed: str) -> str:
    """ "<", "≈" or ">" of two values; what looks equal in print is equal."""
    one, other = values
    if f"{one:{digits}}" == f"{other:{digits}}" or (claimed == "≈" and abs(one - other) <= GAP):
        return "≈"
    return "<" if one < other else ">"


def interval_text(estimate: Estimate) -> str:
    return f"{signed(estimate.low)} to {signed(estimate.high)}"


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def models_of(results: Results, seed: int) -> dict[Arm, Record]:
    """The models of one seed."""
    return {arm: results.by_seed[seed][arm.name] for arm in results.models if arm.name in results.by_seed[seed]}


def most_confused(results: Results, seed: int, count: int = 5) -> pd.DataFrame:
    """The most confused pairs of classes of each model; in brackets how many images of either are misclassified so."""
    columns = {}
    for arm, record in models_of(results, seed).items():
        pairs = measures.confused_pairs(record).head(count)
        columns[arm.title] = [f"{pair} ({errors})" for pair, errors in pairs["errors"].items()]
    return pd.DataFrame(columns).rename_axis("rank").rename(lambda rank: rank + 1)


def one_pair(results: Results, seed: int, pair: str) -> pd.DataFrame:
    """How often each model confuses one pair of classes, e.g. "cat – dog"; empty where there is no such pair."""
    tables = {arm.title: measures.confused_pairs(record) for arm, record in models_of(results, seed).items()}
    found = {model: table.loc[[pair]] for model, table in tables.items() if pair in table.index}
    return pd.concat(found).droplevel(1) if found else pd.DataFrame()


def better_classes(results: Results, seed: int) -> pd.DataFrame:
    """The classes in which a student beats the teacher: accuracies (%), their difference (points), McNemar's p."""
    models = models_of(results, seed)
    teachers = [record for arm, record in models.items() if arm.stage == "teacher"]
    rows = []
    for arm, student in models.items():
        better = []
        for teacher in teachers if arm.stage != "teacher" else []:
            scores = zip(student.names, measures.per_class(student), measures.per_class(teacher), strict=True)
            for number, (name, here, there) in enumerate(scores):
                if here > there:
                    p = _p_value(measures.mcnemar(student, teacher, number))
                    better.append((arm.title, name, here, there, here - there, p))
        rows += sorted(better, key=lambda row: row[4], reverse=True)
    columns = ["model", "class", "student (%)", "teacher (%)", "difference (points)", "McNemar's p"]
    return pd.DataFrame(rows, columns=columns).set_index(["model", "class"]).round(2)


def variants(replicate: Replicate) -> pd.DataFrame:
    """Runs in which a reader changed a setting, as text: their test accuracy beside that of the unchanged run."""
    unchanged, rows = replicate.records(), []
    for record in load_variants(replicate):
        here, standard = measures.accuracy(record), unchanged.get(replicate.study.arm(record.run).name)
        beside = [NOTHING, NOTHING]
        if standard:
            beside = [f"{measures.accuracy(standard):.2f}", signed(here - measures.accuracy(standard))]
        rows.append([record.run, f"{here:.2f}", *beside])
    columns = ["run", "test accuracy (%)", "unchanged (%)", "difference (points)"]
    return pd.DataFrame(rows, columns=columns).set_index("run")


def beside(own: Results, committed: Results) -> pd.DataFrame:
    """Test accuracies of one's own run beside committed ones, as text; arms that both have.

    "within" tells whether the mean of the own run lies between the lowest and the highest committed seed.
    """
    rows = {}
    for arm in own.models:
        if not committed.seeds(arm.name):
            continue
        here = inference.accuracy(own, arm.name).mean
        there = [measures.accuracy(record) for record in committed.records(arm.name)]
        rows[arm.title] = {
            "yours (%)": f"{here:.2f}",
            "committed (%)": f"{np.mean(there):.2f}",
            "difference (points)": signed(here - np.mean(there)),
            "range": f"{min(there):.2f} to {max(there):.2f} ({len(there)} seeds)",
            "within": "yes" if min(there) <= here <= max(there) else "no",
        }
    return pd.DataFrame.from_dict(rows, orient="index")

"""What the records say, with its uncertainty: intervals, verdicts, tables and sentences.

Pure functions of `Record`s. *Replicates* are what `records.load_all` gives, ``{seed: {run name: Record}}``;
comparisons are paired within a seed. Accuracies are percentages of the test split at the last epoch,
differences between them are percentage points.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations, pairwise
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from kdlib.records import Record

Replicates = Mapping[int, Mapping[str, Record]]

GAP = 0.8  # points: the note's rule, a larger difference counts as a gap
CONFIDENCE = 0.95  # of every interval
CONVERGED = 1.0  # points from the final accuracy
LITTLE = 0.1  # a stage one whose R² is smaller explains almost nothing

# Run names as the note's summary table writes them.
NAMES = {
    "teacher": "teacher",
    "baseline": "baseline",
    "distill": "student (distilled)",
    "hint": "stage one",
    "exp1": "student (exp. 1)",
    "exp2": "student (exp. 2)",
}
MODELS = tuple(run for run in NAMES if run != "hint")

# The note's comparisons, each so that the note has the first one ahead.
COMPARISONS = (
    ("teacher", "baseline"),
    ("exp2", "exp1"),
    ("distill", "baseline"),
    ("exp2", "distill"),
    ("exp2", "baseline"),
    ("distill", "exp1"),
    ("baseline", "exp1"),
)

# Those of them that stand for the study: what freezing costs, and what hints and the teacher's answers bring.
ANSWER = (("exp2", "exp1"), ("exp2", "distill"), ("distill", "baseline"))

# Rows of the summary table: decimals and unit.
ROWS = {
    "loss": (3, ""),
    "training accuracy": (2, " %"),
    "validation accuracy, last epoch": (2, " %"),
    "validation accuracy, best epoch": (2, " %"),
    "fit (hint) loss": (3, ""),
    "explained variance R² of the hint": (3, ""),
    "soft loss": (3, ""),
    "hard loss": (3, ""),
    "parameters": (0, ""),
}

# The note's figures with its own digits. Its accuracies are the best over the epochs, so its validation
# accuracy has no counterpart in the row of the last epoch.
NOTE = {
    "loss": {"teacher": "0.222", "baseline": "0.339", "distill": "0.85", "exp1": "1.38", "exp2": "0.73"},
    "training accuracy": {
        "teacher": "92.7", "baseline": "88.42", "distill": "87.38", "exp1": "81.24", "exp2": "88.4",
    },
    "validation accuracy, best epoch": {
        "teacher": "87.09", "baseline": "83.99", "distill": "84.05", "exp1": "80.64", "exp2": "86.36",
    },
    "fit (hint) loss": {"exp1": "0.23", "exp2": "0.23"},
    "soft loss": {"distill": "1.05", "exp1": "0.97", "exp2": "0.40"},
    "hard loss": {"distill": "1.96", "exp1": "2.66", "exp2": "1.49"},
    "parameters": {
        "teacher": "1.35 M", "baseline": "306 k", "distill": "306 k", "exp1": "306 k", "exp2": "306 k",
    },
}  # fmt: skip
NOTHING = "–"  # what a table shows where a row does not apply


# One record


def accuracy(record: Record) -> float:
    """Test accuracy after the last epoch, in percent: the headline number, chosen by nobody."""
    return record.test["accuracy"][-1]


def training_accuracy(record: Record) -> float:
    """Accuracy on the training batches of the last epoch, in percent."""
    return record.train["accuracy"][-1]


def best(record: Record) -> float:
    """Highest test accuracy of any epoch, in percent: what the note reports. It is chosen on the test split."""
    return max(record.test["accuracy"])


def train_test_gap(record: Record) -> float:
    """Training minus test accuracy after the last epoch, in points; negative where augmentation outweighs fit."""
    return training_accuracy(record) - accuracy(record)


def convergence_epoch(record: Record) -> int:
    """The epoch (from 1) from which on the test accuracy stays within 1 point of its final value."""
    away = np.abs(np.array(record.test["accuracy"]) - accuracy(record)) > CONVERGED
    return int(np.flatnonzero(away)[-1]) + 2 if away.any() else 1


def swing(record: Record) -> float:
    """Mean absolute difference between the training losses of consecutive steps, in the last quarter of them.

    In units of the loss, so only runs with the same objective compare.
    """
    losses = record.steps["total"]
    return float(np.abs(np.diff(losses[-(len(losses) // 4) :])).mean())


def explained(record: Record, split: Literal["train", "test"]) -> list[float]:
    """R² of stage one after each epoch: the share of the hint's variance that the regressor explains.

    R² = 1 − hint loss / mean square of the standardised hint; below 0 where predicting its mean is better.
    """
    curves = getattr(record, split)
    return [1 - loss / power for loss, power in zip(curves["total"], curves["power"], strict=True)]


def calibration_error(record: Record) -> float:
    """Expected calibration error on the test split, in points.

    Σ over confidence bins of (images in the bin / all) · |share correct − mean confidence|: Guo et al.,
    *On Calibration of Modern Neural Networks* (2017), equation 3.
    """
    bins = {name: np.array(values) for name, values in record.calibration.items()}
    return float(100 * np.average(np.abs(bins["correct"] - bins["confidence"]), weights=bins["count"]))


def confusion(record: Record) -> pd.DataFrame:
    """Number of test images of each true class (row) predicted as each class (column)."""
    labels, predictions = _classes(record.labels), _classes(record.predictions)
    counts = metrics.confusion_matrix(labels, predictions, labels=range(len(record.classes)))
    return pd.DataFrame(counts, pd.Index(record.classes, name="true"), pd.Index(record.classes, name="predicted"))


def per_class(record: Record) -> pd.Series:
    """Percent of each class's test images that are classified correctly."""
    counts = confusion(record)
    return pd.Series(100 * np.diag(counts) / counts.to_numpy().sum(axis=1), pd.Index(record.classes, name="class"))


def confused_pairs(record: Record) -> pd.DataFrame:
    """How often the classes of each pair are taken for one another, most confused pair first.

    Indexed "cat – dog". "errors" counts both directions, which the next two columns give.
    """
    counts = confusion(record)
    wrong = counts.to_numpy().sum() - np.trace(counts)
    rows = {
        f"{a} – {b}": {
            "errors": counts.loc[a, b] + counts.loc[b, a],
            "first as second": counts.loc[a, b],
            "second as first": counts.loc[b, a],
        }
        for a, b in combinations(record.classes, 2)
    }
    pairs = pd.DataFrame.from_dict(rows, orient="index")
    pairs["share of all errors (%)"] = (100 * pairs["errors"] / max(wrong, 1)).round(1)
    return pairs.sort_values("errors", ascending=False, kind="stable")


# Two records of the same seed


def agreement(first: Record, second: Record) -> float:
    """Percent of the test images that both records put into the same class, right or wrong.

    Raises:
        ValueError: the records are not of the same test images.
    """
    _check_same_images(first, second)
    return 100 * float(np.mean(_classes(first.predictions) == _classes(second.predictions)))


def better_classes(student: Record, teacher: Record) -> pd.DataFrame:
    """The classes in which ``student`` beats ``teacher``: accuracies (%), their difference (points), McNemar's p."""
    table = pd.DataFrame({"student (%)": per_class(student), "teacher (%)": per_class(teacher)})
    table["difference (points)"] = table["student (%)"] - table["teacher (%)"]
    table["McNemar's p"] = [_p_value(mcnemar(student, teacher, number).p) for number in range(len(student.classes))]
    return table[table["difference (points)"] > 0].sort_values("difference (points)", ascending=False).round(2)


class McNemar(NamedTuple):
    """Result of `mcnemar`.

    Attributes:
        only_first, only_second: test images that only this record classifies correctly.
        p: how likely counts at least as unequal are if both models err equally often.
    """

    only_first: int
    only_second: int
    p: float


def mcnemar(first: Record, second: Record, of_class: int | None = None) -> McNemar:
    """McNemar's exact two-sided test of whether two models err equally often on the same test images.

    Args:
        first, second: the records.
        of_class: number of the class whose images are counted; None for all.

    Raises:
        ValueError: the records are not of the same test images.
    """
    only_first, only_second = _discordant(first, second, of_class)
    discordant = only_first + only_second
    p = stats.binomtest(only_first, discordant).pvalue if discordant else 1.0
    return McNemar(only_first, only_second, float(p))


# Over replicates


class Estimate(NamedTuple):
    """A mean with its 95 % interval.

    Attributes:
        mean: the estimate.
        half_width: of the interval; nan where one value gives none.
        n: how many seeds or test images it rests on.
        source: which of the two; the interval says what would change if those were drawn again.
    """

    mean: float
    half_width: float
    n: int
    source: Literal["seeds", "test images"] = "seeds"

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width

    def text(self, decimals: int, unit: str = "") -> str:
        """For example "91.23 ± 0.31 %", or "91.23 %" without an interval."""
        spread = "" if np.isnan(self.half_width) else f" ± {self.half_width:.{decimals}f}"
        return f"{self.mean:.{decimals}f}{spread}{unit}"


def interval(values: Sequence[float]) -> Estimate:
    """Mean of one value a seed, with Student's t-interval."""
    n = len(values)
    half_width = _student(n - 1) * stats.sem(values) if n > 1 else np.nan
    return Estimate(float(np.mean(values)), float(half_width), n)


def _mean_squares(accuracies: pd.DataFrame) -> tuple[float, float]:
    """Mean squares between the seeds (rows) and of what neither seed nor model (column) explains.

    An analysis of variance with the seeds as blocks: Montgomery, *Design and Analysis of Experiments*, chapter
    on randomized complete blocks. All models together tell how much chance does, which the few seeds of one
    model, or of one difference, cannot. It takes chance to do as much to one model as to another; the intervals
    of a model with more of it come out too narrow.
    """
    n, models = accuracies.shape
    by_seed = accuracies.mean(axis=1)
    rest = accuracies.sub(by_seed, axis=0) - (accuracies.mean() - by_seed.mean())
    return models * float(by_seed.var()), float(rest.pow(2).sum(axis=None)) / ((n - 1) * (models - 1))


def mean_accuracy(replicates: Replicates, run: str, measure: Callable[[Record], float] = accuracy) -> Estimate:
    """Mean over the seeds of an accuracy of one run, in percent; its interval is Student's.

    Its variance is the models' own, in the mean, and its degrees of freedom are Satterthwaite's, as the models of a
    seed share part of their luck. A single seed gives no interval.
    """
    values = _by_seed(replicates, measure)
    n, models = values.shape
    mean = float(values[run].mean())
    if n == 1:
        return Estimate(mean, np.nan, n)
    between, rest = _mean_squares(values)
    variance = (between + (models - 1) * rest) / models
    share = between / (models * variance) if variance else 0.0
    freedom = (n - 1) / (share**2 + (1 - share) ** 2 / (models - 1))
    return Estimate(mean, float(_student(freedom) * np.sqrt(variance / n)), n)


def final_accuracy(replicates: Replicates, run: str) -> Estimate:
    """Test accuracy of a run after the last epoch, in percent: `mean_accuracy`.

    For a single seed the interval is Wald's for a proportion of n test images, with variance p (1 − p) / n.
    """
    estimate = mean_accuracy(replicates, run)
    if estimate.n > 1:
        return estimate
    (runs,) = replicates.values()
    n, share = len(runs[run].labels), estimate.mean / 100
    half_width = stats.norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(share * (1 - share) / n)
    return Estimate(estimate.mean, float(100 * half_width), n, "test images")


def difference(replicates: Replicates, first: str, second: str) -> Estimate:
    """Test accuracy of run ``first`` minus that of run ``second``, in points, paired within each seed.

    The interval over the seeds is Student's, with the variance that all models share once seed and model are
    accounted for; with two models alone that is the paired t-interval. A single seed says nothing of how seeds
    differ: then it is Wald's for two proportions of the same n test images, with variance
    (b + c − (b − c)² / n) / n², where b and c are the images that only one of the two classifies correctly
    (Agresti, *Categorical Data Analysis*, section on comparing dependent proportions).
    """
    if len(replicates) > 1:
        values = _by_seed(replicates, accuracy)
        n, models = values.shape
        _, rest = _mean_squares(values)
        half_width = _student((n - 1) * (models - 1)) * np.sqrt(2 * rest / n)
        return Estimate(float((values[first] - values[second]).mean()), float(half_width), n)
    (runs,) = replicates.values()
    b, c = _discordant(runs[first], runs[second])
    n = len(runs[first].labels)
    deviation = np.sqrt(b + c - (b - c) ** 2 / n) / n
    half_width = stats.norm.ppf((1 + CONFIDENCE) / 2) * deviation
    return Estimate(100 * (b - c) / n, float(100 * half_width), n, "test images")


def verdict(estimate: Estimate) -> Literal["gap", "no gap", "undecided"]:
    """The 0.8-point rule, from the interval: "gap" if all of it lies beyond ±0.8, "no gap" if all within."""
    if estimate.low > GAP or estimate.high < -GAP:
        return "gap"
    if estimate.low >= -GAP and estimate.high <= GAP:
        return "no gap"
    return "undecided"


def summary_table(replicates: Replicates) -> pd.DataFrame:
    """The note's summary table, row for row, as text: columns (model, "here") and (model, "note").

    Cells are the mean over the seeds ± its 95 % interval, for accuracies that of `mean_accuracy`; a single seed has
    one, over the test images, for the headline number alone. Losses are those of the last epoch on the
    training batches (nats; the hint loss in squared standard deviations of the hint), R² is that of the
    test images.
    """
    columns = {}
    for model in MODELS:
        values = pd.DataFrame([_measures(runs, model) for runs in replicates.values()])
        accuracies = {
            "training accuracy": mean_accuracy(replicates, model, training_accuracy),
            "validation accuracy, last epoch": final_accuracy(replicates, model),
            "validation accuracy, best epoch": mean_accuracy(replicates, model, best),
        }
        estimates = accuracies | {row: interval(values[row]) for row in values}
        here, note = {}, {}
        for row, (decimals, unit) in ROWS.items():
            here[row] = estimates[row].text(decimals, unit) if row in estimates else NOTHING
            note[row] = NOTE[row][model] + unit if model in NOTE.get(row, {}) else NOTHING
        here["parameters"] = _short(values["parameters"][0])
        columns |= {(NAMES[model], "here"): here, (NAMES[model], "note"): note}
    return pd.DataFrame(columns).loc[list(ROWS)]


def comparisons(replicates: Replicates, seed: int) -> pd.DataFrame:
    """The paired differences of test accuracy, as text; McNemar's p is that of the replicate ``seed``."""
    rows = {}
    for first, second in COMPARISONS:
        estimate = difference(replicates, first, second)
        p = mcnemar(replicates[seed][first], replicates[seed][second]).p
        rows[f"{NAMES[first]} − {NAMES[second]}"] = {
            "difference (points)": signed(estimate.mean),
            "95 % interval": f"{signed(estimate.low)} to {signed(estimate.high)}",
            "interval over": f"{estimate.n:,} {estimate.source}",
            "verdict": verdict(estimate),
            f"McNemar's p (seed {seed})": _p_value(p),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def dynamics(replicates: Replicates) -> pd.DataFrame:
    """How each model's training went, as means over the seeds."""
    columns = {
        "convergence (epoch)": (convergence_epoch, 1),
        "swing of the loss (nats)": (swing, 3),
        "train–test gap (points)": (train_test_gap, 2),
    }
    return pd.DataFrame(
        {
            column: {NAMES[model]: round(_mean(replicates, model, measure), decimals) for model in MODELS}
            for column, (measure, decimals) in columns.items()
        }
    )


# What the note concludes of two models: by which measure (and how it is printed), and which of them has more of it.
_CLAIMED = {
    "validation accuracy (%)": (accuracy, "z.2f"),
    "training accuracy (%)": (training_accuracy, "z.2f"),
    "training loss": (lambda record: record.train["total"][-1], "z.3f"),
    "soft loss": (lambda record: record.train["soft"][-1], "z.3f"),
    "hard loss": (lambda record: record.train["hard"][-1], "z.3f"),
    "step-to-step swing of the loss": (swing, "z.3f"),
    "convergence epoch": (convergence_epoch, "z.3g"),
    "training − validation accuracy": (train_test_gap, "z.2f"),
}
_CLAIMS = (
    ("validation accuracy (%)", "teacher", ">", "baseline"),
    ("training accuracy (%)", "teacher", ">", "baseline"),
    ("training loss", "teacher", "<", "baseline"),
    ("convergence epoch", "teacher", ">", "baseline"),
    ("validation accuracy (%)", "exp2", ">", "exp1"),
    ("training accuracy (%)", "exp2", ">", "exp1"),
    ("training loss", "exp2", "<", "exp1"),
    ("soft loss", "exp2", "<", "exp1"),
    ("hard loss", "exp2", "<", "exp1"),
    ("step-to-step swing of the loss", "exp2", "<", "exp1"),
    ("convergence epoch", "exp2", ">", "exp1"),
    ("validation accuracy (%)", "distill", ">", "baseline"),
    ("validation accuracy (%)", "exp2", ">", "distill"),
    ("validation accuracy (%)", "exp2", ">", "baseline"),
    ("training accuracy (%)", "exp2", "=", "baseline"),
    ("training − validation accuracy", "exp2", "<", "baseline"),
)


def conclusions(replicates: Replicates) -> pd.DataFrame:
    """What the note concludes, and whether it holds here: "yes", "no" or "undecided", as text.

    Of validation accuracies the interval of the difference decides, so "undecided" is where it includes zero; of the
    other measures, compared as they are printed, the seeds do, where they agree. Accuracies within `GAP` points are
    equal where the note calls them so.
    """
    rows = []
    for name, first, sign, second in _CLAIMS:
        measure, digits = _CLAIMED[name]
        pairs = [(measure(runs[first]), measure(runs[second])) for runs in replicates.values()]
        if measure is accuracy:  # of these the note only says that the first is higher
            estimate = difference(replicates, first, second)
            agree = [estimate.low > 0, estimate.high > 0]
        else:
            agree = [_relation(pair, digits, sign) == sign for pair in pairs]
        mean = tuple(np.mean(pairs, axis=0))
        one, other = (_printed(value, digits) for value in mean)
        rows.append(
            {
                "measure": name,
                "the note": f"{NAMES[first]} {sign} {NAMES[second]}",
                "here": f"{one} {_relation(mean, digits, sign)} {other}",
                "holds": "yes" if all(agree) else "undecided" if any(agree) else "no",
            }
        )
    return pd.DataFrame(rows).set_index("measure")


def _relation(values: tuple[float, float], digits: str, claimed: str) -> str:
    """ "<", "=" or ">" of two values; what looks equal in print is equal."""
    one, other = values
    if _printed(one, digits) == _printed(other, digits) or (claimed == "=" and abs(one - other) <= GAP):
        return "="
    return "<" if one < other else ">"


def _printed(value: float, digits: str) -> str:
    return f"{value:{digits}}".replace("-", "−")


# Sentences. No sign is presupposed: each word follows from the numbers.

_PROSE = {
    "teacher": "the teacher",
    "baseline": "the baseline",
    "distill": "the distilled student",
    "exp1": "experiment 1",
    "exp2": "experiment 2",
}


def findings(replicates: Replicates) -> list[str]:
    """What the records say of the note's question, of its comparisons and of its ordering: short English sentences."""
    return [
        effect_of_the_matrix(replicates),
        stage_one(replicates),
        *(compare(replicates, *pair) for pair in COMPARISONS),
        *ordering(replicates),
    ]


def effect_of_the_matrix(replicates: Replicates) -> str:
    """The answer to the note's question: what guidance through the regressor changes, beside distillation without.

    Experiment 1 differs from the distilled student by the freezing too.
    """
    there = {"gap": "there is a gap", "no gap": "there is no gap", "undecided": "it stays undecided"}
    frozen, trained_on = (difference(replicates, run, "distill") for run in ("exp1", "exp2"))
    return (
        f"Where the layers taught through the extra matrix are frozen, {there[verdict(frozen)]}: experiment 1 is "
        f"{_distance(frozen)} the distilled student, which never had that matrix. Where everything is trained on, "
        f"{there[verdict(trained_on)]}: experiment 2 is {_distance(trained_on)} it."
    )


def headline(replicates: Replicates, run: str) -> str:
    """One sentence: the test accuracy of a run after the last epoch, its training accuracy beside it."""
    last = final_accuracy(replicates, run)
    training = mean_accuracy(replicates, run, training_accuracy)
    return _sentence(
        f"{_PROSE[run]} classifies {last.text(2, ' %')} of the test images correctly after the last epoch (95 % "
        f"interval over {last.n:,} {last.source}), with a training accuracy of {training.text(2, ' %')}."
    )


def compare(replicates: Replicates, first: str, second: str) -> str:
    """One sentence: by how much run ``first`` is above or below run ``second``, and the verdict."""
    estimate = difference(replicates, first, second)
    outcome = "a gap" if verdict(estimate) == "gap" else verdict(estimate)
    return _sentence(
        f"{_PROSE[first]} is {_distance(estimate)} {_PROSE[second]} in test accuracy (95 % interval "
        f"{signed(estimate.low)} to {signed(estimate.high)} over {estimate.n:,} {estimate.source}): {outcome} by the "
        f"{GAP}-point rule."
    )


def ordering(replicates: Replicates) -> list[str]:
    """Whether the note's ordering of the four small networks holds here, and which of its leads may be chance."""
    means = {model: _mean(replicates, model, accuracy) for model in MODELS if model != "teacher"}
    count = sum(_is_ordered({model: accuracy(runs[model]) for model in means}) for runs in replicates.values())
    order = sorted(means, key=means.get, reverse=True)
    here = ", ".join(f"{_PROSE[model]} {means[model]:.2f} %" for model in order)
    everywhere = f" It holds in {count} of {len(replicates)} replicates." if len(replicates) > 1 else ""
    holds = (
        "The note's ordering (experiment 2 > distilled student ≥ baseline > experiment 1) "
        f"{'holds' if _is_ordered(means) else 'does not hold'} for the mean test accuracies: {here}.{everywhere}"
    )
    unsure = " and of ".join(
        f"{_PROSE[first]} over {_PROSE[second]}"
        for first, second in pairwise(order)
        if difference(replicates, first, second).low <= 0
    )
    return [holds, *([f"The lead of {unsure} may be chance: the 95 % interval includes zero."] if unsure else [])]


def signed(value: float) -> str:
    """A difference with its sign and two decimals, e.g. "+1.31" or "−0.40"."""
    return _printed(value, "+z.2f")


def stage_one(replicates: Replicates) -> str:
    """One sentence: how much of the teacher's hint stage one explains."""
    loss = _mean(replicates, "hint", lambda record: record.train["total"][-1])
    r2 = _mean(replicates, "hint", lambda record: explained(record, "test")[-1])
    share = "explains almost nothing" if r2 < LITTLE else f"explains {100 * r2:.0f} %"
    return (
        f"Stage one, common to both experiments, ends at a hint loss of {loss:.3f} and {share} of the hint's "
        f"variance on the test images (R² = {r2:.2f})."
    )


def _distance(estimate: Estimate) -> str:
    """Where the first of two runs stands: "1.84 points above", or "level with" where that is 0.00."""
    size = f"{abs(estimate.mean):.2f}"
    return "level with" if float(size) == 0 else f"{size} points {'above' if estimate.mean > 0 else 'below'}"


def _is_ordered(accuracies: Mapping[str, float]) -> bool:
    return accuracies["exp2"] > accuracies["distill"] >= accuracies["baseline"] > accuracies["exp1"]


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _measures(runs: Mapping[str, Record], model: str) -> dict[str, float]:
    """The rows of the summary table that apply to one model of one replicate, besides its accuracies."""
    record = runs[model]
    measures = {
        "loss": record.train["total"][-1],
        "parameters": record.parameters,
    }
    if model in ("exp1", "exp2"):
        measures["fit (hint) loss"] = runs["hint"].train["total"][-1]
        measures["explained variance R² of the hint"] = explained(runs["hint"], "test")[-1]
    if "soft" in record.train:
        measures |= {"soft loss": record.train["soft"][-1], "hard loss": record.train["hard"][-1]}
    return measures


def _by_seed(replicates: Replicates, measure: Callable[[Record], float]) -> pd.DataFrame:
    """A measure of every model: one row a seed, one column a model."""
    rows = [{run: measure(record) for run, record in runs.items() if run in MODELS} for runs in replicates.values()]
    return pd.DataFrame(rows)


def _student(freedom: float) -> float:
    """Half the width of an interval in standard errors, for so many degrees of freedom."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, freedom)


def _mean(replicates: Replicates, run: str, measure: Callable[[Record], float]) -> float:
    return float(np.mean([measure(runs[run]) for runs in replicates.values()]))


def _p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _short(count: int) -> str:
    """As the note writes numbers of parameters: "1.35 M", "306 k"."""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count / 1e3:.0f} k"


def _classes(digits: str) -> np.ndarray:
    """Class numbers (N,) from the digits that a record holds."""
    return np.frombuffer(digits.encode(), np.uint8) - ord("0")


def _check_same_images(first: Record, second: Record) -> None:
    if first.labels != second.labels:
        raise ValueError(f"{first.run} and {second.run} were not tested on the same images: they cannot be paired.")


def _discordant(first: Record, second: Record, of_class: int | None = None) -> tuple[int, int]:
    """Test images, of one class or of all, that only ``first``, and that only ``second``, classifies correctly."""
    _check_same_images(first, second)
    labels = _classes(first.labels)
    right, other = _classes(first.predictions) == labels, _classes(second.predictions) == labels
    counted = True if of_class is None else labels == of_class
    return int((right & ~other & counted).sum()), int((~right & other & counted).sum())

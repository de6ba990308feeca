"""What is measured of a record, and what follows from several seeds: means, intervals and verdicts.

Accuracies are percentages after the final epoch, without checkpoint selection; differences are in points. A 95 %
interval is Student's t over seeds, never pooled over arms; of a single seed's test accuracy it is over the test images.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import scipy.stats
from sklearn import metrics

from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import GAP

CONVERGED = 1.0  # points from the final accuracy
QUANTILE = 0.975  # of a 95 % interval: 2.5 % on either side
_Z = scipy.stats.norm.ppf(QUANTILE)

Measure = Callable[[Record], float]


def accuracy(record: Record) -> float:
    """Test accuracy after the final epoch, in percent: the headline number."""
    return record.test["accuracy"][-1]


def training_accuracy(record: Record) -> float:
    """Accuracy on the augmented training batches of the final epoch, in percent."""
    return record.train["accuracy"][-1]


def train_test_gap(record: Record) -> float:
    """Training minus test accuracy, in points; it can be negative, as only training images are augmented."""
    return training_accuracy(record) - accuracy(record)


def final_loss(name: str) -> Measure:
    """The measure that gives a record's training loss called ``name`` in the final epoch."""
    return lambda record: record.train[name][-1]


def convergence_epoch(record: Record) -> int:
    """The tested epoch (from 1) from which on the test accuracy stays within 1 point of its final value."""
    away = np.abs(np.array(record.test["accuracy"]) - accuracy(record)) > CONVERGED
    return record.epochs("test")[int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0]


def swing(record: Record) -> float:
    """Mean absolute difference between the losses of consecutive training steps, in the last quarter of them."""
    losses = record.steps["total"]
    return float(np.abs(np.diff(losses[-(len(losses) // 4) :])).mean())


def final_explained(record: Record) -> float:
    """R² of stage one on the test images after the final epoch: 1 − hint loss / the hint's own mean square."""
    return 1 - record.test["total"][-1] / record.test["power"][-1]


# What the note's conclusions are about, and how it is printed.
CLAIMED: dict[str, tuple[Measure, str]] = {
    "test accuracy (%)": (accuracy, "z.2f"), "training accuracy (%)": (training_accuracy, "z.2f"),
    "training loss": (final_loss("total"), "z.3f"), "step-to-step swing of the loss": (swing, "z.3f"),
    "soft loss": (final_loss("soft"), "z.3f"), "hard loss": (final_loss("hard"), "z.3f"),
    "convergence epoch": (convergence_epoch, "z.3g"), "training − test accuracy": (train_test_gap, "z.2f"),
}  # fmt: skip


def confusion(record: Record) -> pd.DataFrame:
    """Number of test images of each true class (row) predicted as each class (column)."""
    counts = metrics.confusion_matrix(record.labels, record.predictions, labels=range(len(record.names)))
    return pd.DataFrame(counts, pd.Index(record.names, name="true"), pd.Index(record.names, name="predicted"))


def per_class(record: Record) -> pd.Series:
    """Percent of each class's test images that are classified correctly."""
    counts = confusion(record)
    return pd.Series(100 * np.diag(counts) / counts.to_numpy().sum(axis=1), pd.Index(record.names, name="class"))


def discordant(first: Record, second: Record) -> tuple[np.ndarray, np.ndarray]:
    """Whether only ``first`` is right, and whether only ``second`` is: (N,). ``ValueError`` if their images differ."""
    if first.labels != second.labels:
        raise ValueError(f"{first.run} and {second.run} were not tested on the same images: they cannot be paired.")
    right, other = (np.array(record.predictions) == np.array(record.labels) for record in (first, second))
    return right & ~other, other & ~right


class Estimate(NamedTuple):
    """A mean, and the half width of its 95 % interval over ``n`` seeds or test images; nan where there is none."""

    mean: float
    half_width: float
    n: int
    source: Literal["seeds", "test images"] = "seeds"

    low = property(lambda self: self.mean - self.half_width)
    high = property(lambda self: self.mean + self.half_width)
    ends = property(lambda self: f"{signed(self.low)} to {signed(self.high)}")  # for example "−0.29 to +0.12"
    over = property(lambda self: f"{self.n:,} {self.source}")  # what the interval is over

    def text(self, decimals: int, unit: str = "") -> str:
        """For example "91.23 ± 0.31 %", or "91.23 %" without an interval."""
        spread = "" if np.isnan(self.half_width) else f" ± {self.half_width:.{decimals}f}"
        return f"{self.mean:.{decimals}f}{spread}{unit}"


def interval(values: Sequence[float]) -> Estimate:
    """Mean of one value a seed, with Student's t-interval on n − 1 degrees of freedom; one value has none."""
    n = len(values)
    half_width = scipy.stats.t.ppf(QUANTILE, n - 1) * scipy.stats.sem(values) if n > 1 else np.nan
    return Estimate(float(np.mean(values)), float(half_width), n)


def over_seeds(results: Results, arm: str, measure: Measure) -> Estimate:
    """Mean of a measure over the seeds of an arm: `interval`."""
    return interval([measure(record) for record in results.records(arm)])


def mean_accuracy(results: Results, arm: str) -> Estimate:
    """Mean test accuracy of an arm, in percent; of one seed with Wald's interval for a share of its test images."""
    estimate = over_seeds(results, arm, accuracy)
    if estimate.n > 1:
        return estimate
    n, percent = len(results.records(arm)[0].labels), estimate.mean
    return Estimate(percent, float(_Z * np.sqrt(percent * (100 - percent) / n)), n, "test images")


def by_seed(results: Results, first: str, second: str) -> list[float]:
    """Test accuracy of the first arm minus that of the second, in points, of each seed that has both."""
    return [accuracy(one) - accuracy(other) for one, other in results.together(first, second)]


def difference(results: Results, first: str, second: str) -> Estimate:
    """The mean of `by_seed`; of one seed with Wald's interval for two shares of the same test images: Agresti,
    *Categorical Data Analysis*, section on comparing dependent proportions.
    """
    pairs = results.together(first, second)
    if len(pairs) > 1:
        return interval(by_seed(results, first, second))
    only_first, only_second = discordant(*pairs[0])
    of_images = 100.0 * only_first - 100.0 * only_second
    half_width = _Z * scipy.stats.sem(of_images, ddof=0)
    return Estimate(float(of_images.mean()), float(half_width), len(of_images), "test images")


def p_value(results: Results, first: str, second: str) -> float:
    """Two-sided p of the paired t-test over seeds that the two arms are equally accurate; nan where all seeds give the
    same difference, up to the six digits of a record.
    """
    values = by_seed(results, first, second)
    return float(scipy.stats.ttest_1samp(values, 0).pvalue) if np.ptp(values) > 1e-3 else np.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: Holm, *A simple sequentially rejective multiple test procedure* (1979)."""
    order = np.argsort(p_values)
    steps = np.sort(p_values) * np.arange(len(order), 0, -1)
    return np.minimum(np.maximum.accumulate(steps), 1)[np.argsort(order)].tolist()


def verdict(estimate: Estimate) -> Literal["beyond", "within", "undecided", "one seed"]:
    """The note's rule, from an interval over seeds: whether all of it lies beyond ±0.8 points, or within."""
    if estimate.n < 2 or estimate.source == "test images":
        return "one seed"
    if estimate.low > GAP or estimate.high < -GAP:
        return "beyond"
    return "within" if estimate.low >= -GAP and estimate.high <= GAP else "undecided"


def signed(value: float, digits: str = "+z.2f") -> str:
    """A number with a proper minus sign; as a difference, e.g. "+1.31" or "−0.40", unless ``digits`` says otherwise."""
    return f"{value:{digits}}".replace("-", "−")

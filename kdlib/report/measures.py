"""What is measured of one record, or of two of the same seed: accuracies, curves, confusions.

Accuracies are percentages of the test split ("validation" in the note) after the final epoch, without checkpoint
selection; differences between them are percentage points. What pairs two records raises ``ValueError`` if they are not
of the same test images.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats
from sklearn import metrics

from kdlib.storage.records import Record

CONVERGED = 1.0  # points from the final accuracy
LITTLE = 0.1  # a stage one whose R² is smaller explains almost nothing

Measure = Callable[[Record], float]


def accuracy(record: Record) -> float:
    """Test accuracy after the final epoch, in percent: the headline number."""
    return record.test["accuracy"][-1]


def training_accuracy(record: Record) -> float:
    """Accuracy on the augmented training batches of the final epoch, in percent."""
    return record.train["accuracy"][-1]


def best(record: Record) -> float:
    """Highest test accuracy of any tested epoch, in percent, as the note reports it: selected on the test split."""
    return max(record.test["accuracy"])


def train_test_gap(record: Record) -> float:
    """Training minus test accuracy after the final epoch, in points; negative where augmentation outweighs fit."""
    return training_accuracy(record) - accuracy(record)


def final_loss(name: str) -> Measure:
    """The measure that gives a record's training loss called ``name`` in the final epoch."""
    return lambda record: record.train[name][-1]


def convergence_epoch(record: Record) -> int:
    """The tested epoch (from 1) from which on the test accuracy stays within 1 point of its final value."""
    away = np.abs(np.array(record.test["accuracy"]) - accuracy(record)) > CONVERGED
    return record.epochs("test")[int(np.flatnonzero(away)[-1]) + 1 if away.any() else 0]


def crossing(first: Record, second: Record) -> int | None:
    """The last tested epoch (from 1) at which the model that ends behind was ahead; None if it never was.

    The two records were trained for equally many epochs.
    """
    ahead = np.subtract(first.test["accuracy"], second.test["accuracy"])
    reverse = np.flatnonzero(ahead * ahead[-1] < 0)
    return first.epochs("test")[reverse[-1]] if reverse.size else None


def swing(record: Record) -> float:
    """Mean absolute difference between the training losses of consecutive steps, in the last quarter of them.

    In units of the loss, so only runs with the same objective compare.
    """
    losses = record.steps["total"]
    return float(np.abs(np.diff(losses[-(len(losses) // 4) :])).mean())


def explained(record: Record, split: Literal["train", "test"]) -> list[float]:
    """R² of stage one after each (tested) epoch: the share of the hint's variance that the regressor explains.

    R² = 1 − hint loss / mean square of the standardised hint; below 0 where predicting its mean is better.
    """
    curves = getattr(record, split)
    return [1 - loss / power for loss, power in zip(curves["total"], curves["power"], strict=True)]


def final_explained(record: Record) -> float:
    """R² of stage one on the test images after the final epoch."""
    return explained(record, "test")[-1]


def calibration_error(record: Record) -> float:
    """Expected calibration error on the test split, in points.

    ``Σ over confidence bins of (images in the bin / all) · |share correct − mean confidence|``: Guo et al.,
    *On Calibration of Modern Neural Networks* (2017), equation 3.
    """
    bins = {name: np.array(values) for name, values in record.calibration.items()}
    return float(100 * np.average(np.abs(bins["correct"] - bins["confidence"]), weights=bins["count"]))


# What the note's conclusions are about, and how it is printed.
CLAIMED: dict[str, tuple[Measure, str]] = {
    "validation accuracy (%)": (accuracy, "z.2f"),
    "training accuracy (%)": (training_accuracy, "z.2f"),
    "training loss": (final_loss("total"), "z.3f"),
    "soft loss": (final_loss("soft"), "z.3f"),
    "hard loss": (final_loss("hard"), "z.3f"),
    "step-to-step swing of the loss": (swing, "z.3f"),
    "convergence epoch": (convergence_epoch, "z.3g"),
    "training − validation accuracy": (train_test_gap, "z.2f"),
}


def confusion(record: Record) -> pd.DataFrame:
    """Number of test images of each true class (row) predicted as each class (column)."""
    counts = metrics.confusion_matrix(record.labels, record.predictions, labels=range(len(record.names)))
    return pd.DataFrame(counts, pd.Index(record.names, name="true"), pd.Index(record.names, name="predicted"))


def per_class(record: Record) -> pd.Series:
    """Percent of each class's test images that are classified correctly."""
    counts = confusion(record)
    return pd.Series(100 * np.diag(counts) / counts.to_numpy().sum(axis=1), pd.Index(record.names, name="class"))


def confused_pairs(record: Record) -> pd.DataFrame:
    """How often the classes of each pair are misclassified as one another, most confused pair first.

    Indexed "cat – dog". "errors" counts both directions, which the next two columns give.
    """
    counts = confusion(record)
    wrong = counts.to_numpy().sum() - np.trace(counts)
    both_ways = {f"{a} – {b}": (counts.loc[a, b], counts.loc[b, a]) for a, b in combinations(record.names, 2)}
    pairs = pd.DataFrame.from_dict(both_ways, orient="index", columns=["first as second", "second as first"])
    pairs.insert(0, "errors", pairs.sum(axis=1))
    pairs["share of all errors (%)"] = (100 * pairs["errors"] / max(wrong, 1)).round(1)
    return pairs.sort_values("errors", ascending=False, kind="stable")


def agreement(first: Record, second: Record) -> float:
    """Percent of the test images that both records put into the same class, right or wrong."""
    check_same_images(first, second)
    return 100 * float(np.mean(np.array(first.predictions) == np.array(second.predictions)))


def correct(record: Record) -> np.ndarray:
    """Whether each test image is classified correctly: (N,)."""
    return np.array(record.predictions) == np.array(record.labels)


def discordant(first: Record, second: Record, of_class: int | None = None) -> tuple[int, int]:
    """How many test images (of class number ``of_class``) only ``first``, and only ``second``, classifies correctly."""
    check_same_images(first, second)
    right, other = correct(first), correct(second)
    counted = True if of_class is None else np.array(first.labels) == of_class
    return int((right & ~other & counted).sum()), int((~right & other & counted).sum())


def mcnemar(first: Record, second: Record, of_class: int | None = None) -> float:
    """p-value of McNemar's exact two-sided test that two models err equally often; arguments as of `discordant`."""
    only_first, only_second = discordant(first, second, of_class)
    total = only_first + only_second
    return float(stats.binomtest(only_first, total).pvalue) if total else 1.0


def check_same_images(first: Record, second: Record) -> None:
    """Refuse to pair two records that are not of the same test images."""
    if first.labels != second.labels:
        raise ValueError(f"{first.run} and {second.run} were not tested on the same images: they cannot be paired.")

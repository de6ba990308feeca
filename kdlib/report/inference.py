"""Means and differences over seeds, with intervals, and the verdict by the 0.8-point rule.

Every interval is Student's t over seeds, from the values of its own arm or contrast alone: arms differ in run-to-run
variance, so nothing is pooled. It tells how another set of seeds might come out on the same test images, and gives the
verdict. `crossed` tells how other seeds might come out on other images too. The interval of a single seed is over the
test images, and gives no verdict.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy import stats

from kdlib.design import GAP, Contrast
from kdlib.report import measures
from kdlib.report.measures import Measure
from kdlib.storage.runs import Results

CONFIDENCE = 0.95  # of every interval
_Z = float(stats.norm.ppf((1 + CONFIDENCE) / 2))  # half widths of Wald's intervals, in standard errors

Verdict = Literal["gap", "no gap", "undecided", "one seed: none"]


class Estimate(NamedTuple):
    """A mean, and the half width of its 95 % interval over ``n`` seeds or test images; nan where there is none.

    Crossed with the test images, ``n`` counts the seeds.
    """

    mean: float
    half_width: float
    n: int
    source: Literal["seeds", "test images", "seeds × test images"] = "seeds"

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
    """Mean of one value a seed, with Student's t-interval on n − 1 degrees of freedom; one value has none."""
    n = len(values)
    half_width = stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * stats.sem(values) if n > 1 else np.nan
    return Estimate(float(np.mean(values)), float(half_width), n)


def over_seeds(results: Results, arm: str, measure: Measure) -> Estimate:
    """Mean of a measure over the seeds of an arm: `interval`."""
    return interval([measure(record) for record in results.records(arm)])


def accuracy(results: Results, arm: str) -> Estimate:
    """Test accuracy of an arm after the final epoch, in percent.

    Of a single seed the interval is Wald's for a proportion of n test images, with variance p (1 − p) / n.
    """
    estimate = over_seeds(results, arm, measures.accuracy)
    if estimate.n > 1:
        return estimate
    n, share = len(results.records(arm)[0].labels), estimate.mean / 100
    return Estimate(estimate.mean, 100 * _Z * np.sqrt(share * (1 - share) / n), n, "test images")


def by_seed(results: Results, contrast: Contrast) -> list[float]:
    """Test accuracy of the first arm minus that of the second, in points, of each seed that has both."""
    pairs = results.together(contrast.first, contrast.second)
    return [measures.accuracy(first) - measures.accuracy(second) for first, second in pairs]


def difference(results: Results, contrast: Contrast) -> Estimate:
    """The mean over the seeds of `by_seed`.

    Of a single seed the interval is Wald's for two proportions of the same n test images, with variance
    (b + c − (b − c)² / n) / n², where b and c are the images that only one of the two classifies correctly
    (Agresti, *Categorical Data Analysis*, section on comparing dependent proportions).
    """
    values = by_seed(results, contrast)
    if len(values) > 1:
        return interval(values)
    ((first, second),) = results.together(contrast.first, contrast.second)
    b, c = measures.discordant(first, second)
    n = len(first.labels)
    half_width = _Z * np.sqrt(b + c - (b - c) ** 2 / n) / n
    return Estimate(100 * (b - c) / n, float(100 * half_width), n, "test images")


def crossed(results: Results, contrast: Contrast) -> Estimate:
    """`difference` with an interval that covers new seeds and new test images: `random_effects` of single images."""
    pairs = results.together(contrast.first, contrast.second)
    for first, second in pairs:
        measures.check_same_images(first, second)
        measures.check_same_images(first, pairs[0][0])
    values = [np.subtract(measures.correct(first), measures.correct(second), dtype=float) for first, second in pairs]
    return random_effects(100 * np.array(values))


def random_effects(values: np.ndarray) -> Estimate:
    """The mean of (seeds, images), with an interval that covers new seeds and new images; nan for a single seed.

    Two-way random effects without replication (Searle, Casella and McCulloch, *Variance Components*, 1992, section
    4.3): with n seeds and N images, the mean varies by MS_seeds / (n N) for these images, on n − 1 degrees of freedom,
    and by (MS_images − MS_residual) / (n N) for other images. The two half widths, Student's and the normal one, add in
    quadrature (Zou and Donner, *Construction of confidence limits about effect measures*, 2008), so the interval is
    never narrower than `interval` of the seeds.
    """
    n, images = values.shape
    mean, of_seeds, of_images = values.mean(), values.mean(axis=1), values.mean(axis=0)
    seeds = interval(of_seeds)
    residual = values - of_seeds[:, None] - of_images + mean
    mean_square = n * ((of_images - mean) ** 2).sum() / (images - 1)
    variance = (mean_square - (residual**2).sum() / ((n - 1) * (images - 1))) / (n * images) if n > 1 else np.nan
    half_width = np.hypot(seeds.half_width, _Z * np.sqrt(max(variance, 0.0)))
    return Estimate(float(mean), float(half_width), n, "seeds × test images")


def p_value(results: Results, contrast: Contrast) -> float:
    """Two-sided p of the paired t-test over seeds that the two arms are equally accurate; nan for a single seed."""
    values = by_seed(results, contrast)
    if len(values) < 2:
        return np.nan
    if not np.ptp(values):  # the seeds agree to the last image
        return float(values[0] == 0)
    return float(stats.ttest_1samp(values, 0).pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number: Holm, *A simple sequentially rejective multiple test procedure* (1979)."""
    order = np.argsort(p_values)
    steps = np.array(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted.tolist()


def verdict(estimate: Estimate) -> Verdict:
    """The 0.8-point rule, from an interval over seeds: "gap" if all of it lies beyond ±0.8, "no gap" if all within."""
    if estimate.n < 2 or estimate.source == "test images":
        return "one seed: none"
    if estimate.low > GAP or estimate.high < -GAP:
        return "gap"
    if estimate.low >= -GAP and estimate.high <= GAP:
        return "no gap"
    return "undecided"


def available(results: Results, contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Those of the contrasts of which both arms have a record of the same seed."""
    return [contrast for contrast in contrasts if results.seeds(contrast.first, contrast.second)]


def signed(value: float, digits: str = "+z.2f") -> str:
    """A number with a proper minus sign; as a difference, e.g. "+1.31" or "−0.40", unless ``digits`` says otherwise."""
    return f"{value:{digits}}".replace("-", "−")

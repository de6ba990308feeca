"""Intervals and verdicts, against values worked out by hand and against scipy."""

import math

import numpy as np
import pytest
from factories import accurate, classified, record, with_discordant
from scipy import stats

from kdlib.design import Contrast
from kdlib.report import inference, measures
from kdlib.report.inference import Estimate
from kdlib.storage.runs import Results
from kdlib.study import STUDY

# Yields of vascular grafts (%) from six batches of resin at four pressures: Montgomery, *Design and Analysis of
# Experiments*. Here the batches stand for seeds.
GRAFTS = {
    "teacher": [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
    "baseline": [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
    "exp1": [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
    "exp2": [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
}


def test_interval_is_students():
    # Mean 3, standard deviation 1.5811, t(0.975; 4) = 2.7764: 2.7764 · 1.5811 / √5 = 1.9632.
    estimate = inference.interval([1, 2, 3, 4, 5])
    assert estimate.mean == 3
    assert estimate.half_width == pytest.approx(1.9632, abs=1e-4)
    assert (estimate.n, estimate.source) == (5, "seeds")
    assert (estimate.low, estimate.high) == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert estimate.text(2, " %") == "3.00 ± 1.96 %"


def test_one_value_has_no_interval():
    estimate = inference.interval([91.234])
    assert math.isnan(estimate.half_width)
    assert estimate.text(2, " %") == "91.23 %"


def test_two_seeds_leave_one_degree_of_freedom():
    # t(0.975; 1) = 12.7062; the standard error of 90 and 91 is 0.5.
    estimate = inference.accuracy(accurate(exp2=[90, 91]), "exp2")
    assert (estimate.mean, estimate.half_width) == pytest.approx((90.5, 6.3531), abs=1e-4)


def test_seeds_that_do_not_differ_give_an_interval_of_no_width():
    estimate = inference.accuracy(accurate(exp2=[90.0, 90.0], exp1=[88.0, 89.0]), "exp2")
    assert (estimate.mean, estimate.half_width) == (90.0, 0.0)


@pytest.mark.parametrize("arm", GRAFTS)
def test_interval_of_an_arm_is_that_of_its_own_seeds_alone(arm):
    estimate = inference.accuracy(accurate(**GRAFTS), arm)
    values = GRAFTS[arm]
    expected = stats.t.interval(0.95, 5, loc=sum(values) / 6, scale=stats.sem(values))
    assert (estimate.low, estimate.high) == pytest.approx(expected)
    assert inference.accuracy(accurate(**{arm: values}), arm) == estimate


def test_difference_is_paired_within_seeds():
    # The seeds differ by far more than the models: 2, 3 and 4 points. t(0.975; 2) = 4.3027.
    estimate = inference.difference(accurate(exp2=[82, 93, 74], exp1=[80, 90, 70]), Contrast("exp2", "exp1"))
    assert estimate.mean == pytest.approx(3)
    assert estimate.half_width == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert (estimate.n, estimate.source) == (3, "seeds")


@pytest.mark.parametrize(("first", "second"), [("teacher", "exp2"), ("baseline", "exp1"), ("exp1", "baseline")])
def test_interval_of_a_difference_is_that_of_scipys_paired_t_test(first, second):
    estimate = inference.difference(accurate(**GRAFTS), Contrast(first, second))
    expected = stats.ttest_rel(GRAFTS[first], GRAFTS[second]).confidence_interval(0.95)
    assert (estimate.low, estimate.high) == pytest.approx((expected.low, expected.high))


def test_a_contrast_counts_the_seeds_that_have_both_arms():
    made = accurate(teacher=[92, 93, 94, 95], exp2=[90, None, 91, 93], exp1=[None, 87, 88, 89])
    estimate = inference.difference(made, Contrast("exp2", "exp1"))  # of the last two seeds: 3 and 4 points
    assert (estimate.mean, estimate.n) == (pytest.approx(3.5), 2)
    assert estimate.half_width == pytest.approx(12.7062 / 2, abs=1e-4)
    assert [inference.accuracy(made, arm).n for arm in ("teacher", "exp2", "exp1")] == [4, 3, 3]
    assert inference.difference(made, Contrast("teacher", "exp2")).n == 3


def test_contrasts_of_which_no_seed_has_both_arms_are_not_available():
    made = accurate(teacher=[92, 93], exp2=[90, None], exp1=[None, 87])
    contrasts = [Contrast("exp2", "exp1"), Contrast("teacher", "exp2"), Contrast("exp2", "distill")]
    assert inference.available(made, contrasts) == [Contrast("teacher", "exp2")]


def test_a_difference_within_one_seed_is_over_its_test_images():
    first, second = with_discordant(150, 86, 1600)
    made = Results(STUDY, {7: {"exp2": first, "exp1": second}, 8: {"exp2": first}})
    estimate = inference.difference(made, Contrast("exp2", "exp1"))
    # Agresti's table: difference 0.04, standard error √(236 − 64² / 1600) / 1600 = 0.00955.
    assert estimate.mean == pytest.approx(4.0)
    assert estimate.half_width == pytest.approx(100 * 1.95996 * 0.0095495, abs=1e-3)
    assert (estimate.n, estimate.source) == (1600, "test images")
    assert inference.verdict(estimate) == "one seed: none"


def test_accuracy_of_one_seed_is_a_proportion_of_its_test_images():
    made = Results(STUDY, {4: {"exp1": record("exp1", accuracy=90, images=1600)}})
    estimate = inference.accuracy(made, "exp1")
    # √(0.9 · 0.1 / 1600) = 0.0075
    assert estimate.half_width == pytest.approx(100 * 1.95996 * 0.0075, abs=1e-3)
    assert (estimate.mean, estimate.n, estimate.source) == (pytest.approx(90), 1600, "test images")


def test_other_measures_of_one_seed_have_no_interval():
    made = Results(STUDY, {0: {"exp1": classified("01", "01", "exp1")}})
    assert math.isnan(inference.over_seeds(made, "exp1", measures.best).half_width)


def test_random_effects_are_those_of_the_analysis_of_variance():
    """Two seeds, three images: worked out by hand."""
    estimate = inference.random_effects(np.array([[1.0, 2.0, 6.0], [3.0, 6.0, 6.0]]))
    # Mean 4; the seeds' means are 3 and 5. Sums of squares of images 16 and of the residual 4, on 2 degrees each.
    assert estimate.mean == pytest.approx(4)
    assert estimate.half_width == pytest.approx(math.hypot(12.7062, 1.95996 * math.sqrt((8 - 2) / 6)), abs=1e-3)
    assert (estimate.n, estimate.source) == (2, "seeds × test images")


def test_random_effects_are_never_narrower_than_the_interval_over_seeds():
    for seed in range(20):
        values = np.random.default_rng(seed).normal(0, 1, (2, 30))
        assert inference.random_effects(values).half_width >= inference.interval(values.mean(axis=1)).half_width


def test_random_effects_of_one_seed_have_no_interval():
    assert math.isnan(inference.random_effects(np.full((1, 5), 2.0)).half_width)
    assert inference.random_effects(np.full((3, 5), 2.0)).half_width == 0


def test_the_interval_for_new_images_is_that_of_the_differences_of_single_images():
    made = Results(STUDY, {seed: {"exp2": classified("0011", said, "exp2"), "exp1": classified("0011", other, "exp1")}
                           for seed, (said, other) in enumerate([("0011", "0000"), ("0010", "1010")])})  # fmt: skip
    estimate = inference.crossed(made, Contrast("exp2", "exp1"))
    assert estimate == inference.random_effects(100 * np.array([[0.0, 0, 1, 1], [1, 0, 0, 0]]))
    assert estimate.mean == 37.5


def test_the_interval_for_new_images_is_about_that_of_a_crossed_bootstrap():
    random = np.random.default_rng(0)
    values = 1 + random.normal(0, 2.0, (20, 1)) + random.normal(0, 20, (1, 500)) + random.normal(0, 10, (20, 500))
    means = [values[random.integers(20, size=20)][:, random.integers(500, size=500)].mean() for _ in range(2000)]
    low, high = np.quantile(means, [0.025, 0.975])
    estimate = inference.random_effects(values)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spreads", [(0.1, 5, 20), (0.5, 5, 5), (1.0, 10, 20)], ids=str)
def test_intervals_cover_a_known_difference_as_often_as_they_promise(seeds, spreads):
    """2,000 studies in which seeds, images and the rest vary unequally; over seeds, with the images fixed."""
    of_seeds, of_images, rest = spreads
    random, draws, images = np.random.default_rng(seeds), 2000, 200
    over_seeds = over_both = 0
    for _ in range(draws):
        effects = random.normal(0, of_images, (1, images))
        values = 0.7 + effects + random.normal(0, of_seeds, (seeds, 1)) + random.normal(0, rest, (seeds, images))
        estimate, crossed = inference.interval(values.mean(axis=1)), inference.random_effects(values)
        over_seeds += estimate.low <= 0.7 + effects.mean() <= estimate.high
        over_both += crossed.low <= 0.7 <= crossed.high
    assert 0.93 * draws <= over_seeds <= 0.97 * draws
    # Where seeds hardly differ, their share is estimated too high, and the interval is on the safe side.
    assert 0.93 * draws <= over_both <= 0.98 * draws


def test_holms_adjustment():
    assert inference.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert inference.holm([0.5, 0.6]) == [1, 1] and inference.holm([]) == []


def test_p_over_seeds_is_that_of_scipys_paired_t_test():
    p = inference.p_value(accurate(**GRAFTS), Contrast("teacher", "exp2"))
    assert p == pytest.approx(stats.ttest_rel(GRAFTS["teacher"], GRAFTS["exp2"]).pvalue)
    experiments = Contrast("exp2", "exp1")
    assert math.isnan(inference.p_value(accurate(exp2=[90], exp1=[80]), experiments))
    assert inference.p_value(accurate(exp2=[90, 91], exp1=[89, 90]), experiments) == 0
    assert inference.p_value(accurate(exp2=[90, 91], exp1=[90, 91]), experiments) == 1


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.81, 3, "gap"),
        (-3, -0.81, "gap"),
        (-0.8, 0.8, "no gap"),
        (0.1, 0.5, "no gap"),
        (0.5, 0.9, "undecided"),
        (-0.9, 0.2, "undecided"),
        (-2, 2, "undecided"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_verdict_follows_from_the_interval_over_seeds_alone(low, high, verdict):
    middle = (low + high) / 2, (high - low) / 2
    assert inference.verdict(Estimate(*middle, 5)) == verdict
    assert inference.verdict(Estimate(*middle, 5, "seeds × test images")) == verdict
    assert inference.verdict(Estimate(*middle, 10_000, "test images")) == "one seed: none"


def test_differences_carry_their_sign_and_zero_none_of_its_own():
    assert [inference.signed(value) for value in (1.306, -0.4, -0.001)] == ["+1.31", "−0.40", "+0.00"]

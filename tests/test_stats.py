"""Measures, intervals and verdicts, against values worked out by hand and scipy's."""

import math

import pytest
from factories import accurate, classified, record, sparsely, with_curves

from kdlib.report import stats
from kdlib.report.stats import Estimate
from kdlib.storage.runs import Results
from kdlib.study import STUDY

LABELS = "0000111222"  # of ten test images; the two models differ on the last five
NONE = "one seed"  # a verdict
FIRST, SECOND = classified(LABELS, "0001011222"), classified(LABELS, "0001021021")


def with_discordant(only_first, only_second, images=1000):
    """Two records of one class, that are right on different images."""
    first = "1" * only_second + "0" * (images - only_second)
    second = "0" * only_second + "1" * only_first + "0" * (images - only_first - only_second)
    return classified("0" * images, first), classified("0" * images, second)


def test_accuracies_and_losses_are_those_of_the_final_epoch():
    train = {"accuracy": [20.0, 50.0, 58.0], "total": [3.0, 1.0, 0.5], "soft": [2.0, 1.0, 0.25]}
    made = with_curves(record("exp1"), test={"accuracy": [10.0, 60.0, 55.5]}, train=train)
    assert (stats.accuracy(made), stats.training_accuracy(made), stats.train_test_gap(made)) == (55.5, 58.0, 2.5)
    assert [stats.final_loss(name)(made) for name in ("total", "soft")] == [0.5, 0.25]


def test_convergence_is_when_the_accuracy_comes_within_a_point_and_stays():
    for accuracies, epoch in (
        ([10, 50, 79, 79.5, 80], 3),
        ([10, 50, 79, 60, 80], 5),  # it was there and went away again
        ([80, 82, 80.5, 81, 80], 3),  # coming from above
        ([80], 1),
    ):
        assert stats.convergence_epoch(with_curves(record(), test={"accuracy": accuracies})) == epoch
    made = with_curves(record(epochs=6), test={"accuracy": [10, 20, 30, 79.5, 70, 80]})
    assert stats.convergence_epoch(sparsely(made, 2)) == 4, "in epochs, though not every one was tested"


def test_swing_is_the_mean_step_of_the_last_quarter_and_explained_variance_one_minus_loss_over_power():
    # 16 steps: only the last four, 3 5 2 2, count; they differ by 2, 3 and 0.
    made = with_curves(record(), steps={"total": [9.0, 0.0] * 6 + [3.0, 5.0, 2.0, 2.0]})
    assert stats.swing(made) == pytest.approx(5 / 3)
    made = with_curves(record("hint"), test={"total": [3.0, 0.5], "power": [2.0, 2.0]})
    assert stats.final_explained(made) == 0.75


def test_confusion_has_true_classes_in_rows():
    assert stats.confusion(SECOND).to_numpy().tolist() == [[3, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert stats.per_class(FIRST).round(2).to_dict() == {"ant": 75.0, "bee": 66.67, "cow": 100.0}


def test_models_are_paired_on_the_same_images_alone():
    with pytest.raises(ValueError, match="not tested on the same images"):
        stats.discordant(classified("000", "000"), classified("001", "000"))


def test_interval_is_students():
    # Mean 3, standard deviation 1.5811, t(0.975; 4) = 2.7764: 2.7764 · 1.5811 / √5 = 1.9632.
    estimate = stats.interval([1, 2, 3, 4, 5])
    assert estimate == (3, pytest.approx(1.9632, abs=1e-4), 5, "seeds")
    assert (estimate.low, estimate.high) == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert estimate.text(2, " %") == "3.00 ± 1.96 %"
    alone = stats.interval([91.234])
    assert alone.text(2, " %") == "91.23 %" and stats.verdict(alone) == NONE


def test_a_difference_counts_the_seeds_that_have_both_arms():
    made = accurate(teacher=[92, 93, 94, 95], exp2=[90, None, 91, 93], exp1=[None, 87, 88, 89])
    assert stats.by_seed(made, "exp2", "exp1") == [3, 4]
    half_width = pytest.approx(12.7062 / 2, abs=1e-4)  # t(0.975; 1), standard error 0.5
    assert stats.difference(made, "exp2", "exp1") == (pytest.approx(3.5), half_width, 2, "seeds")
    assert stats.p_value(made, "exp2", "exp1") == pytest.approx(1 - 2 * math.atan(7) / math.pi)  # t = 7 on 1 degree


def test_a_difference_and_an_accuracy_of_one_seed_are_over_its_test_images():
    first, second = with_discordant(150, 86, 1600)
    made = Results(STUDY, {7: {"exp2": first, "exp1": second}, 8: {"exp2": first}})
    estimate = stats.difference(made, "exp2", "exp1")
    # Agresti's table: difference 0.04, standard error √(236 − 64² / 1600) / 1600 = 0.00955.
    half_width = pytest.approx(100 * 1.959964 * math.sqrt(236 - 64**2 / 1600) / 1600, abs=1e-5)
    assert estimate == (pytest.approx(4.0), half_width, 1600, "test images")
    made = Results(STUDY, {4: {"exp1": record("exp1", accuracy=90, images=1600)}})
    half_width = pytest.approx(100 * 1.95996 * 0.0075, abs=1e-3)  # √(0.9 · 0.1 / 1600) = 0.0075
    assert stats.mean_accuracy(made, "exp1") == (pytest.approx(90), half_width, 1600, "test images")


def test_no_p_without_a_variance_and_holms_adjustment():
    assert math.isnan(stats.p_value(accurate(exp2=[90], exp1=[80]), "exp2", "exp1"))
    assert math.isnan(stats.p_value(accurate(exp2=[89.2, 89.3], exp1=[89.1, 89.2]), "exp2", "exp1"))
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([0.5, 0.6]) == [1, 1] and stats.holm([]) == []


def test_verdict_follows_from_the_interval_over_seeds_alone():
    within, around = [(-0.8, 0.8), (0.1, 0.5)], [(0.5, 0.9), (-0.9, 0.2), (-2, 2)]
    for verdict, intervals in {"beyond": [(0.81, 3), (-3, -0.81)], "within": within, "undecided": around}.items():
        for low, high in intervals:
            assert stats.verdict(Estimate((low + high) / 2, (high - low) / 2, 5)) == verdict
            assert stats.verdict(Estimate((low + high) / 2, (high - low) / 2, 10_000, "test images")) == NONE
    assert [stats.signed(value) for value in (1.306, -0.4, -0.001)] == ["+1.31", "−0.40", "+0.00"]

"""What is measured of one record, or of two, against values worked out by hand and against published numbers."""

import math

import pytest
from factories import classified, record, sparsely, with_curves, with_discordant

from kdlib.report import measures

# Ten test images of three classes; the two models differ on the last five.
LABELS = "0000111222"
FIRST = classified(LABELS, "0001011222")
SECOND = classified(LABELS, "0001021021")


# One record


def test_final_and_best_accuracy_and_the_gap_to_training():
    made = with_curves(record(), test={"accuracy": [10.0, 60.0, 55.5]}, train={"accuracy": [20.0, 50.0, 58.0]})
    assert measures.accuracy(made) == 55.5
    assert measures.training_accuracy(made) == 58.0
    assert measures.best(made) == 60.0
    assert measures.train_test_gap(made) == 2.5


def test_final_loss_is_that_of_the_last_epoch_of_training():
    made = with_curves(record("exp1"), train={"total": [3.0, 0.5], "soft": [2.0, 0.25]}, test={"total": [9.0, 9.0]})
    assert [measures.final_loss(name)(made) for name in ("total", "soft")] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [
        ([10, 50, 79, 79.5, 80], 3),
        ([10, 50, 78.9, 79.5, 80], 4),
        ([10, 50, 79, 60, 80], 5),  # it was there and went away again
        ([80, 82, 80.5, 81, 80], 3),  # coming from above
        ([80, 80, 80], 1),
        ([80], 1),
    ],
)
def test_convergence_is_when_the_accuracy_comes_within_a_point_and_stays(accuracies, epoch):
    assert measures.convergence_epoch(with_curves(record(), test={"accuracy": accuracies})) == epoch


def test_convergence_is_told_in_epochs_where_not_every_epoch_was_tested():
    made = with_curves(record(epochs=6), test={"accuracy": [10, 20, 30, 79.5, 70, 80]})
    assert measures.convergence_epoch(sparsely(made, 2)) == 4


def test_swing_is_the_mean_step_of_the_last_quarter():
    # 16 steps: only the last four, 3 5 2 2, count; they differ by 2, 3 and 0.
    made = with_curves(record(), steps={"total": [9.0, 0.0] * 6 + [3.0, 5.0, 2.0, 2.0]})
    assert measures.swing(made) == pytest.approx(5 / 3)


def test_explained_variance_is_one_minus_loss_over_power():
    curves = {
        "train": {"total": [1.0, 0.25], "power": [1.0, 1.0]},
        "test": {"total": [3.0, 0.5], "power": [2.0, 2.0]},
    }
    made = with_curves(record("hint"), **curves)
    assert measures.explained(made, "train") == [0.0, 0.75]
    assert measures.explained(made, "test") == [-0.5, 0.75]
    assert measures.final_explained(made) == 0.75


def test_calibration_error_weighs_the_bins_by_their_images():
    bins = {"count": [1.0, 4.0, 0.0], "confidence": [0.5, 0.9, 0.0], "correct": [1.0, 0.8, 0.0]}
    assert measures.calibration_error(record(calibration=bins)) == pytest.approx(100 * (0.5 + 4 * 0.1) / 5)


def test_confusion_has_true_classes_in_rows():
    table = measures.confusion(SECOND)
    assert table.to_numpy().tolist() == [[3, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert table.loc["ant", "bee"] == 1
    assert (table.index.name, table.columns.name) == ("true", "predicted")


def test_per_class_accuracy():
    assert measures.per_class(FIRST).round(2).to_dict() == {"ant": 75.0, "bee": 66.67, "cow": 100.0}


def test_confused_pairs_sum_both_directions():
    pairs = measures.confused_pairs(classified("0000111222", "0111022221"))
    # ant as bee three times, bee as ant once; bee as cow twice, cow as bee once.
    assert pairs.index.tolist() == ["ant – bee", "bee – cow", "ant – cow"]
    assert pairs["errors"].tolist() == [4, 3, 0]
    assert pairs.loc["ant – bee", ["first as second", "second as first"]].tolist() == [3, 1]
    assert pairs["share of all errors (%)"].tolist() == [57.1, 42.9, 0.0]


def test_confused_pairs_of_a_faultless_model():
    assert measures.confused_pairs(classified(LABELS, LABELS))["share of all errors (%)"].tolist() == [0.0] * 3


def test_a_hundred_classes_are_counted_like_ten():
    labels = [number for number in range(100) for _ in range(2)]
    predictions = [98 if (number, place) == (7, 15) else number for place, number in enumerate(labels)]
    made = record(names=[f"class {number}" for number in range(100)], labels=labels, predictions=predictions)
    assert measures.confusion(made).shape == (100, 100)
    assert measures.confusion(made).loc["class 7", "class 98"] == 1
    assert measures.per_class(made)["class 7"] == 50 and measures.per_class(made)["class 98"] == 100
    pairs = measures.confused_pairs(made)
    assert len(pairs) == 100 * 99 / 2 and pairs.index[0] == "class 7 – class 98" and pairs["errors"].sum() == 1


# Two records


def test_agreement_counts_equal_predictions_right_or_wrong():
    assert measures.agreement(FIRST, SECOND) == 70.0


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (1, 5, 14 / 64),  # 2 · (1 + 6) / 2⁶
        (10, 0, 2 / 1024),
        (4, 4, 1.0),
        (0, 0, 1.0),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(only_first, only_second, p):
    pair = with_discordant(only_first, only_second)
    assert measures.discordant(*pair) == (only_first, only_second)
    assert measures.mcnemar(*pair) == pytest.approx(p)


def test_mcnemar_on_a_textbook_table():
    """Agresti's ratings of a prime minister, asked twice of 1600 people: 150 and 86 changed their mind."""
    p = 2 * sum(math.comb(236, count) for count in range(87)) / 2**236
    assert measures.mcnemar(*with_discordant(150, 86, 1600)) == pytest.approx(p)


def test_mcnemar_of_one_class_counts_its_images_alone():
    # Of three cows, two are recognised by the first alone; of three bees one; of the ants none by one alone.
    assert [measures.discordant(FIRST, SECOND, number) for number in (0, 1, 2)] == [(0, 0), (1, 0), (2, 0)]
    assert [measures.mcnemar(FIRST, SECOND, number) for number in (0, 1, 2)] == [1.0, 1.0, 0.5]


@pytest.mark.parametrize("compare", [measures.mcnemar, measures.agreement, measures.discordant])
def test_records_of_other_images_cannot_be_paired(compare):
    with pytest.raises(ValueError, match="not tested on the same images"):
        compare(classified("000", "000"), classified("001", "000"))

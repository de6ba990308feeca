"""What is said of the records, against values worked out by hand and against published numbers."""

import dataclasses
import math

import pytest
import torch
from factories import record, replicates

from kdlib import statistics
from kdlib.statistics import Estimate

# Ten test images of three classes; the two models differ on the last five.
LABELS = "0000111222"
FIRST = "0001011222"
SECOND = "0001021021"


def classified(predictions, labels=LABELS, **fields):
    return record(labels=labels, predictions=predictions, classes=["ant", "bee", "cow"], **fields)


@pytest.fixture(scope="module")
def five_seeds():
    return replicates(5, images=200)


@pytest.fixture(scope="module")
def one_seed():
    return replicates(1, images=200)


def with_curves(made, **curves):
    """The record with other values of some training or test curves, e.g. ``test={"accuracy": […]}``."""
    return dataclasses.replace(made, **{part: getattr(made, part) | values for part, values in curves.items()})


# One record


def test_last_and_best_accuracy_and_the_gap_to_training():
    made = with_curves(record(), test={"accuracy": [10.0, 60.0, 55.5]}, train={"accuracy": [20.0, 50.0, 58.0]})
    assert statistics.accuracy(made) == 55.5
    assert statistics.best(made) == 60.0
    assert statistics.train_test_gap(made) == 2.5


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
    assert statistics.convergence_epoch(with_curves(record(), test={"accuracy": accuracies})) == epoch


def test_swing_is_the_mean_step_of_the_last_quarter():
    # 16 steps: only the last four, 3 5 2 2, count; they differ by 2, 3 and 0.
    made = dataclasses.replace(record(), steps={"total": [9.0, 0.0] * 6 + [3.0, 5.0, 2.0, 2.0]})
    assert statistics.swing(made) == pytest.approx(5 / 3)


def test_explained_variance_is_one_minus_loss_over_power():
    made = dataclasses.replace(
        record("hint"),
        train={"total": [1.0, 0.25], "power": [1.0, 1.0]},
        test={"total": [3.0, 0.5], "power": [2.0, 2.0]},
    )
    assert statistics.explained(made, "train") == [0.0, 0.75]
    assert statistics.explained(made, "test") == [-0.5, 0.75]


def test_calibration_error_weighs_the_bins_by_their_images():
    bins = {"count": [1, 4, 0], "confidence": [0.5, 0.9, 0.0], "correct": [1.0, 0.8, 0.0]}
    assert statistics.calibration_error(record(calibration=bins)) == pytest.approx(100 * (0.5 + 4 * 0.1) / 5)


def test_confusion_has_true_classes_in_rows():
    table = statistics.confusion(classified(SECOND))
    assert table.to_numpy().tolist() == [[3, 1, 0], [1, 1, 1], [1, 1, 1]]
    assert table.loc["ant", "bee"] == 1
    assert (table.index.name, table.columns.name) == ("true", "predicted")


def test_per_class_accuracy():
    assert statistics.per_class(classified(FIRST)).round(2).to_dict() == {"ant": 75.0, "bee": 66.67, "cow": 100.0}


def test_confused_pairs_sum_both_directions():
    pairs = statistics.confused_pairs(classified("0111022221", labels="0000111222"))
    # ant as bee three times, bee as ant once; bee as cow twice, cow as bee once.
    assert pairs.index.tolist() == ["ant – bee", "bee – cow", "ant – cow"]
    assert pairs["errors"].tolist() == [4, 3, 0]
    assert pairs.loc["ant – bee", ["first as second", "second as first"]].tolist() == [3, 1]
    assert pairs["share of all errors (%)"].tolist() == [57.1, 42.9, 0.0]


def test_confused_pairs_of_a_faultless_model():
    assert statistics.confused_pairs(classified(LABELS))["share of all errors (%)"].tolist() == [0.0] * 3


# Two records


def test_agreement_counts_equal_predictions_right_or_wrong():
    assert statistics.agreement(classified(FIRST), classified(SECOND)) == 70.0


def test_better_classes_are_those_where_the_student_is_ahead():
    table = statistics.better_classes(classified(FIRST), classified(SECOND))
    assert table["difference (points)"].to_dict() == {"cow": 66.67, "bee": 33.33}
    # Of three cows, two are recognised by the student alone: both heads or both tails of two fair coins. One bee.
    assert table["McNemar's p"].to_dict() == {"cow": "0.500", "bee": "1.000"}
    assert statistics.better_classes(classified(SECOND), classified(FIRST)).empty


def with_discordant(only_first, only_second, images=1000):
    """Two records of one class each, that are right on different images."""
    labels = "0" * images
    first = "1" * only_second + "0" * (images - only_second)
    second = "0" * only_second + "1" * only_first + "0" * (images - only_first - only_second)
    return classified(first, labels), classified(second, labels)


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
    result = statistics.mcnemar(*with_discordant(only_first, only_second))
    assert (result.only_first, result.only_second) == (only_first, only_second)
    assert result.p == pytest.approx(p)


def test_mcnemar_on_a_textbook_table():
    """Agresti's ratings of a prime minister, asked twice of 1600 people: 150 and 86 changed their mind."""
    p = 2 * sum(math.comb(236, count) for count in range(87)) / 2**236
    assert statistics.mcnemar(*with_discordant(150, 86, 1600)).p == pytest.approx(p)


@pytest.mark.parametrize("compare", [statistics.mcnemar, statistics.agreement])
def test_records_of_other_images_cannot_be_paired(compare):
    with pytest.raises(ValueError, match="not tested on the same images"):
        compare(classified("000"), classified("000", labels="000"))


# Over replicates


def test_interval_is_students():
    # Mean 3, standard deviation 1.5811, t(0.975; 4) = 2.7764: 2.7764 · 1.5811 / √5 = 1.9632.
    estimate = statistics.interval([1, 2, 3, 4, 5])
    assert estimate.mean == 3
    assert estimate.half_width == pytest.approx(1.9632, abs=1e-4)
    assert (estimate.n, estimate.source) == (5, "seeds")
    assert (estimate.low, estimate.high) == pytest.approx((1.0368, 4.9632), abs=1e-4)
    assert estimate.text(2, " %") == "3.00 ± 1.96 %"


def test_one_value_has_no_interval():
    estimate = statistics.interval([91.234])
    assert math.isnan(estimate.half_width)
    assert estimate.text(2, " %") == "91.23 %"


def accuracies(**runs):
    """Replicates whose runs have these last test accuracies, one a seed."""
    return {
        seed: {
            run: with_curves(record(run), test={"accuracy": [value]}) for run, value in zip(runs, values, strict=True)
        }
        for seed, values in enumerate(zip(*runs.values(), strict=True))
    }


def test_difference_is_paired_within_seeds():
    # The seeds differ by far more than the models: 2, 3 and 4 points.
    estimate = statistics.difference(accuracies(exp2=[82, 93, 74], exp1=[80, 90, 70]), "exp2", "exp1")
    assert estimate.mean == pytest.approx(3)  # of two models alone it is the paired t-interval
    assert estimate.half_width == pytest.approx(4.3027 / math.sqrt(3), abs=1e-4)
    assert estimate.source == "seeds"


def test_difference_within_one_seed_is_over_its_test_images():
    first, second = with_discordant(150, 86, 1600)
    estimate = statistics.difference({7: {"exp2": first, "exp1": second}}, "exp2", "exp1")
    # The same table: difference 0.04, standard error √(236 − 64² / 1600) / 1600 = 0.00955.
    assert estimate.mean == pytest.approx(4.0)
    assert estimate.half_width == pytest.approx(100 * 1.95996 * 0.0095495, abs=1e-3)
    assert (estimate.n, estimate.source) == (1600, "test images")


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
def test_verdict_follows_from_the_interval(low, high, verdict):
    assert statistics.verdict(Estimate((low + high) / 2, (high - low) / 2, 5)) == verdict


def test_summary_table_has_the_notes_rows_and_figures_beside_ours(five_seeds):
    table = statistics.summary_table(five_seeds)
    assert table.index.tolist() == list(statistics.ROWS)
    assert table.columns.get_level_values(0).unique().tolist() == [statistics.NAMES[run] for run in statistics.MODELS]
    note = table.xs("note", axis=1, level=1)
    assert note.loc["validation accuracy, best epoch"].tolist() == [
        "87.09 %",
        "83.99 %",
        "84.05 %",
        "80.64 %",
        "86.36 %",
    ]
    assert note.loc["validation accuracy, last epoch"].tolist() == ["–"] * 5
    assert note.loc["soft loss"].tolist() == ["–", "–", "1.05", "0.97", "0.40"]
    here = table.xs("here", axis=1, level=1)
    assert here.loc["parameters"].tolist() == ["1.35 M"] + ["306 k"] * 4
    assert (here.loc["soft loss"] == "–").tolist() == [True, True, False, False, False]
    assert (here.loc["fit (hint) loss"] == "–").tolist() == [True, True, True, False, False]
    assert here.drop("parameters").map(lambda cell: cell == "–" or " ± " in cell).all(axis=None)


def test_summary_table_takes_the_last_epoch_of_the_right_run(five_seeds):
    here = statistics.summary_table(five_seeds).xs("here", axis=1, level=1)

    def mean(run, part, curve):
        return sum(getattr(runs[run], part)[curve][-1] for runs in five_seeds.values()) / 5

    assert here.at["loss", "student (exp. 1)"].startswith(f"{mean('exp1', 'train', 'total'):.3f} ±")
    assert here.at["hard loss", "student (exp. 2)"].startswith(f"{mean('exp2', 'train', 'hard'):.3f} ±")
    assert here.at["training accuracy", "teacher"].startswith(f"{mean('teacher', 'train', 'accuracy'):.2f} ±")
    assert here.at["validation accuracy, last epoch", "baseline"].startswith(
        f"{mean('baseline', 'test', 'accuracy'):.2f} ±"
    )
    assert here.at["fit (hint) loss", "student (exp. 1)"].startswith(f"{mean('hint', 'train', 'total'):.3f} ±")
    r2 = sum(statistics.explained(runs["hint"], "test")[-1] for runs in five_seeds.values()) / 5
    assert here.at["explained variance R² of the hint", "student (exp. 2)"].startswith(f"{r2:.3f} ±")


def test_final_accuracy_of_one_seed_is_a_proportion_of_its_test_images():
    estimate = statistics.final_accuracy({4: {"exp1": record("exp1", accuracy=90, images=1600)}}, "exp1")
    # √(0.9 · 0.1 / 1600) = 0.0075
    assert estimate.half_width == pytest.approx(100 * 1.95996 * 0.0075, abs=1e-3)
    assert (estimate.mean, estimate.n, estimate.source) == (pytest.approx(90), 1600, "test images")


# Montgomery's example of a randomized complete block design: yields of vascular grafts (%) from six batches of resin
# at four pressures. His analysis of variance: mean squares 38.45 between the batches and 7.33 of error, with 15
# degrees of freedom.
GRAFTS = {
    "teacher": [90.3, 89.2, 98.2, 93.9, 87.4, 97.9],
    "baseline": [92.5, 89.5, 90.6, 94.7, 87.0, 95.8],
    "exp1": [85.5, 90.8, 89.6, 86.2, 88.0, 93.4],
    "exp2": [82.5, 89.5, 85.6, 87.4, 78.9, 90.7],
}


def test_differences_over_seeds_share_the_variance_of_all_models():
    estimate = statistics.difference(accuracies(**GRAFTS), "teacher", "exp2")
    assert estimate.mean == pytest.approx(92.8167 - 85.7667, abs=1e-3)
    assert estimate.half_width == pytest.approx(2.1314 * math.sqrt(2 * 7.33 / 6), abs=1e-2)  # t(0.975; 15)
    assert (estimate.n, estimate.source) == (6, "seeds")


def test_means_over_seeds_share_the_variance_of_all_models():
    estimate = statistics.final_accuracy(accuracies(**GRAFTS), "exp1")
    # Variance (38.45 + 3 · 7.33) / 4 = 15.11, on 60.44² / (38.45² / 5 + (3 · 7.33)² / 15) = 11.14 degrees of freedom.
    variances = [torch.tensor(yields).var().item() for yields in GRAFTS.values()]
    assert sum(variances) / 4 == pytest.approx(15.11, abs=1e-2)
    assert estimate.mean == pytest.approx(88.9167, abs=1e-3)
    assert estimate.half_width == pytest.approx(2.1975 * math.sqrt(15.11 / 6), abs=1e-2)
    assert statistics.mean_accuracy(accuracies(**GRAFTS), "exp2").half_width == estimate.half_width


def test_seeds_that_do_not_differ_give_an_interval_of_no_width():
    estimate = statistics.final_accuracy(accuracies(exp2=[90.0, 90.0], exp1=[88.0, 88.0]), "exp2")
    assert (estimate.mean, estimate.half_width) == (90.0, 0.0)


def test_summary_table_of_one_seed_has_an_interval_for_the_headline_number_alone(one_seed):
    here = statistics.summary_table(one_seed).xs("here", axis=1, level=1)
    headline = "validation accuracy, last epoch"
    assert here.at[headline, "teacher"] == statistics.final_accuracy(one_seed, "teacher").text(2, " %")
    assert all("±" in cell for cell in here.loc[headline])
    assert not here.drop(headline).map(lambda cell: "±" in cell or "nan" in cell).any(axis=None)


def test_comparisons_say_what_their_intervals_are_over(one_seed, five_seeds):
    one, five = statistics.comparisons(one_seed, 0), statistics.comparisons(five_seeds, 3)
    assert one["interval over"].unique().tolist() == ["200 test images"]
    assert five["interval over"].unique().tolist() == ["5 seeds"]
    assert len(five) == 7 and "McNemar's p (seed 3)" in five
    row = five.loc["student (exp. 2) − student (exp. 1)"]
    estimate = statistics.difference(five_seeds, "exp2", "exp1")
    assert row["difference (points)"] == f"+{estimate.mean:.2f}"
    assert row["95 % interval"] == f"+{estimate.low:.2f} to +{estimate.high:.2f}"
    assert row["verdict"] == statistics.verdict(estimate)
    p = statistics.mcnemar(five_seeds[3]["exp2"], five_seeds[3]["exp1"]).p
    assert row["McNemar's p (seed 3)"] == f"{p:.3f}"


def test_dynamics_are_means_over_the_seeds():
    table = statistics.dynamics(
        {
            seed: {
                run: dataclasses.replace(
                    record(run),
                    steps={"total": [0.0, 1.0] * 8},
                    train={"accuracy": [0.0, 0.0, gap]},
                    test={"accuracy": [0.0, 50.0 if seed else 0.0, 50.0]},
                )
                for run in statistics.MODELS
            }
            for seed, gap in enumerate([51.0, 54.0])
        }
    )
    assert table.loc["teacher"].tolist() == [2.5, 1.0, 2.5]
    assert table.index.tolist() == [statistics.NAMES[run] for run in statistics.MODELS]


# Sentences


def test_sentence_of_a_comparison_follows_the_sign():
    ahead = accuracies(exp2=[90.0, 91.0, 92.1], exp1=[88.0, 89.0, 90.0])
    assert statistics.compare(ahead, "exp2", "exp1") == (
        "Experiment 2 is 2.03 points above experiment 1 in test accuracy "
        "(95 % interval +1.89 to +2.18 over 3 seeds): a gap by the 0.8-point rule."
    )
    assert statistics.compare(ahead, "exp1", "exp2") == (
        "Experiment 1 is 2.03 points below experiment 2 in test accuracy "
        "(95 % interval −2.18 to −1.89 over 3 seeds): a gap by the 0.8-point rule."
    )
    level = accuracies(exp2=[90.0, 90.1], exp1=[90.0, 90.1])
    assert statistics.compare(level, "exp2", "exp1") == (
        "Experiment 2 is level with experiment 1 in test accuracy "
        "(95 % interval +0.00 to +0.00 over 2 seeds): no gap by the 0.8-point rule."
    )


def test_differences_carry_their_sign_and_zero_none_of_its_own():
    assert [statistics.signed(value) for value in (1.306, -0.4, -0.001)] == ["+1.31", "−0.40", "+0.00"]


def test_ordering_holds_or_not_on_average_and_in_each_replicate():
    holds = accuracies(baseline=[89, 89], distill=[89, 90], exp1=[85, 86], exp2=[91, 92])
    assert statistics.ordering(holds)[0] == (
        "The note's ordering (experiment 2 > distilled student ≥ baseline > experiment 1) holds for the mean test "
        "accuracies: experiment 2 91.50 %, the distilled student 89.50 %, the baseline 89.00 %, experiment 1 85.50 %. "
        "It holds in 2 of 2 replicates."
    )
    mixed = accuracies(baseline=[89, 89], distill=[89, 88], exp1=[85, 86], exp2=[91, 92])
    assert "does not hold for the mean" in statistics.ordering(mixed)[0]
    assert statistics.ordering(mixed)[0].endswith("It holds in 1 of 2 replicates.")
    alone = accuracies(baseline=[89], distill=[89], exp1=[90], exp2=[91])
    assert statistics.ordering(alone)[0].endswith(
        "does not hold for the mean test accuracies: experiment 2 91.00 %, experiment 1 90.00 %, "
        "the baseline 89.00 %, the distilled student 89.00 %."
    )


def test_ordering_names_the_neighbours_whose_lead_may_be_chance():
    close = accuracies(baseline=[89, 89.1], distill=[89.2, 89], exp1=[85, 85.1], exp2=[91, 91.2])
    assert statistics.ordering(close)[1:] == [
        "The lead of the distilled student over the baseline may be chance: the 95 % interval includes zero."
    ]
    clear = accuracies(baseline=[89, 89.1], distill=[90, 90.1], exp1=[85, 85.1], exp2=[91, 91.1])
    assert len(statistics.ordering(clear)) == 1


def test_effect_of_the_matrix_is_told_beside_distillation_without_it():
    made = accuracies(exp1=[88, 88.1], exp2=[90.5, 90.6], distill=[90.5, 90.6])
    assert statistics.effect_of_the_matrix(made) == (
        "Where the layers taught through the extra matrix are frozen, there is a gap: experiment 1 is 2.50 points "
        "below the distilled student, which never had that matrix. Where everything is trained on, there is no gap: "
        "experiment 2 is level with it."
    )
    ahead = statistics.effect_of_the_matrix(accuracies(exp1=[92, 92.1], exp2=[91.3, 91.4], distill=[90.5, 90.6]))
    assert "there is a gap: experiment 1 is 1.50 points above the distilled student" in ahead
    wide = accuracies(exp1=[90, 86], exp2=[90, 91], distill=[89, 90])
    assert "frozen, it stays undecided: experiment 1" in statistics.effect_of_the_matrix(wide)


def test_the_notes_conclusions_hold_or_not_as_the_numbers_say():
    usual = replicates(3, images=200)
    swapped = {seed: runs | {"exp1": runs["exp2"], "exp2": runs["exp1"]} for seed, runs in usual.items()}
    here, there = statistics.conclusions(usual), statistics.conclusions(swapped)
    pair = here["the note"].str.fullmatch(r"student \(exp. 2\) [<>] student \(exp. 1\)")
    assert pair.sum() == 7
    flipped = {"yes": "no", "no": "yes"}
    for one, other in zip(here[pair].itertuples(), there[pair].itertuples(), strict=True):
        assert other.here.split() == one.here.translate(str.maketrans("<>", "><")).split()[::-1]
        if one.holds in flipped and "=" not in one.here:
            assert other.holds == flipped[one.holds]
    assert (here[pair]["holds"] == "yes").sum() >= 3
    row = here.loc["training loss"].query("`the note` == 'teacher < baseline'").iloc[0]
    losses = [sum(runs[run].train["total"][-1] for runs in usual.values()) / 3 for run in ("teacher", "baseline")]
    assert row["here"] == f"{losses[0]:.3f} {'<' if losses[0] < losses[1] else '>'} {losses[1]:.3f}"


def test_a_conclusion_on_validation_accuracy_is_undecided_while_its_interval_includes_zero():
    def holds(**runs):
        table = statistics.conclusions(accuracies(**runs)).loc["validation accuracy (%)"]
        return table.set_index("the note").at["student (exp. 2) > student (distilled)", "holds"]

    others = {"teacher": [92, 92.1], "baseline": [89, 89.1], "exp1": [86, 86.1]}
    assert holds(exp2=[91, 91.1], distill=[90, 90.1], **others) == "yes"
    assert holds(exp2=[90, 90.1], distill=[91, 91.1], **others) == "no"
    assert holds(exp2=[90, 92.1], distill=[91, 90.1], **others) == "undecided"


def test_a_conclusion_on_another_measure_is_undecided_while_the_seeds_disagree(one_seed):
    def holds(*swings):
        seeds = {
            seed: one_seed[0]
            | {
                run: dataclasses.replace(one_seed[0][run], steps={"total": [0.0, height] * 8})
                for run, height in (("exp2", 1.0), ("exp1", exp1))
            }
            for seed, exp1 in enumerate(swings)
        }
        return statistics.conclusions(seeds).loc["step-to-step swing of the loss", "holds"]

    assert [holds(2.0, 3.0), holds(0.5, 1.0), holds(2.0, 0.5), holds(3.0, 1.0)] == [
        "yes",
        "no",
        "undecided",
        "undecided",
    ]


def test_training_accuracies_within_the_rule_are_equal_where_the_note_calls_them_so(one_seed):
    def holds(baseline):
        runs = {
            run: with_curves(made, train={**made.train, "accuracy": [50.0, accuracy]})
            for run, accuracy in (("exp2", 88.4), ("baseline", baseline))
            for made in [one_seed[0][run]]
        }
        table = statistics.conclusions({0: one_seed[0] | runs}).loc["training accuracy (%)"]
        return table.set_index("the note").at["student (exp. 2) = baseline", "holds"]

    assert [holds(accuracy) for accuracy in (87.7, 89.1, 87.5, 89.3)] == ["yes", "yes", "no", "no"]


def test_conclusions_call_equal_what_looks_equal(one_seed):
    runs = one_seed[0]
    table = statistics.conclusions({0: runs | {"exp1": runs["exp2"]}})
    pair = table["the note"].str.fullmatch(r"student \(exp. 2\) [<>] student \(exp. 1\)")
    assert table[pair]["here"].str.contains(" = ").sum() == 7


def test_findings_presuppose_no_sign():
    usual = replicates(3, images=200)
    swapped = {seed: runs | {"exp1": runs["exp2"], "exp2": runs["exp1"]} for seed, runs in usual.items()}
    here, there = statistics.findings(usual), statistics.findings(swapped)
    number = 2 + statistics.COMPARISONS.index(("exp2", "exp1"))
    assert "above experiment 1" in here[number] and "below experiment 1" in there[number]
    assert any("holds for" in sentence for sentence in here)
    assert any("does not hold for" in sentence for sentence in there)


def test_findings_say_when_stage_one_explains_nothing():
    good, bad = (replicates(1, images=100, r2=r2) for r2 in (0.5, 0.06))
    assert "explains 49 % of the hint's variance" in statistics.findings(good)[1]
    assert "explains almost nothing of the hint's variance" in statistics.findings(bad)[1]


def test_findings_are_short_sentences_without_gaps(one_seed, five_seeds):
    for made in (one_seed, five_seeds):
        for sentence in statistics.findings(made):
            assert sentence[0].isupper() and sentence.endswith(".") and len(sentence) < 300
            assert "nan" not in sentence and "-" not in sentence.replace("0.8-point", "")


def test_headline_gives_test_and_training_accuracy_of_the_last_epoch():
    made = with_curves(record("exp1"), test={"accuracy": [95.0, 80.0]}, train={"accuracy": [99.0, 81.25]})
    assert statistics.headline({0: {"exp1": made}}, "exp1") == (
        "Experiment 1 classifies 80.00 ± 2.48 % of the test images correctly after the last epoch "
        "(95 % interval over 1,000 test images), with a training accuracy of 81.25 %."
    )

"""The tables of the report: what stands in them, and where it comes from."""

import numpy as np
import pytest
from factories import accurate, classified, record, results, with_curves

from kdlib.design import Contrast
from kdlib.report import inference, measures, tables
from kdlib.storage.runs import Replicate, Results
from kdlib.study import STUDY

MODELS = [arm for arm in STUDY.arms if arm.classifies]
FIT, EXPLAINED = "fit (hint) loss", "explained variance R² of the hint"
FINAL, BEST = "validation accuracy, final epoch", "validation accuracy, best epoch"
EXPERIMENTS = r"student \(exp. 2\) [<>] student \(exp. 1\)"  # conclusions on these two


@pytest.fixture(scope="module")
def five_seeds():
    return results(5, images=200)


@pytest.fixture(scope="module")
def one_seed():
    return results(1, images=200)


# The summary table


def here(made):
    return tables.summary(made).xs("here", axis=1, level=1)


def test_summary_has_the_notes_rows_and_figures_beside_ours(five_seeds):
    table = tables.summary(five_seeds)
    assert table.index.tolist() == list(tables.ROWS)
    assert table.columns.get_level_values(0).unique().tolist() == [arm.title for arm in MODELS]
    note = table.xs("note", axis=1, level=1)
    assert note.loc[BEST].tolist() == ["87.09 %", "83.99 %", "84.05 %", "80.64 %", "86.36 %"]
    assert note.loc[FINAL].tolist() == ["–"] * 5
    assert note.loc["soft loss"].tolist() == ["–", "–", "1.05", "0.97", "0.40"]
    ours = here(five_seeds)
    assert ours.loc["parameters"].tolist() == ["1.35 M"] + ["306 k"] * 4
    assert (ours.loc["soft loss"] == "–").tolist() == [True, True, False, False, False]
    assert (ours.loc[FIT] == "–").tolist() == [True, True, True, False, False]
    assert ours.drop("parameters").map(lambda cell: cell == "–" or " ± " in cell).all(axis=None)


@pytest.mark.parametrize(
    ("row", "arm", "source", "measure"),
    [
        ("loss", "exp1", "exp1", lambda made: made.train["total"][-1]),
        ("hard loss", "exp2", "exp2", lambda made: made.train["hard"][-1]),
        ("soft loss", "distill", "distill", lambda made: made.train["soft"][-1]),
        ("training accuracy", "teacher", "teacher", lambda made: made.train["accuracy"][-1]),
        (FINAL, "baseline", "baseline", lambda made: made.test["accuracy"][-1]),
        (BEST, "exp2", "exp2", lambda made: max(made.test["accuracy"])),
        (FIT, "exp1", "hint", lambda made: made.train["total"][-1]),
        (EXPLAINED, "exp2", "hint", lambda made: 1 - made.test["total"][-1] / made.test["power"][-1]),
    ],
)
def test_summary_takes_each_number_from_the_final_epoch_of_the_right_run(five_seeds, row, arm, source, measure):
    estimate = inference.interval([measure(made) for made in five_seeds.records(source)])
    assert here(five_seeds).at[row, STUDY.arm(arm).title] == estimate.text(*tables.ROWS[row])


def test_summary_of_one_seed_has_an_interval_for_the_headline_number_alone(one_seed):
    table = here(one_seed)
    assert table.at[FINAL, "teacher"] == inference.accuracy(one_seed, "teacher").text(2, " %")
    assert all("±" in cell for cell in table.loc[FINAL])
    assert not table.drop(FINAL).map(lambda cell: "±" in cell or "nan" in cell).any(axis=None)


# Contrasts and conclusions


def test_contrasts_say_what_their_intervals_are_over(one_seed, five_seeds):
    one, five = tables.contrasts(one_seed, 0), tables.contrasts(five_seeds, 3)
    assert one["n"].unique().tolist() == ["200 test images"] and one["verdict"].unique() == ["one seed: none"]
    assert five["n"].unique().tolist() == ["5 seeds"]


def test_contrasts_are_the_studys_with_the_primary_ones_first(five_seeds):
    table = tables.contrasts(five_seeds, 3)
    assert table.index.tolist() == [tables.title(five_seeds, contrast) for contrast in STUDY.contrasts]
    assert table["contrast"].tolist() == ["primary"] * len(STUDY.primary) + ["exploratory"] * len(STUDY.exploratory)
    row = table.loc["student (exp. 2) − student (exp. 1)"]
    estimate = inference.difference(five_seeds, Contrast("exp2", "exp1"))
    assert row["difference (points)"] == f"+{estimate.mean:.2f}"
    assert row["95 % interval"] == f"+{estimate.low:.2f} to +{estimate.high:.2f}"
    assert row["verdict"] == inference.verdict(estimate)
    crossed = inference.crossed(five_seeds, Contrast("exp2", "exp1"))
    assert row["for new images too"] == f"+{crossed.low:.2f} to +{crossed.high:.2f}"
    assert row["verdict for these"] == inference.verdict(crossed)
    p_values = inference.holm([inference.p_value(five_seeds, contrast) for contrast in STUDY.primary])
    assert table["p over seeds"].tolist()[:3] == [f"{tables._p_value(p)} (Holm)" for p in p_values]
    p = inference.p_value(five_seeds, STUDY.exploratory[0])
    assert table["p over seeds"].tolist()[3] == tables._p_value(p), "exploratory ones stand as they are"
    p = measures.mcnemar(five_seeds.by_seed[3]["exp2"], five_seeds.by_seed[3]["exp1"])
    assert row["McNemar's p (seed 3)"] == f"{p:.3f}"


def test_a_part_of_the_contrasts_is_corrected_for_the_number_of_all():
    made = accurate(baseline=[89.0, 89.2, 89.4], distill=[89.9, 89.6, 90.1], exp1=[88, 87, 88], exp2=[90, 91, 90.5])
    whole, part = tables.contrasts(made, 0), tables.contrasts(made, 0, among=("distill", "baseline", "teacher"))
    assert part.index.tolist() == ["student (distilled) − baseline"]
    assert part.equals(whole.loc[part.index])
    alone = inference.p_value(made, Contrast("distill", "baseline"))
    assert part["p over seeds"].tolist() != [f"{alone:.3f} (Holm)"]


def test_a_contrast_counts_its_own_seeds_and_has_no_p_of_a_seed_that_lacks_an_arm():
    table = tables.contrasts(accurate(exp2=[90, 91, 92], exp1=[None, 88, 89], distill=[89, 90, 91]), 0)
    assert table["n"].to_dict() == {
        "student (exp. 2) − student (exp. 1)": "2 seeds",
        "student (exp. 2) − student (distilled)": "3 seeds",
        "student (distilled) − student (exp. 1)": "2 seeds",
    }
    assert (table["McNemar's p (seed 0)"] == "–").tolist() == [True, False, True]


def exchanged(made):
    """The results with the records of the two experiments exchanged."""
    runs = made.by_seed.items()
    return Results(STUDY, {seed: {**arms, "exp1": arms["exp2"], "exp2": arms["exp1"]} for seed, arms in runs})


def test_the_notes_conclusions_hold_or_not_as_the_numbers_tell():
    usual = results(3, images=200)
    one, other = (table[table["the note"].str.fullmatch(EXPERIMENTS)] for table in map(
        tables.conclusions, (usual, exchanged(usual))))  # fmt: skip
    assert len(one) == 7 and (one["holds"] == "yes").sum() >= 3
    flipped = {"yes": "no", "no": "yes"}
    for row, mirrored in zip(one.itertuples(), other.itertuples(), strict=True):
        assert mirrored.here.split() == row.here.translate(str.maketrans("<>", "><")).split()[::-1]
        if row.holds in flipped and "≈" not in row.here:
            assert mirrored.holds == flipped[row.holds]
    losses = [np.mean([made.train["total"][-1] for made in usual.records(arm)]) for arm in ("teacher", "baseline")]
    row = tables.conclusions(usual).loc["training loss"].query("`the note` == 'teacher < baseline'").iloc[0]
    assert row["here"] == f"{losses[0]:.3f} {'<' if losses[0] < losses[1] else '>'} {losses[1]:.3f}"


@pytest.mark.parametrize(
    ("exp2", "distill", "holds"),
    [
        ([91, 91.1], [90, 90.1], "yes"),
        ([90, 90.1], [91, 91.1], "no"),
        ([90, 92.1], [91, 90.1], "undecided"),
    ],
)
def test_a_conclusion_on_validation_accuracy_is_undecided_while_its_interval_includes_zero(exp2, distill, holds):
    table = tables.conclusions(accurate(exp2=exp2, distill=distill))
    assert table.set_index("the note").at["student (exp. 2) > student (distilled)", "holds"] == holds


@pytest.mark.parametrize(
    ("swings", "holds"),
    [([2.0, 3.0], "yes"), ([0.5, 1.0], "no"), ([2.0, 0.5], "undecided"), ([3.0, 1.0], "undecided")],
)
def test_a_conclusion_on_another_measure_is_undecided_while_the_seeds_disagree(swings, holds):
    def swinging(run, height):
        return with_curves(record(run, images=20), steps={"total": [0.0, height] * 8})

    made = {seed: {"exp2": swinging("exp2", 1.0), "exp1": swinging("exp1", swing)} for seed, swing in enumerate(swings)}
    table = tables.conclusions(Results(STUDY, made))
    assert table.at["step-to-step swing of the loss", "holds"] == holds


@pytest.mark.parametrize(("baseline", "holds"), [(87.7, "yes"), (89.1, "yes"), (87.5, "no"), (89.3, "no")])
def test_training_accuracies_within_the_rule_are_equal_where_the_note_calls_them_so(baseline, holds):
    made = {
        arm: with_curves(record(arm, images=20), train={"accuracy": [50.0, accuracy]})
        for arm, accuracy in (("exp2", 88.4), ("baseline", baseline))
    }
    assert tables.conclusions(Results(STUDY, {0: made})).at["training accuracy (%)", "holds"] == holds


def test_conclusions_call_equal_what_looks_equal(one_seed):
    runs = one_seed.by_seed[0]
    table = tables.conclusions(Results(STUDY, {0: {**runs, "exp1": runs["exp2"]}}))
    pair = table["the note"].str.fullmatch(EXPERIMENTS)
    assert table[pair]["here"].str.contains(" ≈ ").sum() == 7


def test_dynamics_are_means_over_the_seeds():
    def made(run, seed, final):
        test = {"accuracy": [0.0, 50.0 if seed else 0.0, 50.0]}
        steps, train = {"total": [0.0, 1.0] * 8}, {"accuracy": [0.0, 0.0, final]}
        return with_curves(record(run, images=20), steps=steps, train=train, test=test)

    table = tables.dynamics(
        Results(
            STUDY,
            {seed: {arm.name: made(arm.name, seed, final) for arm in MODELS} for seed, final in ((0, 51.0), (1, 54.0))},
        )
    )
    assert table.loc["teacher"].tolist() == [2.5, 1.0, 2.5]
    assert table.index.tolist() == [arm.title for arm in MODELS]


# Classes


def test_better_classes_are_those_in_which_a_student_is_ahead_of_the_teacher():
    better = classified("0000111222", "0001011222", "exp1")
    worse = classified("0000111222", "0001021021", "teacher")
    table = tables.better_classes(Results(STUDY, {0: {"teacher": worse, "exp1": better}}), 0).loc["student (exp. 1)"]
    assert table["difference (points)"].to_dict() == {"cow": 66.67, "bee": 33.33}
    # Of three cows, two are recognised by the student alone: both heads or both tails of two fair coins. One bee.
    assert table["McNemar's p"].to_dict() == {"cow": "0.500", "bee": "1.000"}
    assert tables.better_classes(Results(STUDY, {0: {"teacher": better, "exp1": worse}}), 0).empty


def test_confused_pairs_are_ranked_for_each_model():
    made = {
        run: classified("0000111222", said, run) for run, said in (("teacher", "0111011222"), ("exp1", "0000222220"))
    }
    table = tables.most_confused(Results(STUDY, {0: made}), 0, count=2)
    assert table["teacher"].tolist() == ["ant – bee (4)", "ant – cow (0)"]
    assert table["student (exp. 1)"].tolist() == ["bee – cow (3)", "ant – cow (1)"]
    assert table.index.tolist() == [1, 2]
    pair = tables.one_pair(Results(STUDY, {0: made}), 0, "ant – bee")
    assert pair["errors"].to_dict() == {"teacher": 4, "student (exp. 1)": 0}
    assert tables.one_pair(Results(STUDY, {0: made}), 0, "cat – dog").empty


def test_a_hundred_classes_go_through_every_table():
    made = results(2, images=300, names=[f"class {number}" for number in range(100)])
    assert tables.summary(made).shape == (len(tables.ROWS), 2 * len(MODELS))
    assert len(tables.contrasts(made, 1)) == len(STUDY.contrasts)
    assert tables.most_confused(made, 1)["teacher"].str.fullmatch(r"class \d+ – class \d+ \(\d+\)").all()
    assert len(tables.one_pair(made, 1, "class 4 – class 77")) == len(MODELS)
    classes = tables.better_classes(made, 1).index.get_level_values("class")
    assert len(classes) and classes.str.fullmatch(r"class \d+").all()


# Other runs


def test_variants_are_listed_with_their_accuracies(replicate):
    for name, accuracy in (("distill", 80.0), ("distill-temperature8", 81.0), ("exp1-epochs3-alpha1", 82.0)):
        record(name, accuracy=accuracy, dataset="digits").save(replicate.run(name).record_path)
    table = tables.variants(replicate)
    assert table.index.tolist() == ["distill-temperature8", "exp1-epochs3-alpha1"]
    assert table.to_numpy().tolist() == [["81.00", "80.00", "+1.00"], ["82.00", "–", "–"]]
    assert tables.variants(Replicate(replicate.profile, seed=1)).columns.tolist() == table.columns.tolist()


def test_ones_own_accuracies_stand_beside_the_published_ones():
    own = accurate(
        teacher=[92.0],
        baseline=[
            89.0,
        ],
        exp1=[88.0],
        exp2=[91.0],
    )
    published = accurate(teacher=[91.5, 93.5], baseline=[89.0, 90.5], exp1=[86.0, 87.5], distill=[90.0, 90.0])
    table = tables.beside(own, published)
    assert table.index.tolist() == ["teacher", "baseline", "student (exp. 1)"]  # the arms that both have
    assert table["yours (%)"].tolist() == ["92.00", "89.00", "88.00"]
    assert table["committed (%)"].tolist() == ["92.50", "89.75", "86.75"]
    assert table["difference (points)"].tolist() == ["−0.50", "−0.75", "+1.25"]
    assert table["range"].tolist() == [
        "91.50 to 93.50 (2 seeds)", "89.00 to 90.50 (2 seeds)", "86.00 to 87.50 (2 seeds)"
    ]  # fmt: skip
    assert table["within"].tolist() == ["yes", "yes", "no"]  # the ends of the range belong to it


def test_of_several_own_seeds_the_mean_is_compared():
    table = tables.beside(accurate(exp1=[84.0, 90.0]), accurate(exp1=[86.0, 87.5, 88.0]))
    assert table.loc["student (exp. 1)"].tolist() == ["87.00", "87.17", "−0.17", "86.00 to 88.00 (3 seeds)", "yes"]

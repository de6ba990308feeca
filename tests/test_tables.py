"""The tables of the report: what stands in them, and where it comes from."""

import pytest
from factories import accurate, classified, record, results, save, with_curves

from kdlib.report import comparisons, notebook, stats, tables
from kdlib.storage.runs import Replicate, Results
from kdlib.study import STUDY

MODELS = [arm for arm in STUDY.arms if arm.name in STUDY.core and arm.classifies]


@pytest.fixture(scope="module")
def five_seeds():
    return results(5, images=100, epochs=4)


def test_summary_has_a_row_a_model_and_the_notes_accuracy_beside_ours(five_seeds):
    table = tables.summary(five_seeds.core)
    assert table.index.tolist() == [arm.title for arm in MODELS]
    assert table["the note (best epoch)"].tolist() == ["87.09 %", "83.99 %", "84.05 %", "80.64 %", "86.36 %"]
    assert table["parameters"].tolist() == ["1.35 M"] + ["306 k"] * 4
    assert (table["hint loss"] == "–").tolist() == [True, True, True, False, False]


def test_summary_takes_each_number_from_the_final_epoch_of_the_right_run(five_seeds):
    table = tables.summary(five_seeds)
    for column, arm, source, measure in (
        ("loss", "exp1", "exp1", lambda made: made.train["total"][-1]),
        ("hard loss", "exp2", "exp2", lambda made: made.train["hard"][-1]),
        ("soft loss", "distill", "distill", lambda made: made.train["soft"][-1]),
        ("training accuracy", "teacher", "teacher", lambda made: made.train["accuracy"][-1]),
        ("test accuracy", "baseline", "baseline", lambda made: made.test["accuracy"][-1]),
        ("hint loss", "exp1", "hint", lambda made: made.train["total"][-1]),
        ("R² of the hint", "wide_none_tuned", "hint_wide_none", lambda made: 1 - made.test["total"][-1] / 1.02),
    ):
        estimate = stats.interval([measure(made) for made in five_seeds.records(source)])
        text = estimate.text(2, " %") if "accuracy" in column else estimate.text(3)
        assert table.at[STUDY.arm(arm).title, column] == text


def test_the_summary_names_what_was_not_run_and_the_other_tables_leave_it_out():
    made = results(2, images=50, epochs=2, without=["exp1", "hint"]).core
    table = tables.summary(made)
    assert table.loc["student (exp. 1)"].drop(tables.NOTED).unique() == ["not run"]
    assert table.loc["student (exp. 2)", ["hint loss", "R² of the hint"]].tolist() == ["not run"] * 2
    others = (tables.contrasts(made), tables.conclusions(made))
    assert not any("(exp. 1)" in table.to_string() for table in others)


def test_contrasts_are_the_studys_with_the_primary_ones_first(five_seeds):
    table = tables.contrasts(five_seeds)
    assert len(table) == len(STUDY.contrasts) and table.index.name == "contrast, over 5 seeds"
    exploratory = [contrast.kind == "exploratory" for contrast in STUDY.contrasts]
    assert [title.endswith(" (exploratory)") for title in table.index] == exploratory
    adjusted = stats.holm([stats.p_value(five_seeds, pair.first, pair.second) for pair in STUDY.contrasts[:4]])
    assert table["p"].tolist()[: len(adjusted)] == [f"{tables._p_text(p)} (Holm)" for p in adjusted]
    estimate, row = stats.difference(five_seeds, "distill", "baseline"), table.loc["student (distilled) − baseline"]
    interval = f"{estimate.low:+.2f} to {estimate.high:+.2f}"
    assert row.tolist()[:3] == [f"{estimate.mean:+.2f}", interval, stats.verdict(estimate)]


def test_freezing_has_a_row_for_each_stage_one_with_its_frozen_and_its_fine_tuned_student():
    ends = dict(exp1=[87, 89], exp2=[90, 91], wide_none_frozen=[89, 89], wide_none_tuned=[90, 91])
    table = tables.freezing(accurate(**ends, scale03=[93, 93], short_frozen=[1, 1], wide_random_frozen=[88, 88]))
    assert table.index.tolist() == ["stage one", "stage one, S′, no matrix"]
    assert table["difference"].tolist() == ["+2.50", "+1.50"] and set(table["over"]) == {"2 seeds"}
    assert [text.partition(" ")[0] for text in table.loc["stage one", ["frozen", "fine-tuned"]]] == ["88.00", "90.50"]


def test_where_seeds_lack_an_arm_the_tables_say_of_how_many_each_row_is():
    made, more = results(2, images=50, epochs=2), results(3, images=50, epochs=2, without=["exp2"]).by_seed[2]
    made = Results(STUDY, {**made.by_seed, 2: more})
    table = tables.summary(made)
    assert (table.at["student (exp. 1)", "seeds"], table.at["student (exp. 2)", "seeds"]) == (3, 2)
    table = tables.contrasts(made)
    rows = ("student (exp. 2) − student (exp. 1)", "student (distilled) − baseline")
    assert [table.at[row, "over"] for row in rows] == ["2 seeds", "3 seeds"] and table.index.name == "contrast"


def test_the_picture_of_the_answer_says_it_too():
    made = results(2, images=50, epochs=2, without=["wide_random_frozen"]).by_seed
    made = Results(STUDY, {0: results(1, images=50, epochs=2).by_seed[0], 1: made[1]})
    first = comparisons.matrix(made).axes[0]
    assert [text.get_text().partition("), ")[2] for text in first.texts] == ["2 seeds", "2 seeds", "50 test images"]


def test_a_part_of_the_contrasts_is_corrected_for_the_number_of_all():
    made = accurate(exp1=[88, 87, 88], exp2=[90, 91, 90.5], wide_none_frozen=[88.9, 87.6, 89.1],
                    wide_none_tuned=[90.1, 91.4, 90.8])  # fmt: skip
    part = tables.contrasts(made, among=("wide_none_frozen",))
    assert part.index[0] == "S′, no matrix (frozen) − student (exp. 1)" and len(part) == 2
    assert part["p"].tolist()[:1] == [f"{2 * stats.p_value(made, 'wide_none_frozen', 'exp1'):.3f} (Holm)"]


@pytest.mark.parametrize(
    ("exp2", "holds"), [([91, 91.1], "yes"), ([89, 89.1], "no"), ([90, 92.1], "undecided"), ([91], "one seed")]
)
def test_a_conclusion_on_test_accuracy_needs_an_interval_without_zero(exp2, holds):
    table = tables.conclusions(accurate(exp2=exp2, distill=[90, 90.1]))
    assert table.set_index("the note").at["student (exp. 2) > student (distilled)", "holds"] == holds


@pytest.mark.parametrize(
    ("swings", "holds"), [([2, 3], "yes"), ([0, 1], "no"), ([2, 0.5], "undecided"), ([2], "one seed")]
)
def test_a_conclusion_on_another_measure_is_undecided_while_the_seeds_disagree(swings, holds):
    def swinging(run, height):
        return with_curves(record(run, images=20), steps={"total": [0.0, height] * 8})

    made = {seed: {"exp2": swinging("exp2", 1), "exp1": swinging("exp1", swing)} for seed, swing in enumerate(swings)}
    assert tables.conclusions(Results(STUDY, made)).at["step-to-step swing of the loss", "holds"] == holds


@pytest.mark.parametrize(("baseline", "holds"), [(87.7, "yes"), (89.3, "no")])
def test_training_accuracies_within_the_rule_are_equal_where_the_note_calls_them_so(baseline, holds):
    ends = {"exp2": 88.4, "baseline": baseline}
    made = {arm: with_curves(record(arm, images=20), train={"accuracy": [end]}) for arm, end in ends.items()}
    assert tables.conclusions(Results(STUDY, {0: made, 1: made})).at["training accuracy (%)", "holds"] == holds


def test_each_model_has_its_accuracy_on_each_class():
    said = {"teacher": "0001100202", "exp1": "0000111111"}
    made = {run: classified("0000111222", text, run) for run, text in said.items()}
    table = tables.by_class(Results(STUDY, {3: made}), 3)
    assert table.to_dict("list") == {"teacher": [75, 33.3, 66.7], "student (exp. 1)": [100, 100, 0]}
    assert table.index.tolist() == ["ant", "bee", "cow"]


def test_the_classes_that_a_model_confuses_most_are_counted_both_ways():
    said = {"teacher": "0111022221", "exp1": "0000111220"}
    made = Results(STUDY, {0: {run: classified("0000111222", text, run) for run, text in said.items()}})
    # ant as bee three times, bee as ant once; bee as cow twice, cow as bee once; and cow as ant alone.
    rows = {"teacher": ["ant – bee", 4, 57.1], "student (exp. 1)": ["ant – cow", 1, 100.0]}
    assert dict(zip(rows, tables.most_confused(made, 0).to_numpy().tolist(), strict=True)) == rows


def test_ones_own_accuracies_stand_beside_the_expected_ones(tmp_path):
    path = tmp_path / "quick.csv"
    path.write_text("arm,mean,lowest,highest,n\nexp1,87.1667,86,88,3\nteacher,92.5,91.5,93.5,3\ndistill,90,90,90,3\n")
    table = tables.expected(accurate(teacher=[92.0, 92.1], exp1=[84.0, 90.0], exp2=[91.0, 91.0]), path)
    assert table.loc["student (exp. 1)"].tolist() == ["87.00", "87.1667", "86", "88", "3"]
    assert table.index.tolist() == ["student (exp. 1)", "teacher"]  # the arms that both have


def test_a_changed_run_is_compared_with_those_of_its_seed_that_are_not_changed():
    made = results(1, images=20, profile="quick")
    save(made, STUDY.profile("quick"))
    variant = Replicate(STUDY.profile("quick", temperature=8, epochs=3))
    table = notebook.found(variant, made.by_seed[0]["exp2"].model_copy(update={"run": "distill-epochs3-temperature8"}))
    same = made.by_seed[0] | {"distill": made.by_seed[0]["exp2"]}
    assert table.equals(tables.contrasts(Results(STUDY, {0: same}).core, among=("distill",))) and len(table) == 3

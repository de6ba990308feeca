"""The study as data: its arms, their graph, its profiles, and what can be wrong with each."""

import dataclasses

import pytest

from kdlib.design import ANALYSIS, Arm, Contrast, Study
from kdlib.settings import Recipe
from kdlib.storage.runs import Replicate
from kdlib.study import EXTENDED, STUDY, study_of


def arm(name, *needs, notebook="01_one"):
    return Arm(name, name, "#000000", notebook, needs=needs)


def test_graph_of_the_notebooks_follows_from_the_needs():
    assert STUDY.graph() == {
        "01_teacher": [],
        "02_baseline": [],
        "03_distill": ["01_teacher"],
        "04_exp1": ["01_teacher"],
        "05_exp2": ["01_teacher", "04_exp1"],
    }


def test_arm_added_to_the_study_is_in_its_graph():
    study = dataclasses.replace(STUDY, arms=(*STUDY.arms, arm("tuned", "exp1", notebook="07_tuned")))
    assert study.graph() == {**STUDY.graph(), "07_tuned": STUDY.notebooks}
    assert study.arm("tuned").needs == ("exp1",)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"arms": (arm("one"), arm("one"))}, r"Two arms are called 'one': give each a name of its own\."),
        (
            {"profiles": (STUDY.profiles[0], STUDY.profiles[0])},
            r"Two profiles are called 'smoke': give each a name of its own\.",
        ),
        ({"arms": (arm("one-two"),)}, r"'one-two' cannot name one of the arms: use letters, digits and underscores\."),
        (
            {"arms": (arm("one", "two"),)},
            r"one needs the arm 'two', which the study lacks: add it, or drop the need\.",
        ),
        (
            {"primary": (Contrast("one", "two"),)},
            r"Contrast\(.*\) names the arm 'two', which the study lacks: add it, or drop it\.",
        ),
        ({"exploratory": (Contrast("three", "one"),)}, r"Contrast\(.*\) names the arm 'three', which .*"),
        ({"arms": (arm("one", "one"),)}, r"Arms need each other in a circle \(one → one\): drop a need\."),
        (
            {"arms": (arm("one", "two"), arm("two", "three"), arm("three", "one"))},
            r"Arms need each other in a circle \((\w+ → ){3}\w+\): drop a need\.",
        ),
        (
            {"arms": (arm("one"), arm("two", "one", notebook="02_two"), arm("three", "two"))},
            r"Notebooks need each other in a circle \((\w+ → ){2}\w+\): drop a need\.",
        ),
    ],
)
def test_impossible_study_is_refused_in_one_sentence(changes, sentence):
    whole = {"arms": (arm("one"),), "profiles": (), **changes}
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Study(**whole)


def test_primary_contrasts_come_first():
    first, second = Contrast("one", "two"), Contrast("two", "one")
    assert Study((arm("one"), arm("two")), (), primary=(first,), exploratory=(second,)).contrasts == (first, second)


def test_variant_of_a_run_belongs_to_its_arm():
    assert STUDY.arm("distill-temperature8") == STUDY.arm("distill")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("exp3", r"There is no arm 'exp3'; did you mean exp2\?"),
        ("techer", r"There is no arm 'techer'; did you mean teacher\?"),
        ("x", r"There is no arm 'x': choose one of teacher, baseline, distill, hint, exp1, exp2\."),
    ],
)
def test_unknown_arm_is_refused_with_the_nearest_one(name, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        STUDY.arm(name)
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        Replicate(STUDY.profile("smoke")).run(name)


def test_arm_is_called_by_its_title_unless_it_has_a_phrase():
    assert arm("one").called("en") == arm("one").called("zh") == "one"
    assert STUDY.arm("exp1").called("en") == "experiment 1" and STUDY.arm("exp1").called("zh") == "实验一"
    assert STUDY.arm("teacher").called("zh") == "教师"


def test_profile_comes_from_the_argument_else_the_environment_else_quick(monkeypatch):
    monkeypatch.delenv("KDLIB_PROFILE", raising=False)
    assert STUDY.profile().name == "quick"
    monkeypatch.setenv("KDLIB_PROFILE", "smoke")
    assert STUDY.profile().name == "smoke"
    assert STUDY.profile("full").name == "full"


def test_published_profile_is_the_full_one_under_a_name_of_its_own():
    assert STUDY.profile("published") == dataclasses.replace(STUDY.profile("full"), name="published")


def test_changes_reach_the_schedules_and_are_remembered():
    profile = STUDY.profile("quick", epochs=5, temperature=8, alpha=0.7)
    assert profile.teacher.epochs == profile.student.epochs == 5
    assert profile.hint == STUDY.profile("quick").hint, "stage one is shared by both experiments and keeps its length"
    assert (profile.temperature, profile.alpha) == (8, 0.7)
    assert dict(profile.changes) == {"epochs": 5, "temperature": 8, "alpha": 0.7}


def test_the_profiles_own_values_are_no_changes():
    standard = STUDY.profile("quick")
    own = {"epochs": standard.student.epochs, "temperature": standard.temperature, "alpha": standard.alpha}
    assert STUDY.profile("quick", **own) == STUDY.profile("quick", **dict.fromkeys(own)) == standard


def test_profiles_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        STUDY.profile("quick").alpha = 1.0


def test_all_trainings_of_a_profile_have_one_batch_size():
    """Cached logits serve all stage twos, and these compare in pairs, only if their batches are the same."""
    for profile in STUDY.profiles:
        assert profile.student.batch_size == profile.teacher.batch_size == profile.hint.batch_size


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "huge"}, r"There is no profile 'huge': choose one of smoke, quick, full, published, reference\."),
        ({"name": "ful"}, r"There is no profile 'ful'; did you mean full\?"),
        ({"epoch": 3}, r"epoch is no setting of a profile; did you mean epochs\?"),
        ({"epoch": None}, r"epoch is no setting of a profile; did you mean epochs\?"),
        ({"x": 3}, r"x is no setting of a profile: choose one of epochs, temperature, alpha\."),
        *(
            ({"epochs": epochs}, rf"epochs must be a whole number of at least 1, not {epochs!r}\.")
            for epochs in (-1, 0, 2.5, "ten", True)
        ),
        *(
            ({"temperature": value}, rf"temperature must be a number above 0, not {value!r}\.")
            for value in (0, -1.0, float("inf"), float("nan"), "hot", True)
        ),
        *(
            ({"alpha": value}, rf"alpha, the weight of the soft loss, must be a number from 0 to 1, not {value!r}\.")
            for value in (2, -0.1, float("nan"), "half")
        ),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        STUDY.profile(**arguments)


@pytest.mark.parametrize("seed", ["x", -1, 1.5, 2**32, True, None])
def test_bad_seed_is_refused_in_one_sentence(seed):
    with pytest.raises(ValueError, match=r"^seed must be a whole number from 0 to 4294967295, not .*\.$"):
        Replicate(STUDY.profile("smoke"), seed)


# The extended study


PRIMARY = [
    ("wide_none_frozen", "wide_learned_frozen"),
    ("wide_none_tuned", "wide_learned_tuned"),
    ("random_frozen", "exp1"),
    ("random_tuned", "exp2"),
]


def test_the_primary_contrasts_leave_out_the_matrix_or_its_learning_and_nothing_else():
    assert [(pair.first, pair.second) for pair in EXTENDED.primary] == PRIMARY
    for pair in EXTENDED.primary:
        first, second = (EXTENDED.arm(name).recipe for name in (pair.first, pair.second))
        assert dataclasses.replace(first, regressor=second.regressor, rate=second.rate) == second
        assert (first.regressor, second.regressor) in {("none", "learned"), ("random", "learned")}


def test_the_extended_study_holds_the_notes_and_names_none_of_its_contrasts_again():
    assert EXTENDED.arms[: len(STUDY.arms)] == STUDY.arms and EXTENDED.profiles == STUDY.profiles
    assert len(set(EXTENDED.contrasts)) == len(EXTENDED.contrasts)
    assert not set(EXTENDED.contrasts) & set(STUDY.contrasts)
    both = {name for pair in (*EXTENDED.contrasts, *STUDY.contrasts) for name in (pair.first, pair.second)}
    lengths = {arm.name for arm in EXTENDED.arms if arm.recipe.length != 1}
    assert both | lengths == {arm.name for arm in EXTENDED.arms if arm.classifies}, "every student is compared"


def test_notebooks_beyond_the_note_come_after_all_that_they_compare_with():
    graph = EXTENDED.graph()
    assert {name: graph[name] for name in STUDY.notebooks} == STUDY.graph()
    assert graph["07_regressor"] == graph["08_freezing"] == graph["09_one_stage"] == STUDY.notebooks
    assert study_of("07_regressor") is EXTENDED and study_of(ANALYSIS) is study_of("05_exp2") is STUDY


def test_the_schedule_of_an_arm_follows_from_its_stage_and_recipe():
    profile = EXTENDED.profile("full")
    for name, schedule in {"teacher": profile.teacher, "exp1": profile.student, "hint_random": profile.hint}.items():
        rate = EXTENDED.arm(name).recipe.rate
        expected = dataclasses.replace(schedule, learning_rate=schedule.learning_rate * rate)
        assert EXTENDED.arm(name).schedule(profile) == expected
    both = profile.student.epochs + profile.hint.epochs
    assert [EXTENDED.arm(name).schedule(profile).epochs for name in ("distill_long", "half_exp1", "double_exp1")] == [
        both, profile.student.epochs // 2, profile.student.epochs * 2
    ]  # fmt: skip
    slower = dataclasses.replace(EXTENDED.arm("hint"), recipe=Recipe(rate=0.5))
    assert slower.schedule(profile) == dataclasses.replace(profile.hint, learning_rate=profile.hint.learning_rate / 2)


@pytest.mark.parametrize(("name", "value"), [("rate", 0), ("rate", "1"), ("length", -1.0), ("length", float("inf"))])
def test_a_recipe_with_an_impossible_length_or_rate_is_refused(name, value):
    with pytest.raises(ValueError, match=rf"^{name}, of an arm's .*, must be a number above 0, not .*\.$"):
        Recipe(**{name: value})


def test_a_selected_study_has_the_needs_and_contrasts_among_its_arms():
    study = EXTENDED.select(("exp1", "random_frozen", "hint_random"))
    assert [arm.name for arm in study.arms] == ["exp1", "hint_random", "random_frozen"]
    assert [arm.needs for arm in study.arms] == [(), (), ("hint_random",)]
    assert study.contrasts == (Contrast("random_frozen", "exp1"),)

"""The study as data: its arms, its profiles, and what can be wrong with each."""

import re
from dataclasses import replace

import pytest

from kdlib.errors import SettingError
from kdlib.study import STUDY, Arm, Contrast, Study

ONE = Arm("one", "one", "#000000", "01_one", stage="teacher")
TWO = Arm("two", "two", "#000000", "02_two", ("one",))
HINT = Arm("hint", "stage one", "#000000", "02_two", ("one",), "stage one")
SMALL = Study(
    STUDY.profiles,
    (ONE, TWO, HINT, replace(TWO, name="three", needs=("hint",))),
    (Contrast("three", "two", "primary"), Contrast("two", "one")),
)


@pytest.mark.parametrize(
    ("arm", "setting", "value"),
    [(ONE, "body", "S′"), (HINT, "guided_rate", 0.0), (TWO, "regressor", "random"),
     (replace(TWO, needs=()), "hint_weight", 1.0), (replace(TWO, needs=("teacher",)), "takes", "front")],
)  # fmt: skip
def test_an_arm_with_a_setting_that_it_makes_no_use_of_is_refused(arm, setting, value):
    with pytest.raises(SettingError, match=rf"^The arm {arm.name} makes no use of {setting}: drop it\.$"):
        replace(arm, **{setting: value})


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [({"arms": (ONE, ONE)}, r"'one' cannot name an arm: .*, only once\."),
     ({"arms": (replace(ONE, name="one-two"),)}, r"'one-two' cannot name an arm: use letters, digits and under.*"),
     ({"arms": (TWO, ONE)}, r"two needs one, which no arm before it is called: add it there\."),
     ({"arms": (replace(ONE, notebook="03_three"), TWO)}, r"two needs one, which no arm before it .*"),
     ({"arms": (ONE, TWO, replace(TWO, name="three", needs=("two",), body="S′"))}, "three can start from one .*"),
     ({"arms": (ONE, TWO, replace(HINT, needs=()))}, r"hint is a stage one: it needs a teacher, and nothing else\."),
     ({"contrasts": (Contrast("one", "four"),)}, r"Contrast\(.*\) names four, which the study lacks: add the arm\.")],
)  # fmt: skip
def test_an_impossible_study_is_refused(changes, sentence):
    with pytest.raises(SettingError, match=f"^{sentence}$"):
        Study(**{"profiles": (), "arms": (ONE, TWO), "contrasts": (Contrast("two", "one"),)} | changes)


def test_only_settings_can_be_an_arms_own():
    with pytest.raises(SettingError, match=r"^two cannot have its own learning_rat; did you mean learning_rate\?$"):
        replace(TWO, own={"learning_rat": 0.1})
    with pytest.raises(SettingError, match=r"^two cannot have its own temperature: choose one of "):
        replace(TWO, own={"temperature": 2.0})  # it learns from no teacher
    with pytest.raises(SettingError, match=r"^two cannot have its own activation: choose one of epochs, "):
        replace(TWO, needs=("teacher", "hint"), own={"activation": "ReLU"})  # it has the network of hint
    alone = replace(TWO, needs=())
    with pytest.raises(SettingError, match=r"^activation must be SiLU or ReLU, not 'Relu'\.$"):
        replace(alone, own={"activation": "Relu"}).shape(STUDY.profile("full"))
    arm = replace(alone, own={"learning_rate": 0.025, "activation": "ReLU", "epochs": 3})
    full = STUDY.profile("full")
    assert arm.schedule(full) == replace(full.scratch, learning_rate=0.025, epochs=3)
    assert arm.shape(full) == replace(full.networks["S"], activation="ReLU")


def test_unknown_names_and_impossible_epochs_are_refused():
    for ask, sentence in (
        (lambda: STUDY.arm("exp3"), "There is no arm 'exp3'; did you mean exp2?"),
        (lambda: SMALL.arm("x"), "There is no arm 'x': choose one of one, two, hint, three."),
        (lambda: STUDY.profile("ful"), "There is no profile 'ful'; did you mean full?"),
        (lambda: STUDY.profile("quick", epochs=2.5), "epochs must be a whole number from 1 to 9,999, not 2.5."),
        (lambda: STUDY.profile("quick", temperature="8"), "temperature must be a number, not '8'."),
    ):
        with pytest.raises(SettingError, match=f"^{re.escape(sentence)}$"):
            ask()


def test_the_profile_is_the_one_named_else_that_of_the_environment_else_quick(monkeypatch):
    monkeypatch.delenv("KDLIB_PROFILE", raising=False)
    assert STUDY.profile().name == "quick"
    monkeypatch.setenv("KDLIB_PROFILE", "smoke")
    assert STUDY.profile().name == "smoke" and STUDY.profile("full").name == "full"


def test_changes_reach_the_schedules_and_are_remembered_unless_they_are_none():
    standard = STUDY.profile("quick")
    changed = STUDY.profile("quick", epochs=5, temperature=8, alpha=0.7)
    groups = (changed.teacher, changed.scratch, changed.tuned, changed.frozen)
    assert {group.epochs for group in groups} == {5} and (changed.temperature, changed.alpha) == (8, 0.7)
    assert changed.hint == standard.hint, "both experiments share stage one, which keeps its length"
    own = {"epochs": standard.scratch.epochs, "temperature": standard.temperature, "alpha": standard.alpha}
    assert STUDY.profile("quick", **own) == STUDY.profile("quick", **dict.fromkeys(own)) == standard


def test_the_four_primary_contrasts_take_the_matrix_away():
    assert len({arm.title for arm in STUDY.arms}) == len(STUDY.arms)
    assert [pair.kind == "primary" for pair in STUDY.contrasts] == [True] * 4 + [False] * (len(STUDY.contrasts) - 4)
    pairs = [(STUDY.arm(pair.first), STUDY.arm(pair.second)) for pair in STUDY.contrasts[:4]]
    for first, second in pairs:
        stage_one, other = STUDY.arm(first.needs[1]), STUDY.arm(second.needs[1])
        assert (stage_one.regressor, other.regressor) == ("none", "learned")
        assert {**first.settings, "body": other.body} == second.settings, "the same stage two, but for the body"
    # Against the note's experiments, and on the body S′.
    assert [(other.body, other.guided_rate) for _, other in pairs] == [("S", 0), ("S′", 0), ("S", 1), ("S′", 1)]

"""How the study's settings were chosen."""

import dataclasses
import math
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SMALL_WIDTHS

from kdlib import datasets, models, selection
from kdlib.settings import Schedule
from kdlib.storage import files, folders
from kdlib.storage.files import StorageError
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate
from kdlib.study import EXTENDED, STUDY

CHOSEN = files.read_json(Path(__file__).parents[1] / "results" / "selection.json")


@pytest.fixture
def small(small_data, monkeypatch):
    """Trials of one epoch on digits, of a few changes and arms."""
    schedule = Schedule(epochs=1, batch_size=64)
    profile = dataclasses.replace(
        STUDY.profile("smoke"), name="selection", teacher=schedule, student=schedule, hint=schedule
    )
    monkeypatch.setattr(selection, "recipe", lambda epochs: profile)
    monkeypatch.setattr(selection, "HELD_OUT", 56)
    monkeypatch.setattr(datasets, "load", lambda name: small_data)
    monkeypatch.setattr(models, "TEACHER_WIDTHS", SMALL_WIDTHS)
    monkeypatch.setattr(models, "STUDENT_WIDTHS", SMALL_WIDTHS)
    changes = {
        "teacher": {"label smoothing 0.1": {"smoothing": 0.1}},
        "baseline": {"learning rate 0.2": {"learning_rate": 0.2}, "thin": {"widths": ((8,), (8,), (8,), (8,))}},
        "hint": {"SGD": {"optimiser": "SGD"}},
        "distill": {"temperature 2": {"temperature": 2.0}, "alpha 0.5": {"alpha": 0.5}},
    }
    monkeypatch.setattr(selection, "CHANGES", changes)
    few = ("teacher", "baseline", "distill", "hint", "hint_random", "random_frozen", "joint_labels")
    monkeypatch.setattr(selection, "EXTENDED", EXTENDED.select(few))
    return SimpleNamespace(
        profile=profile, changes=changes, data=datasets.hold_out(small_data, 56), folder=Replicate(profile).folder
    )


def identities(folder):
    return {path.stem: Record.load(path).identity for path in folder.glob("*.json")}


def test_every_trial_is_scored_on_held_out_images_and_compared_with_its_recipe(small):
    rows = list(selection.try_changes(small.data, []))
    expected = [(training, change) for training in small.changes for change in ("", *small.changes[training])]
    assert [(row["training"], row["change"]) for row in rows] == expected
    for row in rows:
        of_recipe = next(other for other in rows if (other["training"], other["change"]) == (row["training"], ""))
        differences = [one - other for one, other in zip(row["scores"], of_recipe["scores"], strict=False)]
        assert len(row["scores"]) == (2 if differences[0] >= 0 else 1)
        assert row["moved"] == pytest.approx(sum(differences) / len(differences), abs=0.01)
        if row["training"] != "hint":  # shares of 56 images, not of the 100 of the test split
            shares = [score * 56 / 100 for score in row["scores"]]
            assert shares == pytest.approx([round(share) for share in shares], abs=0.01)
    made = identities(small.folder)
    assert made["teacher-label-smoothing-0.1"].objective["smoothing"] == 0.1
    assert made["baseline-learning-rate-0.2"].schedule["learning_rate"] == 0.2
    assert made["baseline-thin"].widths == [[8], [8], [8], [8]] != made["baseline"].widths
    assert made["hint-sgd"].schedule["optimiser"] == "SGD" and made["hint"].schedule["optimiser"] == "Muon"
    assert (made["distill-temperature-2"].objective["temperature"], made["distill"].objective["temperature"]) == (2, 4)
    assert made["distill-alpha-0.5"].objective["alpha"] == 0.5


def test_every_arm_beyond_chooses_from_the_same_values(small):
    rows = list(selection.try_grids(small.data, []))
    assert [(row["arm"], row["setting"]) for row in rows] == [
        ("hint", "rate"), ("hint_random", "rate"), ("baseline", "rate"), ("distill", "rate"), ("random_frozen", "rate"),
        ("joint_labels", "hint_weight"), ("joint_labels", "rate"),
    ]  # fmt: skip
    made = identities(small.folder)
    for row in rows:
        assert set(selection.GRIDS[row["setting"]]) <= set(row["values"]) and row["values"] == sorted(row["values"])
        assert len(row["scores"]) == len(row["values"])
        base = small.profile.student.learning_rate if row["setting"] == "rate" else 1.0  # of stage one the same
        for value, score in zip(row["values"], row["scores"], strict=True):
            if score:  # it did not diverge
                own = getattr(EXTENDED.arm(row["arm"]).recipe, row["setting"])
                name = row["arm"] if value == own else f"{row['arm']}-{row['setting']}-{value:g}"
                rate, weight = made[name].schedule["learning_rate"], made[name].objective.get("weight")
                assert (rate if row["setting"] == "rate" else weight) == pytest.approx(base * value)
    assert made["random_frozen-rate-2"].start == made["random_frozen"].start, "from the stage one of its recipe"


@pytest.mark.parametrize(
    ("setting", "best", "tried"),
    [("rate", 1.0, [0.5, 1, 2]), ("rate", 4.0, [0.5, 1, 2, 4, 8]), ("rate", 0.25, [0.125, 0.25, 0.5, 1, 2]),
     ("hint_weight", 64.0, [0.25, 1, 4, 16, 64, 256])],
)  # fmt: skip
def test_a_grid_grows_until_its_best_value_is_inside(small, monkeypatch, setting, best, tried):
    def score(arm, change, settings, seed, data):
        (value,) = settings.values()
        return 50 - abs(math.log2(value / best))

    monkeypatch.setattr(selection, "train", score)
    row = next(row for row in selection.try_grids(small.data, []) if row["setting"] == setting)
    assert row["values"] == tried and row["scores"] == [round(score("", "", {setting: x}, 0, None), 2) for x in tried]


def test_a_grid_without_a_best_value_stays_as_it_is(small, monkeypatch):
    monkeypatch.setattr(selection, "train", lambda *_: 10.0)
    assert all(row["values"] == list(selection.GRIDS[row["setting"]]) for row in selection.try_grids(small.data, []))


@pytest.mark.parametrize(("gain", "second"), [(0.4, []), (0.6, [[1.0, 50.0], [0.5, 50.6]])])
def test_a_value_that_may_be_adopted_is_tried_with_a_second_seed(small, monkeypatch, gain, second):
    asked = []

    def score(arm, change, settings, seed, data):
        asked.append(seed)
        return 50 + gain * (settings == {"rate": 0.5}) - 9 * (settings == {"rate": 0.25})

    monkeypatch.setattr(selection, "train", score)
    rates = next(row for row in selection.try_grids(small.data, []) if row["arm"] == "random_frozen")
    assert rates["values"] == [0.25, 0.5, 1.0, 2.0] and rates["second"] == second
    assert (1 in asked) == bool(second)


def test_what_the_file_has_is_not_tried_again_unless_its_recipe_changed(small, monkeypatch, capsys):
    selection.main()
    path = folders.root() / "results" / "selection.json"
    first = files.read_json(path)
    assert "joint_labels" in capsys.readouterr().out
    shutil.rmtree(small.folder.parent)
    monkeypatch.setattr(selection, "fit", None)
    selection.main()
    assert files.read_json(path) == first

    changed = selection._with_recipe("hint_random", rate=2.0)
    monkeypatch.setattr(selection, "EXTENDED", changed)
    tried = []
    monkeypatch.setattr(selection, "train", lambda arm, *_: tried.append(arm) or 50.0)
    selection.main()
    assert tried == ["random_frozen"] * 3, "what rests on it, but not what chose its rate"

    monkeypatch.setattr(selection, "HELD_OUT", 50)
    with pytest.raises(StorageError, match="is of another recipe: delete it to try everything again"):
        selection.main()


def test_the_study_has_the_recipe_that_was_compared_with_the_changes():
    """But for the epochs."""
    full, chosen = STUDY.profile("full"), CHOSEN["recipe"]
    for name in ("teacher", "student", "hint"):
        assert dataclasses.asdict(getattr(full, name)) == chosen[name] | {"epochs": getattr(full, name).epochs}, name
    assert (full.temperature, full.alpha) == (chosen["temperature"], chosen["alpha"])


def test_every_change_was_tried_and_none_gained_enough_to_be_adopted():
    expected = [(training, change) for training, changes in selection.CHANGES.items() for change in ("", *changes)]
    assert [(row["training"], row["change"]) for row in CHOSEN["trials"]] == expected
    assert max(row["moved"] for row in CHOSEN["trials"]) < 0.5


@pytest.mark.parametrize("row", CHOSEN.get("grids", []), ids=lambda row: f"{row['arm']}-{row['setting']}")
def test_each_arm_has_the_value_of_its_grid_that_the_rule_adopts(row):
    scores = dict(zip(row["values"], row["scores"], strict=True))
    inner = row["scores"][1:-1]
    assert max(inner) == max(row["scores"]), "the best value lies inside the grid"
    has = getattr(EXTENDED.arm(row["arm"]).recipe, row["setting"])
    if not row["second"]:
        assert max(row["scores"]) - scores[has] < selection.ENOUGH
    else:
        (old, first), (new, second) = row["second"]
        assert has == (new if second - first >= selection.ENOUGH else old)


@pytest.mark.parametrize(
    ("training", "setting"),
    [("baseline", "learning_rate"), ("baseline", "momentum"), ("baseline", "batch_size"), ("baseline", "weight_decay"),
     ("hint", "learning_rate"), ("distill", "temperature"), ("distill", "alpha")],
)  # fmt: skip
def test_the_recipe_lies_within_what_was_tried(training, setting):
    full = STUDY.profile("full")
    schedule = STUDY.arm(training).schedule(full)
    chosen = getattr(schedule, setting, None) or getattr(full, setting)
    changes = selection.CHANGES[training].values()
    tried = [change[setting] for change in changes if setting in change and "optimiser" not in change]
    assert min(tried) < chosen < max(tried)


def test_the_command_line_ends_in_one_sentence(project):
    files.write_json(project / "results" / "selection.json", {"held_out": 1})
    with pytest.raises(SystemExit, match=r"selection\.json is of another recipe: delete it to try everything again\.$"):
        runpy.run_path(selection.__file__, run_name="__main__")

"""How the study's settings were chosen."""

import dataclasses
from pathlib import Path

import pytest
from conftest import SMALL_WIDTHS

from kdlib import datasets, models, selection
from kdlib.storage import files
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Schedule

CHOSEN = files.read_json(Path(__file__).parents[1] / "results" / "selection.json")


def test_every_trial_is_scored_on_held_out_images_and_compared_with_its_recipe(small_data, monkeypatch):
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
        "distill": {"temperature 2": {"temperature": 2.0}},
    }
    monkeypatch.setattr(selection, "CHANGES", changes)
    rows = selection.select()
    expected = [(training, change) for training in changes for change in ("", *changes[training])]
    assert [(row["training"], row["change"]) for row in rows] == expected
    for row in rows:
        of_recipe = next(other for other in rows if (other["training"], other["change"]) == (row["training"], ""))
        differences = [one - other for one, other in zip(row["scores"], of_recipe["scores"], strict=False)]
        assert len(row["scores"]) == (2 if differences[0] >= 0 else 1)
        assert row["moved"] == pytest.approx(sum(differences) / len(differences), abs=0.01)
        if row["training"] != "hint":  # shares of 56 images, not of the 100 of the test split
            shares = [score * 56 / 100 for score in row["scores"]]
            assert shares == pytest.approx([round(share) for share in shares], abs=0.01)
    made = {path.stem: Record.load(path).identity for path in Replicate(profile).folder.glob("*.json")}
    assert made["teacher-label-smoothing-0.1"].objective["smoothing"] == 0.1
    assert made["baseline-learning-rate-0.2"].schedule["learning_rate"] == 0.2
    assert made["baseline-thin"].widths == [[8], [8], [8], [8]] != made["baseline"].widths
    assert made["hint-sgd"].schedule["optimiser"] == "SGD" and made["hint"].schedule["optimiser"] == "Muon"
    assert (made["distill-temperature-2"].objective["temperature"], made["distill"].objective["temperature"]) == (2, 4)


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


@pytest.mark.parametrize(
    ("training", "setting"),
    [("baseline", "learning_rate"), ("baseline", "momentum"), ("baseline", "batch_size"), ("baseline", "weight_decay"),
     ("hint", "learning_rate"), ("distill", "temperature"), ("distill", "alpha")],
)  # fmt: skip
def test_the_recipe_lies_within_what_was_tried(training, setting):
    full = STUDY.profile("full")
    schedule = full.schedule(selection.STAGES[training])
    chosen = getattr(schedule, setting, None) or getattr(full, setting)
    changes = selection.CHANGES[training].values()
    tried = [change[setting] for change in changes if setting in change and "optimiser" not in change]
    assert min(tried) < chosen < max(tried)

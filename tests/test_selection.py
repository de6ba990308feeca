"""How the published run's settings were chosen."""

import dataclasses
from pathlib import Path

import pytest
from conftest import SMALL_WIDTHS

from kdlib import datasets, models, selection
from kdlib.storage import files
from kdlib.study import STUDY, Schedule

CHOSEN = Path(__file__).parents[1] / "results" / "selection.json"


def test_every_candidate_is_scored_on_held_out_images(small_data, monkeypatch):
    schedule = Schedule(epochs=1, batch_size=64)
    trial = dataclasses.replace(selection.TRIAL, dataset="digits", teacher=schedule, student=schedule, hint=schedule)
    monkeypatch.setattr(selection, "TRIAL", trial)
    monkeypatch.setattr(selection, "HELD_OUT", 56)
    monkeypatch.setattr(selection, "RATES", (0.05, 0.1))
    monkeypatch.setattr(datasets, "load", lambda name: small_data)
    monkeypatch.setattr(models, "TEACHER_WIDTHS", SMALL_WIDTHS)
    monkeypatch.setattr(models, "STUDENT_WIDTHS", SMALL_WIDTHS)
    rows = selection.select()
    assert [row["training"] for row in rows] == ["teacher"] * 2 + ["baseline"] * 2 + ["hint"] * 2 + ["distill"] * 3
    # Shares of 56 images, not of the 100 of the test split.
    shares = [row["score"] * 56 / 100 for row in rows if row["training"] != "hint"]
    assert shares == pytest.approx([round(share) for share in shares], abs=1e-4)
    rate = selection.best(rows, "baseline")["learning_rate"]
    assert {row["learning_rate"] for row in rows if row["training"] == "distill"} == {rate}


def test_the_full_profile_has_the_settings_that_scored_best():
    trials, full = files.read_json(CHOSEN)["trials"], STUDY.profile("full")
    for training, schedule in (("teacher", full.teacher), ("baseline", full.student), ("hint", full.hint)):
        assert schedule.learning_rate == selection.best(trials, training)["learning_rate"], training
    distill = selection.best(trials, "distill")
    assert (full.temperature, full.alpha) == (distill["temperature"], distill["alpha"])

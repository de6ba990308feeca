"""How the published run's settings were chosen."""

import dataclasses
from pathlib import Path

import pytest
import torch

from kdlib import datasets, profiles, selection, storage
from kdlib.profiles import Schedule

CHOSEN = Path(__file__).parents[1] / "results" / "selection.json"


def test_what_is_held_out_is_not_trained_on(small_data):
    held = datasets.hold_out(small_data, 56)
    assert torch.equal(held.train_images, small_data.train_images[:200])
    assert torch.equal(held.test_images, small_data.train_images[200:])
    assert torch.equal(torch.cat([held.train_labels, held.test_labels]), small_data.train_labels)


@pytest.mark.parametrize("count", [0, 256])
def test_something_must_be_left_on_both_sides(small_data, count):
    with pytest.raises(ValueError, match=r"^count must lie between 1 and 255, not "):
        datasets.hold_out(small_data, count)


def test_every_candidate_is_scored_on_held_out_images(small_data, monkeypatch):
    schedule = Schedule(epochs=1, batch_size=64)
    trial = dataclasses.replace(selection.TRIAL, dataset="digits", teacher=schedule, student=schedule, hint=schedule)
    monkeypatch.setattr(selection, "TRIAL", trial)
    monkeypatch.setattr(selection, "HELD_OUT", 56)
    monkeypatch.setattr(selection, "RATES", (0.05, 0.1))
    monkeypatch.setattr(datasets, "load", lambda name: small_data)
    rows = selection.select()
    assert [row["training"] for row in rows] == ["teacher"] * 2 + ["baseline"] * 2 + ["hint"] * 2 + ["distill"] * 3
    # Shares of 56 images, not of the 100 of the test split.
    shares = [row["score"] * 56 / 100 for row in rows if row["training"] != "hint"]
    assert shares == pytest.approx([round(share) for share in shares], abs=1e-4)
    rate = selection.best(rows, "baseline")["learning_rate"]
    assert {row["learning_rate"] for row in rows if row["training"] == "distill"} == {rate}


def test_the_full_profile_has_the_settings_that_scored_best():
    trials, full = storage.read_json(CHOSEN)["trials"], profiles.load("full")
    for training, schedule in (("teacher", full.teacher), ("baseline", full.student), ("hint", full.hint)):
        assert schedule.learning_rate == selection.best(trials, training)["learning_rate"], training
    distill = selection.best(trials, "distill")
    assert (full.temperature, full.alpha) == (distill["temperature"], distill["alpha"])

"""Choosing a profile and changing it; what a user can get wrong."""

import dataclasses

import pytest

from kdlib import profiles, records


def test_profile_comes_from_the_argument_else_the_environment_else_quick(monkeypatch):
    monkeypatch.delenv("KDLIB_PROFILE", raising=False)
    assert profiles.load().name == "quick"
    monkeypatch.setenv("KDLIB_PROFILE", "smoke")
    assert profiles.load().name == "smoke"
    assert profiles.load("full").name == "full"


def test_changes_reach_the_schedules_and_are_remembered():
    profile = profiles.load("quick", epochs=5, temperature=8, alpha=0.7)
    assert profile.teacher.epochs == profile.student.epochs == 5
    assert profile.hint == profiles.load("quick").hint, "stage one is shared by both experiments and keeps its length"
    assert (profile.temperature, profile.alpha) == (8, 0.7)
    assert dict(profile.changes) == {"epochs": 5, "temperature": 8, "alpha": 0.7}


def test_the_profiles_own_values_are_no_changes():
    standard = profiles.load("quick")
    same = profiles.load(
        "quick", epochs=standard.student.epochs, temperature=standard.temperature, alpha=standard.alpha
    )
    assert same == standard


def test_profiles_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        profiles.load("quick").alpha = 1.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "huge"}, r"There is no profile 'huge': choose one of smoke, quick, full\."),
        ({"epochs": -1}, r"epochs must be a whole number of at least 1, not -1\."),
        ({"epochs": 0}, r"epochs must be a whole number of at least 1, not 0\."),
        ({"epochs": 2.5}, r"epochs must be a whole number of at least 1, not 2\.5\."),
        ({"epochs": "ten"}, r"epochs must be a whole number of at least 1, not 'ten'\."),
        ({"temperature": 0}, r"temperature must be a number above 0, not 0\."),
        ({"temperature": "hot"}, r"temperature must be a number above 0, not 'hot'\."),
        ({"alpha": 2}, r"alpha, the weight of the soft loss, must be a number from 0 to 1, not 2\."),
    ],
)
def test_bad_parameters_give_one_clear_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        profiles.load(**arguments)


@pytest.mark.parametrize("seed", ["x", -1, 1.5, 2**32, True, None])
def test_bad_seed_gives_one_clear_sentence(seed):
    with pytest.raises(ValueError, match=r"^seed must be a whole number from 0 to 4294967295, not .*\.$"):
        records.Replicate(profiles.load("smoke"), seed)

"""A run knows all that made it: change any part of that, and an earlier record is not taken for the new run's."""

import dataclasses

import pytest
from conftest import SMALL, small_network
from factories import record

from kdlib import data, models
from kdlib.errors import TrainingError
from kdlib.objectives import Joint
from kdlib.regressors import RandomRegressor, Regressor
from kdlib.storage import records
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Schedule
from kdlib.training import fit

NAME, ARRAYS = "joint_distill", data.digits()


def train(patch, *, pixel=0, padding=4, student=None, teacher=3, kind=Regressor, sampled=64,
          weight=1.0, temperature=4.0, alpha=0.9, scale=1.0, arm=None, precision="float32", code=None,
          **schedule):  # fmt: skip
    """Train in one stage; ``teacher`` is a seed, ``arm`` changes its entry in the study."""
    arrays = ARRAYS | {"train_images": ARRAYS["train_images"].clone()}
    arrays["train_images"][5, 6, 7, 0] += pixel
    teacher, student = small_network(teacher), student or small_network()
    arms = tuple(dataclasses.replace(one, **arm or {}) if one.name == NAME else one for one in STUDY.arms)
    patch.setattr(data, "PADDING", padding)
    patch.setattr(records, "CODE", records.CODE | (code or {}))
    images = data.Data("digits", arrays, "cpu")
    objective = Joint(teacher, student, kind(student, teacher, images.sample(sampled)), weight, temperature, alpha)
    models.scale_rate(student, 2, scale)  # counts, although the objective is made
    run = Replicate(STUDY.profile("smoke"), 0, dataclasses.replace(STUDY, arms=arms)).run(NAME)
    return fit(objective, images, Schedule(**{"epochs": 1, "batch_size": 64} | schedule), run, precision=precision)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A project folder with a trained run, which the same identity is not refused."""
    root = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_ROOT", str(root))
        assert train(patch) == train(patch)
    return root


SCHEDULE = {"epochs": 2, "learning_rate": 0.2, "weight_decay": 0.0, "batch_size": 32, "momentum": 0.8, "warmup": 0.1}
ARM = {"body": "S′", "regressor": "none", "guided_rate": 0.1, "hint_weight": 2.0}
CODE = {"streams", "models", "regressors", "objectives", "optimiser", "data", "training", "storage/weights"}
CASES = {  # field of an identity: how it is changed
    "widths": {"student": models.ConvNet(models.Shape((*SMALL.widths[:3], (24,))))},
    "activation": {"student": models.ConvNet(dataclasses.replace(SMALL, activation="ReLU"))},
    "precision": {"precision": "bfloat16"}, "data.fingerprint": {"pixel": 1}, "data.shift": {"padding": 2},
    "start.teacher": {"teacher": 4}, "objective.rates": {"scale": 0.1}, "objective.temperature": {"temperature": 8.0},
    "objective.alpha": {"alpha": 0.5}, "objective.weight": {"weight": 2.0},
    "objective.regressor": {"kind": RandomRegressor}, "objective.sampled": {"sampled": 32},
    "start.model": {"student": small_network(9)},
    **{f"arm.{name}": {"arm": {name: value}} for name, value in ARM.items()},
    **{f"schedule.{name}": {name: value} for name, value in SCHEDULE.items()},
    "code.training": {"code": {"training": "f" * 64}},
}  # fmt: skip


@pytest.mark.parametrize("field", CASES)
def test_another_identity_is_refused_and_its_field_named(finished, monkeypatch, field):
    monkeypatch.setenv("KDLIB_ROOT", str(finished))
    before = (path := Replicate(STUDY.profile("smoke")).run(NAME).record_path).read_bytes()
    with pytest.raises(TrainingError, match=rf"distill\.json was made by a different run: (.*; )?{field} \(") as told:
        train(monkeypatch, **CASES[field])
    assert ("If the network was trained since" in str(told.value)) == field.startswith("start.")
    assert path.read_bytes() == before


def test_differences_name_each_field_with_both_values_and_replicates_share_the_rest():
    assert records.CODE.keys() == CODE
    first, second = (record("distill", seed).identity for seed in (0, 1))
    changed = first.model_copy(update={"objective": {"name": "Distill", "extra": [1.0]}, "schedule": {"epochs": 3}})
    differences = first.differences(changed)
    assert "objective.extra (None, now [1.0])" in differences and "schedule.epochs (18, now 3)" in differences
    assert first.differences(second) and first.recipe() == second.recipe() != changed.recipe()

"""A run knows all that made it: change any part, and an earlier record or checkpoint is not taken for the new run's."""

import dataclasses
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from conftest import SMALL_WIDTHS, small_network

from kdlib import datasets, models, training
from kdlib.datasets import Data
from kdlib.design import Study
from kdlib.models import ConvNet
from kdlib.objectives import Classify, Distill, Hint
from kdlib.regressors import Regressor
from kdlib.settings import Schedule
from kdlib.storage.records import _flat
from kdlib.storage.runs import Replicate, Run
from kdlib.study import STUDY
from kdlib.training import TrainingError, fit

SCHEDULE = Schedule(epochs=2, batch_size=64, learning_rate=0.05)


def run_of(name: str, seed: int = 0, study: Study = STUDY) -> Run:
    return Replicate(STUDY.profile("smoke"), seed, study).run(name)


def stop(*_):
    raise KeyboardInterrupt


@dataclass(frozen=True)
class Made:
    """All that makes a run; a test changes one part of it."""

    data: Data
    run: Run
    make: Callable
    teacher: ConvNet = field(default_factory=lambda: small_network(3))
    student: ConvNet = field(default_factory=small_network)
    schedule: Schedule = SCHEDULE
    precision: str = "float32"

    def fit(self):
        objective = self.make(self.teacher, self.student, self.data)
        return fit(objective, self.data, self.schedule, self.run, precision=self.precision)


def distill(teacher, student, data, temperature=4.0, alpha=0.9):
    return Distill(teacher, student, temperature, alpha)


def hint(teacher, student, data, kind=Regressor, stage=3, seed=0, rate=16.0):
    return Hint(teacher, student, kind(student, teacher, data.sample(64), stage=stage, seed=seed), rate)


MAKE = {"distill": distill, "hint": hint}


class OtherRegressor(Regressor):
    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.kind = "another one"


def scaled(made):
    models.scale_rate(made.student, 2, 0.1)
    return made


def with_pixel(data):
    images = data.train_images.clone()
    images[5, 6, 7, 0] += 1
    return replace(data, train_images=images)


def with_other_stream(name):
    arms = (replace(arm, stage="teacher") if arm.name == name else arm for arm in STUDY.arms)
    return run_of(name, study=replace(STUDY, arms=tuple(arms), primary=(), exploratory=()))


def patched(target, name, value):
    """A change of a constant of the code."""

    def change(made, monkeypatch):
        monkeypatch.setattr(target, name, value)
        return made

    return change


def other(**parts):
    """A change of some parts, each made by a function of the whole."""
    return lambda made, monkeypatch: replace(made, **{name: part(made) for name, part in parts.items()})


def schedule(name, value):
    return other(schedule=lambda made: replace(made.schedule, **{name: value}))


CHANGES = {  # field of the identity: what changes it
    "widths": other(student=lambda made: ConvNet(((8,), (8, 8), (16, 16), (24,)))),
    "classes": other(student=lambda made: ConvNet(SMALL_WIDTHS, classes=11)),
    "channels": other(student=lambda made: ConvNet(SMALL_WIDTHS, channels=1)),
    "objective.rates": lambda made, monkeypatch: scaled(made),
    "data.name": other(data=lambda made: replace(made.data, name="other")),
    "data.fingerprint": other(data=lambda made: with_pixel(made.data)),
    "data.train_images": other(
        data=lambda made: replace(
            made.data, train_images=made.data.train_images[:200], train_labels=made.data.train_labels[:200]
        )
    ),
    "data.mirrored": other(data=lambda made: replace(made.data, mirrored=True)),
    "data.shift": patched(datasets, "PADDING", 2),
    "schedule.optimiser": schedule("optimiser", "SGD"),
    "schedule.epochs": schedule("epochs", 3),
    "schedule.learning_rate": schedule("learning_rate", 0.1),
    "schedule.weight_decay": schedule("weight_decay", 0.0),
    "schedule.batch_size": schedule("batch_size", 32),
    "schedule.momentum": schedule("momentum", 0.8),
    "schedule.warmup": schedule("warmup", 0.1),
    "seed": other(run=lambda made: run_of(made.run.name, seed=1)),  # whose files are copies of those of seed 0
    "stream": other(run=lambda made: with_other_stream(made.run.name)),
    "precision": other(precision=lambda made: "bfloat16"),
    "start.teacher": other(teacher=lambda made: small_network(4)),
    "start.model": other(student=lambda made: small_network(9)),
}

CASES = [
    *(("distill", name, change) for name, change in CHANGES.items()),
    ("distill", "objective.name", other(make=lambda made: lambda teacher, student, data: Classify(student))),
    ("distill", "objective.temperature", other(make=lambda made: lambda *parts: distill(*parts, temperature=8.0))),
    ("distill", "objective.alpha", other(make=lambda made: lambda *parts: distill(*parts, alpha=0.5))),
    *(("hint", name, CHANGES[name]) for name in ("widths", "objective.rates", "start.teacher", "start.model")),
    ("hint", "objective.regressor_rate", other(make=lambda made: lambda *parts: hint(*parts, rate=1.0))),
    ("hint", "objective.regressor", other(make=lambda made: lambda *parts: hint(*parts, kind=OtherRegressor))),
    ("hint", "start.regressor", other(make=lambda made: lambda *parts: hint(*parts, seed=5))),
    ("hint", "objective.guided_stage", other(make=lambda made: lambda *parts: hint(*parts, stage=2))),
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory, small_data):
    """Two project folders: one with finished runs of seed 0, one with their checkpoints; copied to seed 1."""
    finished, stopped = tmp_path_factory.mktemp("finished"), tmp_path_factory.mktemp("stopped")
    with pytest.MonkeyPatch.context() as patch:
        for name, make in MAKE.items():
            patch.setenv("KDLIB_ROOT", str(finished))
            Made(small_data, run_of(name), make).fit()
            with patch.context() as inner, pytest.raises(KeyboardInterrupt):
                inner.setenv("KDLIB_ROOT", str(stopped))
                inner.setattr(training._Training, "_write_record", stop)
                Made(small_data, run_of(name), make).fit()
    for folder, kind in ((finished, "results"), (stopped, "checkpoints")):
        shutil.copytree(folder / "build/smoke" / kind / "seed0", folder / "build/smoke" / kind / "seed1")
    return {"record": finished, "checkpoint": stopped}


@pytest.mark.parametrize("kept", ["record", "checkpoint"])
@pytest.mark.parametrize(("name", "changed", "change"), CASES, ids=[f"{name}-{changed}" for name, changed, _ in CASES])
def test_another_identity_is_refused_and_its_field_named(folders, small_data, monkeypatch, kept, name, changed, change):
    monkeypatch.setenv("KDLIB_ROOT", str(folders[kept]))
    before = {path: path.read_bytes() for path in folders[kept].rglob("*.*") if path.suffix != ".lock"}
    made = change(Made(small_data, run_of(name), MAKE[name]), monkeypatch)
    with pytest.raises(TrainingError) as error:
        made.fit()
    sentence, path = str(error.value), made.run.record_path if kept == "record" else made.run.checkpoints
    assert sentence.startswith(f"{path}") and " was made by a different run: " in sentence
    assert f" {changed} (" in sentence
    assert sentence.endswith(f". Delete it to train {made.run} again, or undo the change.")
    assert {path: path.read_bytes() for path in before} == before, "nothing is lost"


@pytest.mark.parametrize("kept", ["record", "checkpoint"])
@pytest.mark.parametrize("name", MAKE)
def test_the_same_identity_is_not(folders, small_data, monkeypatch, tmp_path, kept, name):
    shutil.copytree(folders[kept], tmp_path / "copy")
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "copy"))
    monkeypatch.setattr(Data, "batches", None)  # asking for a batch would fail
    assert Made(small_data, run_of(name), MAKE[name]).fit().run == name


def test_every_field_of_an_identity_is_changed_by_one_of_these_tests(folders, monkeypatch):
    monkeypatch.setenv("KDLIB_ROOT", str(folders["record"]))
    fields = {field for name in MAKE for field in _flat(run_of(name).record().identity.model_dump())}
    fields |= {f"schedule.{part.name}" for part in dataclasses.fields(Schedule)}
    assert fields == {changed for _, changed, _ in CASES}


def test_freezing_after_the_objective_was_made_is_part_of_the_identity(small_data):
    run, student = run_of("exp1"), small_network()
    objective = Distill(small_network(3), student, 4.0, 0.9)
    models.freeze(student, through=3)
    record = fit(objective, small_data, SCHEDULE, run)
    assert record.identity.objective["rates"] == [0.0, 0.0, 0.0, 1.0]
    sentence = "objective.rates ([0.0, 0.0, 0.0, 1.0], now [1.0, 1.0, 1.0, 1.0])"
    with pytest.raises(TrainingError, match=re.escape(sentence)):
        fit(Distill(small_network(3), small_network(), 4.0, 0.9), small_data, SCHEDULE, run)


def test_identity_is_that_of_the_start_of_training(small_data):
    student = small_network()
    first_weights = {name: value.clone() for name, value in student.state_dict().items()}
    record = fit(Classify(student), small_data, SCHEDULE, run_of("baseline"))
    assert not torch.equal(student.stages[0][0].weight, first_weights["stages.0.0.weight"])
    again = small_network()
    assert fit(Classify(again), small_data, SCHEDULE, run_of("baseline")) == record
    with pytest.raises(TrainingError, match=r"start\.model \(\w{8}…, now \w{8}…\)"):
        fit(Classify(student), small_data, SCHEDULE, run_of("baseline"))  # the trained one is another start

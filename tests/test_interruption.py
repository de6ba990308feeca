"""Killed at any moment, fed with damaged files: nothing is lost, and nothing damaged is used."""

import itertools
import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch
from conftest import small_network

from kdlib import training
from kdlib.data import Data, digits
from kdlib.errors import BusyError, StorageError, TrainingError
from kdlib.objectives import Classify, Distill, Hint, Joint
from kdlib.optimiser import Muon
from kdlib.regressors import Regressor
from kdlib.storage import files
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Schedule

# A server that has imported everything and forks a child in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["conftest", "kdlib.training", "sklearn.datasets", "sklearn.model_selection"])


# 64 training and 32 test images: an epoch of two steps.
DATA = Data("digits", {name: array[: 64 if "train" in name else 32] for name, array in digits().items()}, "cpu")


def run_of(name="baseline"):
    return Replicate(STUDY.profile("smoke")).run(name)


def fit(name="baseline", **schedule):
    """Train a run as its name says, for three epochs."""
    teacher, student = small_network(seed=3), small_network()
    guidance = teacher, student, Regressor(student, teacher, DATA.sample())
    objectives = {"baseline": lambda: Classify(student), "distill": lambda: Distill(teacher, student, 4.0, 0.9),
                  "hint": lambda: Hint(*guidance), "joint_distill": lambda: Joint(*guidance, 1, 4, 0.9)}  # fmt: skip
    schedule = Schedule(**{"epochs": 3, "batch_size": 32, "learning_rate": 0.05} | schedule)
    return training.fit(objectives[name](), DATA, schedule, run_of(name), precision="float32")


def outcome(name="baseline"):
    """What a finished run has left behind, byte for byte; apart from its timing."""
    return {path.name: path.read_bytes() for path in run_of(name).replicate.folder.glob(f"{name}.*")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The outcome of an undisturbed training of each kind."""
    outcomes = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_ROOT", str(tmp_path_factory.mktemp("undisturbed")))
        for name in ("baseline", "distill", "hint", "joint_distill"):
            fit(name)
            outcomes[name] = outcome(name)
    assert {len(made) for made in outcomes.values()} == {3}, "a record, its arrays and the weights"
    return outcomes


def watch(patch, event):
    """Call ``event(kind)`` before each step, and when a new file is "written", "flushed" to the disk and "renamed"."""
    step, fsync, replace = Muon.step, os.fsync, Path.replace
    patch.setattr(Muon, "step", lambda self: (event("step"), step(self)))
    patch.setattr(files.os, "fsync", lambda descriptor: (event("written"), fsync(descriptor), event("flushed")))
    patch.setattr(Path, "replace", lambda *paths: (replace(*paths), event("renamed")))


def train(root, event=lambda kind: None):
    """The command that is killed and called again."""
    os.environ["KDLIB_ROOT"] = str(root)
    torch.set_num_threads(1)
    watch(pytest.MonkeyPatch(), event)
    fit(epochs=40)


def exit_code(*arguments):
    """Of `train` in a process of its own."""
    process = processes.Process(target=train, args=arguments)
    process.start()
    process.join()
    return process.exitcode


class KillAfter:
    """Kills its own process at an event, and leaves the kind of it."""

    def __init__(self, events, kind):
        self.events, self.kind = events, kind

    def __call__(self, kind):
        self.events -= 1
        if self.events == 0:
            self.kind.put(kind)
            os.kill(os.getpid(), signal.SIGKILL)


def test_killed_twenty_times_it_ends_bit_identical(tmp_path, monkeypatch):
    moments, kinds, kind, outcomes = random.Random(0), [], processes.SimpleQueue(), []
    for _ in range(20):
        event = KillAfter(moments.randint(1, 10), kind)  # an epoch has five
        assert exit_code(tmp_path / "killed", event) == -signal.SIGKILL, "long enough to be killed twenty times"
        kinds.append(kind.get())
    assert set(kinds) == {"step", "written", "flushed", "renamed"}
    for root in ("killed", "undisturbed"):
        monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / root))
        assert run_of().checkpoint.exists() == (root == "killed"), "it has got past an epoch"
        assert exit_code(tmp_path / root) == 0
        outcomes.append(outcome())
    assert outcomes[0] == outcomes[1] and len(outcomes[0]) == 3


def test_a_run_is_trained_by_one_process_at_a_time_and_a_finished_one_is_read_by_any_number(project):
    with run_of().lock():
        with pytest.raises(BusyError, match=r"^baseline \(seed 0\) is being trained by another process.*wait for it"):
            fit()
        assert exit_code(project) == 1 and not run_of().checkpoint.exists()
        record = fit("hint")  # another run waits for nothing
    with run_of("hint").lock():
        assert fit("hint") == record
    with run_of("distill-temperature0.5").lock(), run_of("distill-temperature0.8").lock():
        pass  # nor do runs whose names differ behind a dot wait for each other


def interrupted(number, kinds=("step",), name="baseline"):
    """Train, and interrupt at the so-manieth event of some kinds, from 0."""
    events = itertools.count()

    def event(kind):
        if kind in kinds and next(events) == number:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        watch(patch, event)
        fit(name)


@pytest.mark.parametrize("name", ["baseline", "distill", "hint", "joint_distill"])
def test_interrupted_within_an_epoch_it_goes_on_from_the_one_before(expected, name, capsys):
    with pytest.raises(KeyboardInterrupt):
        interrupted(5, name=name)  # the last step of three epochs
    capsys.readouterr()
    fit(name)
    output = capsys.readouterr().out
    assert f"{name} (seed 0)  goes on after epoch 2 of 3" in output and "epoch 2/3" not in output
    assert outcome(name) == expected[name] and not run_of(name).checkpoint.exists()


def test_interrupted_within_any_file_it_goes_on_and_ends_bit_identical(expected, monkeypatch, tmp_path):
    """Three checkpoints, the timing, the weights, the arrays and the record: each written, flushed, renamed."""
    for moment in range(7 * 3):
        monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / str(moment)))
        with pytest.raises(KeyboardInterrupt):
            interrupted(moment, ("written", "flushed", "renamed"))
        fit()
        assert outcome() == expected["baseline"], f"interrupted at event {moment}"
    interrupted(0, ("written",))  # there is nothing left to write


def test_a_checkpoint_of_other_settings_or_a_damaged_one_is_not_used_but_named(expected):
    with pytest.raises(KeyboardInterrupt):
        interrupted(5)
    path = run_of().checkpoint
    what = r"seed0/baseline\.safetensors was made by a different run: schedule\.learning_rate \(0\.05, now 0\.1\)\. "
    with pytest.raises(TrainingError, match=what):
        fit(learning_rate=0.1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(StorageError, match=r"baseline\.safetensors is damaged: delete it and run the same command"):
        fit()
    path.unlink()
    fit()
    assert outcome() == expected["baseline"]

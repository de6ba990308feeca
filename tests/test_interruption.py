"""Killed at any moment, out of disk, fed with damaged files: nothing is lost, and nothing damaged is used."""

import dataclasses
import errno
import io
import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import small_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import datasets, models, optimisers, training
from kdlib.objectives import Classify
from kdlib.settings import Schedule
from kdlib.storage import files, weights
from kdlib.storage.files import BusyError, StorageError
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY
from kdlib.training import TrainingError, fit

# A server that has imported everything and forks a child in milliseconds.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        "conftest",
        "kdlib.training",
        "sklearn.datasets",
        "sklearn.model_selection",
        "torch._dynamo",  # which the first optimiser of a process imports
    ]
)

SCHEDULE = Schedule(epochs=40, batch_size=32, learning_rate=0.05)
KILLS = 20


def the_run():
    return Replicate(STUDY.profile("smoke")).run("baseline")


def outcome():
    """What a finished run has left behind, byte for byte."""
    run = the_run()
    return [path.read_bytes() for path in (run.record_path, run.record_path.with_suffix(".npz"), run.weights_path)]


def watch(patch, event):
    """Call ``event(kind)`` before each step of training, and within each writing of a file, from now on.

    A file is "written" under its temporary name, "flushed" to the disk, and "renamed".
    """
    set_rate, fsync, replace = optimisers.set_rate, os.fsync, Path.replace

    def step(*arguments):
        event("step")
        set_rate(*arguments)

    def flush(descriptor):
        event("written")
        fsync(descriptor)
        event("flushed")

    def rename(*paths):
        replace(*paths)
        event("renamed")

    patch.setattr(optimisers, "set_rate", step)
    patch.setattr(files.os, "fsync", flush)
    patch.setattr(Path, "replace", rename)


def train(root, event=lambda kind: None):
    """The command that is killed and called again, in a process of its own."""
    os.environ["KDLIB_ROOT"] = str(root)
    torch.set_num_threads(1)
    watch(pytest.MonkeyPatch(), event)
    data = datasets.load("digits", device="cpu", train_images=128)
    fit(Classify(small_network()), data, SCHEDULE, the_run())


class KillAfter:
    """Kills its own process at an event, and leaves the kind of it."""

    def __init__(self, events, kind):
        self.events, self.kind = events, kind

    def __call__(self, kind):
        self.events -= 1
        if self.events == 0:
            self.kind.put(kind)
            os.kill(os.getpid(), signal.SIGKILL)


def process_of(*arguments):
    process = processes.Process(target=train, args=arguments)
    process.start()
    return process


def test_killed_twenty_times_it_ends_bit_identical(tmp_path, monkeypatch):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    first = process_of(undisturbed)
    moments, kinds = random.Random(0), []
    kind = processes.SimpleQueue()
    for _ in range(KILLS):
        process = process_of(killed, KillAfter(moments.randint(1, 14), kind))  # an epoch has seven events
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the training must be long enough to be killed twenty times"
        kinds.append(kind.get())
    assert all(kinds.count(kind) >= 2 for kind in ("step", "written", "flushed", "renamed")), kinds
    assert list(killed.rglob("epoch*.safetensors")), "it must have got past a checkpoint"
    last = process_of(killed)
    outcomes = []
    for process, root in ((first, undisturbed), (last, killed)):
        process.join()
        assert process.exitcode == 0
        monkeypatch.setenv("KDLIB_ROOT", str(root))
        outcomes.append(outcome())
    assert outcomes[0] == outcomes[1]


class Hold:
    """Stops at the first file for ever, and says so."""

    def __init__(self, started, never):
        self.started, self.never = started, never

    def __call__(self, kind):
        if kind == "written":
            self.started.set()
            self.never.wait()


def test_second_process_of_the_same_run_is_refused(tmp_path, monkeypatch, small_data):
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path))
    started, never = processes.Event(), processes.Event()
    process = process_of(tmp_path, Hold(started, never))
    try:
        assert started.wait(60)
        with pytest.raises(BusyError, match=r"^baseline \(seed 0\) is being trained by another process.*wait for it"):
            fit(Classify(small_network()), small_data, SCHEDULE, the_run())
    finally:
        process.kill()
        process.join()
    with the_run().lock():
        pass  # a killed process holds nothing


def test_runs_whose_names_differ_behind_a_dot_do_not_wait_for_each_other():
    replicate = the_run().replicate
    with replicate.run("distill-temperature0.5").lock(), replicate.run("distill-temperature0.8").lock():
        pass


@pytest.fixture
def short(small_data, small_profile, monkeypatch):
    """A function that trains three epochs, and one that stops after two as a kill would."""

    def whole(model=None):
        return fit(Classify(model or small_network()), small_data, small_profile.student, the_run())

    def stopped():
        epochs = itertools.count(1)
        save = training._Training._save_checkpoint

        def save_and_stop(self):
            save(self)
            if next(epochs) == 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(training._Training, "_save_checkpoint", save_and_stop)
            whole()
        return sorted(the_run().checkpoints.glob("epoch*"))

    return whole, stopped


class Killed(BaseException):
    """What stops everything at once, within this process."""


def test_killed_within_any_file_it_goes_on_and_ends_bit_identical(short, monkeypatch, tmp_path):
    """Three checkpoints, the weights, the arrays, the timing and the record: each written, flushed, renamed."""
    moments = []
    with monkeypatch.context() as patch:
        watch(patch, moments.append)
        short[0]()
    expected, moments = outcome(), [number for number, kind in enumerate(moments) if kind != "step"]
    assert len(moments) == 7 * 3
    for moment in moments:
        monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / f"killed at {moment}"))
        events = itertools.count()

        def kill(_, events=events, moment=moment):
            if next(events) == moment:
                raise Killed

        with monkeypatch.context() as patch, pytest.raises(Killed):
            watch(patch, kill)
            short[0]()
        short[0]()
        assert outcome() == expected, f"killed at event {moment}"
        assert not the_run().checkpoints.exists()


def test_full_disk_stops_in_one_sentence_and_the_next_call_goes_on(short, monkeypatch, tmp_path):
    written = []
    with monkeypatch.context() as patch:
        watch(patch, lambda kind: written.append(kind) if kind == "written" else None)
        short[0]()
    expected = outcome()
    for number in range(len(written)):
        monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / f"full at {number}"))
        writes = itertools.count()

        def full(kind, writes=writes, number=number):
            if kind == "written" and next(writes) == number:
                raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            watch(patch, full)
            with pytest.raises(StorageError, match=r"^Cannot write .* \(No space left on device\): free some space"):
                short[0]()
        assert not list((tmp_path / f"full at {number}").rglob(".*")), "no temporary file is left"
        kept = [f"epoch000{epoch}.safetensors" for epoch in range(1, min(number, 3) + 1)][-2:]
        assert sorted(path.name for path in the_run().checkpoints.glob("*")) == kept
        short[0]()
        assert outcome() == expected, f"full at write {number}"


def test_truncated_checkpoint_falls_back_to_the_one_before_it(short, capsys, monkeypatch, tmp_path):
    whole, stopped = short
    expected = whole()
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "other"))
    newest = stopped()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    capsys.readouterr()
    assert whole() == expected
    output = capsys.readouterr()
    assert "epoch0002.safetensors is damaged: trying the checkpoint before it." in output.err
    assert "epoch 2/3" in output.out and "epoch 1/3" not in output.out


def test_unwritable_folder_is_named(project, short):
    project.mkdir()
    (project / "build").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"^Cannot make the lock file .*build"):
        short[0]()


def test_checkpoint_of_other_settings_is_refused(short, small_data, small_profile):
    newest = short[1]()[-1]
    before = newest.read_bytes()
    schedule = dataclasses.replace(small_profile.student, learning_rate=0.1)
    sentence = r"epoch0002\.safetensors was made by a different run: schedule\.learning_rate \(0\.05, now 0\.1\)"
    with pytest.raises(TrainingError, match=sentence):
        fit(Classify(small_network()), small_data, schedule, the_run())
    assert newest.read_bytes() == before


def test_checkpoint_of_another_network_is_refused(short):
    whole, stopped = short
    stopped()
    with pytest.raises(TrainingError, match=r"epoch0002\.safetensors was made by a different run: .*widths \("):
        whole(models.student())


def test_checkpoint_of_a_newer_format_is_refused(short):
    whole, stopped = short
    for path in stopped():
        tensors, metadata = files.read_tensors(path)
        files.write_tensors(path, tensors, metadata | {"format": "3"})
    with pytest.raises(StorageError, match=r"has checkpoint format 3, this kdlib reads 2: update kdlib, or delete "):
        whole()


# Damage of every kind: cut off, one bit changed, overwritten, replaced, lengthened.

damage = st.one_of(
    st.tuples(st.just("cut"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("flip"), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    st.tuples(st.just("overwrite"), st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("replace"), st.binary(max_size=200)),
    st.tuples(st.just("append"), st.binary(min_size=1, max_size=64)),
)


def damaged(content, kind, *how):
    if kind == "replace":
        return how[0]
    if kind == "append":
        return content + how[0]
    at = int(how[0] * len(content))
    if kind == "cut":
        return content[:at]
    piece = how[1] if kind == "overwrite" else bytes([content[at] ^ (1 << how[1])])
    return content[:at] + piece + content[at + len(piece) :]


fuzzed = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(how=damage)
@fuzzed
def test_damaged_records_arrays_and_weights_give_one_sentence_or_the_same_content(short, how):
    run = the_run()
    if not run.record_path.exists():
        short[0]()
    record = run.record()
    for path, read in (
        (run.record_path, run.record),
        (run.record_path.with_suffix(".npz"), run.record),
        (run.weights_path, lambda: read_weights(run, record)),
    ):
        content, expected = path.read_bytes(), read()
        path.write_bytes(damaged(content, *how))
        try:
            assert read() == expected, "a changed file may only be accepted if its content is the same"
        except StorageError as error:
            assert len(str(error).splitlines()) == 1 and str(path) in str(error)
        finally:
            path.write_bytes(content)


def read_weights(run, record):
    """Digest of the weights as they are loaded into a network."""
    model = small_network(seed=1)
    run.load_weights({"model": model}, record)
    return weights.digests({"model": model})


@given(how=damage)
@fuzzed
def test_damaged_checkpoints_never_change_the_result(short, project, how):
    """Whatever happens to the newest checkpoint, training goes on from it, from the one before, or not at all."""
    whole, stopped = short
    kept = project.with_name("kept")
    if not kept.exists():
        stopped()
        shutil.copytree(project, kept)
        whole()
        (kept / "expected").write_bytes(pickle.dumps(outcome()))
    shutil.rmtree(project)
    shutil.copytree(kept, project)
    newest = the_run().checkpoints / "epoch0002.safetensors"
    newest.write_bytes(damaged(newest.read_bytes(), *how))
    whole()
    assert outcome() == pickle.loads((kept / "expected").read_bytes())


@given(how=damage)
@fuzzed
def test_damaged_cache_is_noticed(tmp_path, how):
    path = tmp_path / "cache.safetensors"
    tensors = {"train_images": torch.arange(3000, dtype=torch.uint8)}
    files.write_tensors(path, tensors, {})
    path.write_bytes(damaged(path.read_bytes(), *how))
    try:
        read, _ = files.read_tensors(path)
        assert torch.equal(read["train_images"], tensors["train_images"])
    except StorageError as error:
        assert len(str(error).splitlines()) == 1 and str(path) in str(error)


class Bomb:
    """What a pickle can do to its reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def pickled(bomb):
    return pickle.dumps(bomb)


def pickled_in_arrays(bomb):
    content = io.BytesIO()
    np.savez(content, labels=np.array([bomb], dtype=object))
    return content.getvalue()


def unpickled(content):
    if content.startswith(b"PK"):
        return np.load(io.BytesIO(content), allow_pickle=True)["labels"]
    return pickle.loads(content)


@pytest.mark.parametrize("wrap", [pickled, pickled_in_arrays])
@pytest.mark.parametrize("place", ["record", "arrays", "weights", "checkpoint"])
def test_no_file_makes_its_reader_run_code(short, project, place, wrap):
    whole, stopped = short
    if place == "checkpoint":
        path = stopped()[-1]
    else:
        whole()
        run = the_run()
        path = {
            "record": run.record_path,
            "arrays": run.record_path.with_suffix(".npz"),
            "weights": run.weights_path,
        }[place]
    exploded = project / "exploded"
    content = wrap(Bomb(exploded))
    path.write_bytes(content)
    if place == "checkpoint":
        whole()
    else:
        with pytest.raises(StorageError):
            whole()
    assert not exploded.exists()
    unpickled(content)
    assert exploded.exists(), "the bomb would have gone off under pickle"

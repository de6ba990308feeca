"""Killed at any moment, out of disk, fed with damaged files: nothing is lost, nothing is believed."""

import dataclasses
import itertools
import multiprocessing
import os
import pickle
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from conftest import small_network
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kdlib import datasets, profiles, records, storage, training
from kdlib.objectives import Classify
from kdlib.profiles import Schedule
from kdlib.storage import BusyError, StorageError
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

SCHEDULE = Schedule(epochs=150, batch_size=32, learning_rate=0.05)
KILLS = 20


def the_run(seed=0):
    return records.Replicate(profiles.load("smoke"), seed).run("baseline")


def train(root, data=None, started=None, slow_disk=0.0):
    """The command that is killed and called again."""
    os.environ["KDLIB_ROOT"] = str(root)
    torch.set_num_threads(1)
    if slow_disk:  # so that kills often fall into the writing of a checkpoint
        fsync = os.fsync

        def slow(descriptor):
            time.sleep(slow_disk)
            fsync(descriptor)

        storage.os.fsync = slow
    data = data or datasets.load("digits", device="cpu", train_images=128)
    if started is not None:
        started.set()
    return fit(Classify(small_network()), data, SCHEDULE, the_run())


def traces(root):
    return sorted(Path(root).rglob("*.safetensors*"))


def test_killed_at_twenty_random_moments_it_ends_in_the_same_bits(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    process = processes.Process(target=train, args=(undisturbed,))
    process.start()
    process.join()
    assert process.exitcode == 0

    moments = random.Random(0)
    interrupted, in_writing, in_training = 0, 0, 0
    while interrupted < KILLS:
        started = processes.Event()
        process = processes.Process(target=train, args=(killed, None, started, 0.05))
        process.start()
        assert started.wait(60)
        time.sleep(moments.uniform(0.0, 0.6))
        assert process.is_alive(), "the training must be long enough to be killed twenty times"
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        interrupted += 1
        # An unfinished write has left its temporary file, a finished one has not.
        new = [path for path in traces(killed) if path.name.startswith(".")]
        in_writing += bool(new)
        in_training += not new
        for path in new:
            path.unlink()
    assert in_writing >= 3 and in_training >= 3, (in_writing, in_training)
    assert list((killed / "build").rglob("epoch*.safetensors")), "it must have got past a checkpoint"

    process = processes.Process(target=train, args=(killed,))
    process.start()
    process.join()
    assert process.exitcode == 0
    results = Path("build/smoke/results/seed0")
    for name in ("baseline.json", "baseline.safetensors"):
        assert (killed / results / name).read_bytes() == (undisturbed / results / name).read_bytes(), name


def test_second_process_of_the_same_run_leaves(tmp_path, monkeypatch, small_data):
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path))
    started = processes.Event()
    process = processes.Process(target=train, args=(tmp_path, None, started, 0.2))
    process.start()
    try:
        assert started.wait(60)
        for _ in range(100):
            if (tmp_path / "build").exists() and list((tmp_path / "build").rglob("epoch*")):
                break
            time.sleep(0.1)
        with pytest.raises(BusyError, match=r"^baseline \(seed 0\) is being trained by another process.*wait for it"):
            fit(Classify(small_network()), small_data, SCHEDULE, the_run())
    finally:
        process.kill()
        process.join()


def test_runs_whose_names_differ_behind_a_dot_do_not_wait_for_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path))
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


def test_truncated_checkpoint_falls_back_to_the_one_before_it(short, capsys, monkeypatch, tmp_path):
    whole, stopped = short
    expected = whole()
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "other"))
    newest = stopped()[-1]
    newest.write_bytes(newest.read_bytes()[:-1])
    capsys.readouterr()
    assert whole() == expected
    output = capsys.readouterr()
    assert "epoch0002.safetensors is damaged; trying the checkpoint before it" in output.err
    assert "epoch 2/3" in output.out and "epoch 1/3" not in output.out


def test_full_disk_stops_in_one_sentence_and_the_next_call_goes_on(short, monkeypatch, tmp_path):
    whole, _ = short
    expected = whole()
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "other"))
    writes, fsync = itertools.count(1), os.fsync

    def full(descriptor):
        if next(writes) == 2:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "fsync", full)
        with pytest.raises(StorageError, match=r"epoch0002.*\(No space left on device\): free some space"):
            whole()
    assert [path.name for path in the_run().checkpoints.iterdir()] == ["epoch0001.safetensors"]
    assert whole() == expected


def test_unwritable_folder_is_named(project, short):
    project.mkdir()
    (project / "build").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"^Cannot make the lock file .*build"):
        short[0]()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"learning_rate": 0.1}, r"made with other settings \(learning_rate 0\.05, now 0\.1\): delete it to train"),
        ({"epochs": 9}, r"made with other settings \(epochs 3, now 9\)"),
        ({"batch_size": 32}, r"made with other settings \(batch_size 64, now 32\)"),
    ],
)
def test_checkpoint_of_other_settings_is_refused(short, small_data, small_profile, change, sentence):
    short[1]()
    schedule = dataclasses.replace(small_profile.student, **change)
    with pytest.raises(TrainingError, match=sentence):
        fit(Classify(small_network()), small_data, schedule, the_run())


def test_checkpoint_of_another_model_is_refused(short, monkeypatch):
    whole, stopped = short
    stopped()
    with pytest.raises(StorageError, match="holds the weights of another network than this kdlib builds"):
        whole(training.models.student())


def test_checkpoint_of_a_newer_format_is_refused(short):
    whole, stopped = short
    for path in stopped():
        tensors, metadata = storage.read_tensors(path)
        storage.write_tensors(path, tensors, metadata | {"format": "2"})
    with pytest.raises(TrainingError, match="has checkpoint format 2, this kdlib reads 1: update kdlib"):
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
def test_damaged_records_and_weights_give_one_sentence_or_the_same_content(short, tmp_path, how):
    run = the_run()
    if not run.record_path.exists():
        short[0]()
    record = run.record()
    for path, read in [(run.record_path, run.record), (run.weights_path, lambda: read_weights(run, record))]:
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
    model = small_network()
    run.load_weights({"model": model}, record.weights)
    return records.weights_digest({"model": model})


@given(how=damage)
@fuzzed
def test_damaged_checkpoints_never_change_the_result(short, project, how):
    """Whatever happens to the newest checkpoint, training goes on from it, from the one before, or not at all."""
    whole, stopped = short
    kept = project.with_name("kept")
    if not kept.exists():
        stopped()
        shutil.copytree(project, kept / "stopped")
        whole()
        shutil.copytree(project, kept / "finished")
    shutil.rmtree(project)
    shutil.copytree(kept / "stopped", project)
    run = the_run()
    newest = run.checkpoints / "epoch0002.safetensors"
    newest.write_bytes(damaged(newest.read_bytes(), *how))
    whole()
    for path in (run.record_path, run.weights_path):
        assert path.read_bytes() == (kept / "finished" / path.relative_to(project)).read_bytes()


@given(how=damage)
@fuzzed
def test_damaged_cache_is_noticed(tmp_path, how):
    path = tmp_path / "cache.safetensors"
    tensors = {"train_images": torch.arange(3000, dtype=torch.uint8)}
    storage.write_tensors(path, tensors, {})
    path.write_bytes(damaged(path.read_bytes(), *how))
    try:
        read, _ = storage.read_tensors(path)
        assert torch.equal(read["train_images"], tensors["train_images"])
    except StorageError as error:
        assert len(str(error).splitlines()) == 1 and str(path) in str(error)


class Bomb:
    """What a pickle can do to its reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("place", ["record", "weights", "checkpoint"])
def test_no_file_makes_the_reader_run_code(short, project, place):
    whole, stopped = short
    if place == "checkpoint":
        path = stopped()[-1]
    else:
        whole()
        path = the_run().record_path if place == "record" else the_run().weights_path
    exploded = project / "exploded"
    path.write_bytes(pickle.dumps(Bomb(exploded)))
    if place == "checkpoint":
        whole()
    else:
        with pytest.raises(StorageError):
            whole()
    assert not exploded.exists()
    pickle.loads(path.read_bytes()) if path.exists() else None
    assert exploded.exists() or place == "checkpoint", "the bomb would have gone off under pickle"

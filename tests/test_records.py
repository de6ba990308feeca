"""Records and weights: what is written is what is read, and nothing damaged is believed."""

import dataclasses

import pytest
import torch
from conftest import small_network

from kdlib import profiles, records, storage
from kdlib.objectives import Classify
from kdlib.records import NotTrained, Record
from kdlib.training import fit


@pytest.fixture
def finished(small_data, small_profile, replicate):
    """A run that has been trained: the run, its record and its network."""
    model, run = small_network(), replicate.run("baseline")
    return run, fit(Classify(model), small_data, small_profile.student, run), model


def test_record_round_trips(finished):
    run, record, _ = finished
    assert run.record() == record
    again = run.record_path.with_name("copy.json")
    record.save(again)
    assert again.read_bytes() == run.record_path.read_bytes()


def test_record_holds_what_the_report_needs(finished, small_data):
    _, record, model = finished
    assert record.labels == "".join(str(int(label)) for label in small_data.test_labels)
    correct = sum(a == b for a, b in zip(record.labels, record.predictions, strict=True))
    assert record.test["accuracy"][-1] == pytest.approx(correct)  # of 100 images
    assert sum(record.calibration["count"]) == 100
    hits = sum(n * c for n, c in zip(record.calibration["count"], record.calibration["correct"], strict=True))
    assert hits == pytest.approx(correct, abs=1e-3)
    assert len(record.steps["total"]) == 3 * 4 and len(record.train["accuracy"]) == 3
    with torch.no_grad():
        scores = torch.cat([model.eval()(images) for images, _ in small_data.test_batches()])
    assert record.predictions == "".join(str(int(label)) for label in scores.argmax(1))


def test_stored_weights_are_exactly_the_weights_that_were_measured(finished):
    run, record, model = finished
    stored = small_network(seed=1)
    run.load_weights({"model": stored}, record.weights)
    for name, value in model.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value), name


def test_weights_file_holds_half_precision(finished):
    tensors, _ = storage.read_tensors(finished[0].weights_path)
    assert {value.dtype for value in tensors.values()} == {torch.float16, torch.int64}


def test_missing_model_names_the_notebook_to_run(replicate):
    with pytest.raises(
        NotTrained, match=r"^There is no trained teacher \(profile smoke, seed 0\): run 01_teacher first\.$"
    ):
        replicate.load_model("teacher")


def test_variants_have_names_of_their_own(small_profile):
    profile = profiles.load("smoke", temperature=8, epochs=5)
    replicate = records.Replicate(profile, 3)
    assert replicate.variant("distill").record_path.name == "distill-epochs5-temperature8.json"
    assert replicate.variant("distill").notebook == "03_distill"
    assert replicate.run("distill").record_path.name == "distill.json"


def test_only_the_full_profile_writes_to_the_published_folders(project):
    for name in profiles.PROFILES:
        published = name == "full"
        assert (records.results_folder(name) == project / "results" / "full") == published
        assert (records.figures_folder(name) == project / "figures") == published
        assert records.build_folder(name) == project / "build" / name


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "has format 2, this kdlib reads 1: update kdlib"),
        ({"test": None}, "test has the wrong type"),
        ({"seed": "0"}, "seed has the wrong type"),
        ({"steps": {"total": ["x"]}}, "steps.total is not a list of numbers"),
        ({"train": {"total": [1.0]}}, "not every curve has one value an epoch"),
        ({"predictions": "12"}, "labels and predictions differ in number"),
        ({"extra": 1}, "fields missing or unknown: extra"),
    ],
)
def test_a_record_that_is_not_one_is_refused_in_one_sentence(finished, change, reason):
    run = finished[0]
    storage.write_json(run.record_path, storage.read_json(run.record_path) | change)
    with pytest.raises(storage.StorageError, match=reason):
        run.record()


def test_a_number_changed_by_hand_is_noticed(finished):
    run, record, _ = finished
    text = run.record_path.read_text()
    forged = text.replace(str(record.test["accuracy"][-1]), "99.0")
    assert forged != text
    run.record_path.write_text(forged)
    with pytest.raises(storage.StorageError, match="its content does not match its digest"):
        run.record()


def test_weights_of_another_run_are_refused(finished, small_data, small_profile, replicate):
    run, record, _ = finished
    other = replicate.run("teacher")
    fit(Classify(small_network(seed=5)), small_data, small_profile.student, other)
    other.weights_path.replace(run.weights_path)
    with pytest.raises(storage.StorageError, match=r"does not belong to baseline\.json: delete both"):
        run.load_weights({"model": small_network()}, record.weights)


def test_load_all_finds_complete_replicates_only(small_profile, finished):
    run, record, _ = finished
    with pytest.raises(NotTrained, match="run 01_teacher first"):
        records.load_all(small_profile)
    for name in records.RUNS:
        record.save(run.replicate.run(name).record_path)
    record.save(records.Replicate(small_profile, 11).run("teacher").record_path)
    (run.replicate.folder.parent / "seed0.bak").mkdir()
    assert list(records.load_all(small_profile)) == list(records.load_all(small_profile, including=0)) == [0]
    with pytest.raises(NotTrained, match=r"no trained baseline \(profile smoke, seed 11\)"):
        records.load_all(small_profile, including=11)
    with pytest.raises(NotTrained, match=r"no trained teacher \(profile smoke, seed 7\)"):
        records.load_all(small_profile, including=7)


def test_replicates_of_different_settings_are_not_averaged(small_profile, finished):
    _, record, _ = finished
    for seed, settings in ((0, record.settings), (2, record.settings), (10, record.settings | {"learning_rate": 1.0})):
        for name in records.RUNS:
            dataclasses.replace(record, settings=settings).save(
                records.Replicate(small_profile, seed).run(name).record_path
            )
    with pytest.raises(
        storage.StorageError,
        match=r"^teacher was trained with other settings for seed 10 than for seed 0: delete .*seed10 or",
    ):
        records.load_all(small_profile)


def test_only_seed_0_writes_the_figures_of_the_report(project):
    for name, folder in (("full", project / "figures"), ("smoke", project / "build/smoke/figures")):
        profile = profiles.load(name)
        assert records.Replicate(profile, 0).figures == folder
        assert records.Replicate(profile, 3).figures == project / "build" / name / "figures" / "seed3"


def test_failing_write_leaves_the_old_file_alone(finished, monkeypatch):
    run, record, _ = finished
    before = run.record_path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(storage.StorageError, match=r"No space left on device\): free some space"):
        record.save(run.record_path)
    assert run.record_path.read_bytes() == before
    assert not [path for path in run.record_path.parent.iterdir() if path.name.startswith(".")]


def test_class_outside_the_set_is_refused(finished):
    run = finished[0]
    content = storage.read_json(run.record_path)
    storage.write_json(run.record_path, content | {"predictions": "x" + content["predictions"][1:]})
    with pytest.raises(storage.StorageError, match="a class number is out of range"):
        Record.load(run.record_path)

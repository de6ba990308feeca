"""Records and weights: what is written is what is read, small and readable, and nothing damaged is believed."""

import numpy as np
import pytest
import torch
from conftest import small_network
from factories import record as made_record

from kdlib.objectives import Classify
from kdlib.storage import files
from kdlib.storage.files import StorageError
from kdlib.storage.records import Record, rounded, rounded_steps
from kdlib.study import STUDY
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
    for suffix in (".json", ".npz"):
        assert again.with_suffix(suffix).read_bytes() == run.record_path.with_suffix(suffix).read_bytes()


def test_record_holds_what_the_report_needs(finished, small_data):
    _, record, model = finished
    assert record.labels == small_data.test_labels.tolist()
    correct = sum(a == b for a, b in zip(record.labels, record.predictions, strict=True))
    assert record.test["accuracy"][-1] == pytest.approx(correct)  # of 100 images
    assert sum(record.calibration["count"]) == 100
    hits = sum(n * c for n, c in zip(record.calibration["count"], record.calibration["correct"], strict=True))
    assert hits == pytest.approx(correct, abs=1e-3)
    assert len(record.steps["total"]) == 3 * 4 and len(record.train["accuracy"]) == 3
    with torch.no_grad():
        logits = torch.cat([model.eval()(images) for images, _ in small_data.test_batches()])
    assert record.predictions == logits.argmax(1).tolist()


def test_stored_weights_are_exactly_the_weights_that_were_measured(finished):
    run, record, model = finished
    stored = small_network(seed=1)
    run.load_weights({"model": stored}, record)
    for name, value in model.state_dict().items():
        assert torch.equal(stored.state_dict()[name], value), name


def test_weights_file_holds_half_precision(finished):
    tensors, _ = files.read_tensors(finished[0].weights_path)
    assert {value.dtype for value in tensors.values()} == {torch.float16, torch.int64}


def full_record():
    """A record of the full profile's shape, as random as it can be: 30 epochs of 390 steps, 10,000 test images."""
    random, epochs, images = np.random.default_rng(0), STUDY.profile("full").student.epochs, 10_000
    losses = ("soft", "hard", "total")
    curves = {name: random.lognormal(0, 1, epochs).tolist() for name in (*losses, "accuracy")}
    return made_record("distill").model_copy(
        update={
            "identity": made_record("distill", epochs=epochs).identity,
            "train": rounded(curves),
            "test": rounded(curves),
            "steps": rounded_steps({name: random.lognormal(0, 0.3, epochs * 390).tolist() for name in losses}),
            "labels": random.integers(0, 10, images).tolist(),
            "predictions": random.integers(0, 10, images).tolist(),
        }
    )


def test_record_of_the_full_profile_takes_at_most_100_kb(tmp_path):
    path = tmp_path / "distill.json"
    full_record().save(path)
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) == 2 and sum(sizes) < 100_000
    assert Record.load(path) == full_record()


def test_record_has_a_list_on_a_line_and_fits_a_few_screens(tmp_path):
    path = tmp_path / "distill.json"
    full_record().save(path)
    lines = path.read_text().splitlines()
    assert len(lines) < 80
    assert all(line.count("[") == line.count("]") for line in lines)
    assert "labels" not in path.read_text() and "steps" not in path.read_text(), "long lists lie in the binary file"


def test_labels_of_a_hundred_classes_round_trip(tmp_path):
    labels, predictions = list(range(100)), list(range(99, -1, -1))
    record = made_record(names=[f"class {number}" for number in range(100)], labels=labels, predictions=predictions)
    record.save(tmp_path / "teacher.json")
    read = Record.load(tmp_path / "teacher.json")
    assert (read.labels, read.predictions) == (labels, predictions)
    assert {type(label) for label in read.labels + read.predictions} == {int}


def refused(run, sentence):
    """The sentence with which a record is refused; nothing of the run is lost by it."""
    before = {path: path.read_bytes() for path in run.record_path.parent.glob("*.*")}
    with pytest.raises(StorageError, match=sentence) as error:
        run.record()
    assert len(str(error.value).splitlines()) == 1
    assert {path: path.read_bytes() for path in run.record_path.parent.glob("*.*")} == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 1}, r"^.*baseline\.json is not of format 2, which this kdlib reads: update kdlib, or "),
        ({"format": None}, "is not of format 2"),
        ({"test": None}, r"baseline\.json is not a complete record \(test: .*\): delete it and run its notebook again"),
        ({"parameters": "many"}, r"not a complete record \(parameters: "),
        ({"parameters": None}, r"not a complete record \(parameters: "),
        ({"train": {}}, r"not a complete record \(train: "),
        ({"train": {"total": [1.0]}}, "not every train curve has one value an epoch"),
        ({"test": {"total": ["x", 1.0, 1.0]}}, r"\(test\.total\.0: "),
        ({"weights": {"model": "abc"}}, r"\(weights\.model: "),
        ({"identity": {}}, r"\(identity\.widths: "),
        ({"names": ["one", "two"]}, "a class number is out of range"),
        ({"extra": 1}, r"\(extra: "),
    ],
)
def test_a_record_that_is_not_one_is_refused_in_one_sentence(finished, change, reason):
    run = finished[0]
    files.write_json(run.record_path, files.read_json(run.record_path) | change)
    refused(run, reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"predictions": np.zeros(99, np.uint16)}, "labels and predictions differ in number"),
        ({"predictions": np.full(100, 10, np.uint16)}, "a class number is out of range"),
        ({"extra": np.zeros(1, np.uint16)}, r"\(extra: "),
        ({"labels": None}, r"\(labels: "),
    ],
)
def test_arrays_that_do_not_fit_the_record_are_refused_in_one_sentence(finished, change, reason):
    run = finished[0]
    content, path = files.read_json(run.record_path), run.record_path.with_suffix(".npz")
    arrays = files.read_arrays(path, content["arrays"]) | change
    digest = files.write_arrays(path, {name: array for name, array in arrays.items() if array is not None})
    files.write_json(run.record_path, content | {"arrays": digest})
    refused(run, reason)


@pytest.mark.parametrize("spoilt", ["truncated", "foreign", "missing"])
def test_bad_arrays_beside_a_good_record_are_refused_and_nothing_is_lost(
    finished, small_data, small_profile, replicate, spoilt
):
    run, path = finished[0], finished[0].record_path.with_suffix(".npz")
    if spoilt == "truncated":
        path.write_bytes(path.read_bytes()[:-40])
    elif spoilt == "foreign":
        other = replicate.run("teacher")
        fit(Classify(small_network(seed=5)), small_data, small_profile.teacher, other)
        path.write_bytes(other.record_path.with_suffix(".npz").read_bytes())
    else:
        path.unlink()
    refused(run, rf"^.*baseline\.npz is {'missing' if spoilt == 'missing' else 'damaged'}.*: delete .* again\.$")
    before = run.record_path.read_bytes(), run.weights_path.read_bytes()
    with pytest.raises(StorageError, match=r"baseline\.npz"):
        fit(Classify(small_network()), small_data, small_profile.student, run)
    assert (run.record_path.read_bytes(), run.weights_path.read_bytes()) == before, "a bad record is not trained over"


def test_damaged_record_is_not_trained_over(finished, small_data, small_profile):
    run = finished[0]
    run.record_path.write_bytes(run.record_path.read_bytes()[:-10])
    refused(run, r"baseline\.json is damaged: delete it")
    with pytest.raises(StorageError, match=r"baseline\.json is damaged: delete it"):
        fit(Classify(small_network()), small_data, small_profile.student, run)
    assert run.weights_path.exists()


def test_a_number_changed_by_hand_is_noticed(finished):
    run, record, _ = finished
    text = run.record_path.read_text()
    forged = text.replace(str(record.test["accuracy"][-1]), "99.0")
    assert forged != text
    run.record_path.write_text(forged)
    refused(run, "its content does not match its digest")


def test_weights_of_another_run_are_refused(finished, small_data, small_profile, replicate):
    run, record, _ = finished
    other = replicate.run("teacher")
    fit(Classify(small_network(seed=5)), small_data, small_profile.student, other)
    other.weights_path.replace(run.weights_path)
    with pytest.raises(StorageError, match=r"does not belong to baseline\.json: delete both and run 02_baseline again"):
        run.load_weights({"model": small_network()}, record)


def test_weights_of_another_network_are_refused(finished):
    run, record, _ = finished
    with pytest.raises(StorageError, match=r"baseline\.safetensors holds the weights of another network: delete it"):
        run.load_weights({"model": small_network().stages}, record)


def test_differences_name_each_field_with_both_values():
    identity = made_record("distill").identity
    other = identity.model_copy(
        update={
            "objective": {"name": "Distill", "alpha": 0.5, "temperature": 4.0, "extra": [1.0]},
            "start": identity.start | {"teacher": "f" * 64},
            "seed": 3,
        }
    )
    assert identity.differences(identity) == []
    assert identity.differences(other) == [
        "objective.alpha (0.9, now 0.5)",
        "objective.extra (None, now [1.0])",
        "seed (0, now 3)",
        f"start.teacher ({identity.start['teacher'][:8]}…, now ffffffff…)",
    ]


def test_replicates_share_a_recipe_whatever_their_seed_precision_and_first_weights():
    first, second = (made_record("distill", seed).identity for seed in (0, 1))
    assert first.differences(second) and first.recipe() == second.recipe()
    assert first.model_copy(update={"precision": "float32"}).recipe() == first.recipe()
    for field in first.recipe():
        assert first.model_copy(update={field: None}).recipe() != first.recipe(), field
    assert first.recipe().keys() | {"seed", "start", "precision"} == type(first).model_fields.keys()

"""Records, weights and the digest of the code: what is written is what is read, and nothing damaged is believed."""

import pytest
import torch
from conftest import small_network
from factories import record

from kdlib.errors import StorageError
from kdlib.objectives import Classify
from kdlib.storage import files
from kdlib.storage.records import FORMAT, bare
from kdlib.training import fit


@pytest.fixture
def saved(replicate):
    """A run with a made-up record: 100 test images, two epochs."""
    run = replicate.run("baseline")
    record("baseline", images=100, profile="smoke").save(run.record_path)
    return run


def test_a_trained_run_is_stored_as_it_was_measured(small_data, small_profile, replicate):
    run, model, stored = replicate.run("baseline"), small_network(), small_network(seed=1)
    made = fit(Classify(model), small_data, small_profile.scratch, run, precision="float32")
    assert run.record() == made and made.labels == small_data.test_labels.tolist()
    with torch.no_grad():
        logits = torch.cat([model.eval()(images) for images, _ in small_data.test_batches()])
    assert made.predictions == logits.argmax(1).tolist()
    correct = 100 * sum(map(int.__eq__, made.labels, made.predictions)) / 128
    assert made.test["accuracy"][-1] == pytest.approx(correct, rel=1e-5)  # stored with six digits
    run.load_weights({"model": stored}, made)
    assert all(torch.equal(value, stored.state_dict()[name]) for name, value in model.state_dict().items())
    assert {value.dtype for value in files.read_tensors(run.weights_path)[0].values()} == {torch.float16, torch.int64}


def refused(run, sentence):
    """The record of ``run`` is refused with one sentence, and stays as it is."""
    before = run.record_path.read_bytes()
    with pytest.raises(StorageError, match=sentence) as error:
        run.record()
    assert "\n" not in str(error.value) and run.record_path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "reason"),
    [({"format": FORMAT - 1}, rf"json is not of format {FORMAT}, which this kdlib reads: update kdlib, or delete"),
     ({"test": None}, r"json is not a complete record: delete it and run its notebook again\.$")],
)  # fmt: skip
def test_a_record_that_is_not_one_is_refused_in_one_sentence(saved, content, reason):
    files.write_json(saved.record_path, files.read_json(saved.record_path) | content)
    refused(saved, reason)


def test_damage_is_noticed_and_a_bad_record_is_not_trained_over(saved, small_data, small_profile):
    path, arrays = saved.record_path, saved.record_path.with_suffix(".arrays")
    whole, other = path.read_text(), {"labels": torch.zeros(100).byte()}
    for spoil, sentence in (
        (lambda: path.write_text(whole.replace("90.0", "99.0")), r"json is damaged: delete it and run"),
        (lambda: (path.write_text(whole), arrays.write_bytes(b"")), r"baseline\.arrays is damaged: delete it and run"),
        (lambda: files.write_tensors(arrays, other, {}), r"arrays is missing or of another run: delete .*json, run"),
    ):
        spoil()
        refused(saved, sentence)
        with pytest.raises(StorageError, match=sentence):
            fit(Classify(small_network()), small_data, small_profile.scratch, saved)


def test_weights_of_another_run_or_network_are_refused(saved):
    modules = {"model": small_network()}
    made = saved.record().model_copy(update={"weights": saved.save_weights(modules)})
    with pytest.raises(StorageError, match=r"baseline\.safetensors holds the weights of another network: delete it"):
        saved.load_weights({"model": small_network().blocks}, made)
    saved.save_weights({"model": small_network(seed=1)})
    with pytest.raises(StorageError, match=r"does not belong to baseline\.json: delete both and run 02_baseline again"):
        saved.load_weights(modules, made)


CODE = '''\
class Thing:
    name = "# no comment"
    def call(self, value):
        text = f"# {value!r:>{len('5')}} {value + 0.5}"
        return """Returned,
    # and so no docstring.""", text'''


def test_code_counts_by_what_it_does():
    commented = CODE.replace("Thing:", 'Thing:  # a comment\n    """A docstring,\n\n    "quoted" #\n    """\n')
    commented = commented.replace("value):", "value):\n        'Another, nested.'\n\n        # A comment alone.")
    assert bare(f"'''Of the module.'''\n\n{commented}  # the end\n") == bare(CODE) == CODE
    assert bare(CODE.replace("0.5", "0.25")) != CODE

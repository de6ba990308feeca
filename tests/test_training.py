"""`fit` against a plain loop, its bookkeeping, and what it does when a user or the machine is in the way."""

import dataclasses
import itertools
import re
import runpy
import shutil
from pathlib import Path

import pytest
import torch
from conftest import small_network

from kdlib import models, training
from kdlib.data import Data, digits
from kdlib.errors import TrainingError
from kdlib.objectives import Classify, Distill
from kdlib.optimiser import Muon, learning_rate
from kdlib.storage import records, weights
from kdlib.storage.runs import Replicate
from kdlib.training import fit


@pytest.fixture
def train(small_data, small_profile):
    """A function that trains a run as its keywords say: three epochs of four steps, with labels alone, of seed 0."""

    def train(run="baseline", objective=None, *, data=small_data, seed=0, precision="float32", **schedule):
        schedule = dataclasses.replace(small_profile.scratch, **schedule)
        objective, run = objective or Classify(small_network()), Replicate(small_profile, seed).run(run)
        return fit(objective, data, schedule, run, precision=precision)

    return train


def distill(teacher, student=None):
    return Distill(teacher, student or small_network(), 4.0, 0.9)


def test_fit_is_the_plain_loop(small_data, small_profile, train):
    model, reference, schedule = small_network(), small_network(), small_profile.scratch
    record = train(objective=Classify(model))
    optimizer, losses = Muon(reference.groups(), schedule), []
    for epoch in range(3):
        reference.train()
        for images, labels in small_data.batches(0, "stage two", epoch, 64):
            optimizer.set_rate(learning_rate(len(losses), 12, schedule))
            loss = torch.nn.functional.cross_entropy(reference(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert record.steps["total"] == pytest.approx(losses, rel=1e-3), "stored with three digits"
    assert record.train["total"][2] == pytest.approx(sum(losses[8:]) / 4, rel=1e-5)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)  # stored in float16


def test_the_test_split_is_evaluated_ten_times_at_most_and_in_float32_after_the_final_epoch(train, monkeypatch):
    precisions, evaluate = [], training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda *parts: (precisions.append(parts[-1]), evaluate(*parts[:-1]))[1])
    record = train(epochs=13, batch_size=256, precision="bfloat16")
    assert record.epochs("test") == [1, 3, 5, 7, 9, 11, 13] and record.epochs("train") == list(range(1, 14))
    assert len(record.test["accuracy"]) == 7 and precisions == ["bfloat16"] * 6 + ["float32"]


def test_one_line_an_epoch_shows_how_training_goes(train, capsys):
    train()
    line = r"baseline \(seed 0\)  epoch 2/3  loss [\d.]+  accuracy [\d.]+ %, test [\d.]+ %  [\d,]+ images/s  .* left"
    assert re.fullmatch(line, capsys.readouterr().out.splitlines()[1])


def test_finished_run_is_loaded_and_not_trained_again(train, monkeypatch, capsys):
    trained, loaded = small_network(), small_network()
    record = train(objective=Classify(trained))
    monkeypatch.setattr(Data, "batches", None)  # asking for a batch would fail now
    capsys.readouterr()
    assert train(objective=Classify(loaded)) == record
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())
    assert capsys.readouterr().out == "baseline (seed 0)  already trained: loaded\n"


def test_what_another_loss_has_trained_is_another_run(train, tmp_path, monkeypatch):
    """The package is copied and edited, and the digests of its code are taken as a new process would take them."""
    path = shutil.copytree(Path(records.__file__).parents[1], tmp_path / "kdlib") / "objectives.py"

    def train_edited(old, new):
        path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
        code = runpy.run_path(str(path.parent / "storage" / "records.py"))["CODE"]
        monkeypatch.setattr(records, "CODE", code)
        return train()

    assert train() == train_edited('"""', '"""In other words: ') == train_edited("\n\n", "\n\n# A comment.\n\n")
    with pytest.raises(TrainingError, match=r"by a different run: code\.objectives \(\S+, now \S+\)\. Delete it"):
        train_edited("temperature**2 * F.kl_div", "temperature * F.kl_div")


def test_loss_that_is_not_finite_stops_the_training_and_the_epoch_before_is_kept(train, monkeypatch, capsys):
    steps, losses = itertools.count(1), Classify.losses

    def broken(self, *batch):
        values, outputs = losses(self, *batch)
        factor = float("nan") if self.model.training and next(steps) == 6 else 1.0  # the second of the second epoch
        return {"total": values["total"] * factor}, outputs

    sentence = r"^baseline \(seed 0\): the loss is not finite in epoch 2\. Delete .*baseline\.safetensors and "
    with monkeypatch.context() as patch, pytest.raises(TrainingError, match=sentence):
        patch.setattr(Classify, "losses", broken)
        train()
    train()
    assert "goes on after epoch 1 of 3" in capsys.readouterr().out


def test_arms_of_one_stage_and_seed_see_the_same_batches(train, monkeypatch):
    seen, batches = {}, Data.batches
    monkeypatch.setattr(Data, "batches", lambda *asked: (seen.setdefault((seed, name), asked[1:]), batches(*asked))[1])
    for seed, name in ((0, "baseline"), (0, "exp1"), (0, "joint_distill"), (0, "hint"), (0, "teacher"), (1, "exp1")):
        train(name, seed=seed, epochs=1)
    assert seen[0, "baseline"] == seen[0, "exp1"] == seen[0, "joint_distill"] == (0, "stage two", 0, 64)
    assert len(set(seen.values())) == 4


def watched(seed=3):
    """A teacher, and the list of its calls."""
    teacher, calls = small_network(seed), []
    teacher.register_forward_hook(lambda *_: calls.append(1))
    return teacher, calls


def test_teacher_logits_are_computed_once_and_reused_bit_for_bit(train, replicate):
    teacher, calls = watched()
    first = train("distill", distill(teacher))
    assert len(calls) == 3 * 4 + 1, "for each training batch of three epochs, and once for the test images"
    second = train("exp2", distill(teacher))
    assert len(calls) == 13 and (first.steps, first.weights, first.test) == (second.steps, second.weights, second.test)
    for path in replicate.logits.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-50])
    assert train("scale01", distill(teacher)).weights == first.weights and len(calls) == 26, "of damaged files again"


@pytest.mark.parametrize("change", ["teacher", "data", "seed", "precision"])
def test_cached_logits_of_another_teacher_or_of_other_batches_are_not_reused(train, change):
    train("distill", distill(small_network(seed=3)))
    teacher, calls = watched(seed=4 if change == "teacher" else 3)
    changes = {"teacher": {}, "data": {"data": Data("cifar10", digits(), "cpu")}, "seed": {"seed": 1}}
    train("baseline", distill(teacher), **(changes | {"precision": {"precision": "bfloat16"}})[change])
    # For each training batch, and for the test images, in each precision that they are tested in.
    assert len(calls) == (14 if change == "precision" else 13)


def test_frozen_layers_are_bit_identical_after_stage_two_and_all_others_learn(train):
    student, before = small_network(), small_network()
    weights.round_weights({"model": before})
    models.freeze(student, through=3)
    train("exp1", distill(small_network(3), student))
    same = {name for name, value in student.state_dict().items() if torch.equal(value, before.state_dict()[name])}
    assert same == {name for name in before.state_dict() if name.startswith(("blocks.0", "blocks.1", "blocks.2"))}

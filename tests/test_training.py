"""`fit` against a plain loop, its bookkeeping, and what it does when a user or the machine is in the way."""

import dataclasses
import itertools
import weakref

import pytest
import torch
from conftest import SMALL_WIDTHS, small_network
from factories import results, save

from kdlib import datasets, models, optimisers, training
from kdlib.datasets import Data, DatasetSpec
from kdlib.objectives import Classify, Distill, Hint
from kdlib.regressors import Regressor
from kdlib.settings import PUBLISHED
from kdlib.storage import files, logits, weights
from kdlib.storage.files import digest
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import STUDY
from kdlib.training import DivergedError, TrainingError, fit


def test_fit_is_the_plain_loop(small_data, small_profile, replicate):
    """The same batches through torch's own optimiser, one readable step after the other."""
    schedule = dataclasses.replace(small_profile.student, optimiser="SGD", momentum=0.9)
    model, reference = small_network(), small_network()
    record = fit(Classify(model), small_data, schedule, replicate.run("baseline"), precision="float32")

    optimizer = torch.optim.SGD(reference.parameters(), momentum=0.9, nesterov=True, weight_decay=schedule.weight_decay)
    step, losses = itertools.count(), []
    for epoch in range(schedule.epochs):
        reference.train()
        for images, labels in small_data.batches(0, "stage two", epoch, schedule.batch_size):
            optimizer.param_groups[0]["lr"] = optimisers.learning_rate(next(step), 12, schedule)
            loss = torch.nn.functional.cross_entropy(reference(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert record.steps["total"] == pytest.approx(losses, rel=2e-3), "stored with three digits"
    assert record.train["total"][0] == pytest.approx(sum(losses[:4]) / 4, rel=1e-5)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=2e-3, atol=2e-4, msg=name)


def test_fit_learns(small_data, small_profile, replicate):
    schedule = dataclasses.replace(small_profile.student, epochs=12, batch_size=32, learning_rate=0.2)
    record = fit(Classify(small_network()), small_data, schedule, replicate.run("baseline"))
    assert record.test["accuracy"][-1] > 80 and record.train["total"][-1] < record.train["total"][0] / 2


@pytest.mark.parametrize(
    ("epochs", "tested"), [(3, [1, 2, 3]), (10, list(range(1, 11))), (23, [2, 5, 8, 11, 14, 17, 20, 23])]
)
def test_the_test_split_is_evaluated_ten_times_at_most_and_after_the_final_epoch(
    small_data, small_profile, replicate, monkeypatch, epochs, tested
):
    """And the curves say after which epochs."""
    precisions, evaluate = [], training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda *parts: (precisions.append(parts[-1]), evaluate(*parts[:-1]))[1])
    schedule = dataclasses.replace(small_profile.student, epochs=epochs, batch_size=256)
    record = fit(Classify(small_network()), small_data, schedule, replicate.run("baseline"), precision="bfloat16")
    assert record.epochs("test") == tested and record.epochs("train") == list(range(1, epochs + 1))
    assert len(record.test["accuracy"]) == len(tested) and len(record.train["accuracy"]) == epochs
    assert precisions == ["bfloat16"] * (len(tested) - 1) + ["float32"]


def test_equal_identities_give_bit_identical_weights_and_other_seeds_do_not(small_data, small_profile):
    runs = [
        Replicate(small_profile, seed).run(name)
        for seed, name in [(0, "baseline"), (0, "baseline-again"), (1, "baseline")]
    ]
    for run in runs:
        fit(Classify(small_network()), small_data, small_profile.student, run)
    first, same, other = (files.read_tensors(run.weights_path)[0] for run in runs)
    assert digest(first) == digest(same) != digest(other)


def test_one_line_an_epoch_shows_how_training_goes(small_data, small_profile, replicate, capsys):
    fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        for piece in ("baseline (seed 0)", f"epoch {number}/3", "loss", "accuracy", "images/s", "min left"):
            assert piece in line


def test_lines_of_stage_one_show_the_explained_variance(taught, small_data, small_profile, replicate, capsys):
    capsys.readouterr()
    record = stage_one(taught, small_data, small_profile, replicate)[1]
    r2 = 1 - record.test["total"][-1] / record.test["power"][-1]
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"hint (seed 0)  epoch 3/3  loss {record.train['total'][-1]:.3f}  R² " in last
    assert f"test {r2:.3f}" in last and "accuracy" not in last


def test_in_jupyterlab_there_is_a_bar_instead_with_a_name_that_stays_on_one_line(
    small_data, small_profile, replicate, capsys, monkeypatch
):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline-again"))
    output = capsys.readouterr()
    assert output.out == "" and "12/12" in output.err
    assert "baseline\N{NON-BREAKING HYPHEN}again (seed 0):" in output.err


def test_finished_run_is_loaded_and_not_trained_again(small_data, small_profile, replicate, monkeypatch, capsys):
    run = replicate.run("baseline")
    trained, loaded = small_network(), small_network()
    record = fit(Classify(trained), small_data, small_profile.student, run)
    monkeypatch.setattr(Data, "batches", None)  # asking for a batch would fail now
    capsys.readouterr()
    assert fit(Classify(loaded), small_data, small_profile.student, run) == record
    assert capsys.readouterr().out == "baseline (seed 0)  already trained: loaded from build/smoke/results/seed0\n"
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())


def test_published_records_are_not_trained_over(small_data, small_profile, project):
    run = Replicate(STUDY.profile("published")).run("baseline")
    sentence = r"^The published records are only read: choose the profile full to train\.$"
    with pytest.raises(TrainingError, match=sentence):
        fit(Classify(small_network()), small_data, small_profile.student, run)
    assert not project.exists()


@pytest.fixture
def taught(small_data, small_profile, replicate):
    """A trained small teacher."""
    teacher = small_network(seed=3)
    fit(Classify(teacher), small_data, small_profile.teacher, replicate.run("teacher"))
    return teacher


def stage_one(teacher, data, profile, replicate):
    """A student after stage one, and the record."""
    student = small_network()
    objective = Hint(teacher, student, Regressor(student, teacher, data.sample()))
    return student, fit(objective, data, profile.hint, replicate.run("hint"))


def distill(teacher, data, profile, run, student=None, precision="float32"):
    return fit(Distill(teacher, student or small_network(), 4.0, 0.9), data, profile.student, run, precision=precision)


def test_all_stage_twos_of_a_seed_see_the_same_batches_and_other_stages_others(small_data, small_profile, monkeypatch):
    seen, batches = {}, Data.batches

    def watched(self, seed, stage, epoch, batch_size):
        for images, labels in batches(self, seed, stage, epoch, batch_size):
            seen[run].append(images)
            yield images, labels

    monkeypatch.setattr(Data, "batches", watched)
    for seed, arm in [*((0, arm) for arm in STUDY.arms), (1, STUDY.arm("distill"))]:
        run = seed, arm.name
        seen[run] = []
        fit(Classify(small_network()), small_data, small_profile.student, Replicate(small_profile, seed).run(arm.name))
    images = {run: torch.cat(batches) for run, batches in seen.items()}
    distilled = images.pop((0, "distill"))
    same = {name for (_, name), others in images.items() if torch.equal(others, distilled)}
    assert same == {"baseline", "exp1", "exp2"}, "and neither the teacher, nor stage one, nor another seed"
    assert not torch.equal(images[0, "teacher"], images[0, "hint"])


def test_teacher_logits_are_computed_once_and_reused_bit_for_bit(taught, small_data, small_profile, replicate):
    calls = []
    taught.register_forward_hook(lambda *_: calls.append(1))
    first = distill(taught, small_data, small_profile, replicate.run("distill"))
    assert len(calls) == 3 * 4 + 1, "for each training batch of three epochs, and once for the test images"
    calls.clear()
    second = distill(taught, small_data, small_profile, replicate.run("exp2"))
    assert not calls
    assert (first.steps, first.weights, first.test) == (second.steps, second.weights, second.test)


def test_cached_logits_of_another_teacher_are_not_reused(taught, small_data, small_profile, replicate):
    distill(taught, small_data, small_profile, replicate.run("distill"))
    other, calls = small_network(seed=4), []
    other.register_forward_hook(lambda *_: calls.append(1))
    distill(other, small_data, small_profile, replicate.run("distill-again"))
    assert len(calls) == 3 * 4 + 1


@pytest.mark.parametrize("change", ["data", "batch_size", "precision", "stage"])
def test_cached_logits_of_other_batches_are_not_reused(taught, small_data, small_profile, replicate, change):
    distill(taught, small_data, small_profile, replicate.run("distill"))
    data, profile, run, precision, study = small_data, small_profile, "distill-again", "float32", STUDY
    if change == "data":
        data = dataclasses.replace(data, mirrored=True)
    if change == "batch_size":
        profile = dataclasses.replace(profile, student=dataclasses.replace(profile.student, batch_size=32))
    if change == "precision":
        precision = "bfloat16"
    if change == "stage":
        arms = tuple(dataclasses.replace(arm, stage="teacher") for arm in STUDY.arms)
        study = dataclasses.replace(STUDY, arms=arms)
    calls = []
    taught.register_forward_hook(lambda *_: calls.append(1))
    distill(taught, data, profile, Replicate(profile, 0, study).run(run), precision=precision)
    tests = 2 if change == "precision" else 1  # those between the epochs are in the training's precision
    assert len(calls) == 3 * data.steps(profile.student.batch_size) + tests


def test_damaged_cached_logits_are_computed_again(taught, small_data, small_profile, replicate):
    first = distill(taught, small_data, small_profile, replicate.run("distill"))
    paths = sorted(replicate.run("distill").logits.rglob("*.safetensors"))
    assert len(paths) == 4, "three epochs and the test images"
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.write_bytes(path.read_bytes()[:-50])
    second = distill(taught, small_data, small_profile, replicate.run("distill-again"))
    assert first.weights == second.weights
    assert [path.read_bytes() for path in paths] == before


def test_targets_that_are_not_cached_are_not_kept_in_memory():
    made = []

    def target(images):
        hint = images + 1
        made.append(weakref.ref(hint))
        return hint

    batches = [(torch.zeros(2), torch.zeros(2))] * 5
    for _ in logits.with_targets(batches, target, None, "epoch0001"):
        assert sum(hint() is not None for hint in made) <= 2, "of this batch, and of the one before"


def test_both_experiments_start_stage_two_from_identical_weights(taught, small_data, small_profile, replicate):
    """As the notebooks do it: the second one asks for the same stage one and gets the first one's weights."""
    (first, record), (second, same) = (stage_one(taught, small_data, small_profile, replicate) for _ in range(2))
    assert record == same
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
    untrained = small_network().state_dict()
    changed = {
        name for name, value in first.state_dict().items() if not torch.equal(value.half(), untrained[name].half())
    }
    assert any(name.startswith("stages.2") for name in changed)
    assert not any(name.startswith(("stages.3", "head")) for name in changed)


def test_stage_two_knows_the_teacher_and_stage_one_it_started_from(taught, small_data, small_profile, replicate):
    student, before = stage_one(taught, small_data, small_profile, replicate)
    record = distill(taught, small_data, small_profile, replicate.run("exp2"), student)
    teacher = replicate.run("teacher").record()
    assert record.identity.start == {"teacher": teacher.weights["model"], "model": before.weights["model"]}
    student, _ = stage_one(taught, small_data, small_profile, replicate)
    assert distill(taught, small_data, small_profile, replicate.run("exp2"), student) == record
    with pytest.raises(TrainingError, match=r"start\.model .*Delete it to train exp2 \(seed 0\) again"):
        distill(taught, small_data, small_profile, replicate.run("exp2"), small_network())


def test_frozen_layers_are_bit_identical_after_stage_two(taught, small_data, small_profile, replicate):
    student = small_network()
    weights.round_weights({"model": student})
    before = {name: value.clone() for name, value in student.state_dict().items()}
    models.freeze(student, through=3)
    distill(taught, small_data, small_profile, replicate.run("exp1"), student)
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("stages.3", "head")) for name in changed)


def test_fine_tuned_layers_follow_the_schedule_at_their_scale(
    taught, small_data, small_profile, replicate, monkeypatch
):
    rates, step = [], torch.optim.SGD.step
    monkeypatch.setattr(
        torch.optim.SGD, "step", lambda self: (rates.append([g["lr"] for g in self.param_groups]), step(self))
    )
    student = small_network()
    models.scale_rate(student, through=3, scale=0.1)
    record = distill(taught, small_data, small_profile, replicate.run("exp2"), student)
    assert record.identity.objective["rates"] == [0.1, 0.1, 0.1, 1.0]
    assert len(rates) == 12
    for number, found in enumerate(rates):
        rate = optimisers.learning_rate(number, 12, small_profile.student)
        # Of each stage but the first the convolutions and the batch normalisations; and the head.
        assert found == pytest.approx([0.1 * rate] * 5 + [rate] * 3)


def test_data_set_of_a_hundred_classes(small_profile, monkeypatch):
    """A made-up set: noise, with a class more than a digit can name."""

    def read():
        random = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (400, 16, 16, 1), dtype=torch.uint8, generator=random)
        labels = torch.arange(400) % 100
        return {
            "train_images": images[:200],
            "train_labels": labels[:200],
            "test_images": images[200:],
            "test_labels": labels[200:],
        }

    names = tuple(f"class {number}" for number in range(100))
    monkeypatch.setitem(datasets.DATASETS, "hundred", DatasetSpec("noise", read, names, mirrored=True))
    data = datasets.load("hundred", device="cpu")
    profile = dataclasses.replace(small_profile, dataset="hundred")
    run = Replicate(profile).run("baseline")
    model = models.ConvNet(SMALL_WIDTHS, classes=len(data.classes), channels=1)
    record = fit(Classify(model), data, dataclasses.replace(profile.student, epochs=1), run)
    assert run.record() == record
    assert sorted(data.train_labels.tolist()) == sorted([*range(100)] * 2)
    assert record.labels == [*range(100)] * 2 and len(set(record.predictions)) <= 100
    assert record.names == list(names) and record.identity.classes == 100 and record.identity.channels == 1
    loaded = models.load(run)
    predictions = torch.cat([loaded(images).argmax(1) for images, _ in data.test_batches()])
    assert predictions.tolist() == record.predictions


def test_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(small_data, small_profile, replicate, monkeypatch):
    run, model = replicate.run("baseline"), small_network()
    steps = itertools.count(1)
    losses = Classify.losses

    def broken(self, *batch):
        values, logits = losses(self, *batch)
        if model.training and next(steps) >= 6:  # the second step of the second epoch
            values["total"] = values["total"] * float("nan")
        return values, logits

    monkeypatch.setattr(Classify, "losses", broken)
    with pytest.raises(DivergedError, match=r"not finite at step 2 of epoch 2 \(learning rate 0\.0\d+\)") as error:
        fit(Classify(model), small_data, small_profile.student, run)
    assert str(run.checkpoints / "epoch0001.safetensors") in str(error.value)
    assert not run.record_path.exists() and not run.weights_path.exists()


def test_record_of_another_identity_is_neither_reused_nor_overwritten(small_data, small_profile, replicate):
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    before = run.record_path.read_bytes()
    longer = dataclasses.replace(small_profile.student, epochs=5)
    sentence = (
        r"^.*seed0/baseline\.json was made by a different run: schedule\.epochs \(3, now 5\)\. "
        r"Delete it to train baseline \(seed 0\) again, or undo the change\.$"
    )
    with pytest.raises(TrainingError, match=sentence):
        fit(Classify(small_network()), small_data, longer, run)
    assert run.record_path.read_bytes() == before


def test_record_without_its_weights_names_the_way_out(small_data, small_profile, replicate):
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    run.weights_path.unlink()
    sentence = r"baseline\.safetensors is missing beside its record: delete .*baseline\.json to train it again\.$"
    with pytest.raises(NotTrained, match=sentence):
        fit(Classify(small_network()), small_data, small_profile.student, run)
    with pytest.raises(NotTrained, match=sentence):
        models.load(run)


def test_of_committed_records_no_sentence_says_to_delete_them(project):
    save(results(1, images=20), STUDY.profile(PUBLISHED))
    run = Replicate(STUDY.profile(PUBLISHED)).run("exp1")
    run.weights_path.unlink(missing_ok=True)
    with pytest.raises(
        NotTrained, match=r"exp1\.safetensors is missing .*: run 04_exp1 under the profile full, and use"
    ):
        models.load(run)
    run.record_path.unlink()
    with pytest.raises(
        NotTrained, match=r"no trained exp1 \(profile published, seed 0\): run 04_exp1 under the profile full"
    ):
        models.load(run)


def test_unknown_precision_is_refused(small_data, small_profile, replicate):
    with pytest.raises(ValueError, match=r"^precision must be auto, float32 or bfloat16, not 'half'\.$"):
        fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"), precision="half")


def test_impossible_batch_size_is_refused(small_data, small_profile, replicate):
    schedule = dataclasses.replace(small_profile.student, batch_size=257)
    with pytest.raises(
        ValueError, match=r"^batch_size must lie between 1 and the 256 training images of digits, not 257"
    ):
        fit(Classify(small_network()), small_data, schedule, replicate.run("baseline"))


def test_bfloat16_trains_too_and_is_recorded(taught, small_data, small_profile, replicate):
    student = small_network()
    record = distill(taught, small_data, small_profile, replicate.run("distill"), student, precision="bfloat16")
    assert record.identity.precision == "bfloat16"
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    full = distill(taught, small_data, small_profile, replicate.run("distill-again"), precision="float32")
    assert record.train["soft"][0] == pytest.approx(full.train["soft"][0], rel=0.05)
    assert record.weights != full.weights


def test_memory_and_checkpoints_do_not_grow_with_the_epochs(small_data, small_profile, replicate, monkeypatch):
    kept = []
    save = training._Training._save_checkpoint

    def counted(self):
        save(self)
        kept.append(sorted(path.name for path in self.run.checkpoints.glob("epoch*")))

    monkeypatch.setattr(training._Training, "_save_checkpoint", counted)
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    assert kept[-1] == ["epoch0002.safetensors", "epoch0003.safetensors"]
    assert not run.checkpoints.exists(), "a finished run needs none"

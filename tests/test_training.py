"""`fit` against a plain loop, its bookkeeping, and what it does when a user or the machine is in the way."""

import dataclasses
import itertools

import pytest
import torch
from conftest import small_network
from factories import record

from kdlib import models, profiles, records, storage, training
from kdlib.objectives import Classify, Distill, Hint
from kdlib.records import NotTrained
from kdlib.training import TrainingError, fit, learning_rate


def weights(run):
    return run.weights_path.read_bytes()


def test_fit_is_the_plain_loop(small_data, small_profile, replicate):
    """The same batches through torch's own optimiser, one readable step after the other."""
    schedule = small_profile.student
    model, reference = small_network(), small_network()
    record = fit(Classify(model), small_data, schedule, replicate.run("baseline"), precision="float32")

    optimizer = torch.optim.SGD(reference.parameters(), momentum=0.9, nesterov=True, weight_decay=schedule.weight_decay)
    step, losses = itertools.count(), []
    for epoch in range(schedule.epochs):
        reference.train()
        for images, labels in small_data.batches(0, epoch, schedule.batch_size):
            optimizer.param_groups[0]["lr"] = learning_rate(next(step), 12, schedule.learning_rate)
            loss = torch.nn.functional.cross_entropy(reference(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert record.steps["total"] == pytest.approx(losses, rel=1e-4)
    for name, value in reference.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], value, rtol=2e-3, atol=2e-4, msg=name)


def test_fit_learns(small_data, small_profile, replicate):
    schedule = dataclasses.replace(small_profile.student, epochs=12, batch_size=32, learning_rate=0.2)
    record = fit(Classify(small_network()), small_data, schedule, replicate.run("baseline"))
    assert record.test["accuracy"][-1] > 80 and record.train["total"][-1] < record.train["total"][0] / 2


def test_learning_rate_rises_for_a_fifth_of_the_steps_and_then_falls_to_zero():
    rates = [learning_rate(step, 100, 0.5) for step in range(100)]
    assert max(rates) == rates[19] == 0.5
    assert rates[0] == pytest.approx(0.5 / 20) and rates[99] == pytest.approx(0.5 / 80)
    assert rates[:20] == sorted(rates[:20]) and rates[19:] == sorted(rates[19:], reverse=True)
    assert learning_rate(0, 1, 0.5) == 0.5


def test_equal_settings_give_equal_bits_and_other_seeds_do_not(small_data, small_profile):
    runs = [
        records.Replicate(small_profile, seed).run(name)
        for seed, name in [(0, "baseline"), (0, "baseline-again"), (1, "baseline")]
    ]
    for run in runs:
        fit(Classify(small_network()), small_data, small_profile.student, run)
    first, same, other = (storage.read_tensors(run.weights_path)[0] for run in runs)
    assert storage.digest(first) == storage.digest(same) != storage.digest(other)


def test_one_line_an_epoch_tells_how_training_goes(small_data, small_profile, replicate, capsys):
    fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for number, line in enumerate(lines, start=1):
        for piece in ("baseline (seed 0)", f"epoch {number}/3", "loss", "accuracy", "images/s", "min left"):
            assert piece in line


def test_in_jupyterlab_there_is_a_bar_instead(small_data, small_profile, replicate, capsys, monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "notebook.ipynb")
    fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"))
    output = capsys.readouterr()
    assert output.out == "" and "12/12" in output.err


def test_finished_run_is_loaded_and_not_trained_again(small_data, small_profile, replicate, monkeypatch, capsys):
    run = replicate.run("baseline")
    trained, loaded = small_network(), small_network(seed=9)
    record = fit(Classify(trained), small_data, small_profile.student, run)
    monkeypatch.setattr(type(small_data), "batches", None)  # asking for a batch would fail now
    capsys.readouterr()
    assert fit(Classify(loaded), small_data, small_profile.student, run) == record
    assert capsys.readouterr().out == "baseline (seed 0)  trained before: loaded from build/smoke/results/seed0\n"
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in trained.state_dict().items())


@pytest.fixture
def taught(small_data, small_profile, replicate):
    """A trained small teacher."""
    teacher = small_network(seed=3)
    fit(Classify(teacher), small_data, small_profile.teacher, replicate.run("teacher"))
    return teacher


def distill(teacher, data, profile, run, frozen=0, precision="auto"):
    student = small_network()
    models.freeze(student, through=frozen)
    return fit(Distill(teacher, student, 4.0, 0.9), data, profile.student, run, precision=precision)


def test_teachers_answers_are_asked_once_and_reused_to_the_bit(taught, small_data, small_profile, replicate):
    asked = []
    taught.register_forward_hook(lambda *_: asked.append(1))
    first = distill(taught, small_data, small_profile, replicate.run("distill"))
    assert len(asked) == 3 * 4 + 1, "each training batch of three epochs, and the test images once"
    asked.clear()
    second = distill(taught, small_data, small_profile, replicate.run("distill-again"))
    assert not asked
    assert (first.steps, first.weights, first.test) == (second.steps, second.weights, second.test)


def test_answers_of_another_teacher_are_not_reused(taught, small_data, small_profile, replicate):
    distill(taught, small_data, small_profile, replicate.run("distill"))
    other = small_network(seed=4)
    asked = []
    other.register_forward_hook(lambda *_: asked.append(1))
    distill(other, small_data, small_profile, replicate.run("distill-again"))
    assert len(asked) == 3 * 4 + 1


def test_damaged_answers_are_asked_for_again(taught, small_data, small_profile, replicate):
    first = distill(taught, small_data, small_profile, replicate.run("distill"))
    for path in replicate.run("distill").answers.rglob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-50])
    second = distill(taught, small_data, small_profile, replicate.run("distill-again"))
    assert first.weights == second.weights


def test_both_experiments_start_stage_two_from_identical_weights(taught, small_data, small_profile, replicate):
    """As the notebooks do it: the second one asks for the same stage one and gets the first one's weights."""
    starts, records_of_stage_one = [], []
    for _ in ("04_exp1", "05_exp2"):
        student = small_network()
        regressor = models.Regressor(student, taught, small_data.sample(), seed=0)
        objective = Hint(taught, student, regressor)
        records_of_stage_one.append(fit(objective, small_data, small_profile.hint, replicate.run("hint")))
        starts.append({name: value.clone() for name, value in records.flat_state(objective.modules).items()})
    assert records_of_stage_one[0] == records_of_stage_one[1]
    assert all(torch.equal(value, starts[1][name]) for name, value in starts[0].items())
    untrained = records.flat_state({"model": small_network()})
    changed = {name for name, value in untrained.items() if not torch.equal(value.half(), starts[0][name].half())}
    assert any(name.startswith("model.stages.2") for name in changed)
    assert not any(name.startswith(("model.stages.3", "model.head")) for name in changed)


def test_frozen_layers_do_not_change_in_stage_two(taught, small_data, small_profile, replicate):
    student = small_network()
    records.round_weights({"model": student})
    before = {name: value.clone() for name, value in student.state_dict().items()}
    models.freeze(student, through=3)
    fit(Distill(taught, student, 4.0, 0.9), small_data, small_profile.student, replicate.run("exp1"))
    changed = {name for name, value in student.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(name.startswith(("stages.3", "head")) for name in changed)


def test_loss_that_is_not_finite_stops_with_step_rate_and_checkpoint(small_data, small_profile, replicate, monkeypatch):
    run, model = replicate.run("baseline"), small_network()
    steps = itertools.count(1)
    losses = Classify.losses

    def broken(self, *batch):
        values, scores = losses(self, *batch)
        if model.training and next(steps) >= 6:  # the second step of the second epoch
            values["total"] = values["total"] * float("nan")
        return values, scores

    monkeypatch.setattr(Classify, "losses", broken)
    with pytest.raises(TrainingError, match=r"not finite at step 2 of epoch 2 \(learning rate 0\.0\d+\)") as error:
        fit(Classify(model), small_data, small_profile.student, run)
    assert str(run.checkpoints / "epoch0001.safetensors") in str(error.value)
    assert not run.record_path.exists() and not run.weights_path.exists()


def test_record_of_other_settings_is_neither_reused_nor_overwritten(small_data, small_profile, replicate):
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    before = run.record_path.read_bytes()
    longer = dataclasses.replace(small_profile.student, epochs=5)
    with pytest.raises(TrainingError, match=r"other settings \(epochs 3, now 5\): delete it to train baseline"):
        fit(Classify(small_network()), small_data, longer, run)
    assert run.record_path.read_bytes() == before


def test_record_of_another_teacher_is_refused(taught, small_data, small_profile, replicate):
    distill(taught, small_data, small_profile, replicate.run("distill"))
    with pytest.raises(TrainingError, match=r"other settings \(another teacher\)"):
        distill(small_network(seed=4), small_data, small_profile, replicate.run("distill"))


def test_experiments_after_another_stage_one_are_refused(taught, small_data, small_profile, replicate):
    def stage_two(stage_one):
        objective = Distill(taught, small_network(), 4.0, 0.9)
        return fit(objective, small_data, small_profile.student, replicate.run("exp2"), after=stage_one)

    first, other = (record("hint", weights=weights) for weights in ("first", "other"))
    assert stage_two(first) == stage_two(first)
    for stage_one in (other, None):
        with pytest.raises(TrainingError, match=r"other settings \(another stage one\): delete it to train exp2"):
            stage_two(stage_one)


def test_record_without_its_weights_says_what_to_do(small_data, small_profile, replicate):
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    run.weights_path.rename(replicate.run("teacher").weights_path)
    with pytest.raises(NotTrained, match=r"is missing though its record is there: delete .*baseline\.json to train"):
        fit(Classify(small_network()), small_data, small_profile.student, run)


def test_replicate_published_without_weights_says_to_train_all_of_it(small_data, small_profile, replicate):
    run = replicate.run("baseline")
    fit(Classify(small_network()), small_data, small_profile.student, run)
    run.weights_path.unlink()
    with pytest.raises(NotTrained, match=r"though its record is there: delete .*seed0 to train"):
        fit(Classify(small_network()), small_data, small_profile.student, run)
    with pytest.raises(NotTrained, match=r"though its record is there: delete .*seed0 to train"):
        replicate.load_model("baseline")


def test_unknown_precision_is_refused(small_data, small_profile, replicate):
    with pytest.raises(ValueError, match=r"^precision must be auto, float32 or bfloat16, not 'half'\.$"):
        fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"), precision="half")


def test_bfloat16_trains_too_and_is_recorded(taught, small_data, small_profile, replicate):
    student = small_network()
    objective = Distill(taught, student, 4.0, 0.9)
    record = fit(objective, small_data, small_profile.student, replicate.run("distill"), precision="bfloat16")
    assert record.machine["precision"] == "bfloat16"
    assert {parameter.dtype for parameter in student.parameters()} == {torch.float32}
    full = distill(taught, small_data, small_profile, replicate.run("distill-again"), precision="float32")
    assert record.train["soft"][0] == pytest.approx(full.train["soft"][0], rel=0.05)
    assert record.weights != full.weights


def test_auto_precision_is_bfloat16_only_where_the_hardware_has_it(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in [({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bfloat16")]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert training.choose_precision("auto", cpu) == expected


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
    assert not list(run.checkpoints.glob("epoch*")), "a finished run needs none"


def test_quick_and_full_profiles_train_students_on_the_same_stream():
    """Answers are reused, and comparisons paired, only if all students of a seed see the same batches."""
    for profile in profiles.PROFILES.values():
        assert profile.student.batch_size == profile.teacher.batch_size == profile.hint.batch_size

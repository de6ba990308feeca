"""The networks: their size, their first weights, what freezing means."""

import dataclasses
import shutil

import pytest
import torch
from conftest import small_network

from kdlib import models
from kdlib.models import GUIDED_STAGE
from kdlib.objectives import Classify
from kdlib.regressors import Regressor
from kdlib.storage import folders
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import STUDY
from kdlib.training import fit


def images(count=8, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def filters(model):
    """The weights of the first convolution: (C, 3, 3, 3)."""
    return model.stages[0][0].weight


def test_sizes_are_those_of_the_note():
    teacher, student = models.teacher(), models.student()
    assert models.count_parameters(teacher) == pytest.approx(1.35e6, rel=0.01)
    assert models.count_parameters(student) == pytest.approx(306e3, rel=0.01)
    assert models.count_multiplications(teacher) <= 60e6
    assert models.count_multiplications(student) <= 30e6


def test_student_is_thinner_and_deeper_than_the_teacher():
    for wide, thin in zip(models.TEACHER_WIDTHS, models.STUDENT_WIDTHS, strict=True):
        assert max(thin) < min(wide)
    assert sum(map(len, models.STUDENT_WIDTHS)) > sum(map(len, models.TEACHER_WIDTHS))


@pytest.mark.parametrize("make", [models.teacher, models.student])
def test_stages_end_at_32_16_8_and_4_pixels(make):
    model = make().eval()
    sizes = [tuple(model.features(images(2), through=stage).shape[2:]) for stage in (1, 2, 3, 4)]
    assert sizes == [(32, 32), (16, 16), (8, 8), (4, 4)]
    assert model(images(2)).shape == (2, 10)


def test_classes_and_channels_are_those_of_the_data_set():
    for make in (models.teacher, models.student):
        model = make(classes=100, channels=1).eval()
        assert model(images(2)[:, :1]).shape == (2, 100)
        assert (model.classes, model.channels) == (100, 1)


def test_multiplications_are_counted_by_hand_for_a_small_network():
    model = models.ConvNet(((4,), (8,), (8,), (8,)))
    by_hand = 9 * (3 * 4 * 32**2 + 4 * 8 * 16**2 + 8 * 8 * 8**2 + 8 * 8 * 4**2) + 8 * 10
    assert models.count_multiplications(model) == by_hand


@pytest.mark.parametrize("make", [models.teacher, models.student])
def test_students_or_teachers_of_a_seed_start_from_the_same_weights_and_those_of_other_seeds_do_not(make):
    first, again, other = make(1), make(1), make(2)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert not torch.equal(filters(first), filters(other))


def test_first_filters_of_the_student_are_none_of_the_teachers():
    teacher, student = filters(models.teacher(0)).flatten(1), filters(models.student(0)).flatten(1)
    assert torch.cdist(student, teacher).min() > 0.1
    # Nor are they the same random numbers on another scale.
    correlation = torch.corrcoef(torch.cat([student, teacher]))[: len(student), len(student) :]
    assert correlation.abs().max() < 0.9


def test_first_weights_of_the_regressor_are_those_of_no_network():
    teacher, student = models.teacher(0), models.student(0)
    regressor, again, other = (Regressor(student, teacher, images(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(regressor.conv.weight, again.conv.weight)
    assert not torch.equal(regressor.conv.weight, other.conv.weight)
    numbers = regressor.conv.weight.flatten()[:432]
    for model in (teacher, student):
        assert torch.corrcoef(torch.stack([numbers, filters(model).flatten()[:432]]))[0, 1].abs() < 0.5


def test_first_weights_leave_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    Regressor(models.student(1), models.teacher(1), images())
    assert torch.equal(torch.rand(3), expected)


def test_frozen_stages_get_no_gradient_and_keep_their_statistics_even_in_training_mode():
    model = models.student()
    models.freeze(model, through=GUIDED_STAGE)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(images()).sum().backward()
    for name, parameter in model.named_parameters():
        frozen = name.startswith(tuple(f"stages.{stage}." for stage in range(GUIDED_STAGE)))
        assert (parameter.grad is None) == frozen, name
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed, "batch-norm statistics behind the frozen stages must still move"
    assert not any(name.startswith(("stages.0.", "stages.1.", "stages.2.")) for name in changed)


def test_frozen_stages_can_be_fine_tuned_again():
    model = small_network()
    models.freeze(model, through=GUIDED_STAGE)
    models.scale_rate(model, through=GUIDED_STAGE, scale=1)
    assert model.rates == [1.0] * 4
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan"), "half", True, None])
def test_bad_scale_is_refused_in_one_sentence(scale):
    model = small_network()
    sentence = r"^scale, of the guided layers' learning rate, must be a number from 0 to 1, not .*\.$"
    with pytest.raises(ValueError, match=sentence):
        models.scale_rate(model, through=3, scale=scale)
    assert model.rates == [1.0] * 4


@pytest.mark.parametrize("stage", [0, 5, -1])
def test_bad_stage_is_refused_in_one_sentence(stage):
    model, sentence = small_network(), rf"^There is no stage {stage}: choose one from 1 to 4\.$"
    for refused in (
        lambda: models.scale_rate(model, stage, 0.1),
        lambda: models.freeze(model, stage),
        lambda: Regressor(model, small_network(1), images(), stage=stage),
    ):
        with pytest.raises(ValueError, match=sentence):
            refused()


def test_missing_model_names_the_notebook_to_run(replicate):
    sentence = r"^There is no trained teacher \(profile smoke, seed 0\): run 01_teacher first\.$"
    with pytest.raises(NotTrained, match=sentence):
        models.load(replicate.run("teacher"))


def test_published_network_is_built_from_the_widths_in_its_record(small_data, small_profile, replicate, monkeypatch):
    monkeypatch.setattr(models, "STUDENT_WIDTHS", ((8,), (8,), (16,), (16,)))
    schedule = dataclasses.replace(small_profile.student, epochs=1)
    record = fit(Classify(models.student()), small_data, schedule, replicate.run("baseline"))
    published = STUDY.profile("published")
    shutil.move(folders.results(small_profile.name), folders.results(published.name))

    monkeypatch.setattr(models, "STUDENT_WIDTHS", ((4,), (4,), (4,), (4,)))
    model = models.load(Replicate(published).run("baseline"))
    assert model.widths == ((8,), (8,), (16,), (16,)) and not model.training
    with torch.no_grad():
        predictions = torch.cat([model(batch).argmax(1) for batch, _ in small_data.test_batches()])
    assert predictions.tolist() == record.predictions

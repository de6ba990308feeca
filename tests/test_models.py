"""The networks: their size, what freezing means, what the regressor predicts."""

import pytest
import torch

from kdlib import models
from kdlib.models import GUIDED_STAGE


def images(count=8, seed=0):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


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


def test_multiplications_are_counted_by_hand_for_a_small_network():
    model = models.ConvNet(((4,), (8,), (8,), (8,)))
    by_hand = 9 * (3 * 4 * 32**2 + 4 * 8 * 16**2 + 8 * 8 * 8**2 + 8 * 8 * 4**2) + 8 * 10
    assert models.count_multiplications(model) == by_hand


def test_seed_decides_the_weights_and_leaves_the_global_generator_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = models.student(1), models.student(1), models.student(2)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first.stages[0][0].weight, again.stages[0][0].weight)
    assert not torch.equal(first.stages[0][0].weight, other.stages[0][0].weight)


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


def test_regressor_standardises_the_hint_with_the_teachers_statistics():
    teacher, student, batch = models.teacher(), models.student(), images(32)
    regressor = models.Regressor(student, teacher, batch)
    with torch.no_grad():
        hint = regressor.standardise(teacher.eval().features(batch, through=GUIDED_STAGE))
    torch.testing.assert_close(hint.mean((0, 2, 3)), torch.zeros(128), atol=1e-4, rtol=0)
    torch.testing.assert_close(hint.std((0, 2, 3)), torch.ones(128), atol=1e-3, rtol=0)
    assert {"hint_mean", "hint_std"} <= regressor.state_dict().keys(), "the statistics are kept with the regressor"


def test_regressor_maps_the_guided_width_to_the_hint_width():
    teacher, student = models.teacher(), models.student()
    regressor = models.Regressor(student, teacher, images())
    assert models.count_parameters(regressor) == 64 * 128 + 128
    assert regressor(student.eval().features(images(), GUIDED_STAGE)).shape == (8, 128, 8, 8)

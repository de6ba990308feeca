"""Losses against values worked out by hand and against torch's own functions."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdlib import losses

STUDENT = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, -1.0]])
TEACHER = torch.tensor([[4.0, 1.0, -2.0], [1.0, 2.0, 0.0]])
LABELS = torch.tensor([0, 2])


def by_hand(row, temperature=1.0):
    exponentials = [math.exp(value / temperature) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def test_hard_is_the_mean_negative_log_probability_of_the_label():
    expected = -(math.log(by_hand([2, 1, 0])[0]) + math.log(by_hand([0, 3, -1])[2])) / 2
    assert losses.hard(STUDENT, LABELS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_soft_is_squared_temperature_times_divergence_from_teacher_to_student(temperature):
    divergence = 0.0
    for teacher_row, student_row in zip(TEACHER.tolist(), STUDENT.tolist(), strict=True):
        p, q = by_hand(teacher_row, temperature), by_hand(student_row, temperature)
        divergence += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 2
    assert losses.soft(STUDENT, TEACHER, temperature).item() == pytest.approx(temperature**2 * divergence, rel=1e-5)


def test_soft_agrees_with_the_cross_entropy_of_torch():
    """KL(p ‖ q) = H(p, q) − H(p), and F.cross_entropy computes both from probabilities."""
    p = (TEACHER / 3).softmax(1)
    expected = 9 * (F.cross_entropy(STUDENT / 3, p) - F.cross_entropy(TEACHER / 3, p))
    torch.testing.assert_close(losses.soft(STUDENT, TEACHER, 3.0), expected)


def test_soft_is_zero_when_student_and_teacher_give_the_same_probabilities():
    assert losses.soft(TEACHER + 7.0, TEACHER, 4.0).item() == pytest.approx(0, abs=1e-5)


def test_soft_gradient_hardly_depends_on_the_temperature_when_it_is_high():
    """What T² is for (Hinton et al., section 2.1): at high T the gradient tends to (student − teacher) / classes."""
    gradients = []
    for temperature in (300.0, 600.0):
        student = STUDENT.clone().requires_grad_()
        losses.soft(student, TEACHER, temperature).backward()
        gradients.append(student.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.01, atol=1e-3)
    centred = (STUDENT - STUDENT.mean(1, keepdim=True)) - (TEACHER - TEACHER.mean(1, keepdim=True))
    torch.testing.assert_close(gradients[1], centred / 3 / 2, rtol=0.01, atol=1e-3)


def test_total_weighs_soft_by_alpha():
    assert losses.total(torch.tensor(2.0), torch.tensor(10.0), 0.75).item() == pytest.approx(4.0)


def test_hint_is_the_mean_squared_error_over_all_elements():
    prediction = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    target = torch.tensor([[[[1.0, 0.0]], [[0.0, 4.0]]]])
    assert losses.hint(prediction, target).item() == pytest.approx((0 + 4 + 9 + 0) / 4)


def test_losses_of_half_precision_logits_are_computed_in_float32():
    logits = torch.randn(16, 10, generator=torch.Generator().manual_seed(0)).bfloat16()
    for value in (losses.hard(logits, torch.zeros(16, dtype=torch.long)), losses.soft(logits, logits * 2, 4.0)):
        assert value.dtype == torch.float32
    torch.testing.assert_close(
        losses.soft(logits, logits * 2, 4.0), losses.soft(logits.float(), logits.float() * 2, 4.0)
    )

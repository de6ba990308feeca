"""The learning rate over the steps, and Muon against a plain reference."""

import pytest
import torch
from conftest import images, small_network

from kdlib import models
from kdlib.optimiser import Muon, learning_rate, orthogonalise
from kdlib.study import Schedule

DECAY = 0.01


def test_the_learning_rate_rises_to_its_highest_and_then_falls_to_zero():
    schedule = Schedule(epochs=1, learning_rate=0.5, warmup=0.2)
    rates = [learning_rate(step, 100, schedule) for step in range(100)]
    rise, fall = [0.5 * (step + 1) / 20 for step in range(20)], [0.5 * (100 - step) / 80 for step in range(20, 100)]
    assert rates == pytest.approx(rise + fall)
    assert learning_rate(0, 1, schedule) == 0.5


@pytest.mark.parametrize("shape", [(16, 27), (32, 27), (64, 576)])
def test_orthogonalise_is_the_newton_schulz_iteration(shape):
    """The form of the source, with the large matrix in every step, in double precision."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(0, -2, shape[0])[:, None]
    expected = matrix.double() / matrix.double().norm()
    for _ in range(3):
        square = expected @ expected.T
        expected = 3.4445 * expected - 4.7750 * square @ expected + 2.0315 * square @ square @ expected
    torch.testing.assert_close(orthogonalise(matrix), expected.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(orthogonalise(1e-4 * matrix), orthogonalise(matrix), msg="whatever the gradient's size")
    assert not orthogonalise(torch.zeros(3, 9)).any()


def reference_step(weight, gradient, momentum, rate, μ):
    """New weight and momentum of a parameter by the formulas of `Muon`, in double precision."""
    if weight.ndim != 4:
        gradient = gradient + DECAY * weight
    momentum = μ * momentum + gradient
    update = gradient + μ * momentum
    if weight.ndim == 4:
        weight = len(weight) ** 0.5 * weight / weight.norm()
        update = orthogonalise(update.flatten(1)).view(weight.shape)
    return weight - rate * update, momentum


@pytest.mark.parametrize("μ", [0.6, 0.0])
def test_steps_of_a_network_follow_the_formulas_at_the_scale_of_each_block(μ):
    model = small_network().eval()
    models.scale_rate(model, through=2, scale=0.1)
    models.freeze(model, through=1)
    optimizer = Muon(model.groups(), Schedule(epochs=1, momentum=μ, weight_decay=DECAY))
    expected = {name: value.detach().double() for name, value in model.named_parameters()}
    momenta = dict.fromkeys(expected, 0.0)
    for step, rate in enumerate((0.05, 0.2, 0.1)):
        optimizer.zero_grad()
        model(images(4, step)).square().mean().backward()
        for name, value in model.named_parameters():
            scale = {"blocks.0": 0.0, "blocks.1": 0.1}.get(name[:8], 1.0)
            if scale:
                # From the present float32 weights: no rounding error adds up over the steps.
                now, gradient = value.detach().double(), value.grad.double()
                expected[name], momenta[name] = reference_step(now, gradient, momenta[name], rate * scale, μ)
        optimizer.set_rate(rate)
        optimizer.step()
        for name, value in model.named_parameters():
            torch.testing.assert_close(value.detach(), expected[name].float(), rtol=1e-4, atol=1e-5, msg=name)

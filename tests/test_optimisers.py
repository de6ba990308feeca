"""The learning-rate schedule, Muon, and optimisers that go on where they were stopped."""

import pytest
import torch
from conftest import small_network

from kdlib import models, optimisers
from kdlib.optimisers import learning_rate, orthogonalise
from kdlib.settings import Schedule


def test_learning_rate_rises_to_its_highest_and_then_falls_to_zero():
    schedule = Schedule(epochs=1, learning_rate=0.5, warmup=0.2)
    rates = [learning_rate(step, 100, schedule) for step in range(100)]
    assert max(rates) == rates[19] == 0.5
    assert rates[0] == pytest.approx(0.5 / 20) and rates[99] == pytest.approx(0.5 / 80)
    assert rates[:20] == sorted(rates[:20]) and rates[19:] == sorted(rates[19:], reverse=True)
    assert learning_rate(0, 1, schedule) == 0.5


@pytest.mark.parametrize(("warmup", "highest"), [(0.0, 0), (0.5, 49), (1.0, 99)])
def test_warmup_is_the_share_of_steps_in_which_the_rate_rises(warmup, highest):
    schedule = Schedule(epochs=1, learning_rate=0.5, warmup=warmup)
    rates = [learning_rate(step, 100, schedule) for step in range(100)]
    assert rates.index(max(rates)) == highest and max(rates) == 0.5 and min(rates) > 0


def test_groups_move_at_their_scale_of_the_rate():
    model = small_network()
    groups = [
        {"params": list(stage.parameters()), "scale": scale}
        for stage, scale in zip(model.stages, (1.0, 0.5, 0.25, 0.1), strict=True)
    ]
    optimizer = optimisers.optimiser(groups, Schedule(epochs=1))
    optimisers.set_rate(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.2, 0.1, 0.04])


def test_orthogonalise_is_the_newton_schulz_iteration():
    """The form of the source, with the large matrix in every step, in double precision."""
    for shape in ((16, 27), (32, 27), (64, 576)):
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        matrix *= torch.logspace(0, -2, shape[0])[:, None]
        expected = matrix.double() / matrix.double().norm()
        for _ in range(3):
            square = expected @ expected.T
            expected = 3.4445 * expected - 4.7750 * square @ expected + 2.0315 * square @ square @ expected
        torch.testing.assert_close(orthogonalise(matrix), expected.float(), rtol=1e-4, atol=1e-5)


def test_orthogonalise_brings_singular_values_near_one_and_keeps_the_singular_vectors():
    matrix = torch.randn(40, 360, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    values = left.T @ orthogonalise(matrix) @ right.T
    assert values.diagonal().min() > 0.6 and values.diagonal().max() < 1.25
    torch.testing.assert_close(values, values.diagonal().diag(), rtol=0, atol=1e-5)
    torch.testing.assert_close(orthogonalise(1e-4 * matrix), orthogonalise(matrix), msg="the size of a gradient")
    assert not orthogonalise(torch.zeros(3, 9)).any()


def test_a_step_of_muon_follows_its_formula():
    kernel = torch.nn.Parameter(torch.randn(8, 4, 3, 3).contiguous(memory_format=torch.channels_last))
    optimizer = optimisers.optimiser([{"params": [kernel], "scale": 1.0, "convolutions": True}], Schedule(epochs=1))
    weight, momentum = kernel.detach().clone(), torch.zeros_like(kernel)
    for seed in range(3):
        kernel.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(seed))
        gradient = kernel.grad.clone()
        optimisers.set_rate(optimizer, 0.3)
        optimizer.step()
        momentum = 0.6 * momentum + gradient
        update = orthogonalise((gradient + 0.6 * momentum).reshape(8, 36)).reshape(8, 4, 3, 3)
        weight = 8**0.5 * weight / weight.norm() - 0.3 * update
        torch.testing.assert_close(kernel.detach(), weight)


def test_all_but_the_convolutions_follow_sgd():
    kinds = {}
    for name in ("Muon", "SGD"):
        model = small_network()
        optimizer = optimisers.optimiser(model.groups(), Schedule(epochs=1, optimiser=name))
        optimisers.set_rate(optimizer, 0.1)
        model(torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))).square().mean().backward()
        optimizer.step()
        kinds[name] = dict(model.named_parameters())
    for name, parameter in kinds["SGD"].items():
        assert torch.equal(parameter, kinds["Muon"][name]) == (parameter.ndim != 4), name


@pytest.mark.parametrize("scale", [0.0, 0.1])
def test_the_scale_of_guided_layers_is_that_of_their_steps(scale):
    """Relative to the norm that Muon gives a kernel; 0 changes nothing at all."""
    model = small_network()
    models.scale_rate(model, through=3, scale=scale)
    optimizer = optimisers.optimiser(model.groups(), Schedule(epochs=1, momentum=0.0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimisers.set_rate(optimizer, 0.2)
    model.train()(torch.randn(4, 3, 32, 32)).square().mean().backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        old = before[name]
        if parameter.ndim == 4:
            frozen = scale == 0 and not name.startswith("stages.3")
            step = parameter.detach() - (old if frozen else old * len(old) ** 0.5 / old.norm())
            rate = 0.2 * (1.0 if name.startswith("stages.3") else scale)
            rank = min(len(old), old[0].numel())
            assert step.norm() == 0 if frozen else 0.3 * rate * rank**0.5 < step.norm() < 1.25 * rate * rank**0.5, name
    if scale == 0:
        for name, tensor in model.state_dict().items():
            if name.startswith(("stages.0", "stages.1", "stages.2")):
                assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("name", ["Muon", "SGD"])
@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_optimiser_goes_on_from_its_stored_state_as_if_undisturbed(momentum, name):
    def move(model, optimizer, steps):
        optimisers.set_rate(optimizer, 0.1)
        for step in steps:
            images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()

    def optimiser(model):
        return optimisers.optimiser(model.groups(), Schedule(epochs=1, momentum=momentum, optimiser=name))

    undisturbed, stopped = small_network().eval(), small_network().eval()
    move(undisturbed, optimiser(undisturbed), range(4))

    first = optimiser(stopped)
    move(stopped, first, range(2))
    stored = {name: value.contiguous().clone() for name, value in optimisers.state_tensors(first).items()}
    assert momentum == 0 or len(stored) == len(list(stopped.parameters()))
    second = optimiser(stopped)
    optimisers.load_state(second, stored)
    move(stopped, second, range(2, 4))
    for key, value in undisturbed.state_dict().items():
        assert torch.equal(stopped.state_dict()[key], value), key
    for parameter, state in second.state.items():
        if momentum:
            assert state["momentum_buffer"].stride() == parameter.stride(), "files lose the memory layout"

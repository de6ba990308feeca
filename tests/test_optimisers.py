"""The learning-rate schedule, and an optimiser that goes on where it was stopped."""

import pytest
import torch
from conftest import small_network

from kdlib import optimisers
from kdlib.optimisers import learning_rate
from kdlib.study import Schedule


def test_learning_rate_rises_for_a_fifth_of_the_steps_and_then_falls_to_zero():
    schedule = Schedule(epochs=1, learning_rate=0.5)
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
    optimizer = optimisers.sgd(groups, Schedule(epochs=1))
    optimisers.set_rate(optimizer, 0.4)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.4, 0.2, 0.1, 0.04])


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_optimiser_goes_on_from_its_stored_state_as_if_undisturbed(momentum):
    def move(model, optimizer, steps):
        optimisers.set_rate(optimizer, 0.1)
        for step in steps:
            images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(images).square().mean().backward()
            optimizer.step()

    def sgd(model):
        return optimisers.sgd(model.groups(), Schedule(epochs=1, momentum=momentum))

    undisturbed, stopped = small_network().eval(), small_network().eval()
    move(undisturbed, sgd(undisturbed), range(4))

    first = sgd(stopped)
    move(stopped, first, range(2))
    stored = {name: value.contiguous().clone() for name, value in optimisers.state_tensors(first).items()}
    assert len(stored) == (len(list(stopped.parameters())) if momentum else 0)
    second = sgd(stopped)
    optimisers.load_state(second, stored)
    move(stopped, second, range(2, 4))
    for name, value in undisturbed.state_dict().items():
        assert torch.equal(stopped.state_dict()[name], value), name
    for parameter, state in second.state.items():
        if momentum:
            assert state["momentum_buffer"].stride() == parameter.stride(), "files lose the memory layout"

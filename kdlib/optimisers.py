"""How weights move: stochastic gradient descent with Nesterov momentum, and the learning-rate schedule."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlib.study import Schedule

NAME = "SGD with Nesterov momentum"  # what a run's identity calls it


def sgd(groups: Iterable[Mapping[str, Any]], schedule: Schedule) -> torch.optim.SGD:
    """The optimiser of a training stage: Sutskever et al., *On the importance of initialization and momentum* (2013).

    Args:
        groups: parameters ("params"), and the "scale" of their learning rate.
        schedule: momentum and weight decay.
    """
    return torch.optim.SGD(
        [dict(group) for group in groups],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


def learning_rate(step: int, steps: int, schedule: Schedule) -> float:
    """The rate at ``step`` (from 0) of ``steps``: a linear rise to the highest, then a linear fall towards 0."""
    rise = max(1, round(schedule.warmup * steps))
    return schedule.learning_rate * min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its scale times ``rate``."""
    for group in optimizer.param_groups:
        group["lr"] = group["scale"] * rate


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state under names such as "optimiser.3.momentum_buffer", for a checkpoint."""
    return {
        f"optimiser.{number}.{key}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for key, value in optimizer.state[parameter].items()
        if value is not None
    }


def load_state(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Set the state that `state_tensors` gave; a buffer takes the memory layout of its parameter, which files lose."""
    for number, parameter in enumerate(_parameters(optimizer)):
        prefix = f"optimiser.{number}."
        for name, value in tensors.items():
            if name.startswith(prefix):
                optimizer.state[parameter][name.removeprefix(prefix)] = torch.empty_like(parameter).copy_(value)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]

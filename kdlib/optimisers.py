"""How weights move: the optimiser of a training stage and its learning-rate schedule.

`Muon` orthogonalises the updates of the networks' convolutions; all other parameters follow SGD with Nesterov momentum.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlib.settings import Schedule

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al. (2024), see `orthogonalise`
NEWTON_SCHULZ_STEPS = 3


def optimiser(groups: Iterable[Mapping[str, Any]], schedule: Schedule) -> torch.optim.SGD:
    """The optimiser that the schedule names.

    Args:
        groups: parameters ("params"), the "scale" of their learning rate, and whether they are "convolutions" that a
            batch normalisation or the regressor follows (default False).
        schedule: optimiser, momentum and weight decay.
    """
    make = {"Muon": Muon, "SGD": torch.optim.SGD}[schedule.optimiser]
    return make(
        [dict(group) for group in groups],
        lr=schedule.learning_rate,
        momentum=schedule.momentum,
        nesterov=schedule.momentum > 0,
        weight_decay=schedule.weight_decay,
        fused=True,
    )


class Muon(torch.optim.SGD):
    """SGD with Nesterov momentum, but for convolutions, whose updates are orthogonalised.

    K. Jordan et al., *Muon: An optimizer for hidden layers in neural networks* (2024),
    https://kellerjordan.github.io/posts/muon. A kernel W is read as a matrix (out, in · 3 · 3); G is its gradient, μ
    the momentum and η the learning rate. A step is

        M ← μ M + G
        W ← √out · W / ‖W‖
        W ← W − η orthogonalise(G + μ M)

    What follows a convolution, a batch normalisation or the regressor, makes up for the norm of W, which is therefore
    free to be fixed: η is then the size of a step relative to W, and weight decay has no part in it.

    Takes the arguments of `torch.optim.SGD`; groups with ``"convolutions": True`` are orthogonalised.
    """

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        for group in self.param_groups:
            if group.get("convolutions"):
                for kernel in group["params"]:
                    self._step_convolution(kernel, group)
                    kernel.grad = None  # what still has a gradient follows SGD
        super().step()

    def _step_convolution(self, kernel: Tensor, group: Mapping[str, Any]) -> None:
        """One update of a kernel (out, in, 3, 3)."""
        momentum, state = group["momentum"], self.state[kernel]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(kernel)
        state["momentum_buffer"].mul_(momentum).add_(kernel.grad)
        update = kernel.grad.add(state["momentum_buffer"], alpha=momentum)
        kernel.mul_(math.sqrt(len(kernel)) / kernel.norm())
        kernel.sub_(orthogonalise(update.flatten(1)).view(kernel.shape), alpha=group["lr"])


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix (m, n) with its larger singular values brought to 0.7 to 1.2, by Newton–Schulz iteration.

    From the matrix divided by its norm, X ← (a + b X Xᵀ + c (X Xᵀ)²) X, three times; for the source see `Muon`. The
    factors commute with X Xᵀ, so the steps are taken with that (m, m) matrix, and the large X is multiplied once.
    """
    a, b, c = NEWTON_SCHULZ
    matrix = matrix / matrix.norm().clamp_min(1e-7)
    gram = matrix @ matrix.T  # (m, m)
    product = None
    for _ in range(NEWTON_SCHULZ_STEPS):
        factor = b * gram + c * gram @ gram
        factor.diagonal().add_(a)
        product = factor if product is None else factor @ product
        gram = factor @ gram @ factor
    return product @ matrix


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

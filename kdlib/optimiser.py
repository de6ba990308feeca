"""How weights move: the optimiser of a training and its learning-rate schedule.

`Muon` orthogonalises the updates of the networks' convolutions; all other parameters follow SGD with Nesterov momentum.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlib.study import Schedule

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al. (2024), see `orthogonalise`
NEWTON_SCHULZ_STEPS = 3


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

    Each of the ``groups`` names its "params", the "scale" of their learning rate, and whether they are "convolutions"
    (default False).
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], schedule: Schedule):
        settings = {"momentum": schedule.momentum, "nesterov": schedule.momentum > 0, "fused": True}
        settings |= {"lr": schedule.learning_rate, "weight_decay": schedule.weight_decay}
        super().__init__([dict(group) for group in groups], **settings)

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        for group in self.param_groups:
            for kernel in group["params"] if group.get("convolutions") else ():
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

    def set_rate(self, rate: float) -> None:
        """Give every group its scale times ``rate``."""
        for group in self.param_groups:
            group["lr"] = group["scale"] * rate

    def momenta(self) -> dict[str, Tensor]:
        """All that the optimiser keeps, for a checkpoint: the momentum of each parameter that has moved."""
        buffers = (self.state[parameter].get("momentum_buffer") for parameter in self._parameters())
        return {f"momentum.{number}": buffer for number, buffer in enumerate(buffers) if buffer is not None}

    def load_momenta(self, tensors: Mapping[str, Tensor]) -> None:
        """Set what `momenta` gave; a buffer takes the memory layout of its parameter, which files lose."""
        for number, parameter in enumerate(self._parameters()):
            if (value := tensors.get(f"momentum.{number}")) is not None:
                self.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(value)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


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

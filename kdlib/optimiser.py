"""How weights move: the optimiser of a training and its learning-rate schedule.

`Muon` orthogonalises the updates of the networks' convolutions; all other parameters follow SGD with Nesterov momentum.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from kdlib.profiles import Schedule

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # coefficients of Jordan et al. (2024), see `orthogonalise`
NEWTON_SCHULZ_STEPS = 3


class Muon:
    """SGD with Nesterov momentum, but for convolutions, whose updates are orthogonalised.

    K. Jordan et al., *Muon: An optimizer for hidden layers in neural networks* (2024),
    https://kellerjordan.github.io/posts/muon. A kernel W is read as a matrix (out, in · 3 · 3); G is its gradient, μ
    the momentum and η the learning rate. A step is

        M ← μ M + G
        W ← √out · W / ‖W‖
        W ← W − η orthogonalise(G + μ M)

    What follows a convolution, a batch normalisation or the regressor, makes up for the norm of W, which is therefore
    free to be fixed: η is then the size of a step relative to W, and weight decay has no part in it. Any other
    parameter has weight decay λ: it moves by − η (G + μ M) with G + λ W in the place of G.

    Each of the ``groups`` names its "params", the "scale" of their learning rate, and whether they are "convolutions"
    (default False). No subclass of ``torch.optim.Optimizer``, whose first call takes seconds to import the compiler.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], schedule: Schedule):
        self.momentum, self.weight_decay = schedule.momentum, schedule.weight_decay
        self.groups = [{"convolutions": False, **group} for group in groups]
        for group in self.groups:
            group["momenta"] = [torch.zeros_like(parameter) for parameter in group["params"]]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for group in self.groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One update of all parameters."""
        for group in self.groups:
            for parameter, momentum in zip(group["params"], group["momenta"], strict=True):
                gradient = parameter.grad
                if not group["convolutions"]:
                    gradient = gradient.add(parameter, alpha=self.weight_decay)
                momentum.mul_(self.momentum).add_(gradient)
                update = gradient.add(momentum, alpha=self.momentum)
                if group["convolutions"]:  # (out, in, 3, 3)
                    parameter.mul_(math.sqrt(len(parameter)) / parameter.norm())
                    update = orthogonalise(update.flatten(1)).view(parameter.shape)
                parameter.sub_(update, alpha=group["lr"])

    def set_rate(self, rate: float) -> None:
        """Give every group its scale times ``rate``; before the first step."""
        for group in self.groups:
            group["lr"] = group["scale"] * rate

    def momenta(self) -> dict[str, Tensor]:
        """All that the optimiser keeps, for a checkpoint: the momentum of each parameter."""
        momenta = [momentum for group in self.groups for momentum in group["momenta"]]
        return {f"momentum.{number}": momentum for number, momentum in enumerate(momenta)}

    def load_momenta(self, tensors: Mapping[str, Tensor]) -> None:
        """Set what `momenta` gave."""
        for name, momentum in self.momenta().items():
            momentum.copy_(tensors[name])


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

"""The extra matrix between the guided layer and the hint layer, and what can stand in its place.

Every kind has a target, made from the teacher's hint, and predicts it from the guided layer. The hint is standardised
per channel with the teacher's mean and standard deviation over training images, which are kept with the regressor:
without that the few channels that vary most dominate the hint loss, and its value has no scale.

Kinds with nothing to learn standardise the guided layer too, over each batch. They lose nothing by that: the batch
normalisation behind the guided layer takes out the mean and scale of its channels in any case.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from kdlib.models import GUIDED_STAGE, ConvNet, check_stage
from kdlib.streams import torch_seed


class Regressor(nn.Module):
    """A learned convolution from the guided layer's width to the hint layer's: Romero et al. (2015), section 2.2.

    Args:
        student, teacher: the two networks; their stage ``stage`` is the guided and the hint layer.
        images: (N, 3, 32, 32) normalised training images on the networks' device, for the statistics.
        stage: from 1.
        seed: (seed, "regressor") decides the first weights of the matrix.
        size: of the kernel, an odd number: 1 for a matrix, 3 for a 3 × 3 convolution.

    Attributes:
        kind: what a run's identity and the tables call it.

    Raises:
        ValueError: one of the networks has no such stage, or ``size`` is even.
    """

    def __init__(
        self,
        student: ConvNet,
        teacher: ConvNet,
        images: Tensor,
        stage: int = GUIDED_STAGE,
        seed: int = 0,
        size: int = 1,
    ):
        super().__init__()
        check_stage(teacher, stage)
        check_stage(student, stage)
        if size < 1 or size % 2 == 0:
            raise ValueError(f"size, of the regressor's kernel, must be an odd number from 1, not {size}.")
        self.stage = stage
        self.kind = f"learned {size} × {size} convolution"
        with torch.no_grad():
            teacher.eval()
            hints = torch.cat([teacher.features(part, through=stage) for part in images.split(256)])  # (N, C, H, W)
        self.register_buffer("hint_mean", hints.mean((0, 2, 3)))
        self.register_buffer("hint_std", hints.std((0, 2, 3)).clamp_min(1e-5))  # a dead channel never varies
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "regressor"))
            self._make(student.widths[stage - 1][-1], hints, size)
        self.to(images.device, memory_format=torch.channels_last)

    def _make(self, guided_width: int, hints: Tensor, size: int) -> None:
        """Make the parts between the guided layer, so many channels wide, and the ``hints`` (N, C, H, W)."""
        self.conv = nn.Conv2d(guided_width, hints.shape[1], size, padding=size // 2)

    def target(self, hint: Tensor) -> Tensor:
        """What `forward` predicts: each channel of the hint with mean 0 and standard deviation 1; shapes are kept."""
        return (hint - self.hint_mean[:, None, None]) / self.hint_std[:, None, None]

    def forward(self, guided: Tensor) -> Tensor:
        """Prediction of the target: (B, student's C, H, W) → (B, teacher's C, H, W)."""
        return self.conv(guided)


class RandomRegressor(Regressor):
    """A matrix that stays as it was drawn: semi-orthogonal, so that it keeps lengths or, if it narrows, shortens none
    of the directions that it keeps. Arguments as of `Regressor`, but for ``size``.
    """

    def _make(self, guided_width: int, hints: Tensor, size: int) -> None:
        self.kind = "fixed random semi-orthogonal matrix"
        self.standardise = nn.BatchNorm2d(guided_width, affine=False)
        self.conv = nn.Conv2d(guided_width, hints.shape[1], 1, bias=False).requires_grad_(False)
        # In float64, so that rounding, which depends on the machine and its threads, leaves the matrix the same.
        self.conv.weight.copy_(nn.init.orthogonal_(self.conv.weight.double()))

    def forward(self, guided: Tensor) -> Tensor:
        return self.conv(self.standardise(guided))


class NoRegressor(Regressor):
    """No matrix: the guided layer itself has to match the hint, channel by channel.

    Arguments as of `Regressor`, but for ``seed`` and ``size``. Raises ``ValueError`` if the two layers differ in width.
    """

    def _make(self, guided_width: int, hints: Tensor, size: int) -> None:
        if guided_width != hints.shape[1]:
            raise ValueError(
                f"Without a matrix the two layers must be equally wide, but stage {self.stage} of the student ends "
                f"with {guided_width} channels and that of the teacher with {hints.shape[1]}: give the student "
                f"{hints.shape[1]} there, or use another regressor."
            )
        self.kind = "none"
        self.standardise = nn.BatchNorm2d(guided_width, affine=False)

    def forward(self, guided: Tensor) -> Tensor:
        return self.standardise(guided)


class PrincipalComponents(Regressor):
    """No matrix on the student's side: the hint is brought to the guided layer's width by its principal components.

    They are those of the standardised hint over ``images``, the first ones as many as the guided layer has channels,
    each with standard deviation 1. Nothing of it is learned, so nothing has to be undone. Arguments as of `Regressor`,
    but for ``seed`` and ``size``. Raises ``ValueError`` if the guided layer is wider than the hint layer.
    """

    def _make(self, guided_width: int, hints: Tensor, size: int) -> None:
        if guided_width > hints.shape[1]:
            raise ValueError(
                f"The hint of stage {self.stage} has only {hints.shape[1]} principal components for the student's "
                f"{guided_width} channels: give the student {hints.shape[1]} at most, or use another regressor."
            )
        self.kind = "none, principal components of the hint"
        self.standardise = nn.BatchNorm2d(guided_width, affine=False)
        # In float64, which Apple's GPUs lack: (N · H · W, C), of mean 0.
        samples = super().target(hints).permute(0, 2, 3, 1).flatten(0, 2).cpu().double()
        variances, components = torch.linalg.eigh(samples.T @ samples / len(samples))  # the smallest first
        components = components[:, -guided_width:].flip(1) / variances[-guided_width:].flip(0).clamp_min(1e-10).sqrt()
        # The sign of a component is free: let its largest entry be positive, on every machine.
        signs = components.gather(0, components.abs().argmax(0, keepdim=True)).sign()
        self.register_buffer("components", (components * signs).T.float()[:, :, None, None])  # (guided C, hint C, 1, 1)

    def target(self, hint: Tensor) -> Tensor:
        """The components that `forward` predicts: (B, teacher's C, H, W) → (B, student's C, H, W)."""
        return nn.functional.conv2d(super().target(hint), self.components)

    def forward(self, guided: Tensor) -> Tensor:
        """Prediction of the target; the shape is kept."""
        return self.standardise(guided)


REGRESSORS: dict[str, Callable[..., Regressor]] = {
    "learned": Regressor,
    "learned 3 × 3": partial(Regressor, size=3),
    "random": RandomRegressor,
    "none": NoRegressor,
    "components": PrincipalComponents,
}

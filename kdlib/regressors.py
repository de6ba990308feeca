"""The extra matrix between the guided layer and the hint layer, and what can stand in its place.

Every kind has a target, made from the teacher's hint, and predicts it from the guided layer. The hint is standardised
per channel with the teacher's mean and standard deviation over training images, which are kept with the regressor:
without that the few channels that vary most dominate the hint loss, and its value has no scale.

Kinds with nothing to learn standardise the guided layer too, over each batch. They lose nothing by that: the batch
normalisation behind the guided layer takes out the mean and scale of its channels in any case.
"""

import torch
from torch import Tensor, nn

from kdlib.errors import SettingError
from kdlib.models import GUIDED_BLOCK, ConvNet
from kdlib.streams import torch_seed


class Regressor(nn.Module):
    """A learned matrix (1 × 1 convolution) from the guided layer's width to the hint layer's: Romero et al. (2015),
    section 2.2.

    Args:
        student, teacher: the two networks.
        images: (N, 3, 32, 32) normalised training images on the networks' device, for the statistics.
        seed: (seed, "regressor") decides the first weights of the matrix.
    """

    kind = "learned"  # in a run's identity

    def __init__(self, student: ConvNet, teacher: ConvNet, images: Tensor, seed: int = 0):
        super().__init__()
        with torch.no_grad():
            teacher.eval()
            parts = [teacher.features(part, through=GUIDED_BLOCK) for part in images.split(256)]
        hints, self.sampled = torch.cat(parts), len(images)  # (N, C, H, W)
        self.register_buffer("hint_mean", hints.mean((0, 2, 3)))
        self.register_buffer("hint_std", hints.std((0, 2, 3)).clamp_min(1e-5))  # a dead channel never varies
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, "regressor"))
            self._make(student.guided_width, hints.shape[1])
        self.to(images.device, memory_format=torch.channels_last)

    def _make(self, guided: int, hint: int) -> None:
        """Make the parts between a guided and a hint layer of so many channels."""
        self.conv = nn.Conv2d(guided, hint, 1)

    def target(self, hint: Tensor) -> Tensor:
        """What `forward` predicts: each channel of the hint with mean 0 and standard deviation 1; shapes are kept."""
        return (hint - self.hint_mean[:, None, None]) / self.hint_std[:, None, None]

    def forward(self, guided: Tensor) -> Tensor:
        """Prediction of the target: (B, student's C, H, W) → (B, teacher's C, H, W)."""
        return self.conv(guided)


class RandomRegressor(Regressor):
    """A matrix that stays as it was drawn: semi-orthogonal, so that it keeps lengths or, if it narrows, shortens none
    of the directions that it keeps.
    """

    kind = "random"

    def _make(self, guided: int, hint: int) -> None:
        self.standardise = nn.BatchNorm2d(guided, affine=False)
        self.conv = nn.Conv2d(guided, hint, 1, bias=False).requires_grad_(False)
        # In float64, so that rounding, which depends on the machine and its threads, leaves the matrix the same.
        self.conv.weight.copy_(nn.init.orthogonal_(self.conv.weight.double()))

    def forward(self, guided: Tensor) -> Tensor:
        return self.conv(self.standardise(guided))


class NoRegressor(Regressor):
    """No matrix: the guided layer itself has to match the hint, channel by channel.

    Raises `SettingError` if the two layers differ in width.
    """

    kind = "none"

    def _make(self, guided: int, hint: int) -> None:
        if guided != hint:
            widths = f"the guided layer has {guided} channels and the hint {hint}"
            raise SettingError(f"Without a matrix both must be equally wide, but {widths}: use the body S′.")
        self.standardise = nn.BatchNorm2d(guided, affine=False)

    def forward(self, guided: Tensor) -> Tensor:
        return self.standardise(guided)


REGRESSORS = {regressor.kind: regressor for regressor in (Regressor, RandomRegressor, NoRegressor)}

"""The networks: a wide teacher, and a thin and deeper student.

Each is a `ConvNet` of BN-SiLU-conv units in four blocks at 32, 16, 8 and 4 pixels. A block ends with the raw output of
a convolution: signed, unlike the output of an activation, and so a target that a linear regressor can reach.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdlib.errors import SettingError
from kdlib.streams import torch_seed

Widths = tuple[tuple[int, ...], ...]  # output channels of the convolutions, a tuple a block


@dataclass(frozen=True)
class Shape:
    """What a `ConvNet` is made of. Raises `SettingError` for another activation."""

    widths: Widths
    activation: Literal["SiLU", "ReLU"] = "SiLU"  # a module of torch.nn

    def __post_init__(self) -> None:
        if self.activation not in ("SiLU", "ReLU"):
            raise SettingError(f"activation must be SiLU or ReLU, not {self.activation!r}.")


# Of the teacher; of the student, S; and of S′, a student of the same size whose guided layer is as wide as the hint.
TEACHER = Shape(((24,), (64, 64), (160, 192, 128), (224, 220)))
STUDENT = Shape(((16,), (48, 48, 48), (64, 64, 64, 64), (64, 64, 80)))
WIDE = Shape(((16,), (52, 52, 52), (56, 56, 48, 128), (48, 56, 72)))

# The hint layer ends this block of the teacher, the guided layer the same block of the student; both are 8 × 8 pixels.
# Blocks count from 1.
GUIDED_BLOCK = 3


class ConvNet(nn.Module):
    """Convolutional classifier of 3-channel images, in blocks with a max-pool between them."""

    def __init__(self, shape: Shape, classes: int = 10):
        super().__init__()
        self.shape, widths, activation = shape, shape.widths, getattr(nn, shape.activation)
        self.rates = [1.0] * len(widths)  # as of `scale_rate`, one a block
        blocks, width_in = [], 3
        for number, block_widths in enumerate(widths):
            units: list[nn.Module] = [nn.MaxPool2d(2)] if number > 0 else []
            for place, width in enumerate(block_widths):
                if (number, place) != (0, 0):  # the image itself is already normalised, and needs all its values
                    units += [nn.BatchNorm2d(width_in), activation()]
                units.append(nn.Conv2d(width_in, width, 3, padding=1, bias=False))
                width_in = width
            blocks.append(nn.Sequential(*units))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(
            nn.BatchNorm2d(width_in), activation(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width_in, classes)
        )
        self.to(memory_format=torch.channels_last)

    @property
    def guided_width(self) -> int:
        """Channels of the hint or guided layer."""
        return self.shape.widths[GUIDED_BLOCK - 1][-1]

    def features(self, images: Tensor, through: int) -> Tensor:
        """Output of block ``through`` (from 1), and no layer behind it: (B, 3, 32, 32) → (B, C, H, W)."""
        for block in self.blocks[:through]:
            images = block(images)  # (B, the block's last width, half the height and width of the block before)
        return images

    def classify(self, features: Tensor, after: int) -> Tensor:
        """Logits from the output of block ``after``: (B, C, H, W) → (B, classes)."""
        for block in self.blocks[after:]:
            features = block(features)
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, 3, 32, 32) → (B, classes)."""
        return self.classify(images, after=0)

    def train(self, mode: bool = True) -> "ConvNet":
        """Like ``nn.Module.train``, but frozen blocks stay in evaluation mode: their statistics are fixed."""
        super().train(mode)
        for block, rate in zip(self.blocks, self.rates, strict=True):
            if rate == 0:
                block.eval()
        return self

    def groups(self, through: int | None = None) -> list[dict[str, Any]]:
        """The parameters that are trained, of blocks 1 to ``through`` or (None) of all layers, as optimiser groups."""
        groups = []
        for part, scale in [*zip(self.blocks, self.rates, strict=True), (self.head, 1.0)][:through]:
            for convolutions in (True, False):
                params = [value for value in part.parameters() if (value.ndim == 4) == convolutions]
                if params and scale > 0:
                    groups.append({"params": params, "scale": scale, "convolutions": convolutions})
        return groups


def teacher(seed: int = 0, shape: Shape = TEACHER) -> ConvNet:
    """The teacher: 1.35 M parameters, 8 convolutions; (seed, "teacher") decides its first weights."""
    return _seeded(shape, seed, "teacher")


def student(seed: int = 0, shape: Shape = STUDENT) -> ConvNet:
    """The student: 309 k parameters, 11 convolutions; thinner and deeper than the teacher.

    All students of the same seed and shape have the same first weights, so their differences are paired.
    """
    return _seeded(shape, seed, "student")


def _seeded(shape: Shape, seed: int, role: str) -> ConvNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, role))
        return ConvNet(shape)


def scale_rate(model: ConvNet, through: int, scale: float) -> None:
    """Train blocks 1 to ``through`` at ``scale`` times the learning rate: 1 fine-tunes them, 0 freezes them.

    Frozen blocks get no gradient, and their batch-norm statistics stay as they are. The FitNets authors' published code
    has the same option (``lr_scale``). Raises `SettingError`: no such block, or ``scale`` outside 0 to 1.
    """
    if through not in range(1, len(model.blocks) + 1):
        raise SettingError(f"There is no block {through}: choose one from 1 to {len(model.blocks)}.")
    if not 0 <= scale <= 1:
        raise SettingError(f"The scale of the guided layers' learning rate must lie between 0 and 1, not {scale}.")
    for number, block in enumerate(model.blocks[:through]):
        model.rates[number] = float(scale)
        block.requires_grad_(scale > 0)
    model.train(model.training)


def freeze(model: ConvNet, through: int) -> None:
    """Fix blocks 1 to ``through``: no gradient, and fixed batch-norm statistics. See `scale_rate`."""
    scale_rate(model, through, 0.0)


def count_parameters(model: nn.Module) -> int:
    """Number of parameters, trained or frozen."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiplications(model: ConvNet) -> int:
    """Multiplications of the convolutions and the linear layer to classify one image of 32 × 32 pixels."""
    layers = [(layer, 32 >> number) for number, block in enumerate(model.blocks) for layer in block]
    kernels = sum(layer.weight.numel() * size**2 for layer, size in layers if isinstance(layer, nn.Conv2d))
    return kernels + model.head[-1].weight.numel()

"""The networks: a wide teacher, and a thin and deeper student.

Each is a `ConvNet` of BN-ReLU-conv units in four stages at 32, 16, 8 and 4 pixels. A stage ends with the raw output of
a convolution: signed, unlike the output of a ReLU, and so a target that a linear regressor can reach.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from kdlib.checks import is_number
from kdlib.storage.runs import Run
from kdlib.streams import torch_seed

Widths = tuple[tuple[int, ...], ...]  # output channels of the convolutions, a tuple a stage

TEACHER_WIDTHS: Widths = ((32,), (64, 64), (128, 128, 128), (256, 272))
STUDENT_WIDTHS: Widths = ((16,), (48, 48, 48), (64, 64, 64, 64), (64, 64, 80))
WIDE_WIDTHS: Widths = ((16,), (48, 48, 48), (48, 48, 48, 128), (56, 64, 72))  # S′: guided layer as wide as the hint

# The hint layer ends this stage of the teacher, the guided layer the same stage of the student; both are 8 × 8 pixels.
# Stages count from 1.
GUIDED_STAGE = 3


class ConvNet(nn.Module):
    """Convolutional classifier of small images, in stages with a max-pool between them.

    Args:
        widths: output channels of each 3 × 3 convolution, one tuple a stage.
        classes: number of classes.
        channels: of the images.

    Attributes:
        rates: the learning-rate scale of each stage (see `scale_rate`); 1 until changed.
    """

    def __init__(self, widths: Widths, classes: int = 10, channels: int = 3):
        super().__init__()
        self.widths, self.classes, self.channels = widths, classes, channels
        stages, width_in = [], channels
        for number, stage_widths in enumerate(widths):
            units: list[nn.Module] = [nn.MaxPool2d(2)] if number > 0 else []
            for place, width in enumerate(stage_widths):
                if (number, place) != (0, 0):  # the image itself is already normalised, and must not be rectified
                    units += [nn.BatchNorm2d(width_in), nn.ReLU()]
                units.append(nn.Conv2d(width_in, width, 3, padding=1, bias=False))
                width_in = width
            stages.append(nn.Sequential(*units))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(
            nn.BatchNorm2d(width_in),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width_in, classes),
        )
        self.rates = [1.0] * len(widths)
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor, through: int) -> Tensor:
        """Output of stage ``through`` (from 1), and no layer behind it: (B, 3, 32, 32) → (B, C, H, W)."""
        for stage in self.stages[:through]:
            images = stage(images)  # (B, the stage's last width, half the height and width of the stage before)
        return images

    def classify(self, features: Tensor, after: int) -> Tensor:
        """Logits from the output of stage ``after``: (B, C, H, W) → (B, classes).

        With `features` before it, one forward pass gives both the output of a hidden layer and the logits.
        """
        for stage in self.stages[after:]:
            features = stage(features)
        return self.head(features)

    def forward(self, images: Tensor) -> Tensor:
        """Logits: (B, 3, 32, 32) → (B, classes)."""
        return self.classify(images, after=0)

    def train(self, mode: bool = True) -> "ConvNet":
        """Like ``nn.Module.train``, but frozen stages stay in evaluation mode: their statistics are fixed."""
        super().train(mode)
        for stage, rate in zip(self.stages, self.rates, strict=True):
            if rate == 0:
                stage.eval()
        return self

    def groups(self, through: int | None = None) -> list[dict[str, Any]]:
        """The trained parameters (of stages 1 to ``through``; None: of all layers) as optimiser groups.

        Each has its learning-rate ``scale``, and says whether its parameters are ``convolutions``; frozen ones are
        left out.
        """
        scales = [*zip(self.stages, self.rates, strict=True), (self.head, 1.0)][:through]
        return [
            {"params": params, "scale": scale, "convolutions": convolutions}
            for part, scale in scales
            for convolutions in (True, False)
            if (params := [value for value in part.parameters() if (value.ndim == 4) == convolutions]) and scale > 0
        ]


def teacher(seed: int = 0, classes: int = 10, channels: int = 3) -> ConvNet:
    """The teacher: 1.35 M parameters, 8 convolutions; (seed, "teacher") decides its first weights."""
    return _seeded(TEACHER_WIDTHS, classes, channels, seed, "teacher")


def student(seed: int = 0, classes: int = 10, channels: int = 3, widths: Widths | None = None) -> ConvNet:
    """The student: 309 k parameters, 11 convolutions; thinner and deeper than the teacher.

    All students of the same seed and widths have the same first weights, so their differences are paired.
    """
    return _seeded(widths or STUDENT_WIDTHS, classes, channels, seed, "student")


def _seeded(widths: Widths, classes: int, channels: int, seed: int, role: str) -> ConvNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, role))
        return ConvNet(widths, classes, channels)


def load(run: Run, device: torch.device | str = "cpu") -> ConvNet:
    """The trained network of a run, in evaluation mode, with the widths that its record names.

    Raises:
        NotTrained: its notebook has not been run; the message says which one.
        StorageError: the record or the weights are damaged.
    """
    record = run.record()
    network = record.identity
    model = ConvNet(tuple(map(tuple, network.widths)), network.classes, network.channels).to(device)
    run.load_weights({"model": model}, record)
    return model.eval()


def scale_rate(model: ConvNet, through: int, scale: float) -> None:
    """Train stages 1 to ``through`` at ``scale`` times the learning rate: 1 fine-tunes them, 0 freezes them.

    Frozen stages get no gradient, and their batch-norm statistics stay as they are. The FitNets authors' published code
    has the same option (``lr_scale``).

    Raises:
        ValueError: the network has no such stage, or ``scale`` lies outside 0 to 1.
    """
    check_stage(model, through)
    if not is_number(scale) or not 0 <= scale <= 1:
        raise ValueError(f"scale, of the guided layers' learning rate, must be a number from 0 to 1, not {scale!r}.")
    for number, stage in enumerate(model.stages[:through]):
        model.rates[number] = float(scale)
        stage.requires_grad_(scale > 0)
    model.train(model.training)


def freeze(model: ConvNet, through: int) -> None:
    """Fix stages 1 to ``through``: no gradient, and fixed batch-norm statistics. See `scale_rate`."""
    scale_rate(model, through, 0.0)


def check_stage(model: ConvNet, stage: int) -> None:
    """Raise ``ValueError`` with one sentence if the network has no such stage."""
    if not 1 <= stage <= len(model.stages):
        raise ValueError(f"There is no stage {stage}: choose one from 1 to {len(model.stages)}.")


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters (buffers are not parameters)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiplications(model: ConvNet, size: int = 32) -> int:
    """Multiplications to classify one image of ``size`` × ``size`` pixels: half the FLOPs that torch counts."""
    image = torch.zeros(1, model.channels, size, size, device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    model.train(was_training)
    return counter.get_total_flops() // 2

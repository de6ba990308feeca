"""The networks: a wide teacher, a thin and deeper student, and the regressor between them.

All are `ConvNet`s of BN-ReLU-conv units in four stages at 32, 16, 8 and 4 pixels. A stage ends with the
raw output of a convolution: signed, unlike what leaves a ReLU, and so a target that a linear regressor
can reach.
"""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# Widths of the convolutions, a tuple a stage.
TEACHER_WIDTHS = ((32,), (64, 64), (128, 128, 128), (256, 272))
STUDENT_WIDTHS = ((16,), (40, 40, 40), (64, 64, 64, 64), (72, 72, 72))

# The hint layer is the end of this stage of the teacher, the guided layer the end of the same stage of
# the student; both are 8 × 8 pixels. Stages count from 1.
GUIDED_STAGE = 3


class ConvNet(nn.Module):
    """Convolutional classifier for 3 × 32 × 32 images, in stages with a max-pool between them.

    Args:
        widths: output channels of each 3 × 3 convolution, one tuple a stage.
        classes: number of classes.
    """

    def __init__(self, widths: tuple[tuple[int, ...], ...], classes: int = 10):
        super().__init__()
        stages, channels = [], 3
        for number, stage_widths in enumerate(widths, start=1):
            units: list[nn.Module] = [nn.MaxPool2d(2)] if number > 1 else []
            for width in stage_widths:
                if channels > 3:  # the image itself is already normalised, and must not be rectified
                    units += [nn.BatchNorm2d(channels), nn.ReLU()]
                units.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
                channels = width
            stages.append(nn.Sequential(*units))
        self.stages = nn.ModuleList(stages)
        self.head = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, classes),
        )
        self.frozen_stages = 0
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor, through: int) -> Tensor:
        """Output of stage ``through`` (1 to 4), and nothing behind it: (B, 3, 32, 32) → (B, C, H, W)."""
        for stage in self.stages[:through]:
            images = stage(images)
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Class scores (logits): (B, 3, 32, 32) → (B, classes)."""
        return self.head(self.features(images, through=len(self.stages)))

    def train(self, mode: bool = True) -> "ConvNet":
        """Like ``nn.Module.train``, but frozen stages stay in evaluation mode: their statistics are fixed."""
        super().train(mode)
        for stage in self.stages[: self.frozen_stages]:
            stage.eval()
        return self


def teacher(seed: int = 0) -> ConvNet:
    """The teacher: 1.35 M parameters, 8 convolutions; ``seed`` decides its first weights."""
    return _seeded(TEACHER_WIDTHS, seed)


def student(seed: int = 0) -> ConvNet:
    """The student: 305 k parameters, 11 convolutions; thinner and deeper than the teacher.

    All students of a seed start from the same weights, so that their differences are due to the method.
    """
    return _seeded(STUDENT_WIDTHS, seed)


def _seeded(widths: tuple[tuple[int, ...], ...], seed: int) -> ConvNet:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ConvNet(widths)


class Regressor(nn.Module):
    """The extra matrix: a 1 × 1 convolution from the guided layer's width to the hint layer's.

    It predicts the hint standardised per channel, with the teacher's mean and standard deviation over
    training images, which are kept with it. Without that the hint loss is dominated by the few channels
    that vary most, and its value says nothing by itself.

    Args:
        student, teacher: the two networks; their stage ``stage`` is the guided and the hint layer.
        images: (N, 3, 32, 32) normalised training images on the networks' device, for the statistics.
        stage: 1 to 4.
        seed: decides the first weights of the matrix.
    """

    def __init__(self, student: ConvNet, teacher: ConvNet, images: Tensor, stage: int = GUIDED_STAGE, seed: int = 0):
        super().__init__()
        self.stage = stage
        with torch.no_grad():
            teacher.eval()
            hints = torch.cat([teacher.features(part, through=stage) for part in images.split(256)])
            guided_width = student.stages[stage - 1][-1].out_channels
        self.register_buffer("hint_mean", hints.mean((0, 2, 3)))
        self.register_buffer("hint_std", hints.std((0, 2, 3)).clamp_min(1e-5))  # a dead channel never varies
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.conv = nn.Conv2d(guided_width, hints.shape[1], 1)
        self.to(images.device, memory_format=torch.channels_last)

    def standardise(self, hint: Tensor) -> Tensor:
        """Each channel of the hint with mean 0 and standard deviation 1: (B, C, H, W) → the same."""
        return (hint - self.hint_mean[:, None, None]) / self.hint_std[:, None, None]

    def forward(self, guided: Tensor) -> Tensor:
        """Prediction of the standardised hint: (B, student's C, H, W) → (B, teacher's C, H, W)."""
        return self.conv(guided)


def freeze(model: ConvNet, through: int) -> None:
    """Fix stages 1 to ``through``: they get no gradient, and their batch-norm statistics stay as they are."""
    model.frozen_stages = through
    for stage in model.stages[:through]:
        stage.requires_grad_(False)
    model.train(model.training)


def count_parameters(model: nn.Module) -> int:
    """Number of trainable and frozen parameters (buffers are not parameters)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiplications(model: ConvNet) -> int:
    """Multiplications to classify one image, in convolutions and the linear layer (half the FLOPs counted)."""
    image = torch.zeros(1, 3, 32, 32, device=next(model.parameters()).device)
    was_training = model.training
    model.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image)
    model.train(was_training)
    return counter.get_total_flops() // 2

"""What one training stage optimises: `Classify`, `Distill`, `Hint`.

An objective names the modules it works on, and turns a batch into named losses, of which ``"total"`` is
minimised. `training.fit` knows no more about a method than that. To try another one, write a class with

    modules       {name: module}, what is trained and saved
    teacher       the network it learns from, or None
    settings      {name: number}, what the record says of it besides the schedule
    target(...)   what the teacher says of a batch, computed without gradients
    keep_targets  whether targets are small enough to be kept for the next student (see `answers`)
    losses(...)   ({name: scalar}, logits or None)
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from kdlib import losses, profiles
from kdlib.models import ConvNet, Regressor


class Objective(Protocol):
    """What `training.fit` needs to know of a training stage."""

    modules: Mapping[str, nn.Module]
    teacher: ConvNet | None
    settings: Mapping[str, float]
    keep_targets: bool

    def target(self, images: Tensor) -> Tensor | None:
        """What the teacher says of ``images`` (B, 3, 32, 32), without gradients; None without a teacher."""
        ...

    def losses(self, images: Tensor, labels: Tensor, target: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """Named scalar losses of a batch, ``"total"`` among them, and the class scores (B, classes), if any."""
        ...


class Classify:
    """Training on the labels alone: the teacher and the baseline."""

    teacher = None
    keep_targets = False

    def __init__(self, model: ConvNet):
        self.model = model
        self.modules = {"model": model}
        self.settings: dict[str, float] = {}

    def target(self, images: Tensor) -> None:
        return None

    def losses(self, images: Tensor, labels: Tensor, target: None) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.model(images)
        return {"total": losses.hard(logits, labels)}, logits


class Distill:
    """Knowledge distillation: the teacher's softened answers and the labels together.

    Layers of the student that were frozen before (`models.freeze`) get no gradient and need no backward pass.

    Args:
        teacher: the trained teacher; never changed.
        student: the network that learns.
        temperature: T > 0.
        alpha: weight of the soft loss, 0 to 1.

    Raises:
        ValueError: temperature or alpha out of range.
    """

    keep_targets = True

    def __init__(self, teacher: ConvNet, student: ConvNet, temperature: float, alpha: float):
        profiles.check_distillation(temperature, alpha)
        self.teacher, self.student = teacher.requires_grad_(False).eval(), student
        self.temperature, self.alpha = temperature, alpha
        self.modules = {"model": student}
        self.settings = {"temperature": temperature, "alpha": alpha, "frozen_stages": student.frozen_stages}

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.student(images)
        soft = losses.soft(logits, target, self.temperature)
        hard = losses.hard(logits, labels)
        return {"soft": soft, "hard": hard, "total": losses.total(soft, hard, self.alpha)}, logits


class Hint:
    """Stage one of FitNets: the student's front learns to predict the teacher's hint through the regressor.

    Neither network runs a layer behind its hint or guided layer. Beside the loss it reports the hint's
    own mean square, from which the explained variance follows: R² = 1 − total / power.

    Args:
        teacher: the trained teacher; never changed.
        student: the network whose layers up to the guided one learn.
        regressor: made for these two networks; says which stage is guided.
    """

    keep_targets = False

    def __init__(self, teacher: ConvNet, student: ConvNet, regressor: Regressor):
        self.teacher, self.student, self.regressor = teacher.requires_grad_(False).eval(), student, regressor
        self.modules = {"model": student, "regressor": regressor}
        self.settings = {"guided_stage": regressor.stage}

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.regressor.standardise(self.teacher.features(images, through=self.regressor.stage))

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[dict[str, Tensor], None]:
        guided = self.student.features(images, through=self.regressor.stage)
        return {
            "total": losses.hint(self.regressor(guided), target),
            "power": target.float().square().mean(),
        }, None

"""What one training stage optimises: `Classify`, `Distill`, `Hint`, `Joint`.

An objective names the modules it works on, gives their parameters in groups, and turns a batch into named losses, of
which ``"total"`` is minimised; `training.fit` knows nothing else of a method. To try another one, write a class that
fits `Objective`.
"""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdlib import checks, losses
from kdlib.models import ConvNet
from kdlib.regressors import Regressor

Losses = dict[str, Tensor]  # named scalars, "total" among them

# Scale of the regressor's learning rate. The hint loss is a mean over many channels, so its gradient is small; and the
# regressor's updates are as large as their gradient, unlike those of convolutions. `selection` shows the effect.
REGRESSOR_RATE = 16.0


class Objective(Protocol):
    """What `training.fit` needs to know of a training stage.

    Attributes:
        modules: {name: module}, what is trained and saved; the network is called "model".
        teacher: the network it learns from, or None.
        cache_targets: whether targets are small enough to be cached for the next student (see `storage.logits`).
    """

    modules: Mapping[str, nn.Module]
    teacher: ConvNet | None
    cache_targets: bool

    def settings(self) -> dict[str, Any]:
        """What the run's identity holds of it, as it is now; plain numbers, texts and lists."""
        ...

    def groups(self) -> list[dict[str, Any]]:
        """The trained parameters: "params", and the "scale" of their learning rate."""
        ...

    def target(self, images: Tensor) -> Any:
        """What the teacher makes of ``images`` (B, 3, 32, 32), without gradients; None without a teacher."""
        ...

    def losses(self, images: Tensor, labels: Tensor, target: Any) -> tuple[Losses, Tensor | None]:
        """The losses of a batch, and its logits (B, classes), if any."""
        ...


class Classify:
    """Training on the labels alone: the teacher and the baseline."""

    teacher = None
    cache_targets = False

    def __init__(self, model: ConvNet):
        self.model = model
        self.modules = {"model": model}

    def settings(self) -> dict[str, Any]:
        return {"name": "Classify", "rates": list(self.model.rates)}

    def groups(self) -> list[dict[str, Any]]:
        return self.model.groups()

    def target(self, images: Tensor) -> None:
        return None

    def losses(self, images: Tensor, labels: Tensor, target: None) -> tuple[Losses, Tensor]:
        logits = self.model(images)  # (B, classes)
        return {"total": losses.hard(logits, labels)}, logits


class Distill:
    """Knowledge distillation: the teacher's softened logits and the labels together (Hinton et al., 2015).

    Layers of the student that are frozen (`models.freeze`) get no gradient and need no backward pass.

    Args:
        teacher: the trained teacher; never changed.
        student: the network that learns.
        temperature: T > 0.
        alpha: weight of the soft loss, 0 to 1.

    Raises:
        ValueError: temperature or alpha out of range.
    """

    cache_targets = True

    def __init__(self, teacher: ConvNet, student: ConvNet, temperature: float, alpha: float):
        checks.check_distillation(temperature, alpha)
        self.teacher, self.student = teacher.requires_grad_(False).eval(), student
        self.temperature, self.alpha = temperature, alpha
        self.modules = {"model": student}

    def settings(self) -> dict[str, Any]:
        return {
            "name": "Distill",
            "rates": list(self.student.rates),
            "temperature": float(self.temperature),
            "alpha": float(self.alpha),
        }

    def groups(self) -> list[dict[str, Any]]:
        return self.student.groups()

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[Losses, Tensor]:
        logits = self.student(images)  # (B, classes)
        soft = losses.soft(logits, target, self.temperature)
        hard = losses.hard(logits, labels)
        return {"soft": soft, "hard": hard, "total": losses.total(soft, hard, self.alpha)}, logits


class Hint:
    """Stage one of FitNets: the student's front learns to predict the teacher's hint through the regressor.

    Romero et al. (2015), section 2.2. Neither network runs a layer behind its hint or guided layer. Beside the loss it
    gives the hint's own mean square, from which the explained variance follows: R² = 1 − total / power.

    Args:
        teacher: the trained teacher; never changed.
        student: the network whose layers up to the guided one learn.
        regressor: made for these two networks; names the guided stage.
        regressor_rate: scale of its learning rate.
    """

    cache_targets = False

    def __init__(
        self, teacher: ConvNet, student: ConvNet, regressor: Regressor, regressor_rate: float = REGRESSOR_RATE
    ):
        self.teacher, self.student, self.regressor = teacher.requires_grad_(False).eval(), student, regressor
        self.regressor_rate = regressor_rate
        self.modules = {"model": student, "regressor": regressor}

    def settings(self) -> dict[str, Any]:
        return {
            "name": "Hint",
            "rates": list(self.student.rates),
            "regressor": self.regressor.kind,
            "regressor_rate": self.regressor_rate,
            "guided_stage": self.regressor.stage,
        }

    def groups(self) -> list[dict[str, Any]]:
        return [*self.student.groups(through=self.regressor.stage), *self.regressor_groups()]

    def regressor_groups(self) -> list[dict[str, Any]]:
        """Of the regressor alone: a group, or none where it has nothing to learn."""
        learned = [parameter for parameter in self.regressor.parameters() if parameter.requires_grad]
        return [{"params": learned, "scale": self.regressor_rate}] if learned else []

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.regressor.target(self.teacher.features(images, through=self.regressor.stage))  # (B, C, H, W)

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[Losses, None]:
        guided = self.student.features(images, through=self.regressor.stage)  # (B, student's C, H, W)
        loss = losses.hint(self.regressor(guided), target)
        return {"total": loss, "power": target.float().square().mean()}, None


class Joint:
    """Hint and distillation in a single stage, as many re-implementations of FitNets have it.

    total = α · soft + (1 − α) · hard + weight · hint. The paper trains in two stages: `Hint`, then `Distill`.

    Args:
        teacher: the trained teacher; never changed.
        student: the network that learns.
        regressor: made for these two networks; names the guided stage.
        weight: of the hint loss, 0 or more.
        temperature, alpha: as of `Distill`; with alpha 0 the student learns from hint and labels alone.

    Raises:
        ValueError: weight, temperature or alpha out of range.
    """

    cache_targets = False

    def __init__(
        self, teacher: ConvNet, student: ConvNet, regressor: Regressor, weight: float, temperature: float, alpha: float
    ):
        checks.check_distillation(temperature, alpha)
        if not checks.is_number(weight) or not 0 <= weight < math.inf:
            raise ValueError(f"weight, of the hint loss, must be a number from 0, not {weight!r}.")
        self.hint = Hint(teacher, student, regressor)
        self.teacher, self.student, self.regressor = self.hint.teacher, student, regressor
        self.weight, self.temperature, self.alpha = weight, temperature, alpha
        self.modules = self.hint.modules

    def settings(self) -> dict[str, Any]:
        own = {"name": "Joint", "weight": float(self.weight)}
        return self.hint.settings() | own | {"temperature": float(self.temperature), "alpha": float(self.alpha)}

    def groups(self) -> list[dict[str, Any]]:
        return [*self.student.groups(), *self.hint.regressor_groups()]

    @torch.no_grad()
    def target(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """The regressor's target (B, C, H, W), and the teacher's logits (B, classes) unless alpha is 0."""
        hint = self.teacher.features(images, through=self.regressor.stage)
        logits = self.teacher.classify(hint, after=self.regressor.stage) if self.alpha > 0 else None
        return self.regressor.target(hint), logits

    def losses(self, images: Tensor, labels: Tensor, target: tuple[Tensor, Tensor | None]) -> tuple[Losses, Tensor]:
        hint, teacher_logits = target
        guided = self.student.features(images, through=self.regressor.stage)  # (B, student's C, H, W)
        logits = self.student.classify(guided, after=self.regressor.stage)  # (B, classes)
        values = {"hint": losses.hint(self.regressor(guided), hint), "hard": losses.hard(logits, labels)}
        classification = values["hard"]
        if teacher_logits is not None:
            values["soft"] = losses.soft(logits, teacher_logits, self.temperature)
            classification = losses.total(values["soft"], values["hard"], self.alpha)
        return values | {"total": classification + self.weight * values["hint"]}, logits

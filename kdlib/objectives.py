"""The losses, and what a training optimises: `Classify`, `Distill`, `Hint`, `Joint`.

A loss is a pure function of tensors and returns a scalar, the mean over the batch. An objective names the modules it
works on, gives their parameters in groups, and turns a batch into named losses, of which ``"total"`` is minimised;
`training.fit` knows nothing else of a method. To try another one, write another `Objective`.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdlib.errors import SettingError
from kdlib.models import GUIDED_BLOCK, ConvNet
from kdlib.regressors import Regressor

Losses = dict[str, Tensor]  # named scalars, "total" among them

# Scale of the regressor's learning rate. The hint loss is a mean over many channels, so its gradient is small; and the
# regressor's updates are as large as their gradient, unlike those of convolutions.
REGRESSOR_RATE = 16.0


def hard_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (nats) of logits (B, classes) with the true labels (B,), int64."""
    return F.cross_entropy(logits.float(), labels)


def soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student), both softened by the temperature ``T`` (nats).

    T² keeps the gradient's size the same when T changes. Hinton, Vinyals and Dean,
    *Distilling the Knowledge in a Neural Network* (2015), section 2.1, https://arxiv.org/abs/1503.02531.

    Logits are (B, classes), T > 0.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)  # (B, classes)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)  # (B, classes)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def total_loss(soft: Tensor, hard: Tensor, alpha: float) -> Tensor:
    """α · soft + (1 − α) · hard, with 0 ≤ α ≤ 1: α weighs the soft loss (in some libraries the hard one)."""
    return alpha * soft + (1 - alpha) * hard


def hint_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between the regressor's output and the (standardised) hint, (B, C, H, W), over all elements.

    Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), equation 3, https://arxiv.org/abs/1412.6550, as a mean
    instead of half a sum, so that its value does not depend on the layer's size.
    """
    return F.mse_loss(prediction.float(), target.float())


def check_distillation(temperature: float, alpha: float) -> None:
    """Raise `SettingError` unless temperature > 0 and 0 ≤ alpha ≤ 1."""
    if not 0 < temperature < math.inf:
        raise SettingError(f"temperature must be a number above 0, not {temperature}.")
    if not 0 <= alpha <= 1:
        raise SettingError(f"alpha, the weight of the soft loss, must be a number from 0 to 1, not {alpha}.")


class Objective:
    """What `training.fit` needs to know of a training."""

    modules: Mapping[str, nn.Module]  # what is trained and saved; the network is called "model"
    teacher: ConvNet | None = None  # the network it learns from
    cache_targets = False  # whether targets are small enough to be cached for the next student (see `storage.logits`)

    def settings(self) -> dict[str, Any]:
        """What the run's identity holds of it, as it is now; plain numbers, texts and lists."""
        return {"name": type(self).__name__, "rates": list(self.modules["model"].rates)}

    def groups(self) -> list[dict[str, Any]]:
        """The trained parameters: "params", the "scale" of their learning rate, and whether they are "convolutions"."""
        return self.modules["model"].groups()

    def target(self, images: Tensor) -> Any:
        """What the teacher makes of ``images`` (B, 3, 32, 32), without gradients."""

    def losses(self, images: Tensor, labels: Tensor, target: Any) -> tuple[Losses, Tensor | None]:
        """The losses of a batch, and its logits (B, classes), if any."""
        raise NotImplementedError


class Classify(Objective):
    """Training on the labels alone: the teacher and the baseline."""

    def __init__(self, model: ConvNet):
        self.model, self.modules = model, {"model": model}

    def losses(self, images: Tensor, labels: Tensor, target: None) -> tuple[Losses, Tensor]:
        logits = self.model(images)  # (B, classes)
        return {"total": hard_loss(logits, labels)}, logits


class Distill(Objective):
    """Knowledge distillation: the teacher's softened logits and the labels together (Hinton et al., 2015).

    The trained teacher is never changed. Frozen layers of the student (`models.freeze`) need no backward pass.
    Raises `SettingError` unless temperature T > 0 and alpha, the weight of the soft loss, lies between 0 and 1.
    """

    cache_targets = True

    def __init__(self, teacher: ConvNet, student: ConvNet, temperature: float, alpha: float):
        check_distillation(temperature, alpha)
        self.teacher, self.student = teacher.requires_grad_(False).eval(), student
        self.temperature, self.alpha = float(temperature), float(alpha)
        self.modules = {"model": student}

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"temperature": self.temperature, "alpha": self.alpha}

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.teacher(images)

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[Losses, Tensor]:
        logits = self.student(images)  # (B, classes)
        soft, hard = soft_loss(logits, target, self.temperature), hard_loss(logits, labels)
        return {"soft": soft, "hard": hard, "total": total_loss(soft, hard, self.alpha)}, logits


class Hint(Objective):
    """Stage one of FitNets: the student's front learns to predict the teacher's hint through the regressor.

    Romero et al. (2015), section 2.2. Neither network runs a layer behind its hint or guided layer. Beside the loss it
    gives the hint's own mean square, from which the explained variance follows: R² = 1 − total / power. The regressor
    is one made for these two networks; the trained teacher is never changed.
    """

    def __init__(self, teacher: ConvNet, student: ConvNet, regressor: Regressor):
        self.teacher, self.student, self.regressor = teacher.requires_grad_(False).eval(), student, regressor
        self.modules = {"model": student, "regressor": regressor}

    def settings(self) -> dict[str, Any]:
        own = {"regressor": self.regressor.kind, "regressor_rate": REGRESSOR_RATE, "sampled": self.regressor.sampled}
        return super().settings() | own

    def groups(self) -> list[dict[str, Any]]:
        return [*self.student.groups(through=GUIDED_BLOCK), *self._regressor_groups()]

    def _regressor_groups(self) -> list[dict[str, Any]]:
        learned = [parameter for parameter in self.regressor.parameters() if parameter.requires_grad]
        return [{"params": learned, "scale": REGRESSOR_RATE}] if learned else []

    @torch.no_grad()
    def target(self, images: Tensor) -> Tensor:
        return self.regressor.target(self.teacher.features(images, through=GUIDED_BLOCK))  # (B, C, H, W)

    def losses(self, images: Tensor, labels: Tensor, target: Tensor) -> tuple[Losses, None]:
        guided = self.student.features(images, through=GUIDED_BLOCK)  # (B, student's C, H, W)
        loss = hint_loss(self.regressor(guided), target)
        return {"total": loss, "power": target.float().square().mean()}, None


class Joint(Hint):
    """Hint and distillation in a single stage, as many re-implementations of FitNets have it.

    total = α · soft + (1 − α) · hard + weight · hint. The paper trains in two stages: `Hint`, then `Distill`; here the
    whole student learns. Raises `SettingError`: a number is out of range.
    """

    def __init__(
        self, teacher: ConvNet, student: ConvNet, regressor: Regressor, weight: float, temperature: float, alpha: float
    ):
        super().__init__(teacher, student, regressor)
        check_distillation(temperature, alpha)
        if not 0 <= weight < math.inf:
            raise SettingError(f"weight, of the hint loss, must be a number from 0, not {weight}.")
        self.weight, self.temperature, self.alpha = float(weight), float(temperature), float(alpha)

    def settings(self) -> dict[str, Any]:
        own = {"weight": self.weight, "temperature": self.temperature, "alpha": self.alpha}
        return super().settings() | own

    def groups(self) -> list[dict[str, Any]]:
        return [*self.student.groups(), *self._regressor_groups()]

    @torch.no_grad()
    def target(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The regressor's target (B, C, H, W), and the teacher's logits (B, classes)."""
        hint = self.teacher.features(images, through=GUIDED_BLOCK)
        return self.regressor.target(hint), self.teacher.classify(hint, after=GUIDED_BLOCK)

    def losses(self, images: Tensor, labels: Tensor, target: tuple[Tensor, Tensor]) -> tuple[Losses, Tensor]:
        guided = self.student.features(images, through=GUIDED_BLOCK)  # (B, student's C, H, W)
        logits = self.student.classify(guided, after=GUIDED_BLOCK)  # (B, classes)
        hint, hard = hint_loss(self.regressor(guided), target[0]), hard_loss(logits, labels)
        soft = soft_loss(logits, target[1], self.temperature)
        total = total_loss(soft, hard, self.alpha) + self.weight * hint
        return {"hint": hint, "soft": soft, "hard": hard, "total": total}, logits

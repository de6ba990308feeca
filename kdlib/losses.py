"""The losses, as pure functions of tensors. Each returns a scalar, the mean over the batch."""

import torch.nn.functional as F
from torch import Tensor


def hard(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy (nats) of logits with the true labels.

    Args:
        logits: (B, classes) logits.
        labels: (B,) class numbers, int64.
    """
    return F.cross_entropy(logits.float(), labels)


def soft(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student), both softened by the temperature ``T`` (nats).

    T² keeps the gradient's size the same when T changes. Hinton, Vinyals and Dean,
    *Distilling the Knowledge in a Neural Network* (2015), section 2.1, https://arxiv.org/abs/1503.02531.

    Args:
        student_logits, teacher_logits: (B, classes) logits.
        temperature: T > 0.
    """
    student = F.log_softmax(student_logits.float() / temperature, dim=1)  # (B, classes)
    teacher = F.log_softmax(teacher_logits.float() / temperature, dim=1)  # (B, classes)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def total(soft_loss: Tensor, hard_loss: Tensor, alpha: float) -> Tensor:
    """α · soft + (1 − α) · hard, with 0 ≤ α ≤ 1: α weighs the soft loss (in some libraries the hard one)."""
    return alpha * soft_loss + (1 - alpha) * hard_loss


def hint(prediction: Tensor, target: Tensor) -> Tensor:
    """Mean squared error between the regressor's output and the (standardised) hint, over all elements.

    Romero et al., *FitNets: Hints for Thin Deep Nets* (2015), equation 3, https://arxiv.org/abs/1412.6550, as a mean
    instead of half a sum, so that its value does not depend on the layer's size.

    Args:
        prediction, target: (B, C, H, W).
    """
    return F.mse_loss(prediction.float(), target.float())

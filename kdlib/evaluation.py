"""`evaluate`: losses and accuracy on the test split."""

from pathlib import Path

import torch
from torch import Tensor

from kdlib import hardware
from kdlib.datasets import Data
from kdlib.objectives import Objective
from kdlib.storage.logits import with_targets


@torch.no_grad()
@hardware.true_float32()
def evaluate(
    objective: Objective, data: Data, cached: Path | None = None, precision: str = "float32"
) -> tuple[dict[str, float], Tensor | None]:
    """Losses and accuracy of ``objective`` on the test split, in evaluation mode.

    Args:
        objective, data: what to test, and on what.
        cached: the folder where to read, or else store, the teacher's logits of the test images (`storage.logits`).
        precision: "float32", by which all machines find the same up to rounding, or "bfloat16".

    Returns:
        {loss name: mean; "accuracy": percent, of a classifier}, and the logits (N, classes), if any.

    Raises:
        StorageError: the teacher's logits cannot be stored.
    """
    for module in objective.modules.values():
        module.eval()
    sums: dict[str, Tensor] = {}
    outputs = []
    with hardware.autocast(data.device, precision):
        batches = with_targets(data.test_batches(), objective.target, cached, f"test-{precision}")
        for images, labels, target in batches:
            values, logits = objective.losses(images, labels, target)
            for name, value in values.items():
                sums[name] = sums.get(name, 0) + value * len(labels)
            if logits is not None:
                outputs.append(logits.float())
    metrics = {name: float(value) / len(data.test_labels) for name, value in sums.items()}
    if not outputs:
        return metrics, None
    logits = torch.cat(outputs)
    metrics["accuracy"] = 100 * int((logits.argmax(1) == data.test_labels).sum()) / len(data.test_labels)
    return metrics, logits

"""How sure a classifier is, beside how often it is right."""

import torch
from torch import Tensor

BINS = 15  # of confidence, equally wide


def confidence_bins(logits: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """Confidence bins of logits (N, classes) with labels (N,), as a `Record` holds them."""
    confidence, predicted = logits.softmax(1).max(1)
    correct = (predicted == labels).float()
    bins = (confidence * BINS).long().clamp(max=BINS - 1)
    count = torch.zeros(BINS, device=logits.device).index_add(0, bins, torch.ones_like(correct))
    sums = {"confidence": confidence, "correct": correct}
    means = {name: count.new_zeros(BINS).index_add(0, bins, value) for name, value in sums.items()}
    return {"count": count.tolist()} | {name: (value / count.clamp_min(1)).tolist() for name, value in means.items()}

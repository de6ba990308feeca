"""How much alike two networks represent the same images."""

import torch
from torch import Tensor

from kdlib.models import ConvNet


@torch.no_grad()
def linear_cka(first: Tensor, second: Tensor) -> float:
    """Linear centred kernel alignment, 0 to 1, of two layers' outputs (N, C₁, H, W) and (N, C₂, H, W).

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖), where the rows of X and Y are the pixels of all images, with mean 0 in each channel. It is
    blind to rotations and to the scale of either layer. Kornblith et al., *Similarity of Neural Network Representations
    Revisited* (2019), equation 4, https://arxiv.org/abs/1905.00414.
    """
    # In float64, which Apple's GPUs lack.
    x, y = (layer.permute(0, 2, 3, 1).flatten(0, 2).cpu().double() for layer in (first, second))  # (N · H · W, C)
    x, y = x - x.mean(0), y - y.mean(0)
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


@torch.no_grad()
def by_stage(first: ConvNet, second: ConvNet, images: Tensor) -> list[float]:
    """`linear_cka` of images (N, C, S, S) between the outputs of each stage that both networks have.

    The networks are left in evaluation mode.
    """
    first.eval()
    second.eval()
    values, outputs = [], (images, images)
    for stages in zip(first.stages, second.stages, strict=False):
        outputs = tuple(stage(output) for stage, output in zip(stages, outputs, strict=True))
        values.append(linear_cka(*outputs))
    return values

"""The teacher's logits, cached for the next student.

All stage-two students of a seed see the same batches, so the teacher's logits are the same for each of them. The first
student to be distilled computes and stores them, one small file an epoch; the others read them, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from kdlib.errors import StorageError
from kdlib.storage import files


def with_targets(
    batches: Iterable[tuple[Tensor, Tensor]], target: Callable[[Tensor], Tensor | None], cached: Path | None, part: str
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Yield images, labels and what ``target`` gives for the images.

    If a folder is given, that is logits (B, classes), read from there or else computed and stored; ``part`` names the
    batches, e.g. an epoch. Raises `StorageError` if they cannot be stored.
    """
    path = cached and cached / f"{part}.safetensors"
    try:
        stored = files.read_tensors(path)[0]["logits"] if path else None
    except (FileNotFoundError, StorageError):
        stored = None
    computed, start = [], 0
    for images, labels in batches:
        if stored is None:
            values = target(images)
            if path:  # hints, which are not stored, would fill the memory within an epoch
                computed.append(values)
        else:
            values = stored[start : start + len(labels)].to(images.device)
            start += len(labels)
        yield images, labels, values
    if computed:
        files.write_tensors(path, {"logits": torch.cat(computed)}, {})

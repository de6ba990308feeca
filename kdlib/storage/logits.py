"""The teacher's logits, cached for the next student.

All stage-two students of a seed see the same batches, so the teacher's logits are the same for each of them. The first
student to be distilled computes and stores them, one small file an epoch; the others read them, bit for bit.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib.storage import files

Batches = Iterable[tuple[Tensor, Tensor]]


class CachedLogits:
    """The logits of one teacher for one stream of batches, in a folder of their own below ``folder``.

    ``depends`` is all that decides them, as values with a ``repr``: other values have another cache.
    """

    def __init__(self, folder: Path, **depends: Any):
        self.folder = folder / files.digest({}, {key: repr(value) for key, value in depends.items()})[:16]

    def attach(
        self, batches: Batches, compute: Callable[[Tensor], Tensor], part: str
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield images, labels and the teacher's logits (B, classes), read from the cache or computed and stored.

        ``compute`` gives the logits of images, ``part`` names the batches, e.g. an epoch. Raises ``StorageError`` if
        the logits cannot be stored.
        """
        path = self.folder / f"{part}.safetensors"
        try:
            cached = files.read_tensors(path)[0]["logits"]
        except (FileNotFoundError, files.StorageError):
            cached = None
        computed, start = [], 0
        for images, labels in batches:
            if cached is None:
                logits = compute(images)
                computed.append(logits)
            else:
                logits = cached[start : start + len(labels)].to(images.device)
                start += len(labels)
            yield images, labels, logits
        if computed:
            files.write_tensors(path, {"logits": torch.cat(computed)}, {})

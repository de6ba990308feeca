"""What a teacher said, kept for the next student.

All students of a seed see the same images, augmented alike, in the same order; so the teacher says the same
to each of them. The first student to be distilled asks the teacher and keeps the answers, one small file an
epoch; the others read them, and get the same bits without running the teacher.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kdlib import storage


class Answers:
    """The answers of one teacher to one stream of batches.

    Args:
        folder: where the answers of all teachers are kept.
        **asked: everything the answers depend on, as JSON-able values; other values, other answers.
    """

    def __init__(self, folder: Path, **asked: Any):
        self.folder = folder / storage.digest({}, {key: repr(value) for key, value in asked.items()})[:16]

    def load(self, part: str) -> list[Tensor] | None:
        """The kept answers to ``part``, e.g. an epoch: (B, classes) for each batch. None if they are not there."""
        try:
            tensors, _ = storage.read_tensors(self._path(part))
        except (FileNotFoundError, storage.StorageError):
            return None
        return list(tensors["answers"].split(int(tensors["batch_size"])))

    def save(self, part: str, answers: list[Tensor]) -> None:
        """Keep the answers to the batches of ``part``. Raises ``StorageError`` when that is impossible."""
        tensors = {"answers": torch.cat(answers), "batch_size": torch.tensor(len(answers[0]))}
        storage.write_tensors(self._path(part), tensors, {})

    def _path(self, part: str) -> Path:
        return self.folder / f"{part}.safetensors"

"""A training that was interrupted goes on from here: one file an epoch, of which the last two are kept."""

import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from kdlib.storage import files
from kdlib.storage.files import StorageError
from kdlib.storage.records import Identity

FORMAT = 2
KEPT = 2  # checkpoints: should the newest be damaged, the one before it serves


@dataclass(frozen=True)
class Checkpoint:
    """The state after ``epoch`` epochs: tensors by name, the curves so far, and the identity of the run."""

    epoch: int
    tensors: Mapping[str, Tensor]
    history: dict[str, Any]
    identity: Identity
    path: Path


def path_of(folder: Path, epoch: int) -> Path:
    """The file of the checkpoint after ``epoch`` epochs."""
    return folder / f"epoch{epoch:04d}.safetensors"


def save(folder: Path, epoch: int, tensors: Mapping[str, Tensor], history: Mapping, identity: Identity) -> None:
    """Write a checkpoint and drop the one that is no longer needed. Raises ``StorageError``: the disk is full."""
    metadata = {"history": json.dumps(history), "identity": identity.model_dump_json()}
    files.write_tensors(path_of(folder, epoch), tensors, {"format": str(FORMAT), "epoch": str(epoch), **metadata})
    path_of(folder, epoch - KEPT).unlink(missing_ok=True)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole, if any. Raises ``StorageError`` if it is of another format."""
    for path in sorted(folder.glob("epoch*.safetensors"), reverse=True):
        try:
            tensors, metadata = files.read_tensors(path)
        except StorageError:
            print(f"{path} is damaged: trying the checkpoint before it.", file=sys.stderr)
            continue
        if metadata.get("format") != str(FORMAT):
            other = f"{path} has checkpoint format {metadata.get('format')}, this kdlib reads {FORMAT}"
            raise StorageError(f"{other}: update kdlib, or delete the file to start again.")
        identity = Identity.model_validate_json(metadata["identity"])
        return Checkpoint(int(metadata["epoch"]), tensors, json.loads(metadata["history"]), identity, path)
    return None


def clear(folder: Path) -> None:
    """Remove all checkpoints of a run that has finished."""
    shutil.rmtree(folder, ignore_errors=True)

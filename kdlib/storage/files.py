"""Files that are either whole or not there: atomic writing, verified reading, locks; and where they lie.

A file is written under a temporary name, flushed to the disk and renamed, so a process killed at any moment leaves the
old file or the new one. Every file carries a SHA-256 digest of its content, so damage is found when it is read.
Nothing is ever unpickled: no file can make a reader execute code.

What writes raises `StorageError` if the disk is full or the folder cannot be written, and leaves the old file. What
reads raises it if the file is truncated, altered or of another kind, and ``FileNotFoundError`` if there is none.
"""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import filelock
import safetensors
import safetensors.torch
import torch

from kdlib.errors import BusyError, StorageError

CHECKOUT = Path(__file__).resolve().parents[2]  # the project's folder: notebooks, published results, the book's pages
if named := os.environ.get("KDLIB_ROOT"):  # what is started from here may have another working directory
    os.environ["KDLIB_ROOT"] = str(Path(named).resolve())


def root() -> Path:
    """The folder under which everything is written that a run makes: ``KDLIB_ROOT`` if set, else the project's."""
    return Path(os.environ.get("KDLIB_ROOT") or CHECKOUT)


def build(profile: str) -> Path:
    """Where everything goes that running a profile makes."""
    return root() / "build" / profile


def results(profile: str) -> Path:
    """Where records and weights of a profile lie; those of "published" and "tuning" are the committed ones."""
    committed = {"published": "full", "tuning": "tuning"}
    return CHECKOUT / "results" / committed[profile] if profile in committed else build(profile) / "results"


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content`` (bytes) in one step that survives a kill."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StorageError(
            f"Cannot write {path} ({error.strerror or error}): free some space or make the folder writable, "
            "then run the same command again; earlier results are untouched."
        ) from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON (sorted keys) with its own digest."""
    signed = {**content, "sha256": _json_digest(content)}
    write_bytes(path, json.dumps(signed, sort_keys=True).encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, verified."""
    with _reading(path):
        content = json.loads(path.read_bytes())
        if content.pop("sha256") != _json_digest(content):
            raise ValueError("its content does not match its digest")
    return content


def _json_digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever a library makes of a damaged or unreadable file into one sentence."""
    try:
        yield
    except (FileNotFoundError, MemoryError):
        raise
    except OSError as error:
        raise StorageError(f"Cannot read {path} ({error.strerror or error}): make it readable.") from error
    except Exception as error:
        raise StorageError(f"{path} is damaged: delete it and run the same command again.") from error


def digest(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None) -> str:
    """SHA-256 (hex) over names, types, shapes and bytes of ``tensors`` and over ``metadata``, in key order."""
    sha = hashlib.sha256(json.dumps(dict(metadata or {}), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if tensor.numel():  # an empty tensor cannot be viewed as bytes
            sha.update(tensor.view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write ``tensors`` and ``metadata`` (strings) as one safetensors file that carries its own digest."""
    # channels_last strides are not kept by safetensors; a contiguous copy holds the same values.
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One entry, as safetensors writes several in an order that changes from call to call.
    header = json.dumps({**metadata, "sha256": digest(plain, metadata)}, sort_keys=True)
    write_bytes(path, safetensors.torch.save(plain, metadata={"kdlib": header}))


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Read a file of `write_tensors`: its tensors (on the CPU) and metadata, verified."""
    with _reading(path), safetensors.safe_open(path, framework="pt") as file:
        metadata = json.loads(file.metadata()["kdlib"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        if metadata.pop("sha256") != digest(tensors, metadata):
            raise ValueError("its content does not match its digest")
    return tensors, metadata


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file ``path`` during a ``with`` block; the system releases it when a process dies.

    Raises:
        BusyError: another process holds it; ``busy`` is the sentence.
        StorageError: the lock file cannot be made.
    """
    lock = filelock.FileLock(path, fallback_to_soft=False)  # a soft lock would outlive a process that is killed
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise BusyError(busy) from error
    except OSError as error:
        raise StorageError(
            f"Cannot lock {path} ({error.strerror}): ask the owner of that file or folder to make it writable, or take "
            "a folder of your own, on a file system with locks, by KDLIB_ROOT."
        ) from error
    try:
        yield
    finally:
        lock.release()

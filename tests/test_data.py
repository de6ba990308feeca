"""What is served: images, their augmentation and their statistics."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from kdlib.data import DATASETS, HELD_OUT, Data, hold_out
from kdlib.errors import SettingError

TRAININGS = ("teacher", "stage one", "stage two")


def noise(name="cifar10", count=24):
    """Random images whose label is their number."""
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images[..., 2] //= 2  # so that the channels have statistics of their own
    labels = torch.arange(count)
    arrays = {"train_images": images, "train_labels": labels, "test_images": images[:5], "test_labels": labels[:5]}
    return Data(name, arrays, "cpu")


def pixels(data, images):
    """Undo `Data.normalise`: (B, S, S, 3) uint8."""
    return (images.permute(0, 2, 3, 1) * data.std + data.mean).round().to(torch.uint8).numpy()


def crops(image):
    """Every crop of a padded image, with its top, its left, and whether it is mirrored; the slow way."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    views = itertools.product(range(9), range(9), (False, True))
    return {padded[y : y + 32, x : x + 32][:, :: -1 if flip else 1].tobytes(): (y, x, flip) for y, x, flip in views}


def epoch(data, seed, training, number, batch_size=8):
    """All images and labels of an epoch."""
    images, labels = zip(*data.batches(seed, training, number, batch_size), strict=True)
    return torch.cat(images), torch.cat(labels)


def drawn(data, number, seed=3, training="stage two"):
    """How each image was cropped in an epoch, by its label; fails if it is no crop of that image."""
    images, labels = epoch(data, seed, training, number)
    pairs = zip(pixels(data, images), labels.tolist(), strict=True)
    return {label: crops(data.train_images[label].numpy())[crop.tobytes()] for crop, label in pairs}


@pytest.mark.parametrize("name", ["cifar10", "digits"])
def test_a_training_image_is_a_crop_of_its_padded_self_mirrored_in_every_other_epoch_where_allowed(name):
    data, mirrored = noise(name), DATASETS[name].mirrored
    epochs = [drawn(data, number) for number in range(5)]
    tops, lefts, _ = map(set, zip(*(crop for crops in epochs for crop in crops.values()), strict=True))
    assert tops == lefts == set(range(9))
    views = [np.array([crops[label][2] for label in range(24)]) for crops in epochs]
    for number, view in enumerate(views):
        assert np.array_equal(view, views[0] ^ (number % 2 == 1) if mirrored else np.zeros(24)), number
    assert not mirrored or 4 < views[0].sum() < 20, "a coin for each image"
    first, second = ([crops[label][:2] for label in range(24)] for crops in epochs[:2])
    assert len(set(first)) > 15, "of 24 images and 81 shifts; 21 on average"
    assert sum(map(tuple.__eq__, first, second)) < 6
    assert data.augmentation == {"shift": 4, "mirrored": "alternately" if mirrored else "never"}


def test_every_training_image_comes_once_an_epoch():
    data = noise()
    _, labels = epoch(data, 0, "teacher", 0)
    assert labels.tolist() != list(range(24)) and sorted(labels.tolist()) == list(range(24))
    images, incomplete = zip(*data.batches(0, "teacher", 0, 7), strict=True)
    assert images[0].shape == (7, 3, 32, 32) and images[0].is_contiguous(memory_format=torch.channels_last)
    assert len(images) == data.steps(7) == 3 and len(set(torch.cat(incomplete).tolist())) == 21
    with pytest.raises(SettingError, match=r"must lie between 1 and the 24 images of cifar10, not 25\.$"):
        next(data.batches(0, "teacher", 0, 25))


def test_seed_training_and_epoch_alone_decide_what_is_drawn():
    first, first_labels = epoch(noise(), 5, "stage two", 2)
    torch.manual_seed(99)
    np.random.seed(99)
    again, again_labels = epoch(noise(), 5, "stage two", 2, batch_size=6)
    assert torch.equal(first, again) and torch.equal(first_labels, again_labels)
    orders = {tuple(epoch(noise(), *key)[1].tolist()) for key in ((6, "stage two", 2), (2, "stage two", 5))}
    orders |= {tuple(epoch(noise(), 5, training, number)[1].tolist()) for training in TRAININGS for number in (2, 3)}
    assert len(orders) == 8, "each seed, training and epoch has an order of its own"
    mirrored = [drawn(noise(), 0, seed, training) for seed in (0, 1) for training in TRAININGS[:2]]
    assert len({tuple(crops[label][2] for label in range(24)) for crops in mirrored}) == 4


def test_channels_are_normalised_each_by_the_statistics_of_the_training_split():
    data = noise()
    exact = data.train_images.double()
    mean, std = exact.mean((0, 1, 2)), exact.std((0, 1, 2), correction=0)
    expected = ((exact - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(data.sample().double(), expected, rtol=1e-5, atol=1e-5)
    assert data.sample().dtype == torch.float32


def test_held_out_images_are_the_last_training_images_and_the_test_split_is_not_touched():
    labels = torch.arange(HELD_OUT + 30)
    arrays = {"train_images": labels[:, None] % 256, "train_labels": labels}
    held = hold_out(arrays | {"test_images": None, "test_labels": None})
    assert held["train_labels"].tolist() == list(range(30)) and held["test_labels"][0] == 30
    for split in ("train", "test"):
        assert torch.equal(held[f"{split}_images"][:, 0], held[f"{split}_labels"] % 256)


def test_digits_are_the_real_ones(small_data):
    images, labels = small_data.train_images, small_data.train_labels
    # Made small again, each is nearest to an original of its label, and no two are made of the same.
    originals, both = load_digits(), torch.cat([images, small_data.test_images])
    small = F.avg_pool2d(both[..., 0].float(), 4).flatten(1) * (16 / 255)
    nearest = torch.cdist(small, torch.tensor(originals.data).float()).argmin(1)
    assert len(set(nearest.tolist())) == 384
    assert originals.target[nearest].tolist() == torch.cat([labels, small_data.test_labels]).tolist()


def test_the_real_cifar10(cifar10):
    assert cifar10.train_images.shape == (50_000, 32, 32, 3) and cifar10.test_images.shape == (10_000, 32, 32, 3)
    assert cifar10.classes[cifar10.train_labels[0]] == "frog"
    # Known from the literature.
    torch.testing.assert_close(cifar10.mean / 255, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-5, rtol=0)
    torch.testing.assert_close(cifar10.std / 255, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-5, rtol=0)

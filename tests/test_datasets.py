"""What is served: images, augmentation and statistics. No test but the last needs a network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from kdlib import datasets, hardware
from kdlib.datasets import DATASETS, Data, DatasetSpec, hold_out, load
from kdlib.storage.cifar10 import DataUnavailable

TRAININGS = ("teacher", "stage one", "stage two")


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits", device="cpu")


def noise(mirrored: bool = True, count: int = 24) -> Data:
    """Random images whose label is their number."""
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    labels = torch.arange(count)
    mean, std = torch.tensor([100.0, 120.0, 140.0]), torch.tensor([50.0, 60.0, 70.0])
    return Data("noise", tuple(map(str, range(count))), images, labels, images[:5], labels[:5], mean, std, mirrored)


def pixels(data: Data, images: torch.Tensor) -> np.ndarray:
    """Undo `Data.normalise`."""
    return (images.permute(0, 2, 3, 1) * data.std + data.mean).round().to(torch.uint8).numpy()


def crops(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of a padded image, with its top, its left, and whether it is mirrored; the slow way."""
    size = len(image)
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    return {
        padded[top : top + size, left : left + size][:, :: -1 if mirrored else 1].tobytes(): (top, left, mirrored)
        for top in range(9)
        for left in range(9)
        for mirrored in (False, True)
    }


@pytest.mark.parametrize("allowed", [True, False])
def test_a_training_image_is_a_crop_of_its_padded_self_mirrored_only_where_allowed(allowed):
    data = noise(allowed)
    possible = [crops(image.numpy()) for image in data.train_images]
    drawn = [
        possible[label][crop.tobytes()]  # fails when it is no crop of that image
        for epoch in range(5)
        for images, labels in data.batches(seed=3, training="stage two", epoch=epoch, batch_size=8)
        for crop, label in zip(pixels(data, images), labels, strict=True)
    ]
    tops, lefts, mirrored = map(set, zip(*drawn, strict=True))
    assert tops == lefts == set(range(9))
    assert mirrored == ({True, False} if allowed else {False})
    assert len(set(drawn)) > len(drawn) / 3
    assert data.augmentation == {"shift": max(tops) - 4, "mirrored": "alternately" if allowed else "never"}


def test_two_consecutive_epochs_show_both_views_of_every_image():
    data = noise(count=64)
    possible = [crops(image.numpy()) for image in data.train_images]
    mirrored = []
    for epoch in range(3):
        images, labels = zip(*data.batches(seed=3, training="stage two", epoch=epoch, batch_size=8), strict=True)
        pairs = zip(pixels(data, torch.cat(images)), torch.cat(labels).tolist(), strict=True)
        mirrored.append({label: possible[label][crop.tobytes()][2] for crop, label in pairs})
    assert all(mirrored[0][label] != mirrored[1][label] for label in range(64))
    assert mirrored[2] == mirrored[0] and 16 < sum(mirrored[0].values()) < 48, "a coin for each image"


def test_every_training_image_comes_once_an_epoch():
    data = noise()
    labels = torch.cat([labels for _, labels in data.batches(0, "teacher", 0, 8)])
    assert labels.tolist() != list(range(24)) and sorted(labels.tolist()) == list(range(24))
    incomplete = [labels for _, labels in data.batches(0, "teacher", 0, 7)]
    assert len(incomplete) == data.steps(7) == 3 and len(set(torch.cat(incomplete).tolist())) == 21


def epoch(data: Data, seed: int, training: str, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """All images and labels of an epoch."""
    images, labels = zip(*data.batches(seed, training, number, 8), strict=True)
    return torch.cat(images), torch.cat(labels)


def test_seed_training_and_epoch_alone_decide_what_is_drawn():
    data = noise()
    first, first_labels = epoch(data, 5, "stage two", 2)
    torch.manual_seed(99)
    np.random.seed(99)
    again, again_labels = epoch(noise(), 5, "stage two", 2)
    assert torch.equal(first, again) and torch.equal(first_labels, again_labels)
    for other in ((5, "stage two", 3), (6, "stage two", 2), (2, "stage two", 5)):
        assert not torch.equal(first_labels, epoch(data, *other)[1])


def test_every_training_of_a_seed_has_its_own_batches():
    orders = [epoch(noise(), 0, training, 0)[1] for training in TRAININGS]
    for number, (order, training) in enumerate(zip(orders, TRAININGS, strict=True)):
        assert [torch.equal(order, other) for other in orders] == [number == other for other in range(3)]
        assert torch.equal(order, epoch(noise(), 0, training, 0)[1])


def change(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with another last value."""
    changed = tensor.clone()
    changed.view(-1)[-1] ^= 1
    return changed


def test_fingerprint_follows_every_image_and_label(digits):
    variants = [digits]
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        variants.append(replace(digits, **{name: change(getattr(digits, name))}))
    variants += [load("digits", "cpu", train_images=1436), load("digits", "cpu", train_images=100)]
    variants += [hold_out(digits, 100), hold_out(digits, 101), noise()]
    fingerprints = [data.fingerprint for data in variants]
    assert len(set(fingerprints)) == len(fingerprints)
    assert all(len(fingerprint) == 64 and int(fingerprint, 16) for fingerprint in fingerprints)


def test_fingerprint_is_that_of_the_content_wherever_it_comes_from(digits):
    assert load("digits", device="cpu", train_images=1437).fingerprint == digits.fingerprint
    strided = replace(digits, train_images=digits.train_images.permute(3, 1, 2, 0).contiguous().permute(3, 1, 2, 0))
    assert not strided.train_images.is_contiguous() and strided.fingerprint == digits.fingerprint


def test_held_out_images_are_the_last_ones(digits):
    held = hold_out(digits, 100)
    assert torch.equal(torch.cat([held.train_images, held.test_images]), digits.train_images)
    assert torch.equal(torch.cat([held.train_labels, held.test_labels]), digits.train_labels)
    assert len(held.test_images) == len(held.test_labels) == 100
    assert next(held.batches(0, "teacher", 0, 1337))[0].shape == (1337, 3, 32, 32)


@pytest.mark.parametrize("count", [0, 1437])
def test_impossible_numbers_of_held_out_images(digits, count):
    with pytest.raises(ValueError, match=f"count must lie between 1 and 1,436, not {count}"):
        hold_out(digits, count)


def test_normalised_training_images_have_mean_0_and_deviation_1(digits):
    images = digits.sample(len(digits.train_images))
    assert images.shape == (1437, 3, 32, 32) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-4
    batch, _ = next(digits.batches(0, "teacher", 0, 16))
    assert batch.shape == (16, 3, 32, 32) and batch.is_contiguous(memory_format=torch.channels_last)


def test_channels_are_normalised_each_by_its_own_statistics():
    data = noise()
    expected = (data.train_images[:2].double() - data.mean) / data.std
    assert torch.allclose(data.sample(2).double(), expected.permute(0, 3, 1, 2), atol=1e-6)
    mean, std = datasets._mean_std(data.train_images)
    assert torch.allclose(mean.double(), data.train_images.double().mean((0, 1, 2)), rtol=1e-7)
    assert torch.allclose(std.double(), data.train_images.double().std((0, 1, 2), correction=0), rtol=1e-7)


def test_test_images_come_in_order_and_unchanged(digits):
    images, labels = zip(*digits.test_batches(100), strict=True)
    assert [len(part) for part in labels] == [100, 100, 100, 60]
    assert torch.equal(torch.cat(labels), digits.test_labels)
    assert np.array_equal(pixels(digits, torch.cat(images)), digits.test_images.numpy())


def test_digits_are_the_real_ones_and_never_mirrored(digits):
    assert (len(digits.train_images), len(digits.test_images)) == (1437, 360)
    assert digits.train_images.shape[1:] == digits.test_images.shape[1:] == (32, 32, 3)
    assert digits.train_images.dtype == torch.uint8 and digits.train_labels.dtype == torch.int64
    assert digits.train_images.min() == 0 and digits.train_images.max() == 255
    assert (digits.test_labels.bincount() - 36).abs().max() <= 1  # stratified
    assert digits.classes == tuple("0123456789") and not digits.mirrored
    assert torch.equal(digits.train_images, load("digits", device="cpu").train_images)
    # Made small again, each is nearest to an original of its label.
    originals = load_digits()
    small = F.avg_pool2d(digits.train_images[..., 0].float(), 4).flatten(1) * (16 / 255)
    nearest = torch.cdist(small, torch.tensor(originals.data).float()).argmin(1)
    assert np.array_equal(originals.target[nearest], digits.train_labels)


def test_fewer_training_images_keep_the_first_ones_and_all_statistics(digits):
    few = load("digits", device="cpu", train_images=100)
    assert torch.equal(few.train_images, digits.train_images[:100])
    assert torch.equal(few.train_labels, digits.train_labels[:100])
    assert torch.equal(few.mean, digits.mean) and torch.equal(few.std, digits.std)
    assert len(few.test_images) == 360 and len(few.sample(200)) == 100


@pytest.mark.parametrize("count", [0, -3, 1438])
def test_impossible_numbers_of_training_images(count):
    with pytest.raises(ValueError, match=f"train_images must lie between 1 and 1,437 for digits, not {count}"):
        load("digits", train_images=count)


@pytest.mark.parametrize("batch_size", [0, 25])
def test_impossible_batch_sizes(batch_size):
    data = noise()
    with pytest.raises(ValueError, match=f"batch_size must lie between 1 and the 24 .* not {batch_size}"):
        data.steps(batch_size)
    with pytest.raises(ValueError, match="batch_size"):
        next(data.batches(0, "teacher", 0, batch_size))


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"no data set 'mnist': choose one of cifar10, digits\.$"):
        load("mnist")


# A made-up data set


def grey_set() -> dict[str, torch.Tensor]:
    """300 and 100 random 16 × 16 images of one channel and of a hundred classes."""
    generator = torch.manual_seed(1)
    counts = {"train": 300, "test": 100}
    images = {
        f"{split}_images": torch.randint(0, 256, (count, 16, 16, 1), dtype=torch.uint8, generator=generator)
        for split, count in counts.items()
    }
    return images | {f"{split}_labels": torch.arange(count) % 100 for split, count in counts.items()}


def register(monkeypatch, arrays: dict[str, torch.Tensor]) -> None:
    spec = DatasetSpec("made up", lambda: arrays, tuple(f"class {number}" for number in range(100)), mirrored=True)
    monkeypatch.setitem(DATASETS, "made-up", spec)


def test_a_data_set_of_other_size_channels_and_classes(monkeypatch):
    arrays = grey_set()
    register(monkeypatch, arrays)
    data = load("made-up", device="cpu")
    assert len(data.classes) == 100 and data.mean.shape == data.std.shape == (1,) and data.mirrored
    unique = {image.numpy().tobytes(): number for number, image in enumerate(data.train_images)}
    assert len(unique) == 300
    possible = [crops(image.numpy()) for image in data.train_images]
    shapes = set()
    for images, labels in data.batches(0, "stage one", 0, 50):
        shapes.add(tuple(images.shape))
        for crop, label in zip(pixels(data, images), labels, strict=True):
            assert any(crop.tobytes() in possible[number] for number in range(label, 300, 100))
    assert shapes == {(50, 1, 16, 16)}
    images, labels = next(data.test_batches(100))
    assert images.shape == (100, 1, 16, 16) and np.array_equal(pixels(data, images), arrays["test_images"].numpy())
    assert data.sample(7).shape == (7, 1, 16, 16)
    assert data.sample(300).mean().abs() < 1e-4


def test_a_reader_may_return_permuted_views(monkeypatch):
    arrays = grey_set()
    arrays["train_images"] = arrays["train_images"].repeat(1, 1, 1, 2)
    arrays["train_images"][..., 1] //= 2
    register(monkeypatch, arrays)
    plain = load("made-up", device="cpu")
    arrays["train_images"] = arrays["train_images"].permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    view = load("made-up", device="cpu")
    assert torch.equal(plain.mean, view.mean) and torch.equal(plain.std, view.std)
    assert torch.equal(next(plain.batches(0, "teacher", 0, 50))[0], next(view.batches(0, "teacher", 0, 50))[0])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("spoil", [torch.Tensor.float, lambda images: images[..., 0], lambda images: images[:, 1:]])
def test_images_of_another_shape_or_type_are_refused(monkeypatch, split, spoil):
    arrays = grey_set()
    arrays[f"{split}_images"] = spoiled = spoil(arrays[f"{split}_images"])
    register(monkeypatch, arrays)
    with pytest.raises(ValueError) as refused:
        load("made-up")
    found = f"{tuple(spoiled.shape)} {spoiled.dtype}"
    assert str(refused.value) == f"Images of made-up must be (N, S, S, C) uint8, not {found}."


def test_data_lie_on_the_chosen_device(monkeypatch):
    register(monkeypatch, grey_set())
    monkeypatch.setattr(hardware, "choose_device", lambda: torch.device("meta"))
    data = load("made-up")
    for name in ("train_images", "train_labels", "test_images", "test_labels", "mean", "std"):
        assert getattr(data, name).device.type == "meta", name
    assert data.device.type == "meta" and load("made-up", device="cpu").device.type == "cpu"


# The real CIFAR-10


def test_the_real_cifar10():
    try:
        data = load("cifar10", device="cpu")
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert data.train_images.shape == (50_000, 32, 32, 3) and data.test_images.shape == (10_000, 32, 32, 3)
    assert data.classes[data.train_labels[0]] == "frog" and data.mirrored
    # Known from the literature: 0.4914, 0.4822, 0.4465 and 0.2470, 0.2435, 0.2616.
    assert torch.allclose(data.mean / 255, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-5)
    assert torch.allclose(data.std / 255, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-5)
    # Records carry it: were it another one, none would count as made on these data any more.
    assert data.fingerprint == "6f375dc35fb5b46e118dd9688f2b01c2fd7ff9c2133b960b113a95494be21059"

"""What the other training loops share: images one at a time through torchvision, and how their speed is taken."""

import itertools
import time
from collections.abc import Iterator

import torch
from torch.utils.data import Dataset

from kdlib.datasets import PADDING, Data
from kdlib.storage._torchvision import import_torchvision

torchvision = import_torchvision()

WORKERS = 2  # of each DataLoader
WARM_UP = 2  # steps before the clock starts: workers are born, libraries choose their algorithms
LEARNING_RATE = 0.01  # of everyone; the speed does not depend on it as long as the loss stays finite


class InMemoryCIFAR10(torchvision.datasets.CIFAR10):
    """torchvision's own CIFAR10, given its images instead of a folder."""

    def __init__(self, data: Data, transform: torch.nn.Module):
        torchvision.datasets.VisionDataset.__init__(self, root="", transform=transform)
        self.data = data.train_images.cpu().numpy()
        self.targets = data.train_labels.tolist()


def per_image(data: Data, augmented: bool = True) -> Dataset:
    """The training images of ``data``, one by one cropped and flipped, and normalised: ((3, 32, 32) float32, label)."""
    transforms = torchvision.transforms
    crop = transforms.RandomCrop(data.train_images.shape[1], padding=PADDING)
    normalise = transforms.Normalize((data.mean / 255).tolist(), (data.std / 255).tolist())
    augment = [crop, transforms.RandomHorizontalFlip()] if augmented else []
    return InMemoryCIFAR10(data, transforms.Compose([*augment, transforms.ToTensor(), normalise]))


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def steady_rate(steps: Iterator[int], count: int, device: torch.device) -> float:
    """Images/s over ``count`` steps of a training loop that yields, after each step, how many images it has used.

    The first `WARM_UP` steps are not counted. The loop must have more to do after the last one: were its epoch to end
    there, the workers would have prepared images before the clock started and none for later.
    """
    for _ in range(WARM_UP):
        next(steps)
    synchronize(device)
    started = time.perf_counter()
    images = sum(itertools.islice(steps, count))
    synchronize(device)
    return images / (time.perf_counter() - started)

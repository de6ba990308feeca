"""What several test modules share: a small real data set, small networks, a project folder of one's own."""

import dataclasses
import os

import pytest
import torch

from kdlib import datasets, models
from kdlib.settings import Schedule
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY

os.environ.setdefault("KDLIB_DEVICE", "cpu")  # the one place where tests choose their device
torch.set_num_threads(1)  # networks this small are slower on two

SMALL_WIDTHS = ((8,), (8, 8), (16, 16), (16,))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Everything kdlib writes in a test goes into a folder of that test."""
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "project"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    return tmp_path / "project"


def digits(device):
    """256 training and 100 test images of real handwritten digits."""
    data = datasets.load("digits", device=device, train_images=256)
    return dataclasses.replace(data, test_images=data.test_images[:100], test_labels=data.test_labels[:100])


@pytest.fixture(scope="session")
def small_data():
    """`digits` on the CPU."""
    return digits("cpu")


@pytest.fixture(scope="session")
def cifar10():
    """CIFAR-10 on the CPU; where it cannot be had, the test is skipped."""
    try:
        return datasets.load("cifar10", device="cpu")
    except DataUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def small_profile():
    """The smoke profile with schedules for `small_data`."""
    schedule = Schedule(epochs=3, batch_size=64, learning_rate=0.05)
    return dataclasses.replace(STUDY.profile("smoke"), teacher=schedule, student=schedule, hint=schedule)


@pytest.fixture
def replicate(small_profile):
    return Replicate(small_profile, seed=0)


def small_network(seed=0):
    """A ConvNet of 8 k parameters."""
    torch.manual_seed(seed)
    return models.ConvNet(SMALL_WIDTHS)

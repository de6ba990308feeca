"""What several test modules share: a small real data set, small networks, a project folder of one's own."""

import dataclasses
import os

import pytest
import torch

from kdlib import models
from kdlib.data import Data, digits
from kdlib.errors import DataUnavailable
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Schedule

os.environ.setdefault("KDLIB_DEVICE", "cpu")  # the one place where tests choose their device
torch.set_num_threads(1)  # networks this small are slower on two

SMALL = models.Shape(((8,), (8, 8), (16, 16), (16,)))


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """Everything kdlib writes in a test goes into a folder of that test."""
    monkeypatch.setenv("KDLIB_ROOT", str(tmp_path / "project"))
    return tmp_path / "project"


@pytest.fixture(scope="session")
def small_data():
    """256 training and 128 test images of real handwritten digits, on the CPU."""
    return Data("digits", digits(), "cpu")


@pytest.fixture(scope="session")
def cifar10():
    """CIFAR-10 on the CPU; where it cannot be had, the test is skipped."""
    try:
        return Replicate(STUDY.profile("quick")).data("cpu")
    except DataUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def small_profile():
    """The smoke profile with schedules for `small_data`."""
    schedule = Schedule(epochs=3, batch_size=64, learning_rate=0.05)
    groups = ("teacher", "hint", "scratch", "tuned", "frozen")
    return dataclasses.replace(STUDY.profile("smoke"), **dict.fromkeys(groups, schedule))


@pytest.fixture
def replicate(small_profile):
    return Replicate(small_profile, seed=0)


def images(count=8, seed=0):
    """Random images, normalised."""
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def small_network(seed=0):
    """A ConvNet of 7,442 parameters."""
    torch.manual_seed(seed)
    return models.ConvNet(SMALL)

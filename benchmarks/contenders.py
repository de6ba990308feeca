"""The training loops that `bench.py` compares with ``fit``: they yield each step's number of images. And the clock."""

import contextlib
import io
import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from kdlib import hardware, models, optimiser
from kdlib.data import PADDING, Data
from kdlib.objectives import Classify, Distill, Hint, Objective
from kdlib.regressors import Regressor
from kdlib.storage.cifar10 import import_torchvision
from kdlib.storage.runs import Run
from kdlib.study import STUDY
from kdlib.training import evaluate

FOLDER = Path(__file__).parent
TORCHDISTILL = FOLDER / ".venv-torchdistill"
DEVICE = hardware.choose_device()
PRECISION = hardware.choose_precision("auto", DEVICE)  # of fit and the bare computation
FULL = STUDY.profile("full")
LEARNING_RATE = 0.01  # of everyone whose speed is taken, which does not depend on it while the loss stays finite
WARM_UP = 2  # steps before the clock starts: workers are born, libraries choose their algorithms
WORKERS = 2  # of each DataLoader

torchvision = import_torchvision()


class InMemoryCIFAR10(torchvision.datasets.CIFAR10):
    """torchvision's own CIFAR10, given the training images of ``data``; items: (3, 32, 32) float32, label."""

    def __init__(self, data: Data, augmented: bool = True):
        transforms = torchvision.transforms
        augment = [transforms.RandomCrop(32, padding=PADDING), transforms.RandomHorizontalFlip()] if augmented else []
        normalise = transforms.Normalize((data.mean / 255).tolist(), (data.std / 255).tolist())
        transform = transforms.Compose([*augment, transforms.ToTensor(), normalise])
        torchvision.datasets.VisionDataset.__init__(self, root="", transform=transform)
        self.data, self.targets = data.train_images.cpu().numpy(), data.train_labels.tolist()


def batches(data: Data, batch_size: int, augmented: bool = True) -> DataLoader:
    """The training images in shuffled batches."""
    return DataLoader(InMemoryCIFAR10(data, augmented), batch_size, shuffle=True, num_workers=WORKERS)


def build(run: Run) -> Objective:
    """The objective of a training, with networks as new: that they are untrained changes no time."""
    teacher, student = models.teacher().to(DEVICE), models.student().to(DEVICE)
    if not run.arm.needs:
        return Classify(teacher if run.arm.stage == "teacher" else student)
    if run.arm.stage == "stage one":
        return Hint(teacher, student, Regressor(student, teacher, torch.rand(256, 3, 32, 32, device=DEVICE)))
    models.scale_rate(student, models.GUIDED_BLOCK, run.arm.guided_rate)
    return Distill(teacher, student, run.replicate.profile.temperature, run.replicate.profile.alpha)


@contextlib.contextmanager
def scratch() -> Iterator[None]:
    """A temporary folder for all that ``fit`` writes during a ``with`` block; what it prints is dropped."""
    quiet = contextlib.redirect_stdout(io.StringIO())
    with quiet, tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, KDLIB_ROOT=folder):
        yield


def bare_steps(run: Run, data: Data) -> Generator[int, None, None]:
    """Steps without end of the bare computation; where logits are cached, it is given them."""
    objective = build(run)
    images, labels = next(data.batches(0, "stage two", 0, run.schedule.batch_size))
    if run.name.endswith("cached"):
        with hardware.autocast(DEVICE, PRECISION):
            logits = objective.target(images)
        objective.target = lambda images: logits
    optimizer = optimiser.Muon(objective.groups(), run.schedule)
    return (count for count, _ in steps(objective, itertools.repeat((images, labels)), optimizer, PRECISION))


def tutorial_steps(objective: Objective, loader: Iterable, optimizer: Optimizer) -> Generator[int, None, None]:
    """An epoch of the tutorial's loop."""
    for module in filter(None, [*objective.modules.values(), objective.teacher]):
        module.to(memory_format=torch.contiguous_format)
    running_loss = 0.0
    for count, loss in steps(objective, loader, optimizer, "float32"):
        running_loss += loss.item()
        yield count


def steps(objective: Objective, loader: Iterable, optimizer: Any, precision: str) -> Iterator[tuple[int, Tensor]]:
    """What both do in a step; yields the loss too."""
    for module in objective.modules.values():
        module.train()
    for images, labels in loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        with hardware.autocast(DEVICE, precision):
            values, _ = objective.losses(images, labels, objective.target(images))
        optimizer.zero_grad()
        values["total"].backward()
        optimizer.step()
        yield len(images), values["total"]


def torchdistill(what: str) -> Iterator[Any]:
    """What `torchdistill_run.py`, asked for ``what``, answers time after time; nothing without its environment."""
    if not (TORCHDISTILL / "ready").exists():
        return
    command = [TORCHDISTILL / "bin" / "python", FOLDER / "torchdistill_run.py", what]
    environment, pipe = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}, subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        while True:
            print("next", file=process.stdin)
            yield json.loads(process.stdout.readline())


def steady_rate(steps: Generator[int, None, None], count: int) -> float:
    """Images/s over ``count`` steps of a loop, behind those to warm up.

    The loop must have more to do after the last one: were its epoch to end there, the workers would have prepared
    images before the clock started and none for later.
    """
    sum(itertools.islice(steps, WARM_UP))
    started = _now()
    rate = sum(itertools.islice(steps, count)) / (_now() - started)
    steps.close()  # and with it the workers, before something else is measured
    return rate


def _now() -> float:
    """The time in seconds at which the device has done all that it was asked for."""
    if DEVICE.type == "cuda":
        torch.cuda.synchronize(DEVICE)
    return time.perf_counter()


def timed_epochs(train: Callable[[], Any], student: models.ConvNet, data: Data) -> Iterator[tuple[float, float]]:
    """After each epoch, which ``train`` trains: minutes of training so far, and test accuracy in percent."""
    minutes = 0.0
    while True:
        started = time.perf_counter()
        train()
        minutes += (time.perf_counter() - started) / 60
        yield minutes, evaluate(Classify(student), data)[0]["accuracy"]

"""How many minutes of training a student needs to reach 85, 88 and 90 % by distillation: a part of ``make bench``.

Every contender has a recipe of its own, and the published teacher. They take turns, as the speed of shared machines
drifts: a turn of `fit` is a whole training, one of the others an epoch. Tests and the caching of logits for later
students cost no time here.

    fit              `training.fit` with the recipe of the full profile in 2, 4, 8, 12 and 18 epochs; each training
                     starts anew
    tutorial's loop  PyTorch's knowledge-distillation tutorial: Adam with rate 0.001, batches of 128, T = 2, soft loss
                     0.25, hard loss 0.75, images normalised but not augmented
    torchdistill     its sample recipe for CIFAR-10: SGD with rate 0.1 (until epoch 91), momentum 0.9, weight decay
                     10⁻⁴, batches of 128, T = 4, hard loss 0.9, images shifted and mirrored at random
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import torch
from pipeline import WORKERS, per_image
from torch.utils.data import DataLoader

from kdlib import datasets, hardware, losses, models
from kdlib.datasets import Data
from kdlib.evaluation import evaluate
from kdlib.objectives import Classify, Distill
from kdlib.settings import PUBLISHED
from kdlib.storage import files
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY
from kdlib.training import fit

FOLDER = Path(__file__).parent
TORCHDISTILL = FOLDER / ".venv-torchdistill"
TARGETS = (85.0, 88.0, 90.0)  # percent of the test images
EPOCHS = (2, 4, 8, 12, 18)  # of fit's trainings
DEVICE = hardware.choose_device()

Points = Iterator[tuple[float, float]]  # minutes of training so far, test accuracy in percent


def fit_points(teacher: models.ConvNet, data: Data) -> Points:
    """A training of each length."""
    profile = STUDY.profile("full")
    for epochs in EPOCHS:
        schedule = dataclasses.replace(profile.student, epochs=epochs)
        objective = Distill(teacher, models.student().to(DEVICE), profile.temperature, profile.alpha)
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, KDLIB_ROOT=folder):
            run = Replicate(profile).run("distill")
            with contextlib.redirect_stdout(io.StringIO()):
                accuracy = fit(objective, data, schedule, run).test["accuracy"][-1]
            seconds = sum(files.read_json(run.timing_path)["train_seconds"])
        yield seconds / 60, accuracy


def tutorial_points(teacher: models.ConvNet, data: Data) -> Points:
    """The tutorial's loop, epoch by epoch."""
    student = models.student().to(DEVICE)
    optimizer = torch.optim.Adam(student.parameters(), lr=0.001)
    loader = DataLoader(per_image(data, augmented=False), 128, shuffle=True, num_workers=WORKERS)
    minutes = 0.0
    while True:
        started = time.perf_counter()
        student.train()
        for images, labels in loader:
            images, labels = images.to(DEVICE), labels.to(DEVICE)
            optimizer.zero_grad()
            with torch.no_grad():
                targets = teacher(images)
            logits = student(images)
            loss = 0.25 * losses.soft(logits, targets, 2.0) + 0.75 * losses.hard(logits, labels)
            loss.backward()
            optimizer.step()
        minutes += (time.perf_counter() - started) / 60
        yield minutes, evaluate(Classify(student), data)[0]["accuracy"]


def torchdistill_points() -> Points:
    """The same of torchdistill, in its own environment: an epoch for each line that it is sent."""
    command = [TORCHDISTILL / "bin" / "python", FOLDER / "torchdistill_run.py", str(DEVICE), "accuracy"]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        try:
            while True:
                print("an epoch", file=process.stdin)
                yield tuple(json.loads(process.stdout.readline()))
        finally:
            process.kill()


def race(contenders: dict[str, Points], limit: float) -> dict[str, list[tuple[float, float]]]:
    """The points of each contender, until it has reached all targets or trained for ``limit`` minutes."""
    points = {name: [] for name in contenders}
    running = dict(contenders)
    while running:
        for name, contender in list(running.items()):
            point = next(contender, None)
            if point is not None:
                points[name].append(point)
                print(f"{name}: {point[1]:.2f} % after {point[0]:.1f} min", flush=True)
            if point is None or point[1] >= max(TARGETS) or point[0] >= limit:
                del running[name]
    return points


def table(points: dict[str, list[tuple[float, float]]]) -> str:
    """A Markdown table: minutes to each target, and the best accuracy."""
    head = ["distilled student by", *(f"minutes to {target:g} %" for target in TARGETS), "best accuracy", "trained for"]
    rows = [head, ["---"] * len(head)]
    for name, curve in points.items():
        reached = [[minutes for minutes, accuracy in curve if accuracy >= target] for target in TARGETS]
        times = [f"{min(minutes):.1f}" if minutes else "not reached" for minutes in reached]
        longest = max(minutes for minutes, _ in curve)
        rows.append([name, *times, f"{max(accuracy for _, accuracy in curve):.2f} %", f"{longest:.1f} min"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def report(points: dict[str, list[tuple[float, float]]]) -> str:
    """The whole result file: machine, table, and the points behind it."""
    precision = hardware.choose_precision("auto", DEVICE)
    machine = hardware.describe_machine(DEVICE) | {"precision of fit": precision, "date": time.strftime("%Y-%m-%d")}
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    curves = (
        f"- {name}: " + ", ".join(f"{accuracy:.2f} % after {minutes:.1f} min" for minutes, accuracy in curve)
        for name, curve in points.items()
    )
    return (
        f"# Minutes to an accuracy\n\n{described}. One training each.\n\n{table(points)}\n"
        "Recipes, augmentation and precision are each contender's own (see `accuracy.py`). Each point of fit is a "
        "training of its own, of 2, 4, 8, 12 and 18 epochs until the last target; those of the others are the first "
        "epochs of one. torchdistill's recipe is made for 182 epochs, and lowers the rate after 91 of them.\n\n"
        + "\n".join(curves)
        + "\n"
    )


def main() -> None:
    """Train, print the table and write it beside this file."""
    parser = argparse.ArgumentParser(description="Minutes of training to 85, 88 and 90 %; print and write a table.")
    parser.add_argument("--limit", type=float, default=20.0, help="minutes of training for each contender")
    limit = parser.parse_args().limit
    data = datasets.load("cifar10", DEVICE)
    teacher = models.load(Replicate(STUDY.profile(PUBLISHED)).run("teacher"), DEVICE).requires_grad_(False)
    contenders = {"fit": fit_points(teacher, data), "tutorial's loop": tutorial_points(teacher, data)}
    if (TORCHDISTILL / "ready").exists():
        contenders["torchdistill"] = torchdistill_points()
    points = race(contenders, limit)
    result = report(points)
    print(result)
    path = FOLDER / f"{DEVICE.type}-{hardware.choose_precision('auto', DEVICE)}-accuracy.md"
    path.write_text(result)
    files.write_json(path.with_suffix(".json"), {"targets": TARGETS, "points": points})


if __name__ == "__main__":
    main()

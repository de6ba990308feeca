"""How close `kdlib.training.fit` is to the machine's limit, as one table of ratios: ``make bench``.

Speeds on shared machines drift, so nothing is compared across time: in every round each training is
measured in turn by all contenders, and a figure is the median of the rounds' own ratios. The contenders:

    fit           `training.fit` as it records its own training phase: data, augmentation, metrics, learning
                  rates and the caching of the teacher's logits included; evaluation and checkpoint excluded
    bare          the same objective, precision and layout: teacher, forward, backward, optimiser step on one
                  resident batch
    loop          the loop of PyTorch's knowledge-distillation tutorial: images augmented one by one by
                  torchvision in two workers, float32, contiguous layout, ``.item()`` after each step; with
                  kdlib's objectives, so that it computes no more than ``fit`` does
    torchdistill  its distillation stage and its two FitNet stages, in a process of its own (see `torchdistill_run.py`)
    matrix        torch.mm of large squares in the precision of ``fit``, in FLOP/s

The networks are untrained: that changes no time.
"""

import argparse
import contextlib
import dataclasses
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from pipeline import LEARNING_RATE, WORKERS, per_image, steady_rate, synchronize
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from kdlib import datasets, hardware, models, optimisers
from kdlib.datasets import Data
from kdlib.objectives import Classify, Distill, Hint, Objective
from kdlib.regressors import Regressor
from kdlib.settings import Schedule
from kdlib.storage import files, runs
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.study import STUDY
from kdlib.training import fit

FOLDER = Path(__file__).parent
TORCHDISTILL = FOLDER / ".venv-torchdistill"
PROFILE = STUDY.profile("full")
DEVICE = hardware.choose_device()
PRECISION = hardware.choose_precision("auto", DEVICE)
BATCH_SIZE = PROFILE.student.batch_size

Round = dict[tuple[str, str], float]  # {(contender, training): images/s}


# The trainings


def classify(network: Callable[[], models.ConvNet]) -> Objective:
    return Classify(network().to(DEVICE))


def distillation(frozen_stages: int = 0) -> Objective:
    teacher, student = models.teacher().to(DEVICE), models.student().to(DEVICE)
    if frozen_stages:
        models.freeze(student, through=frozen_stages)
    return Distill(teacher, student, PROFILE.temperature, PROFILE.alpha)


def stage_one() -> Objective:
    teacher, student = models.teacher().to(DEVICE), models.student().to(DEVICE)
    return Hint(teacher, student, Regressor(student, teacher, torch.rand(BATCH_SIZE, 3, 32, 32, device=DEVICE)))


@dataclass(frozen=True)
class Training:
    """One training of the study.

    Attributes:
        title: as the table calls it.
        build: makes its objective, with networks as new.
        schedule: of the full profile.
        uncached: for a training that reads cached teacher logits, the one that computes the same without a cache.
    """

    title: str
    build: Callable[[], Objective]
    schedule: Schedule
    uncached: str | None = None


# Those that read cached logits come behind the distillation that stores them.
TRAININGS = {
    "teacher": Training("teacher", lambda: classify(models.teacher), PROFILE.teacher),
    "baseline": Training("student alone", lambda: classify(models.student), PROFILE.student),
    "distill": Training("distillation", distillation, PROFILE.student),
    "exp1-cached": Training(
        "exp. 1 stage two, cached logits", lambda: distillation(models.GUIDED_STAGE), PROFILE.student, uncached="exp1"
    ),
    "exp2-cached": Training("exp. 2 stage two, cached logits", distillation, PROFILE.student, uncached="distill"),
    "hint": Training("stage one", stage_one, PROFILE.hint),
    "exp1": Training("exp. 1 stage two, uncached", lambda: distillation(models.GUIDED_STAGE), PROFILE.student),
}

# The trainings of one seed as `fit` runs them, and as a loop without a cache does.
REPLICATE = ("teacher", "baseline", "distill", "hint", "exp1-cached", "exp2-cached")
REPLICATE_UNCACHED = tuple(TRAININGS[name].uncached or name for name in REPLICATE)


# The contenders


def fit_rate(name: str, data: Data) -> float:
    """Images/s that ``fit`` records for its training phase, an epoch of ``data``."""
    training = TRAININGS[name]
    run = runs.Replicate(PROFILE).run(name)
    if training.uncached is None:
        shutil.rmtree(run.logits, ignore_errors=True)
    schedule = dataclasses.replace(training.schedule, epochs=1, learning_rate=LEARNING_RATE)
    with contextlib.redirect_stdout(io.StringIO()):
        fit(training.build(), data, schedule, run)
    return files.read_json(run.timing_path)["images_per_second"][-1]


def bare_steps(training: Training, data: Data) -> Iterator[int]:
    """Steps without end on one batch that stays on the device."""
    objective = training.build()
    for module in objective.modules.values():
        module.train()
    optimizer = optimisers.optimiser(objective.groups(), training.schedule)
    images, labels = next(data.batches(seed=0, training="stage two", epoch=0, batch_size=BATCH_SIZE))
    autocast = hardware.autocast(DEVICE, PRECISION)
    with autocast:
        cached = objective.target(images) if training.uncached else None
    while True:
        with autocast:
            target = objective.target(images) if cached is None else cached
            values, _ = objective.losses(images, labels, target)
        optimizer.zero_grad()
        values["total"].backward()
        optimizer.step()
        yield len(images)


def loop_steps(training: Training, data: Data) -> Iterator[int]:
    """An epoch of the tutorial's kind of loop."""
    objective = training.build()
    for module in objective.modules.values():
        module.to(memory_format=torch.contiguous_format).train()
    if objective.teacher is not None:
        objective.teacher.to(memory_format=torch.contiguous_format)
    parameters = [parameter for group in objective.groups() for parameter in group["params"]]
    optimizer = torch.optim.SGD(parameters, LEARNING_RATE, momentum=0.9)
    running_loss = 0.0
    for images, labels in DataLoader(per_image(data), BATCH_SIZE, shuffle=True, num_workers=WORKERS, drop_last=True):
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        optimizer.zero_grad()
        values, _ = objective.losses(images, labels, objective.target(images))
        values["total"].backward()
        optimizer.step()
        running_loss += values["total"].item()
        yield len(images)


def torchdistill_rates(steps: int) -> Round:
    """What `torchdistill_run.py` measures in as many steps; nothing where its environment was not made."""
    if not (TORCHDISTILL / "ready").exists():
        return {}
    command = [TORCHDISTILL / "bin" / "python", FOLDER / "torchdistill_run.py", str(DEVICE), str(steps)]
    environment = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {("torchdistill", name): rate for name, rate in json.loads(output).items()}


def matrix_rate() -> float:
    """FLOP/s of products of large square matrices, over half a second or more."""
    size = 8192 if DEVICE.type == "cuda" else 2048
    matrix = torch.rand(size, size, device=DEVICE, dtype=getattr(torch, PRECISION))
    product = torch.mm(matrix, matrix)
    synchronize(DEVICE)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.5:
        for _ in range(4):
            torch.mm(matrix, matrix, out=product)
        synchronize(DEVICE)
        count += 4
    return count * 2 * size**3 / (time.perf_counter() - started)


def flops_per_image(training: Training, data: Data) -> float:
    """FLOPs of a training step, an image: those of convolutions and matrix products, forward and backward."""
    steps = bare_steps(training, data)
    next(steps)
    with FlopCounterMode(display=False) as counter:
        images = next(steps)
    return counter.get_total_flops() / images


def measure_round(data: Data, steps: int) -> Round:
    """Every contender of this process once on every training, ``steps`` steps each."""
    rates = {}
    images = steps * BATCH_SIZE
    epoch = dataclasses.replace(data, train_images=data.train_images[:images], train_labels=data.train_labels[:images])
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, KDLIB_ROOT=folder):
        for name, training in TRAININGS.items():
            rates["fit", name] = fit_rate(name, epoch)
            rates["bare", name] = steady_rate(bare_steps(training, data), steps, DEVICE)
            if training.uncached is None:
                rates["loop", name] = steady_rate(loop_steps(training, data), steps, DEVICE)
    rates["matrix", "product"] = matrix_rate()
    return rates


# The table


@dataclass(frozen=True)
class Row:
    """One line of the table: ``values`` are a figure's value in each round."""

    number: int
    figure: str
    training: str
    values: list[float]
    target: str = ""
    rates: str = ""

    def __str__(self) -> str:
        value = statistics.median(self.values)
        spread = f"{min(self.values):.2f} to {max(self.values):.2f}"
        cells = (
            self.number,
            self.figure,
            self.training,
            f"{value:.2f}",
            spread,
            self.target,
            self.met(value),
            self.rates,
        )
        return "| " + " | ".join(map(str, cells)) + " |"

    def met(self, value: float) -> str:
        """Whether the target, e.g. "≥ 0.95", is met."""
        if not self.target:
            return ""
        relation, bound = self.target.split()
        return "yes" if (value >= float(bound) if relation == "≥" else value <= float(bound)) else "**no**"


def table(rounds: list[Round], flops: dict[str, float]) -> str:
    """The Markdown table of all rounds; ``flops`` are FLOPs an image of each training."""
    gpu = DEVICE.type == "cuda"

    def over(number: int, figure: str, name: str, other: tuple[str, str], target: str = "") -> Row:
        """``fit``'s images/s of a training over another rate."""
        values = [rates["fit", name] / rates[other] for rates in rounds]
        shown = " / ".join(
            f"{statistics.median(rates[key] for rates in rounds):,.0f}" for key in (("fit", name), other)
        )
        return Row(number, figure, TRAININGS[name].title, values, target, f"{shown} images/s")

    def time_over(number: int, figure: str, training: str, other: str, plans: tuple[tuple, tuple], target: str) -> Row:
        """Another contender's time over ``fit``'s for whole trainings, ``plans`` naming those of each."""
        values = [seconds(rates, other, plans[1]) / seconds(rates, "fit", plans[0]) for rates in rounds]
        return Row(number, figure, training, values, target)

    rows = [over(1, "fit / bare computation", name, ("bare", name), "≥ 0.95") for name in TRAININGS]
    for name, training in TRAININGS.items():
        target = ("≥ 10" if gpu else "≥ 3") if name == "distill" else ""
        rows.append(over(2, "fit / tutorial's loop", name, ("loop", training.uncached or name), target))
    if all(("torchdistill", "distill") in rates for rates in rounds):
        target = "≥ 10" if gpu else "≥ 2.5"
        rows.append(over(3, "fit / torchdistill", "distill", ("torchdistill", "distill"), target))
        for title, plan in (("uncached", "distill"), ("cached logits", "exp2-cached")):
            plans = (("hint", plan), ("hint", "exp2"))
            rows.append(
                time_over(3, "fit / torchdistill", f"FitNet's two stages, {title}", "torchdistill", plans, target)
            )
    for name, bound in (("hint", "≤ 0.6"), ("exp1", "≤ 0.7"), ("exp1-cached", "≤ 0.7")):
        values = [rates["fit", "distill"] / rates["fit", name] for rates in rounds]
        rows.append(Row(4, "time / distillation's", TRAININGS[name].title, values, bound))
    target = "≥ 10" if gpu else "≥ 2.5"
    rows.append(time_over(5, "fit / tutorial's loop", "whole study", "loop", (REPLICATE, REPLICATE_UNCACHED), target))
    for name, training in TRAININGS.items():
        values = [flops[name] * rates["fit", name] / rates["matrix", "product"] for rates in rounds]
        shown = f"{flops[name] / 1e6:,.0f} MFLOP an image"
        rows.append(Row(6, "FLOP/s / matrix product's", training.title, values, rates=shown))
    head = "| row | figure | training | median | rounds | target | met | from |\n|---|---|---|---|---|---|---|---|\n"
    return head + "".join(f"{row}\n" for row in rows)


def seconds(rates: Round, contender: str, plan: tuple[str, ...]) -> float:
    """Seconds an image that ``contender`` takes for the trainings of ``plan``, all epochs of the full profile."""
    epochs = {name: training.schedule.epochs for name, training in TRAININGS.items()} | {"exp2": PROFILE.student.epochs}
    return sum(epochs[name] / rates[contender, name] for name in plan)


def images_per_second(rounds: list[Round]) -> dict[str, dict[str, float]]:
    """Medians over the rounds: {title of a training: {contender: images/s}}."""
    titles = {"fit": "fit", "loop": "tutorial's loop", "torchdistill": "torchdistill"}
    shown: dict[str, dict[str, float]] = {}
    for name, training in TRAININGS.items():
        for contender, title in titles.items():
            # Only `fit` has a cache: the others always run the teacher.
            key = (contender, name if contender == "fit" else training.uncached or name)
            if key in rounds[0]:
                rates = shown.setdefault(training.title, {})
                rates[title] = round(statistics.median(rates[key] for rates in rounds))
    return shown


def report(rounds: list[Round], flops: dict[str, float], steps: int, machine: dict[str, Any]) -> str:
    """The whole result file: machine, table, and how to read it."""
    matrix = statistics.median(rates["matrix", "product"] for rates in rounds)
    notes = [
        f"Medians over {len(rounds)} rounds of {steps} steps of {BATCH_SIZE} images; beside them the smallest and the "
        "largest round. Ratios of speed, but for row 4, which are of time. "
        f"The matrix product runs at {matrix / 1e9:,.0f} GFLOP/s. Rows 3 (FitNet) and 5 weigh each training with its "
        "epochs in the full profile. `bench.py` says what each contender does.",
        "Distillation runs the teacher and caches its logits; exp. 2's stage two computes the same, and like exp. 1's "
        "reads the cached logits in a study. Its bare computation is then given the logits too; the tutorial's loop "
        "and torchdistill always run the teacher.",
    ]
    if DEVICE.type == "cpu" and PRECISION == "float32":
        notes.append(
            "The targets of rows 2, 3 and 5 were set for processors that multiply bfloat16; this one does not."
        )
    if not any("torchdistill" in key for key in rounds[0]):
        notes.append("Row 3 was not measured: torchdistill's environment is missing (`make bench` makes it).")
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    return f"# Benchmark\n\n{described}.\n\n{table(rounds, flops)}\n" + "\n\n".join(notes) + "\n"


def main() -> None:
    """Measure, print the table and write it beside this file."""
    parser = argparse.ArgumentParser(description="Measure kdlib's training loop; print and write one table.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--steps", type=int, default=300 if DEVICE.type == "cuda" else 10, help="of each training a round"
    )
    arguments = parser.parse_args()
    try:
        data = datasets.load("cifar10", DEVICE)
    except (DataUnavailable, files.StorageError) as error:
        sys.exit(f"The benchmark needs CIFAR-10. {error}")
    # What fit does with the test images is not measured: keep few of them.
    data = dataclasses.replace(data, test_images=data.test_images[:100], test_labels=data.test_labels[:100])
    measure_round(data, steps=1)  # not counted: libraries choose their algorithms
    flops = {name: flops_per_image(training, data) for name, training in TRAININGS.items()}
    rounds = []
    for number in range(arguments.rounds):
        rounds.append(measure_round(data, arguments.steps) | torchdistill_rates(arguments.steps))
        print(f"round {number + 1} of {arguments.rounds} measured", file=sys.stderr, flush=True)
    machine = hardware.describe_machine(DEVICE) | {
        "precision": PRECISION,
        "cores": os.cpu_count(),
        "date": time.strftime("%Y-%m-%d"),
    }
    result = report(rounds, flops, arguments.steps, machine)
    print(result)
    path = FOLDER / f"{DEVICE.type}-{PRECISION}.md"
    path.write_text(result)
    files.write_json(path.with_suffix(".json"), {"machine": machine, "images_per_second": images_per_second(rounds)})


if __name__ == "__main__":
    main()

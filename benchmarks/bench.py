"""How fast kdlib trains, beside other ways to do it: ``make bench``.

Speeds on shared machines drift, so nothing is compared across time. In every round each training of the study is
measured in turn by all contenders, with untrained networks, which changes no time; a figure is the median of the
rounds' own ratios.

    fit               `kdlib.training.fit` as it records its own training phase: all but evaluation and checkpoint
    bare computation  the same objective, precision and layout: its steps on one batch that stays on the device
    tutorial's loop   the loop of PyTorch's knowledge-distillation tutorial: images augmented one by one by torchvision
                      in two workers, float32, contiguous layout, ``.item()`` after each step; with kdlib's objectives,
                      so that it computes no more than ``fit`` does
    torchdistill      its distillation and its two FitNet stages, in a process of its own

Then three of them distil students from the published teacher, by recipes of their own, to 85, 88 and 90 % if they can.
A turn of ``fit`` is a whole training, one of the others an epoch; tests cost no time here.

    fit               the recipe of the full profile in 2, 4, 8, 12 and 18 epochs; each training starts anew
    tutorial's loop   Adam with rate 0.001, batches of 128, T = 2, soft loss 0.25, hard loss 0.75, images normalised but
                      not augmented
    torchdistill      its sample recipe for CIFAR-10: SGD with rate 0.1 (until epoch 91), momentum 0.9, weight decay
                      10⁻⁴, batches of 128, T = 4, hard loss 0.9, images shifted and mirrored at random
"""

import copy
import dataclasses
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Any

import contenders
import numpy as np
import pandas as pd
from contenders import DEVICE, FOLDER, FULL, LEARNING_RATE, PRECISION, tutorial_steps
from torch.optim import SGD, Adam

from kdlib import hardware, models
from kdlib.data import Data
from kdlib.errors import KdlibError
from kdlib.objectives import Distill
from kdlib.report import plots
from kdlib.storage import files
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Profile
from kdlib.training import fit

# Trainings, as the tables call them; those called "cached" read the logits that distillation stored.
TRAININGS = {
    "teacher": "teacher",
    "baseline": "student alone",
    "distill": "distillation",
    "exp1-cached": "exp. 1 stage two, cached logits",
    "exp2-cached": "exp. 2 stage two, cached logits",
    "hint": "stage one",
    "exp1": "exp. 1 stage two, uncached",
}
# In their order in legends, of the palette of Okabe and Ito.
COLOURS = {"fit": "#0072B2", "tutorial's loop": "#E69F00", "torchdistill": "#CC79A7"}
NAME = f"{DEVICE.type}-{PRECISION}"  # of the files it writes
ROUNDS = 5
STEPS = 150 if DEVICE.type == "cuda" else 10  # of each training in a round; an epoch has 195
TARGETS = (85.0, 88.0, 90.0)  # percent of the test images
EPOCHS = (2, 4, 8, 12, 18)  # of fit's trainings to an accuracy
LIMIT = 20.0  # minutes of training to an accuracy

Rates = dict[tuple[str, str], Any]  # {(contender, training): images/s}, a number in a round, an array of all rounds
Point = tuple[float, float]  # minutes of training so far, test accuracy in percent

READING = (
    f"Medians over {ROUNDS} rounds of {STEPS} steps of {FULL.scratch.batch_size} images; beside them the smallest and "
    "the largest round. Ratios of speed, but for row 4, which are of time. Rows 3 (FitNet) and 5 weigh each training "
    "with its epochs in the full profile. Row 3 is left out where torchdistill's environment is missing (`make bench` "
    "makes it). `bench.py` says what each contender does.\n\n"
    "Distillation runs the teacher and caches its logits; exp. 2's stage two computes the same, and like exp. 1's "
    "reads the cached logits in a study. Its bare computation is then given the logits too; the tutorial's loop and "
    "torchdistill always run the teacher."
)


def measure_round(profile: Profile, data: Data, steps: int) -> Rates:
    """Every contender of this process once on every training, ``steps`` steps each."""
    rates, batch_size = {}, profile.scratch.batch_size
    epoch = copy.copy(data)
    for part, count in (("train", steps * batch_size), ("test", 100)):  # the test behind an epoch is not measured
        for name in (f"{part}_images", f"{part}_labels"):
            setattr(epoch, name, getattr(data, name)[:count])
    with contenders.scratch():
        for name in TRAININGS:
            run = Replicate(profile).run(name)
            if not name.endswith("cached"):
                shutil.rmtree(run.replicate.logits, ignore_errors=True)
            schedule = dataclasses.replace(run.schedule, epochs=1, learning_rate=LEARNING_RATE)
            fit(contenders.build(run), epoch, schedule, run)
            rates["fit", name] = run.timing()["images_per_second"][-1]
            rates["bare computation", name] = contenders.steady_rate(contenders.bare_steps(run, data), steps)
            objective, batches = contenders.build(run), contenders.batches(data, batch_size)
            loop = tutorial_steps(objective, batches, SGD(objective.groups(), LEARNING_RATE, momentum=0.9))
            rates["tutorial's loop", name] = contenders.steady_rate(loop, steps)
    return rates


def table(rates: Rates) -> str:
    """The Markdown table of all rounds."""
    rows = ["| row | figure | training | median | rounds | from |", "|---|---|---|---|---|---|"]

    def add(number: int, figure: str, training: str, values: np.ndarray, source: str = "") -> None:
        spread = f"{min(values):.2f} to {max(values):.2f}"
        rows.append(f"| {number} | {figure} | {training} | {np.median(values):.2f} | {spread} | {source} |")

    def compare(number: int, contender: str, name: str) -> None:
        """The speed of ``fit`` over another's."""
        ours, theirs = rates["fit", name], rates[contender, name]
        source = f"{np.median(ours):,.0f} / {np.median(theirs):,.0f} images/s"
        add(number, f"fit / {contender}", TRAININGS[name], ours / theirs, source)

    def seconds(contender: str, *names: str) -> np.ndarray:
        """Seconds that a training image costs in all epochs of some trainings."""
        return sum(STUDY.arm(name).schedule(FULL).epochs / rates[contender, name] for name in names)

    for name in TRAININGS:
        compare(1, "bare computation", name)
    for name in TRAININGS:
        compare(2, "tutorial's loop", name)
    if ("torchdistill", "distill") in rates:
        compare(3, "torchdistill", "distill")
        for logits, stage_two in (("uncached", "distill"), ("cached logits", "exp2-cached")):
            values = seconds("torchdistill", "hint", "exp2-cached") / seconds("fit", "hint", stage_two)
            add(3, "fit / torchdistill", f"FitNet's two stages, {logits}", values)
    for name in ("hint", "exp1", "exp1-cached"):
        add(4, "time / distillation's", TRAININGS[name], rates["fit", "distill"] / rates["fit", name])
    study = [name for name in TRAININGS if name != "exp1"]  # a study reads the cached logits
    add(5, "fit / tutorial's loop", "whole study", seconds("tutorial's loop", *study) / seconds("fit", *study))
    return "\n".join(rows)


def distillation(temperature: float, alpha: float) -> Distill:
    """Of a new student from the published teacher."""
    teacher = Replicate(STUDY.profile("published")).load("teacher", DEVICE)
    return Distill(teacher, models.student().to(DEVICE), temperature, alpha)


def fit_points(data: Data) -> Iterator[Point]:
    """A training of each length."""
    for epochs in EPOCHS:
        schedule = dataclasses.replace(FULL.scratch, epochs=epochs)
        with contenders.scratch():
            run = Replicate(FULL).run("distill")
            record = fit(distillation(FULL.temperature, FULL.alpha), data, schedule, run)
            seconds = sum(run.timing()["train_seconds"])
        yield seconds / 60, record.test["accuracy"][-1]


def tutorial_points(data: Data) -> Iterator[Point]:
    """The tutorial's loop, epoch by epoch."""
    objective, loader = distillation(temperature=2.0, alpha=0.25), contenders.batches(data, 128, augmented=False)
    adam = Adam(objective.student.parameters(), lr=0.001)
    return contenders.timed_epochs(lambda: sum(tutorial_steps(objective, loader, adam)), objective.student, data)


def race(racers: dict[str, Iterator[Point]]) -> dict[str, list[Point]]:
    """The points of each contender until it has reached all targets or the limit, without those that have none."""
    points: dict[str, list[Point]] = {}
    while racers:
        for name, racer in list(racers.items()):
            minutes, accuracy = next(racer, (LIMIT, 0.0))
            if accuracy > 0:
                points.setdefault(name, []).append((minutes, accuracy))
                print(f"{name}: {accuracy:.2f} % after {minutes:.1f} min", flush=True)
            if minutes >= LIMIT or accuracy >= max(TARGETS):
                del racers[name]
    return points


def report(points: dict[str, list[Point]]) -> str:
    """Minutes to each target and the best accuracy as a Markdown table, how to read it, and the points behind it."""
    head = ["distilled student by", *(f"minutes to {target:g} %" for target in TARGETS), "best accuracy", "trained for"]
    rows, curves = [head, ["---"] * len(head)], []
    for name, curve in points.items():
        reached = [[minutes for minutes, accuracy in curve if accuracy >= target] for target in TARGETS]
        times = [f"{min(minutes):.1f}" if minutes else "not reached" for minutes in reached]
        rows.append([name, *times, f"{max(accuracy for _, accuracy in curve):.2f} %", f"{curve[-1][0]:.1f} min"])
        told = (f"{accuracy:.2f} % after {minutes:.1f} min" for minutes, accuracy in curve)
        curves.append(f"- {name}: {', '.join(told)}")
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{table}\n\nOne training each. Recipes, augmentation and precision are each contender's own (see "
        "`bench.py`). Each point of fit is a training of its own, of 2, 4, 8, 12 and 18 epochs until the last "
        "target; those of the others are the first epochs of one. torchdistill's recipe is made for 182 epochs, and "
        "lowers the rate after 91 of them.\n\n" + "\n".join(curves)
    )


def draw(speed: dict[str, Any], accuracy: dict[str, Any]) -> plots.Figure:
    """Images/s of each training by each contender, and accuracy over minutes of training with the targets."""
    machine = ", ".join(str(speed["machine"][key]) for key in ("device", "precision", "date"))
    figure, (bars, curves) = plots.new("Speed beside other implementations", "cifar10", machine, 2, 1, 8)
    trainings = [*speed["images_per_second"]][::-1]
    rates = pd.DataFrame(speed["images_per_second"], index=[*COLOURS][::-1], columns=trainings).T
    rates.plot.barh(ax=bars, color=COLOURS, width=0.8, legend=False)
    for drawn in bars.containers:
        labels = [f"{rate:,.0f}" if rate > 0 else "" for rate in drawn.datavalues]
        bars.bar_label(drawn, labels, padding=2, fontsize="small")
    bars.grid(False, axis="y")
    bars.margins(x=0.15)
    bars.set(title="training speed", xlabel="images/s")
    for name, points in accuracy["points"].items():
        style, label = ("o", "kdlib") if name == "fit" else (".-", name)
        curves.plot(*np.transpose(points), style, color=COLOURS[name], label=label)
    for target in accuracy["targets"]:
        curves.axhline(target, color=plots.GREY, linestyle=":", linewidth=1)
        curves.annotate(f"{target:g} %", (1, target), (4, 0), xycoords=("axes fraction", "data"),
                        textcoords="offset points", va="center", color=plots.GREY, fontsize="small")  # fmt: skip
    curves.set(title="the distilled student", xlabel="minutes of training", ylabel="test accuracy (%)", xlim=(0, None))
    curves.legend(loc="lower right")
    return figure


def write(kind: str, title: str, body: str, **numbers: Any) -> dict[str, Any]:
    """Print a report, and write it and its ``numbers`` beside this file; return these with the machine."""
    machine = hardware.describe_machine(DEVICE) | {"precision": PRECISION, "cores": os.cpu_count()}
    machine["date"] = time.strftime("%Y-%m-%d")
    described = ", ".join(f"{key} {value}" for key, value in machine.items())
    print(text := f"# {title}\n\n{described}.\n\n{body}\n")
    (FOLDER / f"{NAME}{kind}.md").write_text(text)
    numbers["machine"] = machine
    files.write_json(FOLDER / f"{NAME}{kind}.json", numbers)
    return numbers


def main() -> None:
    """Measure speed and accuracy; print the two reports, and write them and the picture."""
    try:
        data = Replicate(FULL).data(DEVICE)
    except KdlibError as error:
        sys.exit(f"The benchmark needs CIFAR-10. {error}")
    measure_round(FULL, data, steps=1)  # not counted: libraries choose their algorithms
    answers, rounds = contenders.torchdistill(str(STEPS)), []
    for number in range(ROUNDS):
        others = {("torchdistill", name): rate for name, rate in next(answers, {}).items()}
        rounds.append(measure_round(FULL, data, STEPS) | others)
        print(f"round {number + 1} of {ROUNDS} measured", file=sys.stderr, flush=True)
    answers.close()
    rates = {key: np.array([one[key] for one in rounds]) for key in rounds[0]}
    medians = {
        title: {who: round(np.median(rates[who, name])) for who in COLOURS if (who, name) in rates}
        for name, title in TRAININGS.items()
    }
    speed = write("", "Benchmark", f"{table(rates)}\n\n{READING}", images_per_second=medians)
    racers = {"fit": fit_points(data), "tutorial's loop": tutorial_points(data)}
    points = race(racers | {"torchdistill": contenders.torchdistill("accuracy")})
    accuracy = write("-accuracy", "Minutes to an accuracy", report(points), targets=TARGETS, points=points)
    plots.save(draw(speed, accuracy), FOLDER, NAME)


if __name__ == "__main__":
    main()

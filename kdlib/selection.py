"""How the settings of the study were chosen, one change at a time, without a look at the test split.

Short trainings on 45,000 of CIFAR-10's training images, judged on the other 5,000. The recipe is that of the full
profile, but for the epochs; every trial changes one thing in it. The recipe, and changes that score above it with the
first seed, are tried with a second one. Of the students a change was adopted where it gained half a point of accuracy
or more, of stage one where R² was highest.

python -m kdlib.selection    train what is missing, write results/selection.json and print it
"""

import dataclasses
import re
import statistics
from typing import Any

import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from kdlib import datasets, models
from kdlib.datasets import Data
from kdlib.models import ConvNet
from kdlib.objectives import REGRESSOR_RATE, Classify, Distill, Hint, Losses, Objective
from kdlib.regressors import Regressor
from kdlib.storage import files, runs
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY, Profile, Stage
from kdlib.training import fit

HELD_OUT = 5_000  # images
EPOCHS = 4  # of teacher and students; stage one has half as many
STAGES: dict[str, Stage] = {
    "teacher": "teacher", "baseline": "stage two", "distill": "stage two", "hint": "stage one",
}  # fmt: skip

SGD = {"optimiser": "SGD", "learning_rate": 0.2, "momentum": 0.9, "batch_size": 128, "warmup": 0.2}
EARLIER_WIDTHS = ((16,), (40, 40, 40), (64, 64, 64, 64), (72, 72, 72))

# What a change of a training is called, and the settings that it changes.
CHANGES: dict[str, dict[str, dict[str, Any]]] = {
    "teacher": {
        "learning rate 0.2": {"learning_rate": 0.2},
        "label smoothing 0.1": {"smoothing": 0.1},
    },
    "baseline": {
        "learning rate 0.05": {"learning_rate": 0.05},
        "learning rate 0.2": {"learning_rate": 0.2},
        "momentum 0.4": {"momentum": 0.4},
        "momentum 0.8": {"momentum": 0.8},
        "batches of 128": {"batch_size": 128},
        "batches of 512": {"batch_size": 512},
        "weight decay 0.0001": {"weight_decay": 1e-4},
        "weight decay 0.002": {"weight_decay": 2e-3},
        "weight decay 0.005": {"weight_decay": 5e-3},
        "warm-up 20 %": {"warmup": 0.2},
        "earlier widths": {"widths": EARLIER_WIDTHS},
        "SGD": SGD,
    },
    "hint": {
        "learning rate 0.1": {"learning_rate": 0.1},
        "learning rate 0.4": {"learning_rate": 0.4},
        "regressor rate × 4": {"regressor_rate": 4.0},
        "regressor rate × 32": {"regressor_rate": 32.0},
        "SGD": SGD | {"learning_rate": 0.4, "regressor_rate": 1.0},
    },
    "distill": {
        "temperature 2": {"temperature": 2.0},
        "temperature 8": {"temperature": 8.0},
        "alpha 0.5": {"alpha": 0.5},
        "alpha 0.9": {"alpha": 0.9},
    },
}


class Smoothed(Classify):
    """Labels of which a share ``smoothing`` is spread evenly over the classes: Szegedy et al. (2016), section 7."""

    def __init__(self, model: ConvNet, smoothing: float):
        super().__init__(model)
        self.smoothing = smoothing

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"smoothing": self.smoothing}

    def losses(self, images: Tensor, labels: Tensor, target: None) -> tuple[Losses, Tensor]:
        logits = self.model(images)  # (B, classes)
        return {"total": F.cross_entropy(logits.float(), labels, label_smoothing=self.smoothing)}, logits


def recipe(epochs: int) -> Profile:
    """The full profile with fewer epochs."""
    full = STUDY.profile("full")
    lengths = {"teacher": epochs, "student": epochs, "hint": max(1, epochs // 2)}
    schedules = {name: dataclasses.replace(getattr(full, name), epochs=length) for name, length in lengths.items()}
    return dataclasses.replace(full, name="selection", **schedules)


def train(training: str, change: str, seed: int, data: Data) -> float:
    """The score of one trial on the held-out images; what an earlier call trained is not trained again.

    It is the accuracy in percent; of stage one ("hint") R², in percent too. Distillation and stage one learn from the
    recipe's teacher of the seed, which must have been trained.
    """
    settings, profile = dict(CHANGES[training].get(change, {})), recipe(EPOCHS)
    replicate = Replicate(profile, seed)
    run = replicate.run("-".join([training, *re.findall(r"[a-z0-9.]+", change.lower())]))
    make = models.teacher if training == "teacher" else models.student
    model = make(seed, widths=settings.pop("widths", None)).to(data.device)
    smoothing = settings.pop("smoothing", 0.0)
    distillation = [settings.pop(name, getattr(profile, name)) for name in ("temperature", "alpha")]
    objective: Objective = Smoothed(model, smoothing) if smoothing else Classify(model)
    if training in ("distill", "hint"):
        teacher = models.load(replicate.run("teacher"), data.device)
        objective = Distill(teacher, model, *distillation)
        if training == "hint":
            regressor = Regressor(model, teacher, data.sample(), seed=seed)
            objective = Hint(teacher, model, regressor, settings.pop("regressor_rate", REGRESSOR_RATE))
    schedule = dataclasses.replace(profile.schedule(STAGES[training]), **settings)
    test = fit(objective, data, schedule, run).test
    return test["accuracy"][-1] if "accuracy" in test else 100 * (1 - test["total"][-1] / test["power"][-1])


def select() -> list[dict[str, Any]]:
    """Train every trial; one row each, with its score for each seed and what the change moved: the mean difference."""
    data = datasets.hold_out(datasets.load("cifar10"), HELD_OUT)
    rows = []
    for training, changes in CHANGES.items():
        of_recipe = [train(training, "", seed, data) for seed in (0, 1)]
        for change in ("", *changes):
            scores = [train(training, change, 0, data)]
            if scores[0] >= of_recipe[0]:
                scores.append(train(training, change, 1, data))
            moved = statistics.mean(score - old for score, old in zip(scores, of_recipe, strict=False))
            scores = [round(score, 2) for score in scores]
            rows.append({"training": training, "change": change, "scores": scores, "moved": round(moved, 2)})
    return rows


def main() -> None:
    """See the module's documentation."""
    rows, path = select(), runs.root() / "results" / "selection.json"
    files.write_json(path, {"held_out": HELD_OUT, "recipe": dataclasses.asdict(recipe(EPOCHS)), "trials": rows})
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()

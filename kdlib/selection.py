"""How the settings of the study were chosen, without a look at the test split.

Short trainings on 45,000 of CIFAR-10's training images, judged on the other 5,000. The recipe is that of the full
profile, but for the epochs.

The teacher, the baseline, the distilled student and stage one: every trial changes one thing in the recipe. The recipe,
and changes that score above it with the first seed, are tried with a second one. Of the students a change was adopted
where it gained half a point of accuracy or more, of stage one where R² was highest.

Every arm tries the same learning rates, and in a single stage the same weights of the hint loss; except the teacher and
the arms that vary only the rate or the length of another. Where the best value is the lowest or the highest of them,
further ones are tried until it is neither. Where it gains half a point or more, a second seed is tried with it and with
the recipe's value. It was adopted where it gains half a point there too: the best of several values gains more with the
seed that chose it than with others.

python -m kdlib.selection    train what results/selection.json lacks, add it there and print it
"""

import dataclasses
import re
import statistics
import sys
from collections.abc import Iterator
from typing import Any

import pandas as pd
import torch.nn.functional as F
from torch import Tensor

from kdlib import arms, datasets, models
from kdlib.datasets import Data
from kdlib.design import Arm, Study
from kdlib.models import ConvNet
from kdlib.objectives import Classify, Losses
from kdlib.settings import Profile, Recipe
from kdlib.storage import files, folders
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.files import BusyError, StorageError
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import EXTENDED
from kdlib.training import DivergedError, TrainingError, fit

HELD_OUT = 5_000  # images
ENOUGH = 0.5  # points that a change has to gain to be adopted
EPOCHS = 4  # of teacher and students; stage one has half as many
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

# What every arm tries first: fields of `settings.Recipe`, the first one for those that train in a single stage.
GRIDS: dict[str, tuple[float, ...]] = {"hint_weight": (0.25, 1.0, 4.0, 16.0), "rate": (0.5, 1.0, 2.0)}

Row = dict[str, Any]


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
    full = EXTENDED.profile("full")
    lengths = {"teacher": epochs, "student": epochs, "hint": max(1, epochs // 2)}
    schedules = {name: dataclasses.replace(getattr(full, name), epochs=length) for name, length in lengths.items()}
    return dataclasses.replace(full, name="selection", **schedules)


def train(arm: str, change: str, settings: dict[str, Any], seed: int, data: Data) -> float:
    """The score of one trial on the held-out images; what an earlier call trained is not trained again.

    It is the accuracy in percent; of stage one R², in percent too; 0 of a training that diverged.

    Args:
        arm: whose recipe is changed. The arms that it needs are trained by their recipes, if they were not yet.
        change: names the trial; "" is the recipe itself.
        settings: the changed ones, by name.
        seed: of the replicate.
        data: whose test images are the held-out ones.
    """
    for need in EXTENDED.arm(arm).needs:
        train(need, "", {}, seed, data)
    settings = dict(settings)
    profile = dataclasses.replace(recipe(EPOCHS), **_pop(settings, "temperature"))
    study = _with_recipe(arm, **_pop(settings, *(field.name for field in dataclasses.fields(Recipe))))
    run = Replicate(profile, seed, study).run("-".join([arm, *re.findall(r"[a-z0-9._]+", change.lower())]))
    objective = arms.objective(run, data)
    if "widths" in settings:
        objective = Classify(models.student(seed, widths=settings.pop("widths")).to(data.device))
    if "smoothing" in settings:
        objective = Smoothed(objective.modules["model"], settings.pop("smoothing"))
    if "regressor_rate" in settings:
        objective.regressor_rate = settings.pop("regressor_rate")
    try:
        test = fit(objective, data, dataclasses.replace(run.schedule, **settings), run).test
    except DivergedError:
        return 0.0
    return test["accuracy"][-1] if "accuracy" in test else 100 * (1 - test["total"][-1] / test["power"][-1])


def _pop(settings: dict[str, Any], *names: str) -> dict[str, Any]:
    """Take out those of the settings that are there."""
    return {name: settings.pop(name) for name in names if name in settings}


def _with_recipe(name: str, **changes: Any) -> Study:
    """The extended study with a changed recipe of one arm."""
    changed = (
        dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, **changes)) if arm.name == name else arm
        for arm in EXTENDED.arms
    )
    return dataclasses.replace(EXTENDED, arms=tuple(changed))


def try_changes(data: Data, known: list[Row]) -> Iterator[Row]:
    """One row a trial: its score for each seed, and what the change moved: the mean difference from the recipe's.

    Rows of ``known`` trials are taken from there.
    """
    found = {(row["training"], row["change"]): row for row in known}
    for arm, changes in CHANGES.items():
        for change, settings in {"": {}, **changes}.items():
            row = found.get((arm, change))
            if row is None:
                seeds = (0, 1)
                of_recipe = [train(arm, "", {}, seed, data) for seed in seeds]
                scores = [train(arm, change, settings, 0, data)]
                if scores[0] >= of_recipe[0]:
                    scores.append(train(arm, change, settings, 1, data))
                moved = statistics.mean(score - old for score, old in zip(scores, of_recipe, strict=False))
                scores = [round(score, 2) for score in scores]
                row = {"training": arm, "change": change, "scores": scores, "moved": round(moved, 2)}
            yield row


def try_grids(data: Data, known: list[Row]) -> Iterator[Row]:
    """One row an arm and setting: the score of each value of the grid; stages one first, as others rest on them.

    Where a value scores so much above the recipe's that it may be adopted, "second" has both scores of a second seed.
    Rows of ``known`` grids are taken from there, unless a recipe on which they rest has changed.
    """
    for arm in sorted(EXTENDED.arms, key=lambda arm: arm.stage != "stage one"):
        if arm.stage == "teacher" or _varies(arm):
            continue
        names = [name for name in (arm.name, *arm.needs) if EXTENDED.arm(name).stage != "teacher"]
        for setting in GRIDS:
            own = getattr(arm.recipe, setting)
            if not own:
                continue
            recipes = {name: dataclasses.asdict(EXTENDED.arm(name).recipe) for name in names}
            del recipes[arm.name][setting]  # the value that it has by now changes no score
            row = {"arm": arm.name, "setting": setting, "recipes": recipes}
            found = next((other for other in known if row == {key: other[key] for key in row}), None)
            if found is None:
                scores = _scores(arm, setting, data)
                found = row | {"values": list(scores), "scores": list(scores.values()), "second": []}
                best = max(scores, key=scores.__getitem__)
                if scores[best] - scores[own] >= ENOUGH:
                    found["second"] = [[value, _score(arm, setting, value, 1, data)] for value in (own, best)]
            yield found


def _varies(arm: Arm) -> bool:
    """Whether an arm is an earlier one but for its length or rate, and so has that one's settings otherwise."""
    earlier = EXTENDED.arms[: EXTENDED.arms.index(arm)]
    return any(
        (other.stage, other.needs) == (arm.stage, arm.needs)
        and dataclasses.replace(other.recipe, length=arm.recipe.length, rate=arm.recipe.rate) == arm.recipe
        for other in earlier
    )


def _score(arm: Arm, setting: str, value: float, seed: int, data: Data) -> float:
    change = "" if value == getattr(arm.recipe, setting) else f"{setting} {value:g}"
    return round(train(arm.name, change, {setting: value}, seed, data), 2)


def _scores(arm: Arm, setting: str, data: Data) -> dict[float, float]:
    """The score of each value of a setting's grid, and of values beyond it while the outermost one is the best."""
    scores: dict[float, float] = {}
    values: tuple[float, ...] = GRIDS[setting]
    while values:
        scores |= {value: _score(arm, setting, value, 0, data) for value in values}
        scores = dict(sorted(scores.items()))
        tried = list(scores)
        best = [value for value in tried if scores[value] == max(scores.values())]
        values = (tried[0] ** 2 / tried[1],) * (best == tried[:1]) + (tried[-1] ** 2 / tried[-2],) * (
            best == tried[-1:]
        )
    return scores


def main() -> None:
    """See the module's documentation."""
    path = folders.root() / "results" / "selection.json"
    as_read = dataclasses.asdict(recipe(EPOCHS)) | {"changes": []}  # JSON has no tuples
    content: dict[str, Any] = {"held_out": HELD_OUT, "recipe": as_read}
    known: dict[str, list[Row]] = {"trials": [], "grids": []}
    if path.exists():
        old = files.read_json(path)
        if any(old.get(key) != content[key] for key in content):
            raise StorageError(f"{path} is of another recipe: delete it to try everything again.")
        known |= {key: old[key] for key in known if key in old}
    data = datasets.hold_out(datasets.load("cifar10"), HELD_OUT)
    made: dict[str, list[Row]] = {"trials": [], "grids": []}
    for key, tried in (("trials", try_changes), ("grids", try_grids)):
        for row in tried(data, known[key]):
            made[key].append(row)
            later = {name: known[name] for name in known if not made[name]}  # not reached yet, and so not lost
            files.write_json(path, content | made | later)
        print(pd.DataFrame(made[key]).to_string(index=False))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, BusyError, DataUnavailable, NotTrained, StorageError, TrainingError) as error:
        sys.exit(str(error))

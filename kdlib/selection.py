"""How the settings of the full profile were chosen, without a look at the test split.

Short trainings on 45,000 of CIFAR-10's training images, judged on the other 5,000:

python -m kdlib.selection    train what is missing, write results/selection.json and print it
"""

import dataclasses
from typing import Any

import pandas as pd

from kdlib import datasets, models
from kdlib.objectives import Classify, Distill, Hint, Objective
from kdlib.storage import files, runs
from kdlib.storage.runs import Replicate
from kdlib.study import Profile, Schedule
from kdlib.training import fit

HELD_OUT = 5_000
RATES = (0.1, 0.2, 0.4)
DISTILLATIONS = ((2.0, 0.9), (4.0, 0.9), (4.0, 0.5))  # temperature, alpha

TRIAL = Profile(
    name="selection",
    dataset="cifar10",
    train_images=None,
    teacher=Schedule(epochs=5),
    student=Schedule(epochs=5),
    hint=Schedule(epochs=2, weight_decay=0.0),
)


def select() -> list[dict[str, Any]]:
    """Train every candidate; one row each, with its settings and its score on the held-out images.

    The score is the accuracy in percent, for stage one (hint) the explained variance R². Stage one and
    distillation learn from the best teacher, and distillation takes the best baseline's learning rate.
    """
    data = datasets.hold_out(datasets.load(TRIAL.dataset), HELD_OUT)
    rows = []

    def trial(training: str, objective: Objective, schedule: Schedule, **settings: float) -> None:
        schedule = dataclasses.replace(schedule, learning_rate=settings["learning_rate"])
        name = "-".join([training, *(f"{key}{value:g}" for key, value in settings.items())])
        last = {
            key: values[-1] for key, values in fit(objective, data, schedule, Replicate(TRIAL).run(name)).test.items()
        }
        score = last["accuracy"] if "accuracy" in last else 1 - last["total"] / last["power"]
        rows.append({"training": training, **settings, "epochs": schedule.epochs, "score": round(score, 4)})

    def student() -> models.ConvNet:
        return models.student().to(data.device)

    teachers = {rate: models.teacher().to(data.device) for rate in RATES}
    for rate, teacher in teachers.items():
        trial("teacher", Classify(teacher), TRIAL.teacher, learning_rate=rate)
    teacher = teachers[best(rows, "teacher")["learning_rate"]]
    for rate in RATES:
        trial("baseline", Classify(student()), TRIAL.student, learning_rate=rate)
    for rate in RATES:
        guided = student()
        objective = Hint(teacher, guided, models.Regressor(guided, teacher, data.sample()))
        trial("hint", objective, TRIAL.hint, learning_rate=rate)
    rate = best(rows, "baseline")["learning_rate"]
    for temperature, alpha in DISTILLATIONS:
        objective = Distill(teacher, student(), temperature, alpha)
        trial("distill", objective, TRIAL.student, learning_rate=rate, temperature=temperature, alpha=alpha)
    return rows


def best(rows: list[dict[str, Any]], training: str) -> dict[str, Any]:
    """The row with the highest score among those of ``training``."""
    return max((row for row in rows if row["training"] == training), key=lambda row: row["score"])


def main() -> None:
    """See the module's documentation."""
    rows = select()
    files.write_json(runs.root() / "results" / "selection.json", {"held_out": HELD_OUT, "trials": rows})
    print(pd.DataFrame(rows).to_string(index=False, na_rep=""))


if __name__ == "__main__":
    main()

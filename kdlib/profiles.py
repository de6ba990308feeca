"""Every setting of a run, in one frozen object.

`smoke` shows in a few minutes that everything works, on small handwritten digits; `quick` is the study in short, on
real CIFAR-10 with part of the training images; `full` is the published run.
"""

import dataclasses
import math
import os
from dataclasses import dataclass
from numbers import Real
from typing import Any


@dataclass(frozen=True)
class Schedule:
    """How one stage is trained: SGD with Nesterov momentum; the learning rate rises, then falls to zero.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the highest one, reached after `training.WARMUP` of the steps.
        weight_decay: L2 penalty on every trained parameter.
        batch_size: images a step.
    """

    epochs: int
    learning_rate: float = 0.2
    weight_decay: float = 5e-4
    batch_size: int = 128


@dataclass(frozen=True)
class Profile:
    """The settings of a whole replicate: its five trainings and the data they see.

    Attributes:
        name: "smoke", "quick" or "full".
        dataset: a name that `datasets.load` knows.
        train_images: how many of the training images; None for all.
        teacher, student, hint: schedules of the teacher, of every student that meets labels or the
            teacher's answers (baseline, distilled, both stage twos), and of stage one.
        temperature, alpha: of `objectives.Distill`.
        changes: what a reader changed, as ``(("epochs", 3), …)``; runs with changes are stored under
            names of their own and never replace the profile's.
    """

    name: str
    dataset: str
    train_images: int | None
    teacher: Schedule
    student: Schedule
    hint: Schedule
    temperature: float = 4.0
    alpha: float = 0.5
    changes: tuple[tuple[str, float], ...] = ()


PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            dataset="digits",
            train_images=None,
            teacher=Schedule(epochs=2, batch_size=32),
            student=Schedule(epochs=2, batch_size=32),
            hint=Schedule(epochs=2, batch_size=32, weight_decay=0.0),
        ),
        Profile(
            name="quick",
            dataset="cifar10",
            train_images=10_000,
            teacher=Schedule(epochs=3),
            student=Schedule(epochs=3),
            hint=Schedule(epochs=2, weight_decay=0.0),
        ),
        Profile(
            name="full",
            dataset="cifar10",
            train_images=None,
            # Learning rates, temperature and alpha: `selection` tells how they were chosen.
            teacher=Schedule(epochs=30, learning_rate=0.1),
            student=Schedule(epochs=30, learning_rate=0.2),
            hint=Schedule(epochs=8, learning_rate=0.4, weight_decay=0.0),
        ),
    )
}


def load(
    name: str | None = None,
    *,
    epochs: int | None = None,
    temperature: float | None = None,
    alpha: float | None = None,
) -> Profile:
    """The profile called ``name``, with what the reader wants changed.

    Args:
        name: "smoke", "quick" or "full"; None takes the environment variable ``KDLIB_PROFILE``, else "quick".
        epochs: of the teacher's and the students' schedules, at least 1; stage one keeps its own.
        temperature: T > 0.
        alpha: weight of the soft loss, 0 to 1.

    Raises:
        ValueError: a value out of range, or no such profile.
    """
    name = name or os.environ.get("KDLIB_PROFILE") or "quick"
    if name not in PROFILES:
        raise ValueError(f"There is no profile {name!r}: choose one of {', '.join(PROFILES)}.")
    if epochs is not None and (isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1):
        raise ValueError(f"epochs must be a whole number of at least 1, not {epochs!r}.")
    profile = PROFILES[name]
    check_distillation(
        profile.temperature if temperature is None else temperature, profile.alpha if alpha is None else alpha
    )
    wanted = {"epochs": epochs, "temperature": temperature, "alpha": alpha}
    standard = {"epochs": profile.student.epochs, "temperature": profile.temperature, "alpha": profile.alpha}
    changes = {key: value for key, value in wanted.items() if value is not None and value != standard[key]}
    new: dict[str, Any] = dict(changes)
    if "epochs" in new:
        epochs = new.pop("epochs")
        new["teacher"] = dataclasses.replace(profile.teacher, epochs=epochs)
        new["student"] = dataclasses.replace(profile.student, epochs=epochs)
    return dataclasses.replace(profile, **new, changes=tuple(changes.items()))


def check_distillation(temperature: float, alpha: float) -> None:
    """Raise ``ValueError`` with one sentence unless temperature > 0 and 0 ≤ alpha ≤ 1."""
    if not _is_number(temperature) or not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be a number above 0, not {temperature!r}.")
    if not _is_number(alpha) or not 0 <= alpha <= 1:
        raise ValueError(f"alpha, the weight of the soft loss, must be a number from 0 to 1, not {alpha!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)

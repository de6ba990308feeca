"""How a training goes: schedules, the profiles that gather them, and the recipes of the arms."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from kdlib.checks import check_distillation, is_number, nearest, whole_number

PUBLISHED, REFERENCE = "published", "reference"
COMMITTED = {PUBLISHED: "full", REFERENCE: "quick"}  # names under which committed records are read: of which profile


@dataclass(frozen=True)
class Schedule:
    """How one stage of training goes; the learning rate rises, then falls to zero.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the highest one, reached after the share ``warmup`` of the steps.
        weight_decay: L2 penalty; under Muon on all but the convolutions.
        batch_size: images a step.
        momentum: of the gradient, 0 to 1.
        warmup: share of the steps in which the learning rate rises, 0 to 1.
        optimiser: see `kdlib.optimisers`.
    """

    epochs: int
    learning_rate: float = 0.1
    weight_decay: float = 5e-4
    batch_size: int = 256
    momentum: float = 0.6
    warmup: float = 0.05
    optimiser: Literal["Muon", "SGD"] = "Muon"


@dataclass(frozen=True)
class Profile:
    """The settings of a whole replicate.

    Attributes:
        name: "smoke", "quick" or "full"; "published" and "reference" stand for the committed records of an earlier
            "full" and "quick".
        dataset: a name in `datasets.DATASETS`.
        train_images: how many of the training images are used; None for all.
        teacher, student, hint: schedules of the teacher, of every student that is trained on labels or logits
            (baseline, distilled student, both stage twos), and of stage one.
        temperature, alpha: of `objectives.Distill`.
        changes: a reader's changes, e.g. ``(("epochs", 3),)``; runs with changes have names of their own.
    """

    name: str
    dataset: str
    train_images: int | None
    teacher: Schedule
    student: Schedule
    hint: Schedule
    temperature: float = 4.0
    alpha: float = 0.75
    changes: tuple[tuple[str, float], ...] = ()

    def change(self, **settings: float | None) -> "Profile":
        """This profile with other ``epochs`` (of teacher and students), ``temperature`` or ``alpha``; None keeps one.

        Raises:
            ValueError: no such setting, or a value out of range.
        """
        standard = {"epochs": self.student.epochs, "temperature": self.temperature, "alpha": self.alpha}
        for name in settings:
            if name not in standard:
                raise ValueError(f"{name} is no setting of a profile{nearest(name, standard)}")
        changes = {key: settings[key] for key in standard if settings.get(key) not in (None, standard[key])}
        new: dict[str, Any] = dict(changes)
        if "epochs" in new:
            epochs = whole_number("epochs", new.pop("epochs"), least=1)
            new |= {"teacher": replace(self.teacher, epochs=epochs), "student": replace(self.student, epochs=epochs)}
        changed = replace(self, **new, changes=tuple(changes.items()))
        check_distillation(changed.temperature, changed.alpha)
        return changed


@dataclass(frozen=True)
class Recipe:
    """How an arm is trained, as `arms` reads it; the defaults are those of the note's experiment 2.

    Attributes:
        wide: whether the student is S′, whose guided layer is as wide as the hint layer.
        regressor: a name in `regressors.REGRESSORS`.
        guided_stage: of the student, and the stage of the teacher whose output is the hint; from 1.
        scale: of the learning rate of the guided layers, 0 (frozen) to 1.
        hint_weight: of the hint loss in a single stage; 0 in two stages. Chosen on held-out images (see `selection`).
        alpha: weight of the soft loss; None takes the profile's.
        takes: what it starts with of the student that it needs: all weights, or those of the guided layers alone.
        both_stages: whether it trains for the epochs of stage one and stage two together.
        length: scale of its stage's epochs.
        rate: scale of its stage's learning rate, chosen on held-out images.

    Raises:
        ValueError: length or rate are no numbers above 0. What else is impossible is refused before it is trained.
    """

    wide: bool = False
    regressor: str = "learned"
    guided_stage: int = 3
    scale: float = 1.0
    hint_weight: float = 0.0
    alpha: float | None = None
    takes: Literal["all", "guided layers"] = "all"
    both_stages: bool = False
    length: float = 1.0
    rate: float = 1.0

    def __post_init__(self) -> None:
        for name, what in (("length", "number of epochs"), ("rate", "learning rate")):
            value = getattr(self, name)
            if not is_number(value) or not 0 < value < math.inf:
                raise ValueError(f"{name}, of an arm's {what}, must be a number above 0, not {value!r}.")

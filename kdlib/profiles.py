"""The settings of a run: how one training goes, and those of all trainings of a seed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kdlib.errors import SettingError
from kdlib.models import STUDENT, TEACHER, WIDE, Shape


@dataclass(frozen=True)
class Schedule:
    """How one training goes; the learning rate rises, then falls to zero."""

    epochs: int
    learning_rate: float = 0.1  # the highest one
    weight_decay: float = 5e-4  # L2 penalty on all but the convolutions
    batch_size: int = 256  # images a step
    momentum: float = 0.6
    warmup: float = 0.05  # share of the steps in which the rate rises


@dataclass(frozen=True)
class Profile:
    """The settings of all trainings of a seed."""

    name: str
    dataset: str  # a name in `data.DATASETS`
    teacher: Schedule
    hint: Schedule  # of stage one
    scratch: Schedule  # of students that start from fresh weights: baseline, distilled
    tuned: Schedule  # of stage two where all layers are trained
    frozen: Schedule  # of stage two where the guided layers are frozen
    temperature: float = 4.0  # of `objectives.Distill`, like alpha
    alpha: float = 0.75
    networks: Mapping[str, Shape] = field(default_factory=lambda: {"teacher": TEACHER, "S": STUDENT, "S′": WIDE})
    changes: tuple[tuple[str, float], ...] = ()  # a reader's, such as (("epochs", 3),); in the names of runs

    def change(
        self, epochs: int | None = None, temperature: float | None = None, alpha: float | None = None
    ) -> "Profile":
        """This profile with other ``epochs`` (not of stage one), ``temperature`` or ``alpha``; None keeps one."""
        standard = {"epochs": self.scratch.epochs, "temperature": self.temperature, "alpha": self.alpha}
        given = {"epochs": epochs, "temperature": temperature, "alpha": alpha}
        new: dict[str, Any] = {name: given[name] for name in given if given[name] not in (None, standard[name])}
        for name, value in new.items():
            if not isinstance(value, int | float):
                raise SettingError(f"{name} must be a number, not {value!r}.")
        changes = dict(self.changes) | new
        if "epochs" in new:
            epochs = new.pop("epochs")
            if epochs not in range(1, 10_000):
                raise SettingError(f"epochs must be a whole number from 1 to 9,999, not {epochs!r}.")
            groups = ("teacher", "scratch", "tuned", "frozen")
            new |= {group: replace(getattr(self, group), epochs=int(epochs)) for group in groups}
        return replace(self, **new, changes=tuple(changes.items()))


def with_own(settings: Any, own: Mapping[str, Any]) -> Any:
    """A `Schedule`, `Shape` or `Profile` with those of its fields that ``own`` names replaced."""
    return replace(settings, **{name: own[name] for name in own if name in vars(settings)})

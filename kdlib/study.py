"""What is run, as data: the arms, the profiles with their schedules, and the contrasts named beforehand.

This is the one place to add an arm (a way to train a student). Names and colours in tables and pictures, their order,
the edges of the graph in the Snakefile and the records that a report looks for follow from `STUDY`.
"""

import graphlib
import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kdlib.checks import check_distillation, nearest, whole_number
from kdlib.note import NOTE, Note

GAP = 0.8  # points of validation accuracy: the note's rule, a larger difference counts as a gap
ANALYSIS = "06_analysis"  # the notebook that compares all arms
PUBLISHED, REFERENCE = "published", "reference"
COMMITTED = {PUBLISHED: "full", REFERENCE: "quick"}  # names under which committed records are read: of which profile

Stage = Literal["teacher", "stage one", "stage two"]


@dataclass(frozen=True)
class Schedule:
    """How one stage of training goes; the learning rate rises, then falls to zero.

    Attributes:
        epochs: passes over the training images.
        learning_rate: the highest one, reached after the share ``warmup`` of the steps.
        weight_decay: L2 penalty on every trained parameter.
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

    def schedule(self, stage: Stage) -> Schedule:
        """The schedule of the arms of a stage."""
        return {"teacher": self.teacher, "stage one": self.hint, "stage two": self.student}[stage]

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
class Arm:
    """One training of the study: the teacher, stage one, or a way to train a student.

    Attributes:
        name: in file names, e.g. "exp1".
        title, title_zh: in tables and pictures, in English and Chinese.
        colour: in every picture, "#RRGGBB".
        notebook: the notebook that trains it.
        needs: names of the arms that must have been trained before.
        stage: "teacher", "stage one" (trains no classifier) or "stage two"; arms of one stage and seed see the same
            batches.
        phrase, phrase_zh: in sentences; the titles unless given.
    """

    name: str
    title: str
    colour: str
    notebook: str
    needs: tuple[str, ...] = ()
    stage: Stage = "stage two"
    title_zh: str = ""
    phrase: str = ""
    phrase_zh: str = ""

    @property
    def classifies(self) -> bool:
        """Whether it ends as a classifier, with an accuracy."""
        return self.stage != "stage one"

    def called(self, language: Literal["en", "zh"]) -> str:
        """Its name in a sentence."""
        title_zh = self.title_zh or self.title
        return self.phrase or self.title if language == "en" else self.phrase_zh or title_zh


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms, named before anything is run: accuracy of ``first`` minus that of ``second``."""

    first: str
    second: str


@dataclass(frozen=True)
class Study:
    """All that is run and compared.

    Attributes:
        arms: in the order of the report.
        profiles: by which it can be run.
        primary, secondary: contrasts named beforehand; the primary ones stand for the study.
        note: the figures to compare with.

    Raises:
        ValueError: two arms or profiles of one name, needs or contrasts that name no arm, or a cycle in the needs.
    """

    arms: tuple[Arm, ...]
    profiles: tuple[Profile, ...]
    primary: tuple[Contrast, ...] = ()
    secondary: tuple[Contrast, ...] = ()
    note: Note = field(default_factory=Note)

    def __post_init__(self) -> None:
        for kind, names in (("arms", [arm.name for arm in self.arms]), ("profiles", [p.name for p in self.profiles])):
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"Two {kind} are called {name!r}: give each a name of its own.")
                if not name.isidentifier():
                    raise ValueError(f"{name!r} cannot name one of the {kind}: use letters, digits and underscores.")
        known = {arm.name for arm in self.arms}
        mentioned = [(f"{arm.name} needs", need, "the need") for arm in self.arms for need in arm.needs]
        mentioned += [(f"{pair} names", name, "it") for pair in self.contrasts for name in (pair.first, pair.second)]
        for what, name, dropped in mentioned:
            if name not in known:
                raise ValueError(f"{what} the arm {name!r}, which the study lacks: add it, or drop {dropped}.")
        for kind, graph in (("Arms", {arm.name: arm.needs for arm in self.arms}), ("Notebooks", self.graph())):
            try:
                graphlib.TopologicalSorter(graph).prepare()
            except graphlib.CycleError as error:
                circle = " → ".join(error.args[1])
                raise ValueError(f"{kind} need each other in a circle ({circle}): drop a need.") from None

    @property
    def contrasts(self) -> tuple[Contrast, ...]:
        """All of them, the primary ones first."""
        return self.primary + self.secondary

    @property
    def notebooks(self) -> list[str]:
        """Every notebook that trains an arm, in order."""
        return sorted({arm.notebook for arm in self.arms})

    def arm(self, name: str) -> Arm:
        """The arm of a run, given its name or that of a variant ("distill-temperature8").

        Raises:
            ValueError: the study has no such arm.
        """
        known = {arm.name: arm for arm in self.arms}
        wanted = name.partition("-")[0]
        if wanted not in known:
            raise ValueError(f"There is no arm {wanted!r}{nearest(wanted, known)}")
        return known[wanted]

    def graph(self) -> dict[str, list[str]]:
        """The notebooks that must have run before each notebook: the edges of the Snakefile."""
        return {
            notebook: sorted(
                {self.arm(need).notebook for arm in self.arms if arm.notebook == notebook for need in arm.needs}
                - {notebook}
            )
            for notebook in self.notebooks
        }

    def profile(self, name: str | None = None, **settings: float | None) -> Profile:
        """The profile called ``name`` with a reader's ``settings`` (see `Profile.change`).

        Args:
            name: None takes the environment variable ``KDLIB_PROFILE``, else "quick".

        Raises:
            ValueError: no such profile or setting, or a value out of range.
        """
        name = name or os.environ.get("KDLIB_PROFILE") or "quick"
        known = {profile.name: profile for profile in self.profiles}
        known |= {alias: replace(known[name], name=alias) for alias, name in COMMITTED.items() if name in known}
        if name not in known:
            raise ValueError(f"There is no profile {name!r}{nearest(str(name), known)}")
        return known[name].change(**settings)


STUDY = Study(
    arms=(
        # Colours: the palette of Okabe and Ito, which colour-blind readers can tell apart.
        Arm("teacher", "teacher", "#000000", "01_teacher", stage="teacher",
            title_zh="教师", phrase="the teacher"),
        Arm("baseline", "baseline", "#E69F00", "02_baseline",
            title_zh="基线", phrase="the baseline"),
        Arm("distill", "student (distilled)", "#56B4E9", "03_distill", needs=("teacher",),
            title_zh="学生（仅蒸馏）", phrase="the distilled student", phrase_zh="仅蒸馏的学生"),
        Arm("hint", "stage one", "#CC79A7", "04_exp1", needs=("teacher",), stage="stage one",
            title_zh="第一阶段"),
        Arm("exp1", "student (exp. 1)", "#D55E00", "04_exp1", needs=("teacher", "hint"),
            title_zh="学生（实验一）", phrase="experiment 1", phrase_zh="实验一"),
        Arm("exp2", "student (exp. 2)", "#009E73", "05_exp2", needs=("teacher", "hint"),
            title_zh="学生（实验二）", phrase="experiment 2", phrase_zh="实验二"),
    ),
    profiles=(
        # That everything works, in minutes, on small images of handwritten digits.
        Profile(
            "smoke", "digits", train_images=None,
            teacher=Schedule(epochs=2, batch_size=32),
            student=Schedule(epochs=2, batch_size=32),
            hint=Schedule(epochs=2, batch_size=32, weight_decay=0.0),
        ),
        # The study in short.
        Profile(
            "quick", "cifar10", train_images=None,
            teacher=Schedule(epochs=4),
            student=Schedule(epochs=4),
            hint=Schedule(epochs=2, learning_rate=0.2, weight_decay=0.0),
        ),
        # The study to publish. `selection` tells how the settings were chosen.
        Profile(
            "full", "cifar10", train_images=None,
            teacher=Schedule(epochs=18),
            student=Schedule(epochs=18),
            hint=Schedule(epochs=6, learning_rate=0.2, weight_decay=0.0),
        ),
    ),
    primary=(Contrast("exp2", "exp1"), Contrast("exp2", "distill"), Contrast("distill", "baseline")),
    secondary=(
        Contrast("teacher", "baseline"), Contrast("exp2", "baseline"), Contrast("distill", "exp1"),
        Contrast("baseline", "exp1"),
    ),
    note=NOTE,
)  # fmt: skip

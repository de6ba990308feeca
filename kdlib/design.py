"""The terms in which a study is described: arms with their recipes, and contrasts of two arms.

`study` says in these terms what is run.
"""

import graphlib
import os
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

from kdlib.checks import nearest
from kdlib.note import Note
from kdlib.settings import COMMITTED, Profile, Recipe, Schedule

GAP = 0.8  # points of validation accuracy: the note's rule, a larger difference counts as a gap
ANALYSIS = "06_analysis"  # the notebook that compares all arms

Stage = Literal["teacher", "stage one", "stage two"]


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
        recipe: how it is trained.
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
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def classifies(self) -> bool:
        """Whether it ends as a classifier, with an accuracy."""
        return self.stage != "stage one"

    def schedule(self, profile: Profile) -> Schedule:
        """That of its stage in a profile, with what is its own."""
        schedule = {"teacher": profile.teacher, "stage one": profile.hint, "stage two": profile.student}[self.stage]
        epochs = max(1, round(schedule.epochs * self.recipe.length))
        epochs += profile.hint.epochs if self.recipe.both_stages else 0
        return replace(schedule, epochs=epochs, learning_rate=schedule.learning_rate * self.recipe.rate)

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
        primary, exploratory: contrasts named beforehand; the primary ones answer the study's question.
        note: the figures to compare with.

    Raises:
        ValueError: two arms or profiles of one name, needs or contrasts that name no arm, or a cycle in the needs.
    """

    arms: tuple[Arm, ...]
    profiles: tuple[Profile, ...]
    primary: tuple[Contrast, ...] = ()
    exploratory: tuple[Contrast, ...] = ()
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
        return self.primary + self.exploratory

    @property
    def notebooks(self) -> list[str]:
        """Every notebook that trains an arm, in order."""
        return sorted({arm.notebook for arm in self.arms})

    def trained_in(self, notebook: str) -> list[Arm]:
        """The arms that a notebook trains, in order."""
        return [arm for arm in self.arms if arm.notebook == notebook]

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

    def select(self, names: Collection[str]) -> "Study":
        """The study of these arms alone, with the needs and contrasts that are among them."""

        def among(contrasts: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
            return tuple(pair for pair in contrasts if pair.first in names and pair.second in names)

        arms = (replace(arm, needs=tuple(n for n in arm.needs if n in names)) for arm in self.arms if arm.name in names)
        return replace(self, arms=tuple(arms), primary=among(self.primary), exploratory=among(self.exploratory))

    def graph(self) -> dict[str, list[str]]:
        """The notebooks that must have run before each notebook: the edges of the Snakefile.

        Those numbered behind the analysis compare their arms with the note's, so they need all that train these.
        """
        needed = {
            notebook: {self.arm(need).notebook for arm in self.trained_in(notebook) for need in arm.needs}
            for notebook in self.notebooks
        }
        for notebook in (name for name in needed if name > ANALYSIS):
            needed[notebook] |= {name for name in needed if name < ANALYSIS}
        return {notebook: sorted(before - {notebook}) for notebook, before in needed.items()}

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


class Guidance(NamedTuple):
    """A way to guide a student: the arm of its stage one, and those that go on from there.

    Attributes:
        title: of the student's body and the matrix.
        stage_one, frozen, tuned: names of the arms; "tuned" trains the guided layers too.
        distilled: the arm of the same body without a hint.
    """

    title: str
    stage_one: str
    frozen: str
    tuned: str
    distilled: str

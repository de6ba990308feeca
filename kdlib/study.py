"""What is run, as data: arms, contrasts named beforehand, and the profiles of the study.

`STUDY`, at the end, is the one place to add an arm (a way to train a student): names and colours in tables and
pictures, their order, the edges of the graph in the Snakefile and the records that a report looks for follow from it.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from kdlib.errors import SettingError, nearest
from kdlib.models import STUDENT, Shape
from kdlib.profiles import Profile, Schedule, with_own

GAP = 0.8  # points of test accuracy: the note's rule, a larger difference counts as a gap
ANALYSIS = "06_analysis"  # compares the note's arms; the notebooks behind it go beyond the note
# What decides how an arm is trained, beside its schedule, losses and network; in the identity of its run.
DECIDES = ("stage", "body", "regressor", "guided_rate", "hint_weight", "takes")
PUBLISHED = "published"  # the profile of the committed records of "full"


@dataclass(frozen=True)
class Arm:
    """One training of the study: the teacher, stage one, or a way to train a student.

    Raises `SettingError` for a setting that this kind of arm makes no use of.
    """

    name: str  # in file names, e.g. "exp1"
    title: str  # in tables and pictures
    colour: str  # in every picture, "#RRGGBB"
    notebook: str  # the one that trains it
    needs: tuple[str, ...] = ()  # arms that must have been trained before; it starts from a student among them
    # Arms of one stage and seed see the same batches. Stage one trains no classifier.
    stage: Literal["teacher", "stage one", "stage two"] = "stage two"
    body: Literal["S", "S′"] = "S"  # of the student; the guided layer of S′ is as wide as the hint layer
    regressor: str = "learned"  # of stage one or a single stage: a name in `regressors.REGRESSORS`
    guided_rate: float = 1.0  # scale of the guided layers' learning rate in stage two; 0, frozen, is a group of its own
    hint_weight: float = 0.0  # of the hint loss in a single stage
    # Of the student that it needs; the front: its guided layers, perhaps with the matrix of stage one multiplied in.
    takes: Literal["all", "front", "front with matrix"] = "all"
    lasts: tuple[float, float] | None = None  # epochs, in multiples of those of stage one and two; None: of its stage
    # What it has in place of its profile's: see `with_own`.
    own: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        used = {"stage", "lasts"} | ({"body"} if self.stage != "teacher" else set())
        if self.stage == "stage one" or self.hint_weight:
            used |= {"regressor"}
        # A student that starts from another one has its network.
        fresh = (Schedule,) if set(self.needs) - {"teacher"} else (Schedule, Shape)
        own = [setting.name for kind in fresh for setting in fields(kind)]
        if self.stage == "stage two" and "teacher" in self.needs:
            used |= {"guided_rate", "hint_weight"}
            own += ["temperature", "alpha"]
        if self.stage == "stage two" and set(self.needs) - {"teacher"}:
            used |= {"takes"}
        if self.body not in ("S", "S′") or self.takes not in ("all", "front", "front with matrix"):
            raise SettingError(f"{self.name}: body must be S or S′, and takes all, front or front with matrix.")
        for name in self.own.keys() - set(own):
            raise SettingError(f"{self.name} cannot have its own {name}{nearest(name, own)}")
        for name in (*DECIDES, "lasts"):
            if name not in used and getattr(self, name) != getattr(Arm, name):
                raise SettingError(f"The arm {self.name} makes no use of {name}: drop it.")

    @property
    def classifies(self) -> bool:
        """Whether it ends as a classifier, with an accuracy."""
        return self.stage != "stage one"

    @property
    def settings(self) -> dict[str, Any]:
        """Those that `DECIDES` names."""
        return {name: getattr(self, name) for name in DECIDES}

    @property
    def group(self) -> Literal["teacher", "hint", "scratch", "tuned", "frozen"]:
        """The field of a profile that is its schedule: the arms of one group train alike."""
        if self.stage != "stage two":
            return "teacher" if self.stage == "teacher" else "hint"
        if self.guided_rate == 0:
            return "frozen"
        return "tuned" if set(self.needs) - {"teacher"} else "scratch"

    def schedule(self, profile: Profile) -> Schedule:
        """That of its group in a profile, with what is its own."""
        schedule = getattr(profile, self.group)
        one, two = self.lasts or ((1, 0) if self.group == "hint" else (0, 1))
        epochs = round(one * profile.hint.epochs + two * schedule.epochs)
        return with_own(replace(schedule, epochs=epochs), self.own)

    def shape(self, profile: Profile) -> Shape:
        """That of its network in a profile, with what is its own."""
        return with_own(profile.networks["teacher" if self.stage == "teacher" else self.body], self.own)


@dataclass(frozen=True)
class Contrast:
    """A difference of two arms: test accuracy of ``first`` minus that of ``second``.

    "primary" contrasts answer the study's question and are corrected for their number, "secondary" ones were named
    before the run too, "exploratory" ones when results were known.
    """

    first: str
    second: str
    kind: Literal["primary", "secondary", "exploratory"] = "secondary"


@dataclass(frozen=True)
class Study:
    """All that is run and compared.

    Raises `SettingError`: two arms of one name, a need or contrast that names none, needs that cannot be put together.
    """

    profiles: tuple[Profile, ...]
    arms: tuple[Arm, ...]  # in the order of the report; each comes behind those that it needs
    contrasts: tuple[Contrast, ...] = ()  # the primary ones first

    def __post_init__(self) -> None:
        before: dict[str, Arm] = {}
        for arm in self.arms:
            if arm.name in before or not arm.name.isidentifier():
                raise SettingError(f"{arm.name!r} cannot name an arm: use letters, digits and underscores, only once.")
            for need in arm.needs:
                if need not in before or before[need].notebook > arm.notebook:
                    raise SettingError(f"{arm.name} needs {need}, which no arm before it is called: add it there.")
            students = [before[need] for need in arm.needs if before[need].stage != "teacher"]
            if len(students) > 1 or any(student.body != arm.body for student in students):
                raise SettingError(
                    f"{arm.name} can start from one student of its own body: change its needs or its body."
                )
            if arm.stage == "stage one" and (students or not arm.needs):
                raise SettingError(f"{arm.name} is a stage one: it needs a teacher, and nothing else.")
            before[arm.name] = arm
        for contrast in self.contrasts:
            if missing := {contrast.first, contrast.second} - before.keys():
                raise SettingError(f"{contrast} names {missing.pop()}, which the study lacks: add the arm.")

    @property
    def core(self) -> tuple[str, ...]:
        """Names of the note's own arms: those trained before the analysis."""
        return tuple(arm.name for arm in self.arms if arm.notebook < ANALYSIS)

    @property
    def notebooks(self) -> list[str]:
        """Every notebook that trains an arm, in order."""
        return sorted({arm.notebook for arm in self.arms})

    def trained_in(self, notebook: str) -> list[Arm]:
        """The arms that a notebook trains, in order."""
        return [arm for arm in self.arms if arm.notebook == notebook]

    def arm(self, name: str) -> Arm:
        """The arm of a run, given its name or that of a variant ("distill-temperature8")."""
        known = {arm.name: arm for arm in self.arms}
        wanted = name.partition("-")[0]
        if wanted not in known:
            raise SettingError(f"There is no arm {wanted!r}{nearest(wanted, known)}")
        return known[wanted]

    def select(self, names: Collection[str]) -> "Study":
        """The study of these arms and of what they need, with the contrasts that are among them."""
        wanted = set(names)
        for arm in reversed(self.arms):
            wanted |= set(arm.needs) if arm.name in wanted else set()
        return Study(
            self.profiles,
            tuple(arm for arm in self.arms if arm.name in wanted),
            tuple(pair for pair in self.contrasts if {pair.first, pair.second} <= wanted),
        )

    def profile(self, name: str | None = None, **settings: float | None) -> Profile:
        """The profile called ``name``, else by ``KDLIB_PROFILE``, else "quick"; ``settings`` as of `Profile.change`."""
        name = name or os.environ.get("KDLIB_PROFILE") or "quick"
        known = {profile.name: profile for profile in self.profiles}
        if name not in known:
            raise SettingError(f"There is no profile {name!r}{nearest(str(name), known)}")
        return known[name].change(**settings)


# What arms share: the palette of Okabe and Ito, which colour-blind readers can tell apart, notebooks and needs.
BASE, DISTILL, FROZEN, TUNED = "#E69F00", "#56B4E9", "#D55E00", "#009E73"
MATRIX, FREEZING, ONE_STAGE = "07_regressor", "08_freezing", "09_one_stage"
BY_TEACHER, HINT = ("teacher",), ("teacher", "hint")
BOTH = (1, 1)  # the epochs of stage one and of stage two
COSTS = ("half", "half the cost", (0.5, 0.5)), ("long", "equal cost", BOTH), ("double", "twice the cost", (2, 2))
NONE, LEARNED, RANDOM = (("teacher", f"hint_wide_{regressor}") for regressor in ("none", "learned", "random"))

_TINY, _HINT = Schedule(epochs=2, batch_size=32), Schedule(6, 0.2, weight_decay=0.0)
_RATES = {"scratch": Schedule(18, 0.05), "tuned": Schedule(18, 0.025), "frozen": Schedule(18)}  # those of 10_settings
_FULL = Profile("full", "cifar10", Schedule(18), replace(_HINT, learning_rate=0.1), **_RATES)  # the study to publish

# Of the first edition, which is still the published one; and of smoke, as tests compare outputs with those published.
FIRST = {
    "teacher": Shape(((32,), (64, 64), (128, 128, 128), (256, 272)), "ReLU"),
    "S": replace(STUDENT, activation="ReLU"),
    "S′": Shape(((16,), (48, 48, 48), (48, 48, 48, 128), (56, 64, 72)), "ReLU"),
}

STUDY = Study(
    profiles=(
        # That everything works, in minutes, on small images of handwritten digits.
        Profile("smoke", "digits", _TINY, replace(_TINY, weight_decay=0.0), _TINY, _TINY, _TINY, networks=FIRST),
        # The study in short.
        replace(_FULL.change(epochs=4), name="quick", hint=replace(_FULL.hint, epochs=2), changes=()),
        _FULL,
        replace(_FULL, name=PUBLISHED, hint=_HINT, scratch=Schedule(18), tuned=Schedule(18), networks=FIRST),
    ),
    arms=(  # those that kdlib/editions.py names have published records: their settings must stay
        Arm("teacher", "teacher", "#000000", "01_teacher", stage="teacher"),
        Arm("baseline", "baseline", BASE, "02_baseline"),
        Arm("distill", "student (distilled)", DISTILL, "03_distill", BY_TEACHER),
        Arm("hint", "stage one", "#CC79A7", "04_exp1", BY_TEACHER, "stage one"),
        Arm("exp1", "student (exp. 1)", FROZEN, "04_exp1", HINT, guided_rate=0.0),
        Arm("exp2", "student (exp. 2)", TUNED, "05_exp2", HINT),
        # S is the student of the note's experiments; S′ one of the same size, whose guided layer needs no matrix.
        Arm("wide_baseline", "S′ baseline", BASE, MATRIX, body="S′"),
        Arm("wide_distill", "S′ (distilled)", DISTILL, MATRIX, BY_TEACHER, body="S′"),
        Arm("wide_distill_long", "S′ (distilled), equal cost", "#0072B2", MATRIX, BY_TEACHER, body="S′", lasts=BOTH),
        Arm("hint_wide_none", "stage one, S′, no matrix", "#88CCEE", MATRIX, BY_TEACHER, "stage one", "S′", "none"),
        Arm("wide_none_frozen", "S′, no matrix (frozen)", FROZEN, MATRIX, NONE, body="S′", guided_rate=0.0),
        Arm("wide_none_tuned", "S′, no matrix (fine-tuned)", TUNED, MATRIX, NONE, body="S′"),
        Arm("hint_wide_learned", "stage one, S′, learned", "#882255", MATRIX, BY_TEACHER, "stage one", "S′", "learned"),
        Arm("wide_learned_frozen", "S′, learned (frozen)", FROZEN, MATRIX, LEARNED, body="S′", guided_rate=0.0),
        Arm("wide_learned_tuned", "S′, learned (fine-tuned)", TUNED, MATRIX, LEARNED, body="S′"),
        Arm("wide_kept_frozen", "S′, learned and kept (frozen)", "#AA4499", MATRIX, LEARNED, body="S′",
            guided_rate=0.0, takes="front with matrix"),
        Arm("hint_wide_random", "stage one, S′, random", "#999933", MATRIX, BY_TEACHER, "stage one", "S′", "random"),
        Arm("wide_random_frozen", "S′, random (frozen)", FROZEN, MATRIX, RANDOM, body="S′", guided_rate=0.0),
        Arm("wide_random_tuned", "S′, random (fine-tuned)", TUNED, MATRIX, RANDOM, body="S′"),
        Arm("distill_short", "distilled, epochs of stage one", "#44AA99", FREEZING, BY_TEACHER, lasts=(1, 0)),
        Arm("short_frozen", "distilled front (frozen)", "#AA4499", FREEZING, ("teacher", "distill_short"),
            guided_rate=0.0, takes="front"),
        Arm("scale01", "guided rate × 0.1", "#BB5566", FREEZING, HINT, guided_rate=0.1),
        Arm("scale03", "guided rate × 0.3", "#004488", FREEZING, HINT, guided_rate=0.3),
        Arm("distill_long", "distilled, equal cost", "#0072B2", ONE_STAGE, BY_TEACHER, lasts=BOTH),
        Arm("joint_distill", "one stage: hint, distillation", "#DDCC77", ONE_STAGE, BY_TEACHER, lasts=BOTH,
            hint_weight=1.0),
        # The cost: half, all and twice the epochs of both stages. In the middle are distill_long and exp2.
        *(Arm(f"baseline_{name}", f"baseline, {cost}", BASE, ONE_STAGE, lasts=lasts) for name, cost, lasts in COSTS),
        *(Arm(f"distill_{name}", f"distilled, {cost}", DISTILL, ONE_STAGE, BY_TEACHER, lasts=lasts)
          for name, cost, lasts in COSTS if name != "long"),
        Arm("hint_half", "stage one, half", "#CC79A7", ONE_STAGE, BY_TEACHER, "stage one", lasts=(0.5, 0)),
        Arm("exp2_half", "exp. 2, half the cost", TUNED, ONE_STAGE, ("teacher", "hint_half"), lasts=(0, 0.5)),
        Arm("hint_double", "stage one, twice", "#CC79A7", ONE_STAGE, BY_TEACHER, "stage one", lasts=(2, 0)),
        Arm("exp2_double", "exp. 2, twice the cost", TUNED, ONE_STAGE, ("teacher", "hint_double"), lasts=(0, 2)),
    ),
    contrasts=(
        # Without the matrix and with it: the note's protocol, in which S has it and S′ has none; the same body.
        Contrast("wide_none_frozen", "exp1", "primary"), Contrast("wide_none_frozen", "wide_learned_frozen", "primary"),
        Contrast("wide_none_tuned", "exp2", "primary"), Contrast("wide_none_tuned", "wide_learned_tuned", "primary"),
        # The note's own arms.
        Contrast("exp2", "exp1"), Contrast("exp2", "distill"), Contrast("distill", "baseline"),
        Contrast("teacher", "baseline"), Contrast("exp2", "baseline"), Contrast("distill", "exp1"),
        Contrast("baseline", "exp1"),
        # The two bodies alike; a rotation alone, and a learned matrix against it; the matrix kept.
        Contrast("wide_baseline", "baseline"), Contrast("wide_distill", "distill"),
        Contrast("wide_none_frozen", "wide_random_frozen"), Contrast("wide_none_tuned", "wide_random_tuned"),
        Contrast("wide_random_frozen", "wide_learned_frozen"), Contrast("wide_random_tuned", "wide_learned_tuned"),
        Contrast("wide_kept_frozen", "wide_learned_frozen"),
        # Freezing; one stage; hints against distillation at half, all and twice the cost.
        Contrast("exp1", "short_frozen"), Contrast("scale03", "exp2"), Contrast("joint_distill", "exp2"),
        Contrast("joint_distill", "distill_long"), Contrast("exp2_half", "distill_half"),
        Contrast("exp2", "distill_long"), Contrast("exp2_double", "distill_double"),
        Contrast("wide_none_tuned", "wide_distill_long"),
        # What freezing costs, with each matrix and without one.
        Contrast("wide_none_tuned", "wide_none_frozen", "exploratory"),
        Contrast("wide_learned_tuned", "wide_learned_frozen", "exploratory"),
        Contrast("wide_random_tuned", "wide_random_frozen", "exploratory"),
    ),
)  # fmt: skip

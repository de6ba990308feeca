"""How the settings of STUDY were chosen: a study of its own, tested on held-out images, at full length.

Two students of each group are trained at several learning rates, then one thing at a time is changed in one of them;
`report.settings` has the rule by which the results decide. The values from which the search starts are written out
here, so that a change of STUDY does not change this study.
"""

from typing import Any

from kdlib.models import STUDENT, TEACHER, WIDE, Shape
from kdlib.profiles import Profile, Schedule
from kdlib.study import BASE, BOTH, BY_TEACHER, DISTILL, FROZEN, HINT, TUNED, Arm, Contrast, Study

SETTINGS = "10_settings"  # the notebook that shows it
LOW, HIGH = (0.0125, 0.025, 0.05, 0.1), (0.025, 0.05, 0.1, 0.2)  # learning rates
_FIRST_WIDE = Shape(((16,), (48, 48, 48), (48, 56, 56, 128), (48, 56, 72)))
_PROFILE = Profile(
    "tuning", "cifar10-held-out", teacher=Schedule(18), hint=Schedule(6, 0.2, weight_decay=0.0), scratch=Schedule(18),
    tuned=Schedule(18, 0.05), frozen=Schedule(18), networks={"teacher": TEACHER, "S": STUDENT, "S′": _FIRST_WIDE},
)  # fmt: skip


def _at(rates: tuple[float, ...], name: str, title: str, *settings: Any, **more: Any) -> tuple[Arm, ...]:
    """An arm for each of these learning rates; its name has the rate in units of 0.0001."""
    return tuple(
        Arm(f"{name}_{rate * 1e4:.0f}", f"{title}, rate {rate:g}", *settings, own={"learning_rate": rate}, **more)
        for rate in rates
    )


_T = ("#000000", SETTINGS, (), "teacher")
_ONE = ("#CC79A7", SETTINGS, BY_TEACHER, "stage one")
_NONE = ("#88CCEE", SETTINGS, BY_TEACHER, "stage one", "S′", "none")
_EQUAL = {"needs": BY_TEACHER, "lasts": BOTH}
_AFTER = {"needs": ("teacher", "hint_wide_none"), "body": "S′"}

TUNING = Study(
    profiles=(_PROFILE,),
    arms=(
        Arm("teacher", "teacher, rate 0.1", *_T, own={"learning_rate": 0.1}),
        *_at((0.05, 0.2), "teacher", "teacher", *_T),
        Arm("hint", "stage one, S, learned, rate 0.2", *_ONE, own={"learning_rate": 0.2}),
        *_at((0.05, 0.1, 0.4), "hint", "stage one, S, learned", *_ONE),
        Arm("hint_wide_none", "stage one, S′, no matrix, rate 0.2", *_NONE, own={"learning_rate": 0.2}),
        *_at((0.05, 0.1, 0.4), "hint_wide_none", "stage one, S′, no matrix", *_NONE),
        *_at(HIGH, "baseline", "baseline", BASE, SETTINGS),
        *_at(HIGH, "distill_long", "distilled, equal cost", DISTILL, SETTINGS, **_EQUAL),
        *_at(LOW, "exp2", "exp. 2", TUNED, SETTINGS, HINT),
        *_at(LOW, "wide_none_tuned", "S′, no matrix (fine-tuned)", TUNED, SETTINGS, **_AFTER),
        *_at(HIGH, "exp1", "exp. 1", FROZEN, SETTINGS, HINT, guided_rate=0.0),
        *_at(HIGH, "wide_none_frozen", "S′, no matrix (frozen)", FROZEN, SETTINGS, **_AFTER, guided_rate=0.0),
        # One change each.
        Arm("wide_baseline", "baseline of the S′ above", BASE, SETTINGS, body="S′"),
        Arm("wide_second", "baseline of another S′", BASE, SETTINGS, body="S′", own={"widths": WIDE.widths}),
        Arm("relu", "ReLU in place of SiLU", BASE, SETTINGS, own={"activation": "ReLU"}),
    ),
    contrasts=(
        Contrast("wide_baseline", "baseline_1000"), Contrast("wide_second", "baseline_1000"),
        Contrast("relu", "baseline_1000"),
    ),
)  # fmt: skip

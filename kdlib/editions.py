"""Which study a profile belongs to, and the first edition, which is published until the second has been trained.

The first edition lacks the arms that the second adds, and has two that it drops. Of its primary contrasts the two of
the note's protocol were named when the results were known, like the exploratory ones.
"""

from kdlib.study import FREEZING, HINT, MATRIX, PUBLISHED, STUDY, Arm, Contrast, Study
from kdlib.tuning import TUNING

_DROPPED = (
    Arm("half_rate", "exp. 2, half the rate", "#661100", MATRIX, HINT, own={"learning_rate": 0.05}),
    Arm("distill_frozen", "distilled front (frozen)", "#AA4499", FREEZING, ("teacher", "distill"), guided_rate=0.0,
        takes="front"),
)  # fmt: skip
_ARMS = (
    "teacher", "baseline", "distill", "hint", "exp1", "exp2", "wide_baseline", "wide_distill", "hint_wide_none",
    "wide_none_frozen", "wide_none_tuned", "hint_wide_learned", "wide_learned_frozen", "wide_learned_tuned",
    "hint_wide_random", "wide_random_frozen", "wide_random_tuned", "half_rate", "distill_frozen", "scale01", "scale03",
    "distill_long", "joint_distill",
)  # fmt: skip
_PAIRS = {
    "primary": """wide_none_frozen wide_learned_frozen  wide_none_tuned wide_learned_tuned
        wide_none_frozen exp1  wide_none_tuned exp2""",
    "secondary": """exp2 exp1  exp2 distill  distill baseline  teacher baseline  exp2 baseline  distill exp1
        baseline exp1  wide_baseline baseline  wide_distill distill  wide_random_frozen wide_learned_frozen
        wide_random_tuned wide_learned_tuned  wide_none_frozen wide_distill  wide_none_tuned wide_distill
        wide_learned_frozen wide_distill  wide_learned_tuned wide_distill  wide_random_frozen wide_distill
        wide_random_tuned wide_distill  exp1 distill_frozen  distill_frozen distill  scale01 exp2  scale03 exp2
        exp2 distill_long  joint_distill exp2  joint_distill distill_long""",
    "exploratory": """wide_none_frozen wide_random_frozen  wide_none_tuned wide_random_tuned  half_rate exp2
        half_rate distill_long  scale03 distill_long  wide_none_tuned wide_none_frozen
        wide_learned_tuned wide_learned_frozen  wide_random_tuned wide_random_frozen""",
}

_KNOWN = {arm.name: arm for arm in (*STUDY.arms, *_DROPPED)}
FIRST_EDITION = Study(
    tuple(profile for profile in STUDY.profiles if profile.name == PUBLISHED),
    tuple(_KNOWN[name] for name in _ARMS),
    tuple(
        Contrast(first, second, kind)
        for kind, names in _PAIRS.items()
        for first, second in zip(names.split()[::2], names.split()[1::2], strict=True)
    ),
)


def study_of(profile: str) -> Study:
    """The study that a profile of this name belongs to: STUDY, unless it is that of TUNING or of the first edition."""
    other = {profile.name: study for study in (TUNING, FIRST_EDITION) for profile in study.profiles}
    return other.get(profile, STUDY)

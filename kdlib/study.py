"""What is run, as data: the arms, the profiles, and the contrasts named beforehand.

This is the one place to add an arm (a way to train a student). Names and colours in tables and pictures, their order,
the edges of the graph in the Snakefile and the records that a report looks for follow from `STUDY`, the experiments of
the note, and `EXTENDED`, those and the arms that vary the extra matrix, the freezing and the number of stages.
"""

from dataclasses import replace

from kdlib.design import ANALYSIS, Arm, Contrast, Guidance, Study
from kdlib.note import NOTE
from kdlib.settings import Profile, Recipe, Schedule

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
            title_zh="学生（实验一）", phrase="experiment 1", phrase_zh="实验一", recipe=Recipe(scale=0.0)),
        Arm("exp2", "student (exp. 2)", "#009E73", "05_exp2", needs=("teacher", "hint"),
            title_zh="学生（实验二）", phrase="experiment 2", phrase_zh="实验二"),
    ),
    profiles=(
        # That everything works, in minutes, on small images of handwritten digits.
        Profile(
            "smoke", "digits", train_images=512,
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
    exploratory=(
        Contrast("teacher", "baseline"), Contrast("exp2", "baseline"), Contrast("distill", "exp1"),
        Contrast("baseline", "exp1"),
    ),
    note=NOTE,
)  # fmt: skip


def _guided(
    name: str, title: str, title_zh: str, colour: str, recipe: Recipe, tuned_rate: float = 1.0
) -> tuple[Guidance, tuple[Arm, ...]]:
    """The three arms of a matrix. Colours tell the stages one by their matrix, the others by what was frozen.

    ``tuned_rate`` scales the learning rate where all is fine-tuned.
    """
    names, notebook = (f"hint_{name}", f"{name}_frozen", f"{name}_tuned"), "07_regressor"
    frozen, tuned = (STUDY.arm(arm).colour for arm in ("exp1", "exp2"))
    arms = (
        Arm(names[0], f"stage one, {title}", colour, notebook, ("teacher",), "stage one",
            title_zh=f"第一阶段，{title_zh}", recipe=recipe),
        Arm(names[1], f"{title} (frozen)", frozen, notebook, ("teacher", names[0]),
            title_zh=f"{title_zh}（冻结）", recipe=replace(recipe, scale=0.0)),
        Arm(names[2], f"{title} (fine-tuned)", tuned, notebook, ("teacher", names[0]),
            title_zh=f"{title_zh}（微调）", recipe=replace(recipe, rate=tuned_rate)),
    )  # fmt: skip
    return Guidance(title, *names, "wide_distill" if recipe.wide else "distill"), arms


# S is the student of the note's experiments; S′ one of the same size, whose guided layer needs no matrix.
_MATRICES = (
    _guided("conv3", "S, learned 3 × 3", "S 可学习的 3 × 3 矩阵", "#332288", Recipe(regressor="learned 3 × 3")),
    _guided("random", "S, random matrix", "S 随机矩阵", "#DDCC77", Recipe(regressor="random"), 0.5),
    _guided("components", "S, components", "S 主成分", "#117733", Recipe(regressor="components"), 0.5),
    _guided("wide_none", "S′, no matrix", "S′ 无矩阵", "#88CCEE", Recipe(regressor="none", wide=True)),
    _guided("wide_learned", "S′, learned 1 × 1", "S′ 可学习的 1 × 1 矩阵", "#882255", Recipe(wide=True)),
    _guided("wide_random", "S′, random matrix", "S′ 随机矩阵", "#999933", Recipe(regressor="random", wide=True)),
)

GUIDANCE = (
    Guidance("S, learned 1 × 1", "hint", "exp1", "exp2", "distill"),
    *(guidance for guidance, _ in _MATRICES),
)

# What experiment 1 loses though both fronts are frozen, and what experiment 2 gains for equally many epochs.
CONTROLS = (Contrast("exp1", "distill_frozen"), Contrast("exp2", "distill_long"))
# What a random matrix gains, fine-tuned, at an equal learning rate. Added after the run.
EQUAL_RATES = Contrast("random_tuned", "half_rate")

EXTENDED = replace(
    STUDY,
    arms=(
        *STUDY.arms,
        Arm("wide_baseline", "S′ baseline", "#E69F00", "07_regressor", title_zh="S′ 基线",
            phrase="the baseline of S′", recipe=Recipe(wide=True)),
        Arm("wide_distill", "S′ (distilled)", "#56B4E9", "07_regressor", needs=("teacher",), title_zh="S′（仅蒸馏）",
            phrase="the distilled S′", recipe=Recipe(wide=True)),
        *(arm for _, arms in _MATRICES for arm in arms),
        # Added after the run, with its contrasts: how much of the random matrix's gain is due to its learning rate.
        Arm("half_rate", "exp. 2, half the rate", "#009E73", "07_regressor", needs=("teacher", "hint"),
            title_zh="实验二，一半学习率", phrase="experiment 2 at half the learning rate",
            phrase_zh="一半学习率的实验二", recipe=Recipe(rate=0.5)),
        Arm("distill_frozen", "distilled front (frozen)", "#AA4499", "08_freezing", needs=("teacher", "distill"),
            title_zh="蒸馏学生的前段（冻结）", phrase="the frozen front of the distilled student",
            recipe=Recipe(scale=0.0, takes="guided layers")),
        Arm("scale003", "guided rate × 0.03", "#DDAA33", "08_freezing", needs=("teacher", "hint"),
            title_zh="引导层学习率 × 0.03", phrase="the student with guided layers at 0.03 of the rate",
            recipe=Recipe(scale=0.03)),
        Arm("scale01", "guided rate × 0.1", "#BB5566", "08_freezing", needs=("teacher", "hint"),
            title_zh="引导层学习率 × 0.1", phrase="the student with guided layers at 0.1 of the rate",
            recipe=Recipe(scale=0.1)),
        Arm("scale03", "guided rate × 0.3", "#004488", "08_freezing", needs=("teacher", "hint"),
            title_zh="引导层学习率 × 0.3", phrase="the student with guided layers at 0.3 of the rate",
            recipe=Recipe(scale=0.3)),
        Arm("hint_stage1", "stage one, guided stage 1", "#44AA99", "08_freezing", needs=("teacher",),
            stage="stage one", title_zh="第一阶段，引导第 1 段", recipe=Recipe(guided_stage=1)),
        Arm("stage1_frozen", "guided stage 1 (frozen)", "#44AA99", "08_freezing", needs=("teacher", "hint_stage1"),
            title_zh="引导第 1 段（冻结）", phrase="the student with stage 1 guided and frozen",
            recipe=Recipe(guided_stage=1, scale=0.0)),
        Arm("hint_stage2", "stage one, guided stage 2", "#661100", "08_freezing", needs=("teacher",),
            stage="stage one", title_zh="第一阶段，引导第 2 段", recipe=Recipe(guided_stage=2)),
        Arm("stage2_frozen", "guided stage 2 (frozen)", "#661100", "08_freezing", needs=("teacher", "hint_stage2"),
            title_zh="引导第 2 段（冻结）", phrase="the student with stage 2 guided and frozen",
            recipe=Recipe(guided_stage=2, scale=0.0)),
        Arm("half_baseline", "baseline, half the epochs", "#E69F00", "08_freezing", title_zh="基线，一半 epoch",
            recipe=Recipe(length=0.5)),
        Arm("double_baseline", "baseline, twice the epochs", "#E69F00", "08_freezing", title_zh="基线，两倍 epoch",
            recipe=Recipe(length=2.0)),
        Arm("half_exp1", "exp. 1, half the epochs", "#D55E00", "08_freezing", needs=("teacher", "hint"),
            title_zh="实验一，一半 epoch", recipe=Recipe(scale=0.0, length=0.5)),
        Arm("double_exp1", "exp. 1, twice the epochs", "#D55E00", "08_freezing", needs=("teacher", "hint"),
            title_zh="实验一，两倍 epoch", recipe=Recipe(scale=0.0, length=2.0)),
        Arm("distill_long", "distilled, equal cost", "#0072B2", "09_one_stage", needs=("teacher",),
            title_zh="等训练量的蒸馏", phrase="the distilled student at equal cost", recipe=Recipe(both_stages=True)),
        Arm("joint_labels", "one stage: hint, labels", "#999999", "09_one_stage", needs=("teacher",),
            title_zh="单阶段：hint 与标签", phrase="the single stage on hint and labels",
            recipe=Recipe(both_stages=True, hint_weight=4.0, alpha=0.0)),
        Arm("joint_distill", "one stage: hint, distillation", "#882255", "09_one_stage", needs=("teacher",),
            title_zh="单阶段：hint 与蒸馏", phrase="the single stage on hint and logits",
            recipe=Recipe(both_stages=True, hint_weight=1.0)),
    ),
    # Contrasts of the note's own arms are those of `STUDY`.
    primary=(
        Contrast("wide_none_frozen", "wide_learned_frozen"), Contrast("wide_none_tuned", "wide_learned_tuned"),
        Contrast("random_frozen", "exp1"), Contrast("random_tuned", "exp2"),
    ),
    exploratory=(
        Contrast("wide_baseline", "baseline"), Contrast("wide_distill", "distill"),
        Contrast("conv3_frozen", "exp1"), Contrast("conv3_tuned", "exp2"),
        Contrast("components_frozen", "exp1"), Contrast("components_tuned", "exp2"),
        Contrast("wide_random_frozen", "wide_learned_frozen"), Contrast("wide_random_tuned", "wide_learned_tuned"),
        Contrast("half_rate", "exp2"),
        *(Contrast(arm, way.distilled) for way in GUIDANCE[1:] for arm in (way.frozen, way.tuned)),
        *CONTROLS, EQUAL_RATES, Contrast("distill_frozen", "distill"),
        Contrast("scale003", "exp2"), Contrast("scale01", "exp2"), Contrast("scale03", "exp2"),
        Contrast("stage1_frozen", "exp1"), Contrast("stage2_frozen", "exp1"),
        # Added after the run: do hints gain at equal cost, where the guided layers take the best of the steps?
        Contrast("scale03", "distill_long"),
        Contrast("joint_labels", "exp2"), Contrast("joint_distill", "exp2"),
        Contrast("joint_distill", "distill_long"),
    ),
)  # fmt: skip

# Arms whose weights of seed 0 are published; of all others the records alone.
PUBLISHED_WEIGHTS = (*(arm.name for arm in STUDY.arms), "wide_baseline", "wide_distill")


def study_of(notebook: str) -> Study:
    """The smaller of the two studies to which a notebook belongs."""
    return EXTENDED if notebook > ANALYSIS else STUDY

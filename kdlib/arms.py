"""How each arm of a study is trained, from its recipe.

The first five notebooks spell this out for the note's experiments, line by line; here it is said once for all arms, so
that a new one needs no code.
"""

from kdlib import models
from kdlib.checks import nearest
from kdlib.datasets import Data
from kdlib.models import ConvNet
from kdlib.objectives import Classify, Distill, Hint, Joint, Objective
from kdlib.regressors import REGRESSORS
from kdlib.storage.records import Record
from kdlib.storage.runs import Run
from kdlib.training import fit


def train(run: Run, data: Data) -> Record:
    """Train an arm, or load what an earlier call trained; arguments and errors as of `objective` and `training.fit`."""
    return fit(objective(run, data), data, run.schedule, run)


def objective(run: Run, data: Data) -> Objective:
    """What an arm optimises, with its networks as they are before the first step.

    Args:
        run: of the arm; the arms that it needs are loaded from the same replicate.
        data: the data set, on the device that trains.

    Raises:
        NotTrained: an arm that it needs was not trained; the message says which notebook to run.
        ValueError: its recipe is impossible; the message says what to change.
        StorageError: a record or weights file of an arm that it needs is damaged.
    """
    arm, recipe, profile = run.arm, run.arm.recipe, run.replicate.profile
    if arm.stage == "teacher":
        return Classify(models.teacher(run.replicate.seed).to(data.device))
    student = _student(run, data)
    if "teacher" not in arm.needs:
        return Classify(student)
    teacher = models.load(run.replicate.run("teacher"), data.device)
    alpha = profile.alpha if recipe.alpha is None else recipe.alpha
    if arm.stage == "stage one" or recipe.hint_weight:
        if recipe.regressor not in REGRESSORS:
            raise ValueError(f"There is no regressor {recipe.regressor!r}{nearest(recipe.regressor, REGRESSORS)}")
        make = REGRESSORS[recipe.regressor]
        regressor = make(student, teacher, data.sample(), stage=recipe.guided_stage, seed=run.replicate.seed)
        if arm.stage == "stage one":
            return Hint(teacher, student, regressor)
        return Joint(teacher, student, regressor, recipe.hint_weight, profile.temperature, alpha)
    models.scale_rate(student, recipe.guided_stage, recipe.scale)
    return Distill(teacher, student, profile.temperature, alpha)


def _student(run: Run, data: Data) -> ConvNet:
    """The student of an arm with its first weights: those of the seed, or of the student that the arm needs."""
    recipe = run.arm.recipe
    student = models.student(run.replicate.seed, widths=models.WIDE_WIDTHS if recipe.wide else None).to(data.device)
    for need in run.arm.needs:
        if run.replicate.study.arm(need).stage != "teacher":
            trained = models.load(run.replicate.run(need), data.device)
            if recipe.takes == "all":
                return trained
            through = recipe.guided_stage
            student.stages[:through].load_state_dict(trained.stages[:through].state_dict())
    return student

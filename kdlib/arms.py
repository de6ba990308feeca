"""How each arm of a study is trained, from its entry.

python -m kdlib.arms PROFILE SEED ARM   train one arm, or load what an earlier call trained

The first five notebooks spell this out for the note's experiments, line by line; here it is said once for all arms, so
that a new one needs no code.
"""

import sys
from pathlib import Path

import joblib
import torch

from kdlib import models
from kdlib.data import Data
from kdlib.editions import study_of
from kdlib.errors import SettingError, as_sentences, nearest
from kdlib.models import GUIDED_BLOCK, ConvNet
from kdlib.objectives import Classify, Distill, Hint, Joint, Objective
from kdlib.profiles import with_own
from kdlib.regressors import REGRESSORS
from kdlib.storage import files
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate, Run
from kdlib.training import fit


def train(run: Run, data: Data) -> Record:
    """Train an arm, or load what an earlier call trained; arguments and errors as of `objective` and `training.fit`."""
    return fit(objective(run, data), data, run.schedule, run)


def objective(run: Run, data: Data) -> Objective:
    """What an arm optimises, with its networks as they are before the first step; those that it needs are loaded.

    Raises `NotTrained`, which says what notebook to run, `SettingError`, which says what to change, or `StorageError`:
    a record or weights file of an arm that it needs is damaged.
    """
    arm, seed = run.arm, run.replicate.seed
    profile = with_own(run.replicate.profile, arm.own)
    if arm.stage == "teacher":
        return Classify(models.teacher(seed, arm.shape(profile)).to(data.device))
    student = _student(run, data)
    if "teacher" not in arm.needs:
        return Classify(student)
    teacher = run.replicate.load("teacher", data.device)
    models.scale_rate(student, GUIDED_BLOCK, arm.guided_rate)
    if arm.stage == "stage two" and not arm.hint_weight:
        return Distill(teacher, student, profile.temperature, profile.alpha)
    if arm.regressor not in REGRESSORS:
        raise SettingError(f"There is no regressor {arm.regressor!r}{nearest(arm.regressor, REGRESSORS)}")
    regressor = REGRESSORS[arm.regressor](student, teacher, data.sample(), seed)
    if arm.stage == "stage one":
        return Hint(teacher, student, regressor)
    return Joint(teacher, student, regressor, arm.hint_weight, profile.temperature, profile.alpha)


def _student(run: Run, data: Data) -> ConvNet:
    """The student of an arm with its first weights: those of the seed, or of the student that the arm needs."""
    arm, replicate = run.arm, run.replicate
    student = models.student(replicate.seed, arm.shape(replicate.profile)).to(data.device)
    for need in (need for need in arm.needs if need != "teacher"):
        trained = replicate.load(need, data.device)
        if arm.takes == "all":
            return trained
        student.blocks[:GUIDED_BLOCK].load_state_dict(trained.blocks[:GUIDED_BLOCK].state_dict())
        if arm.takes == "front with matrix":
            _multiply_in(student, replicate.run(need).weights_path)
    return student


@torch.no_grad()
def _multiply_in(student: ConvNet, path: Path) -> None:
    """Multiply the matrix of a stage one, from its weights file, into the convolution that ends the guided layer.

    A 1 × 1 convolution after one of 3 × 3 is one of 3 × 3. The bias is left out: it moves the mean of a channel, which
    the batch normalisation behind takes away. Raises `SettingError` if the matrix is not square.
    """
    kernel = student.blocks[GUIDED_BLOCK - 1][-1].weight  # (guided, in, 3, 3)
    matrix = files.read_tensors(path)[0]["regressor.conv.weight"][:, :, 0, 0].to(kernel)  # (hint, guided)
    if matrix.shape != (len(kernel), len(kernel)):
        raise SettingError("Only a matrix between equally wide layers can be kept: use the body S′.")
    kernel.copy_(torch.einsum("hg,gixy->hixy", matrix, kernel))


if __name__ == "__main__":
    with as_sentences():
        if len(sys.argv) != 4 or not sys.argv[2].isdecimal():
            raise SettingError(__doc__)
        torch.set_num_threads(min(torch.get_num_threads(), joblib.cpu_count()))
        made = Replicate(study_of(sys.argv[1]).profile(sys.argv[1]), int(sys.argv[2]))
        train(made.run(sys.argv[3]), made.data())

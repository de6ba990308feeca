"""The extra matrix, and what can stand in its place."""

import numpy as np
import pytest
import torch
from conftest import small_network
from sklearn.decomposition import PCA

from kdlib import models
from kdlib.models import GUIDED_STAGE, ConvNet
from kdlib.objectives import Classify, Hint
from kdlib.regressors import NoRegressor, PrincipalComponents, RandomRegressor, Regressor
from kdlib.training import fit

WIDE = ((8,), (8, 8), (16, 24), (16,))  # a network whose guided layer has 24 channels


def images(count=8):
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_regressor_standardises_the_hint_with_the_teachers_statistics():
    teacher, student, batch = models.teacher(), models.student(), images(32)
    regressor = Regressor(student, teacher, batch)
    with torch.no_grad():
        target = regressor.target(teacher.eval().features(batch, through=GUIDED_STAGE))
    torch.testing.assert_close(target.mean((0, 2, 3)), torch.zeros(128), atol=1e-4, rtol=0)
    torch.testing.assert_close(target.std((0, 2, 3)), torch.ones(128), atol=1e-3, rtol=0)
    assert {"hint_mean", "hint_std"} <= regressor.state_dict().keys(), "the statistics are kept with the regressor"


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_regressor_maps_the_guided_width_to_the_hint_width_at_every_stage(stage):
    teacher, student = models.teacher().eval(), models.student().eval()
    regressor = Regressor(student, teacher, images(), stage=stage)
    guided_width, hint_width = student.widths[stage - 1][-1], teacher.widths[stage - 1][-1]
    assert models.count_parameters(regressor) == guided_width * hint_width + hint_width
    guided, hint = (model.features(images(), through=stage) for model in (student, teacher))
    assert regressor(guided).shape == regressor.target(hint).shape == hint.shape


def test_a_larger_kernel_sees_the_neighbours_and_keeps_the_shape():
    teacher, student = small_network(1).eval(), small_network().eval()
    regressor = Regressor(student, teacher, images(), size=3)
    assert models.count_parameters(regressor) == 16 * 16 * 9 + 16 and regressor.kind == "learned 3 × 3 convolution"
    guided = torch.zeros(1, 16, 8, 8)
    changed = guided.clone()
    changed[0, 0, 4, 4] = 1
    moved = (regressor(changed) - regressor(guided))[0].abs().sum(0) > 0
    assert moved.sum() == 9 and moved[3:6, 3:6].all()
    with pytest.raises(ValueError, match=r"^size, of the regressor's kernel, must be an odd number from 1, not 2\.$"):
        Regressor(student, teacher, images(), size=2)


@pytest.mark.parametrize("widths", [WIDE, ((8,), (8, 8), (16, 8), (16,))], ids=["narrows", "widens"])
def test_a_random_matrix_is_semi_orthogonal_and_belongs_to_its_seed(widths):
    student, teacher = ConvNet(widths), small_network(1)
    regressor, again, other = (RandomRegressor(student, teacher, images(), seed=seed) for seed in (0, 0, 1))
    matrix = regressor.conv.weight.flatten(1)
    small = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    torch.testing.assert_close(small, torch.eye(len(small)), atol=1e-5, rtol=0)
    assert torch.equal(matrix, again.conv.weight.flatten(1)) and not torch.equal(matrix, other.conv.weight.flatten(1))


def test_a_random_matrix_is_the_same_for_every_number_of_threads():
    """Or a run could not be resumed on another machine: its first weights are a part of its identity."""
    teacher, student = models.teacher(), models.student(widths=models.WIDE_WIDTHS)
    threads, matrices = torch.get_num_threads(), []
    for count in (1, 2):
        torch.set_num_threads(count)
        matrices.append(RandomRegressor(student, teacher, images()).conv.weight)
    torch.set_num_threads(threads)
    assert torch.equal(*matrices)


def test_kinds_with_nothing_to_learn_standardise_the_guided_layer():
    student, teacher = small_network(), small_network(1)
    guided = 3 + 5 * torch.randn(32, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    for kind in (NoRegressor, PrincipalComponents):
        prediction = kind(student, teacher, images()).train()(guided)
        torch.testing.assert_close(prediction.mean((0, 2, 3)), torch.zeros(16), atol=1e-4, rtol=0)
        torch.testing.assert_close(prediction.std((0, 2, 3)), torch.ones(16), atol=1e-2, rtol=0)
    random = RandomRegressor(student, teacher, images()).train()
    torch.testing.assert_close(random(guided), random.conv(NoRegressor(student, teacher, images()).train()(guided)))


def test_without_a_matrix_the_target_is_the_hint_itself():
    student, teacher = small_network(), small_network(1).eval()
    hint = teacher.features(images(), through=GUIDED_STAGE)
    plain, none = Regressor(student, teacher, images()), NoRegressor(student, teacher, images())
    assert torch.equal(none.target(hint), plain.target(hint))


def test_layers_of_unequal_width_need_a_matrix():
    sentence = (
        r"^Without a matrix the two layers must be equally wide, but stage 3 of the student ends with 24 channels and "
        r"that of the teacher with 16: give the student 16 there, or use another regressor\.$"
    )
    with pytest.raises(ValueError, match=sentence):
        NoRegressor(ConvNet(WIDE), small_network(1), images())


def test_principal_components_are_those_of_scikit_learn():
    student, teacher, batch = ConvNet(((8,), (8, 8), (16, 5), (16,))), small_network(1).eval(), images(16)
    regressor = PrincipalComponents(student, teacher, batch)
    with torch.no_grad():
        hint = teacher.features(batch, through=GUIDED_STAGE)
        found = regressor.target(hint).permute(0, 2, 3, 1).flatten(0, 2).numpy()
        standard = Regressor(student, teacher, batch).target(hint).permute(0, 2, 3, 1).flatten(0, 2).numpy()
    expected = PCA(5, whiten=True, svd_solver="full").fit_transform(standard)
    signs = np.sign((found * expected).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-2)


def test_a_student_wider_than_the_hint_has_too_few_principal_components():
    sentence = (
        r"^The hint of stage 3 has only 16 principal components for the student's 24 channels: give the student 16"
    )
    with pytest.raises(ValueError, match=sentence):
        PrincipalComponents(ConvNet(WIDE), small_network(1), images())


@pytest.mark.parametrize(
    ("kind", "learned"),
    [(Regressor, True), (RandomRegressor, False), (NoRegressor, False), (PrincipalComponents, False)],
)
def test_stage_one_learns_through_every_kind_and_changes_only_what_is_learned(
    kind, learned, small_data, small_profile, replicate
):
    teacher, student = small_network(1), small_network()
    fit(Classify(teacher), small_data, small_profile.teacher, replicate.run("teacher"))
    regressor = kind(student, teacher, small_data.sample(), seed=0)
    before = {name: value.clone() for name, value in regressor.named_parameters()}
    record = fit(Hint(teacher, student, regressor), small_data, small_profile.hint, replicate.run("hint"))
    r2 = [1 - loss / power for loss, power in zip(record.train["total"], record.train["power"], strict=True)]
    assert r2[-1] > max(r2[0], 0)
    changed = {
        name for name, value in regressor.named_parameters() if not torch.equal(value.half(), before[name].half())
    }
    assert changed == (set(before) if learned else set())
    assert record.identity.objective["regressor"] == regressor.kind

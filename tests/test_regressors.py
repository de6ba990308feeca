"""The extra matrix, and what can stand in its place."""

import pytest
import torch
from conftest import images, small_network

from kdlib import models
from kdlib.errors import SettingError
from kdlib.models import GUIDED_BLOCK, ConvNet, Shape
from kdlib.objectives import Hint
from kdlib.regressors import REGRESSORS, NoRegressor, RandomRegressor, Regressor
from kdlib.study import Schedule
from kdlib.training import fit

WIDE = Shape(((8,), (8, 8), (16, 24), (16,)))  # its guided layer has 24 channels; that of `small_network` 16
THIN = Shape(((8,), (8, 8), (16, 8), (16,)))


def assert_moments(values, std):
    """Each channel of (B, C, H, W) has mean 0 and this standard deviation (C,)."""
    torch.testing.assert_close(values.mean((0, 2, 3)), torch.zeros(len(std)), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std((0, 2, 3)), std, atol=1e-3, rtol=0)


def test_the_hint_is_standardised_with_the_statistics_of_the_trained_teacher():
    teacher, batch = small_network(1), images(300)  # more images than are run at once
    with torch.no_grad():
        teacher.blocks[GUIDED_BLOCK - 1][-1].weight[5] = 0  # a dead channel
    regressor = Regressor(ConvNet(THIN), teacher.train(), batch)
    with torch.no_grad():
        target = regressor.target(teacher.eval().features(batch, through=GUIDED_BLOCK))
    assert_moments(target, std=(torch.arange(16) != 5).float())
    assert {"hint_mean", "hint_std"} <= regressor.state_dict().keys(), "the statistics are kept with the regressor"


def test_a_random_matrix_is_semi_orthogonal():
    matrix = RandomRegressor(models.student(), models.teacher(), images()).conv.weight.flatten(1)
    values = torch.linalg.svdvals(matrix)
    torch.testing.assert_close(values, torch.ones_like(values), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [Regressor, RandomRegressor])
def test_the_seed_alone_decides_the_first_weights_which_are_those_of_no_network(kind):
    teacher, student, state = models.teacher(0), models.student(0), torch.get_rng_state()
    first, again, other = (kind(student, teacher, images(), seed=seed).conv.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
    pair = torch.stack([weights.flatten()[:432] for weights in (first, teacher.blocks[0][0].weight)])
    assert torch.corrcoef(pair)[0, 1].abs() < 0.25  # 0.08; of networks that share their numbers 1


def test_kinds_with_nothing_to_learn_standardise_the_guided_layer_and_without_a_matrix_widths_are_equal():
    student, teacher = small_network(), small_network(1)
    guided = 3 + 5 * torch.randn(32, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    none, random = (kind(student, teacher, images()) for kind in (NoRegressor, RandomRegressor))
    assert_moments(none(guided), std=torch.ones(16))
    torch.testing.assert_close(random(guided), random.conv(none(guided)))
    with pytest.raises(SettingError, match=r"the guided layer has 24 channels and the hint 16: use the body S′\.$"):
        NoRegressor(ConvNet(WIDE), small_network(1), images())


@pytest.mark.parametrize("kind", REGRESSORS)
def test_stage_one_learns_through_every_kind_and_changes_only_what_is_learned(kind, small_data, replicate):
    teacher, student = small_network(1), small_network()
    regressor = REGRESSORS[kind](student, teacher, small_data.sample())
    before = {name: value.half() for name, value in regressor.named_parameters()}  # as weights are stored
    schedule = Schedule(epochs=3, batch_size=64, learning_rate=0.2)
    record = fit(Hint(teacher, student, regressor), small_data, schedule, replicate.run("hint"), precision="float32")
    # R² in the last epoch: 0.75 to 0.81; of a student that does not learn at most 0.27, by the learned matrix alone.
    assert 1 - record.train["total"][-1] / record.train["power"][-1] > 0.5
    moved = {name for name, value in regressor.named_parameters() if not torch.equal(value.half(), before[name])}
    assert moved == (set(before) if kind == "learned" else set())

"""The networks: their size, their first weights, what freezing means."""

import pytest
import torch
from conftest import images, small_network

from kdlib import models
from kdlib.errors import SettingError
from kdlib.models import GUIDED_BLOCK

BEHIND = ("blocks.3.", "head.")  # the names of what lies behind the guided block


def copies(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def changed(model, before):
    """Names of the weights and statistics that differ from those copied before."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_sizes_are_those_of_the_note_and_both_bodies_are_equally_large():
    teacher, student, wide = models.teacher(), models.student(), models.student(shape=models.WIDE)
    assert models.count_parameters(teacher) == pytest.approx(1.35e6, rel=0.01)
    for network in (student, wide):
        assert models.count_parameters(network) == pytest.approx(306e3, rel=0.01)
        assert models.count_multiplications(network) <= 30e6
    assert models.count_multiplications(teacher) <= 65e6
    assert wide.guided_width == teacher.guided_width == 128 > student.guided_width


def test_multiplications_are_counted_by_hand_for_a_small_network():
    model = models.ConvNet(models.Shape(((4,), (8,), (8,), (8,))))
    by_hand = 9 * (3 * 4 * 32**2 + 4 * 8 * 16**2 + 8 * 8 * 8**2 + 8 * 8 * 4**2) + 8 * 10
    assert models.count_multiplications(model) == by_hand


@pytest.mark.parametrize("make", [models.teacher, models.student])
def test_blocks_end_in_raw_convolutions_of_32_16_8_and_4_pixels_and_give_the_logits(make):
    model, batch = make().eval(), images(2)
    for block, size in zip((1, 2, 3, 4), (32, 16, 8, 4), strict=True):
        features = model.features(batch, through=block)
        assert features.shape == (2, model.shape.widths[block - 1][-1], size, size) and features.min() < 0
        assert torch.equal(model.classify(features, after=block), model(batch))


def test_the_seed_alone_decides_the_first_weights():
    state = torch.get_rng_state()
    first, again, other = models.student(1), models.student(1), models.student(2)
    assert not changed(again, first.state_dict()) and changed(other, first.state_dict())
    assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"


def test_frozen_blocks_get_no_gradient_and_keep_their_statistics_even_in_training_mode():
    model = small_network()
    models.freeze(model, through=GUIDED_BLOCK)
    model.train()
    before = copies(model)
    features = model.features(images(), through=GUIDED_BLOCK)
    assert not features.requires_grad, "nothing is kept for a backward pass"
    model.classify(features, after=GUIDED_BLOCK).square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(BEHIND), name
    moved = changed(model, before)
    assert moved and all(name.startswith(BEHIND) for name in moved), "statistics behind them must still move"


def test_blocks_are_trained_at_their_scale_and_frozen_ones_not_at_all():
    model = small_network()
    models.scale_rate(model, through=GUIDED_BLOCK, scale=0.1)
    models.freeze(model, through=1)
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = {names[value]: group for group in model.groups() for value in group["params"]}
    assert set(found) == {name for name in names.values() if not name.startswith("blocks.0.")}
    for name, group in found.items():
        assert group["scale"] == (1.0 if name.startswith(BEHIND) else 0.1), name
        assert group["convolutions"] == (model.get_parameter(name).ndim == 4), name


def test_an_impossible_block_or_scale_is_refused_and_changes_nothing():
    model = small_network()
    with pytest.raises(SettingError, match=r"^There is no block 5: choose one from 1 to 4\.$"):
        models.freeze(model, 5)
    with pytest.raises(SettingError, match=r"must lie between 0 and 1, not 1\.5\.$"):
        models.scale_rate(model, through=3, scale=1.5)
    assert model.rates == [1.0] * 4

"""Pictures of images: which are shown, and that what is drawn is what the networks compute."""

import copy

import numpy as np
import torch
from factories import record

from kdlib import models
from kdlib.models import GUIDED_BLOCK
from kdlib.regressors import Regressor
from kdlib.report import images
from kdlib.storage.runs import Results
from kdlib.study import STUDY


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def test_hint_maps_show_hint_prediction_and_difference_of_the_best_median_and_worst_channel(small_data):
    teacher, student = models.teacher(0).eval(), models.student(0).eval()
    regressor = Regressor(student, teacher, small_data.sample(64))
    with torch.no_grad():
        tested = small_data.normalise(small_data.test_images)
        layers = [model.features(tested, GUIDED_BLOCK) for model in (teacher, student)]
        target, predicted = regressor.target(layers[0]), regressor(layers[1])  # (M, C, H, W)
    explained = 1 - (predicted - target).square().mean((0, 2, 3)) / target.square().mean((0, 2, 3))
    order = explained.argsort(descending=True).tolist()
    grid = np.array(images.hint_maps(small_data, teacher, student, regressor).axes[:24]).reshape(3, 2, 4)
    for number in range(2):
        image = small_data.test_images[small_data.test_labels == number][:1]
        with torch.no_grad():
            layers = [model.features(small_data.normalise(image), GUIDED_BLOCK) for model in (teacher, student)]
            target, predicted = regressor.target(layers[0])[0], regressor(layers[1])[0]  # (C, H, W)
        for row, channel in zip(grid[:, number], (order[0], order[64], order[-1]), strict=True):
            assert np.array_equal(shown(row[0]), image[0])
            for axes, expected in zip(row[1:], (target, predicted, predicted - target), strict=True):
                assert np.allclose(shown(axes), expected[channel], atol=1e-3)
    assert grid[0, 0, 0].get_ylabel() == f"best:\nchannel {order[0] + 1}\nR² = {explained.max():.2f}"


def test_images_are_won_where_only_the_first_is_right_and_lost_where_only_the_second_is(small_data):
    (data := copy.copy(small_data)).test_labels = torch.zeros(100, dtype=torch.int64)
    said = {"baseline": [0, 1, 2, 1, 1] + [0] * 95, "exp2": [1, 1, 2, 0, 0] + [0] * 95}
    runs = {name: record(name, profile="smoke", labels=[0] * 100, predictions=said[name]) for name in said}
    results = Results(STUDY, {0: runs})
    axes = images.won_and_lost(data, results, 0, "exp2", "baseline").axes
    for row, indices, winner, loser in ((0, [3, 4], "exp2", "baseline"), (1, [0], "baseline", "exp2")):
        panels = [panel for panel in axes[5 * row :][:5] if panel.axison]
        assert np.array_equal([shown(panel) for panel in panels], data.test_images[indices])
        assert {panel.get_xlabel() for panel in panels} == {"0\nnot 1"}
        names = f"right by {STUDY.arm(winner).title}, wrong by {STUDY.arm(loser).title}"
        assert axes[5 * row].texts[0].get_text() == f"{names}: {len(indices)} images"

"""Pictures of images: which are shown, and that what is drawn is what the networks compute."""

import dataclasses

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex

from kdlib import models
from kdlib.evaluation import evaluate
from kdlib.models import GUIDED_STAGE
from kdlib.objectives import Hint
from kdlib.regressors import Regressor
from kdlib.report import figure, image_plots


@pytest.fixture(scope="module")
def networks():
    return models.teacher(0).eval(), models.student(0).eval()


@pytest.fixture
def hint(small_data, networks):
    return (*networks, Regressor(networks[1], networks[0], small_data.sample(64)))


def shown(axes):
    return np.asarray(axes.images[0].get_array())


def test_dark_knowledge_shows_the_probabilities_of_the_image_closest_to_70_percent(small_data, networks):
    teacher, student = networks
    with torch.no_grad():
        logits = {name: model(small_data.normalise(small_data.test_images)) for name, model in
                  (("teacher", teacher), ("student", student))}  # fmt: skip
    labels = logits["teacher"].argmax(1)  # so that the teacher is right on all
    data = dataclasses.replace(small_data, test_labels=labels)
    drawn = image_plots.dark_knowledge(data, teacher, student, temperature=4.0, count=1)
    image, bars = drawn.axes[0], drawn.axes[3]
    number = int(labels.min())
    highest = logits["teacher"].softmax(1).max(1).values
    index = min((labels == number).nonzero()[:, 0].tolist(), key=lambda index: abs(highest[index] - 0.7))
    assert (shown(image) == data.test_images[index].numpy()).all()
    assert image.get_title() == f"true class: {data.classes[number]}"
    for container, (name, divisor) in zip(
        bars.containers, (("teacher", 1), ("teacher", 4), ("student", 1)), strict=True
    ):
        expected = 100 * (logits[name][index] / divisor).softmax(0)
        assert [bar.get_width() for bar in container] == pytest.approx(expected.tolist(), rel=1e-4)
    assert to_hex(drawn._supxlabel.get_color()).upper() == figure.RED, "digits"


def test_of_a_teacher_that_is_never_right_nothing_is_shown(small_data, networks):
    with torch.no_grad():
        wrong = (networks[0](small_data.normalise(small_data.test_images)).argmax(1) + 1) % 10
    drawn = image_plots.dark_knowledge(dataclasses.replace(small_data, test_labels=wrong), *networks, 4.0)
    assert not any(axes.axison for axes in drawn.axes)


def test_the_share_explained_of_the_channels_agrees_with_that_of_the_whole(small_data, hint):
    explained = image_plots.explained_channels(small_data, *hint)
    found, _ = evaluate(Hint(*hint), small_data)
    with torch.no_grad():
        target = hint[2].target(hint[0].features(small_data.normalise(small_data.test_images), GUIDED_STAGE))
    power = target.square().mean((0, 2, 3))
    assert float((explained * power).sum() / power.sum()) == pytest.approx(
        1 - found["total"] / found["power"], rel=1e-3
    )


def test_hint_maps_show_hint_prediction_and_difference_of_the_best_median_and_worst_channel(small_data, hint):
    teacher, student, regressor = hint
    explained = image_plots.explained_channels(small_data, *hint)
    order = explained.argsort(descending=True).tolist()
    drawn = image_plots.hint_maps(small_data, *hint, explained, count=2)
    grid = np.array(drawn.axes[:20]).reshape(2, 10)
    for number, row in enumerate(grid):
        image = small_data.test_images[small_data.test_labels == number][:1]
        with torch.no_grad():
            target = regressor.target(teacher.features(small_data.normalise(image), GUIDED_STAGE))[0]
            predicted = regressor(student.features(small_data.normalise(image), GUIDED_STAGE))[0]
        assert (shown(row[0]) == image[0].numpy()).all() and row[0].get_ylabel() == small_data.classes[number]
        for group, channel in enumerate((order[0], order[64], order[-1])):
            maps = target[channel], predicted[channel], predicted[channel] - target[channel]
            for axes, expected in zip(row[1 + 3 * group :][:3], maps, strict=True):
                assert np.allclose(shown(axes), expected, atol=1e-4)
    assert f"best: channel {order[0] + 1}\n" in grid[0, 2].get_title()


def test_fine_tuning_is_shown_on_one_scale_before_and_after(small_data):
    before, after = models.student(0).eval(), models.student(1).eval()
    drawn = image_plots.fine_tuned(small_data, before, after, GUIDED_STAGE)
    grid = np.array(drawn.axes).reshape(6, 16)
    first, second = (model.stages[0][0].weight[3].detach() for model in (before, after))
    largest = max(first.abs().max(), second.abs().max())
    for row, weights in ((0, first), (1, second)):
        assert np.allclose(shown(grid[row, 3]), (weights / (2 * largest) + 0.5).permute(1, 2, 0), atol=1e-6)
    image = small_data.test_images[small_data.test_labels == 1][:1]
    with torch.no_grad():
        maps = [model.features(small_data.normalise(image), GUIDED_STAGE)[0, 0] for model in (before, after)]
    largest = max(values.abs().max() for values in maps)
    for row, values in zip((4, 5), maps, strict=True):
        assert (shown(grid[row, 0]) == image[0].numpy()).all()
        assert np.allclose(shown(grid[row, 1]), values / largest, atol=1e-5)

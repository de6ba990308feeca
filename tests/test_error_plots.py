"""Pictures of misclassified images: which are shown, and that nothing is drawn from records of other images."""

import dataclasses

import numpy as np
import pytest
import torch
from factories import record

from kdlib.report import error_plots
from kdlib.storage.runs import Results
from kdlib.study import STUDY


def shown(axes):
    return np.asarray(axes.images[0].get_array())


@pytest.fixture
def told(small_data):
    """Data of which the labels are 0, and records of three models that say what the lists below say."""
    data = dataclasses.replace(small_data, test_labels=torch.zeros(100, dtype=torch.int64))
    said = {"teacher": [0, 1, 2, 1, 0], "baseline": [0, 1, 2, 1, 1], "exp2": [1, 1, 2, 0, 0]}
    runs = {
        name: record(name, images=100, dataset="digits", labels=[0] * 100, predictions=start + [0] * 95)
        for name, start in said.items()
    }
    return data, Results(STUDY, {0: runs})


def headings(drawn):
    return [text.get_text() for axes in drawn.axes for text in axes.texts]


def sheet(drawn, row):
    """The images of a row and what stands below them."""
    axes = [axes for axes in drawn.axes[10 * row :][:10] if axes.axison]
    return [shown(one) for one in axes], [one.get_xlabel() for one in axes]


def test_images_are_won_where_only_the_first_is_right_and_lost_where_only_the_second_is(told):
    data, results = told
    drawn = error_plots.won_and_lost(data, results, 0, "exp2", "baseline")
    assert headings(drawn) == [
        "right by student (exp. 2), wrong by baseline: 2 images",
        "right by baseline, wrong by student (exp. 2): 1 images",
    ]
    for row, indices in ((0, [3, 4]), (1, [0])):
        images, texts = sheet(drawn, row)
        assert all(map(np.array_equal, images, data.test_images[indices].numpy())) and len(images) == len(indices)
        assert texts == ["0\nnot 1"] * len(indices)


def test_shared_errors_are_those_that_all_models_make_alike(told):
    data, results = told
    drawn = error_plots.shared_errors(data, results, 0)
    assert drawn.get_suptitle() == "Errors that all models share: 2 images"
    assert headings(drawn) == ["0, taken for 1 by all 3: 1 images", "0, taken for 2 by all 3: 1 images"]
    for row, index in ((0, 1), (1, 2)):
        (image,), _ = sheet(drawn, row)
        assert (image == data.test_images[index].numpy()).all()


def test_a_model_that_was_not_run_leaves_the_sheet_empty(told):
    data, results = told
    assert headings(error_plots.won_and_lost(data, results, 0, "exp1", "baseline")) == []


@pytest.mark.parametrize("draw", [error_plots.shared_errors,
                                  lambda *shown: error_plots.won_and_lost(*shown, "exp2", "baseline")])  # fmt: skip
def test_records_of_other_test_images_are_refused(told, small_data, draw):
    with pytest.raises(ValueError, match="not of the test images of digits"):
        draw(small_data, told[1], 0)

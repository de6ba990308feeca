"""Pictures of test images that models misclassify, by what their records say; the first ones in the order of the split.

Each raises ``ValueError`` if the records are of other test images.
"""

from collections import Counter

import numpy as np
from matplotlib.figure import Figure

from kdlib.datasets import Data
from kdlib.report import tables
from kdlib.report.image_plots import draw_image
from kdlib.report.study_plots import new
from kdlib.storage.runs import Results

SHOWN = 10  # images in a row


def won_and_lost(data: Data, results: Results, seed: int, first: str, second: str) -> Figure:
    """The first test images that one arm classifies correctly and another does not, and the reverse.

    Nothing is shown if one of them was not run.
    """
    models = {arm.name: (arm.title, record) for arm, record in tables.models_of(results, seed).items()}
    rows = []
    for right, wrong in ((first, second), (second, first)) if {first, second} <= models.keys() else ():
        (winner, one), (loser, other) = models[right], models[wrong]
        _check(data, one.labels)
        told = {
            index: f"{one.names[label]}\nnot {one.names[lost]}"
            for index, (label, won, lost) in enumerate(zip(one.labels, one.predictions, other.predictions, strict=True))
            if won == label != lost
        }
        rows.append((f"right by {winner}, wrong by {loser}: {len(told):,} images", told))
    return _sheets(data, results.only(seed), "Images won and lost", rows)


def shared_errors(data: Data, results: Results, seed: int) -> Figure:
    """The first test images of the two errors that all models share most often: one class taken for another."""
    records = list(tables.models_of(results, seed).values())
    _check(data, records[0].labels)
    names, labels = records[0].names, np.array(records[0].labels)  # (M,)
    first, *others = np.array([record.predictions for record in records])
    wrong = np.all([first == other for other in others], axis=0) & (first != labels)
    rows = []
    for (true, predicted), number in Counter(zip(labels[wrong], first[wrong], strict=True)).most_common(2):
        shown = np.flatnonzero(wrong & (labels == true) & (first == predicted))
        heading = f"{names[true]}, taken for {names[predicted]} by all {len(records)}: {number} images"
        rows.append((heading, dict.fromkeys(shown.tolist(), "")))
    title = f"Errors that all models share: {wrong.sum():,} images"
    return _sheets(data, results.only(seed), title, rows)


def _sheets(data: Data, results: Results, title: str, rows: list[tuple[str, dict[int, str]]]) -> Figure:
    """Rows of test images, each with a heading; below an image what is told of it."""
    picture, axes = new(results, title, max(1, len(rows)), SHOWN, 1.5 * max(1, len(rows)) + 0.8, squeeze=False)
    for panel in axes.flat:
        panel.set_axis_off()
    for row, (heading, told) in zip(axes, rows, strict=False):
        # Not part of the layout, which would make the first column as wide as the heading.
        row[0].text(0, 1.1, heading, transform=row[0].transAxes, fontsize="large").set_in_layout(False)
        for panel, (index, text) in zip(row, told.items(), strict=False):
            panel.set_axis_on()
            draw_image(panel, data, index)
            panel.set_xlabel(text, fontsize="small")
    return picture


def _check(data: Data, labels: list[int]) -> None:
    if labels != data.test_labels.tolist():
        raise ValueError(f"The records are not of the test images of {data.name}: load the data of their profile.")

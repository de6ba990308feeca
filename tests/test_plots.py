"""Pictures by what they show: their data, labels and colours; and that a notebook shows each of them once."""

import functools
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from factories import record, replicates
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from kdlib import plots, records, statistics

SEEDS = replicates(3, epochs=8, images=200)
ONE = {0: SEEDS[0]}
RUNS = SEEDS[0]
DIGITS = replicates(1, epochs=2, images=200, dataset="digits")

# Every picture that is made from records: from the replicates given, or from their first one.
PICTURES = {
    "four_plots": lambda seeds: plots.four_plots(seeds[0]["teacher"]),
    "losses_by_epoch": lambda seeds: plots.losses_by_epoch(seeds[0]["distill"]),
    "losses_by_step": lambda seeds: plots.losses_by_step(seeds[0]["distill"]),
    "hint": lambda seeds: plots.hint(seeds[0]["hint"]),
    "six_plots": lambda seeds: plots.six_plots(seeds[0]["hint"], seeds[0]["exp1"]),
    "per_class": lambda seeds: plots.per_class(seeds[0]["exp2"]),
    "confusion": lambda seeds: plots.confusion(seeds[0]["exp1"]),
    "confusion_difference": lambda seeds: plots.confusion_difference(seeds[0]["exp2"], seeds[0]["teacher"]),
    "confusions": lambda seeds: plots.confusions(seeds[0]),
    "agreement": lambda seeds: plots.agreement(seeds[0]),
    "reliability": lambda seeds: plots.reliability(seeds[0]),
    "accuracy_curves": plots.accuracy_curves,
    "loss_curves": plots.loss_curves,
    "differences": plots.differences,
}
# In these some axes have names for ticks, or share the label of their neighbour.
SELF_EXPLAINING = {"confusions", "agreement", "reliability", "accuracy_curves", "differences"}


@functools.cache
def picture(name):
    """The picture of three seeds, drawn once for all tests that look at it."""
    return PICTURES[name](SEEDS)


def curves(axes):
    """{label: values} of the lines that have a label."""
    return {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def axes_titled(figure, title):
    (axes,) = [axes for axes in figure.axes if axes.get_title().startswith(title)]
    return axes


# All of them


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_labelled_and_draws_without_complaint(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = picture(name)
        figure.draw_without_rendering()
    assert isinstance(figure, Figure) and figure.get_figwidth() == plots.WIDTH
    assert plt.get_fignums() == []  # pyplot would keep it for ever
    assert figure.get_suptitle() and figure.get_supxlabel().startswith("CIFAR-10, profile full")
    for axes in figure.axes:
        if axes.axison and axes.get_label() != "<colorbar>" and name not in SELF_EXPLAINING:
            assert axes.get_xlabel() and axes.get_ylabel()


@pytest.mark.parametrize("name", PICTURES)
def test_picture_of_digits_says_so_in_red(name):
    figure = PICTURES[name](DIGITS)
    assert figure.get_supxlabel().startswith("handwritten digits, not CIFAR-10")
    assert to_hex(figure._supxlabel.get_color()) == "#b2182b"


def test_colours_are_told_apart_and_known_for_every_run():
    assert set(plots.COLOURS) == set(records.RUNS) == set(statistics.NAMES)
    assert len(set(plots.COLOURS.values())) == len(plots.COLOURS)


@pytest.mark.parametrize("name", ["accuracy_curves", "loss_curves", "reliability"])
def test_a_model_has_its_colour_everywhere(name):
    figure = picture(name)
    seen = set()
    for axes in figure.axes:
        for line in axes.lines:
            for model in statistics.MODELS:
                if line.get_label().startswith(statistics.NAMES[model]):
                    assert line.get_color() == plots.COLOURS[model]
                    seen.add(model)
    assert seen == set(statistics.MODELS)


@pytest.mark.parametrize("model", ["teacher", "exp1"])
def test_pictures_of_one_run_have_its_colour(model):
    figure = plots.four_plots(RUNS[model])
    assert {line.get_color() for axes in figure.axes for line in axes.lines} == {plots.COLOURS[model]}
    bars = plots.per_class(RUNS[model]).axes[0].patches
    assert {to_hex(bar.get_facecolor()).upper() for bar in bars} == {plots.COLOURS[model]}


def test_a_readers_variant_is_called_by_its_changes_and_has_the_colour_of_its_run():
    variant = record("distill-temperature8-alpha0.5", epochs=3)
    assert plots.display_name(variant) == "student (distilled), temperature 8, alpha 0.5"
    figure = plots.losses_by_epoch(variant)
    assert figure.get_suptitle().startswith("Student (distilled), temperature 8, alpha 0.5:")
    assert figure.axes[0].lines[0].get_color() == plots.COLOURS["distill"]


# Each of them


def test_four_plots_show_the_records_curves():
    made = RUNS["baseline"]
    figure = plots.four_plots(made)
    for split, word in plots.SPLITS.items():
        for curve, quantity in (("total", "loss"), ("accuracy", "accuracy")):
            (line,) = axes_titled(figure, f"{word} {quantity}").lines
            assert line.get_ydata().tolist() == getattr(made, split)[curve]
            assert line.get_xdata().tolist() == list(range(1, 9))
            assert line.get_linestyle() == plots.STYLES[split]
    left, right = axes_titled(figure, "training loss"), axes_titled(figure, "validation loss")
    assert left.get_ylim() == right.get_ylim()  # so that they compare


def test_losses_by_epoch_show_training_and_validation_of_each_loss():
    made = RUNS["exp2"]
    figure = plots.losses_by_epoch(made)
    assert figure.axes[0].get_title() == "total: 0.9 · soft + 0.1 · hard"
    assert figure.axes[1].get_title().endswith("T = 4")
    for axes, loss in zip(figure.axes, ("total", "soft", "hard"), strict=True):
        shown = curves(axes)
        assert shown["training"].tolist() == made.train[loss]
        assert shown["validation"].tolist() == made.test[loss]
        assert [text.get_text() for text in axes.get_legend().texts] == ["training", "validation"]


def test_losses_by_step_show_each_step_and_a_running_mean():
    made = RUNS["exp2"]
    for axes, loss in zip(plots.losses_by_step(made).axes, ("total", "soft", "hard"), strict=True):
        steps, mean = curves(axes).items()
        assert steps[0] == "each step" and steps[1].tolist() == made.steps[loss]
        assert mean[0] == "mean of 5 steps"
        assert mean[1][10] == pytest.approx(np.mean(made.steps[loss][8:13]))
        assert len(mean[1]) == len(steps[1])


def test_hint_shows_losses_and_explained_variance():
    made = RUNS["hint"]
    by_step, by_epoch, variance = plots.hint(made).axes
    assert curves(by_step)["each step"].tolist() == made.steps["total"]
    assert curves(by_epoch)["validation"].tolist() == made.test["total"]
    assert curves(variance)["training"].tolist() == statistics.explained(made, "train")
    assert curves(variance)["validation"].tolist() == statistics.explained(made, "test")
    assert [0, 0] in [list(line.get_ydata()) for line in variance.lines]


@pytest.mark.parametrize("draw", [plots.hint, lambda made: plots.six_plots(made, RUNS["exp1"])])
def test_a_stage_one_that_explains_nothing_is_marked(draw):
    for r2, words, colour in ((0.05, "almost nothing", "#b2182b"), (0.5, "at the end", "#000000")):
        (title,) = [axes.title for axes in draw(record("hint", r2=r2)).axes if "R² =" in axes.get_title()]
        assert words in title.get_text() and to_hex(title.get_color()) == colour


def test_a_stage_one_worse_than_nothing_stays_in_the_frame():
    *_, variance = plots.hint(record("hint", r2=-0.4)).axes
    assert variance.get_ylim()[0] < -0.4


def test_six_plots_show_both_stages():
    figure = picture("six_plots")
    assert len(figure.axes) == 6
    assert curves(axes_titled(figure, "hint loss at each step"))["each step"].tolist() == RUNS["hint"].steps["total"]
    assert curves(axes_titled(figure, "hint loss after"))["training"].tolist() == RUNS["hint"].train["total"]
    for split, word in plots.SPLITS.items():
        (line,) = axes_titled(figure, f"{word} accuracy").lines
        assert line.get_ydata().tolist() == getattr(RUNS["exp1"], split)["accuracy"]


def test_bars_are_the_accuracies_of_the_classes():
    axes = plots.per_class(RUNS["teacher"]).axes[0]
    expected = statistics.per_class(RUNS["teacher"])
    assert [bar.get_height() for bar in axes.patches] == expected.tolist()
    assert [label.get_text() for label in axes.get_xticklabels()] == expected.index.tolist()
    assert f"{statistics.accuracy(RUNS['teacher']):.2f} %" in axes.get_legend().texts[0].get_text()


def test_confusion_shows_percentages_and_colours_the_errors_alone():
    made = record(labels="0000111122", predictions="0001111022", classes=["ant", "bee", "cow"])
    axes = plots.confusion(made).axes[0]
    assert sorted(texts(axes)) == sorted(["", "25.0", "25.0", "", "", "", "75.0", "75.0", "100.0"])
    mesh = axes.collections[0]
    assert mesh.get_array().mask.diagonal().all()
    assert mesh.get_array()[0, 1] == 25 and mesh.get_clim() == (0, 25)


def test_confusions_of_all_models_share_a_colour_scale():
    figure = picture("confusions")
    meshes = [axes.collections[0] for axes in figure.axes if axes.get_title()]
    assert len(meshes) == 5 and len({mesh.get_clim() for mesh in meshes}) == 1


def test_confusion_difference_is_blue_where_the_student_is_better():
    classes = ["ant", "bee"]
    teacher = record(labels="0011", predictions="0111", classes=classes)
    student = record("exp2", labels="0011", predictions="0001", classes=classes)
    axes = plots.confusion_difference(student, teacher).axes[0]
    assert texts(axes) == ["+50.0", "−50.0", "+50.0", "−50.0"]
    assert axes.collections[0].get_array().tolist() == [[50, 50], [-50, -50]]
    better, worse = axes.collections[0].to_rgba([50, -50])
    assert better[2] > better[0] and worse[0] > worse[2]


def test_agreement_shows_each_pair_once():
    axes = picture("agreement").axes[0]
    assert len(texts(axes)) == 10
    assert texts(axes)[0] == f"{statistics.agreement(RUNS['baseline'], RUNS['teacher']):.1f}"


def test_reliability_leaves_out_empty_bins_and_names_the_error():
    bins = {"count": [0, 1, 3], "confidence": [0, 0.5, 0.9], "correct": [0, 1.0, 0.8]}
    above, below = plots.reliability(RUNS | {"exp1": record("exp1", calibration=bins)}).axes
    shown = curves(above)["student (exp. 1): expected calibration error 20.00 points"]
    assert shown == pytest.approx([100, 80])
    assert any(list(line.get_ydata()) == [25, 75] for line in below.lines)


@pytest.mark.parametrize(("made", "models"), [(ONE, 5), (DIGITS, 0)])
def test_the_notes_figures_stand_beside_those_of_cifar10_only(made, models):
    ends = plots.accuracy_curves(made).axes[1]
    assert len([line for line in ends.lines if line.get_marker() == "D" and len(line.get_xdata())]) == models
    assert ("the note (best epoch)" in [text.get_text() for text in ends.get_legend().get_texts()]) == bool(models)


def test_accuracy_curves_are_means_with_the_range_of_the_seeds():
    axes, ends = picture("accuracy_curves").axes
    values = np.array([SEEDS[seed]["exp2"].test["accuracy"] for seed in SEEDS])
    assert curves(axes)["student (exp. 2)"] == pytest.approx(values.mean(axis=0))
    band = [shape for shape in axes.collections if to_hex(shape.get_facecolor()).upper() == plots.COLOURS["exp2"]]
    heights = band[0].get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((values.min(), values.max()))
    assert statistics.final_accuracy(SEEDS, "exp2").text(2, " %") in texts(ends)
    assert len(axes.collections) == 5


def test_accuracy_curves_are_listed_best_first():
    swapped = {0: RUNS | {"exp1": RUNS["exp2"], "exp2": RUNS["exp1"]}}
    for seeds, last in ((ONE, "student (exp. 1)"), (swapped, "student (exp. 2)")):
        axes, ends = plots.accuracy_curves(seeds).axes
        assert [text.get_text() for text in axes.get_legend().texts][-1] == last
        assert ends.get_yticklabels()[0].get_text() == last
        assert not axes.collections  # one seed has no range


def test_accuracy_curves_show_the_notes_figures():
    _, ends = plots.accuracy_curves(ONE).axes
    marks = {to_hex(line.get_color()).upper(): line.get_xdata() for line in ends.lines if line.get_marker() == "D"}
    assert marks[plots.COLOURS["exp1"]] == [80.64]


def test_loss_curves_compare_like_with_like():
    figure = plots.loss_curves(ONE)
    hard, soft = axes_titled(figure, "validation: hard loss"), axes_titled(figure, "validation: soft loss")
    assert curves(hard)["baseline"].tolist() == RUNS["baseline"].test["total"]
    assert curves(hard)["student (distilled)"].tolist() == RUNS["distill"].test["hard"]
    assert curves(soft)["student (distilled)"].tolist() == RUNS["distill"].test["soft"]
    assert set(curves(soft)) == {"student (distilled)", "student (exp. 1)", "student (exp. 2)"}


@pytest.mark.parametrize("seeds", [SEEDS, ONE], ids=["three seeds", "one seed"])
def test_differences_show_intervals_verdicts_and_the_band_of_the_rule(seeds):
    axes = plots.differences(seeds).axes[0]
    for (first, second), container, text in zip(statistics.COMPARISONS, axes.containers, texts(axes), strict=True):
        estimate = statistics.difference(seeds, first, second)
        ((low, _), (high, _)) = container.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx((estimate.low, estimate.high))
        assert text.endswith(statistics.verdict(estimate))
    band = axes.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.8, 0.8))
    assert ("3 seeds" if seeds is SEEDS else "200 test images") in axes.get_xlabel()


def test_images_stand_in_the_row_of_their_class(small_data):
    figure = plots.images(small_data, count=3)
    (axes,) = figure.axes
    sheet = axes.images[0].get_array()
    assert sheet.shape == (340, 102, 3)
    of_class_4 = small_data.train_images[small_data.train_labels == 4].numpy()
    assert (sheet[136:168, 34:66] == of_class_4[1]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(small_data.classes)
    assert "not CIFAR-10" in figure.get_supxlabel()


def test_images_of_a_class_with_too_few_leave_white(small_data):
    sheet = plots.images(small_data, count=200).axes[0].images[0].get_array()
    assert (sheet[:, -34:] == 255).all()


# Where they go


def test_save_writes_a_picture_at_print_resolution_and_returns_the_figure(project):
    figure = plots.differences(ONE)
    assert plots.save(figure, project / "figures", "06_differences") is figure
    path = project / "figures" / "06_differences.png"
    with Image.open(path) as saved:
        assert saved.format == "PNG" and saved.width == plots.WIDTH * plots.DOTS_PER_INCH
        assert round(saved.info["dpi"][0]) == 200
        assert "Software" not in saved.info
    first = path.read_bytes()
    plots.save(plots.differences(ONE), project / "figures", "06_differences")
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["06_differences.png"]


def test_a_notebook_shows_a_returned_figure_once(project):
    cells = [
        "from pathlib import Path\nfrom factories import record\nfrom kdlib import plots\nplots.four_plots(record())",
        f"shown = plots.save(plots.per_class(record()), Path({str(project)!r}), 'per_class')",
        "shown",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": Path(__file__).parent}}).execute()
    pictures = [[output for output in cell.outputs if "image/png" in output.get("data", {})] for cell in notebook.cells]
    assert [len(shown) for shown in pictures] == [1, 0, 1]

"""Pictures by what they show: their data, labels and colours; and that a notebook shows each of them once."""

import functools
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import nbclient
import nbformat
import numpy as np
import pytest
from factories import accurate, classified, record, results, sparsely
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from kdlib.report import figure, inference, measures, run_plots, study_plots
from kdlib.report.figure import SPLITS, STYLES
from kdlib.storage import files
from kdlib.storage.runs import Replicate, Results
from kdlib.study import STUDY

SEEDS = results(3, epochs=8, images=200)
ONE = SEEDS.only(0)
RUNS = SEEDS.by_seed[0]
DIGITS = results(1, epochs=2, images=200, dataset="digits")
COLOURS = {arm.name: arm.colour for arm in STUDY.arms}
MODELS = [arm for arm in STUDY.arms if arm.classifies]

# Every picture that is made from records.
OF_A_RUN = {
    "four_plots": lambda runs: run_plots.four_plots(runs["teacher"]),
    "losses_by_epoch": lambda runs: run_plots.losses_by_epoch(runs["distill"]),
    "losses_by_step": lambda runs: run_plots.losses_by_step(runs["distill"]),
    "explained": lambda runs: run_plots.explained(runs["hint"], [0.2, 0.9, 0.5]),
    "six_plots": lambda runs: run_plots.six_plots(runs["hint"], runs["exp1"]),
    "per_class": lambda runs: run_plots.per_class(runs["exp2"]),
}
OF_A_SEED = ["confusions", "agreement", "reliability"]
OF_ALL_SEEDS = ["accuracy_curves", "loss_curves", "differences"]
PICTURES = [*OF_A_RUN, *OF_A_SEED, *OF_ALL_SEEDS]
# In these some axes have names for ticks, or share the label of their neighbour.
SELF_EXPLAINING = {"confusions", "agreement", "reliability", "accuracy_curves", "differences"}


def draw(name, made):
    if name in OF_A_RUN:
        return OF_A_RUN[name](made.by_seed[0])
    function = getattr(study_plots, name)
    return function(made, 0) if name in OF_A_SEED else function(made)


@functools.cache
def picture(name):
    """The picture of three seeds, drawn once for all tests that look at it."""
    return draw(name, SEEDS)


def curves(axes):
    """{label: values} of the lines that have a label."""
    return {line.get_label(): line.get_ydata() for line in axes.lines if not line.get_label().startswith("_")}


def texts(axes):
    return [text.get_text() for text in axes.texts]


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def axes_titled(drawn, title):
    (axes,) = [axes for axes in drawn.axes if axes.get_title().startswith(title)]
    return axes


# All of them


@pytest.mark.parametrize("name", PICTURES)
def test_picture_is_labelled_and_draws_without_complaint(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = picture(name)
        drawn.draw_without_rendering()
    assert isinstance(drawn, Figure) and drawn.get_figwidth() == figure.WIDTH
    assert plt.get_fignums() == []  # pyplot would keep it for ever
    seeds = "3 seeds" if name in OF_ALL_SEEDS else "seed 0"
    assert drawn.get_suptitle() and drawn.get_supxlabel() == f"CIFAR-10, profile full, {seeds}"
    for axes in drawn.axes:
        if axes.axison and axes.get_label() != "<colorbar>" and name not in SELF_EXPLAINING:
            assert axes.get_xlabel() and axes.get_ylabel()


@pytest.mark.parametrize("name", ["four_plots", "differences"])
def test_picture_of_digits_says_so_in_red(name):
    drawn = draw(name, DIGITS)
    assert drawn.get_supxlabel().startswith("handwritten digits, not CIFAR-10")
    assert to_hex(drawn._supxlabel.get_color()).upper() == figure.RED


def test_colours_are_told_apart():
    assert len(set(COLOURS.values())) == len(STUDY.arms)


@pytest.mark.parametrize("name", ["accuracy_curves", "loss_curves", "reliability"])
def test_a_model_has_its_colour_everywhere(name):
    seen = set()
    for axes in picture(name).axes:
        for line in axes.lines:
            for arm in MODELS:
                if line.get_label().startswith(arm.title):
                    assert line.get_color() == arm.colour
                    seen.add(arm)
    assert seen == set(MODELS)


@pytest.mark.parametrize("model", ["teacher", "exp1"])
def test_pictures_of_one_run_have_its_colour(model):
    drawn = run_plots.four_plots(RUNS[model])
    assert {line.get_color() for axes in drawn.axes for line in axes.lines} == {COLOURS[model]}
    bars = run_plots.per_class(RUNS[model]).axes[0].patches
    assert {to_hex(bar.get_facecolor()).upper() for bar in bars} == {COLOURS[model]}


def test_a_readers_variant_is_called_by_its_changes_and_has_the_colour_of_its_run():
    variant = record("distill-temperature8-alpha0.5", epochs=3)
    assert run_plots.display_name(variant) == "student (distilled), temperature 8, alpha 0.5"
    drawn = run_plots.losses_by_epoch(variant)
    assert drawn.get_suptitle().startswith("Student (distilled), temperature 8, alpha 0.5:")
    assert drawn.axes[0].lines[0].get_color() == COLOURS["distill"]


def test_a_hundred_classes_can_be_drawn():
    made = results(1, images=300, names=[f"class {number}" for number in range(100)])
    for name in ("per_class", *OF_A_SEED):
        draw(name, made).draw_without_rendering()
    bars = draw("per_class", made).axes[0]
    assert len(bars.patches) == 100 and not texts(bars)  # no room for a number a class
    matrix = draw("confusions", made).axes[0]
    assert matrix.collections[0].get_array().shape == (100, 100) and not texts(matrix)


# Of one run


def test_four_plots_show_the_records_curves():
    made = RUNS["baseline"]
    drawn = run_plots.four_plots(made)
    for split, word in SPLITS.items():
        for curve, quantity in (("total", "loss"), ("accuracy", "accuracy")):
            (line,) = axes_titled(drawn, f"{word} {quantity}").lines
            assert line.get_ydata().tolist() == getattr(made, split)[curve]
            assert line.get_xdata().tolist() == list(range(1, 9))
            assert line.get_linestyle() == STYLES[split]
    left, right = axes_titled(drawn, "training loss"), axes_titled(drawn, "validation loss")
    assert left.get_ylim() == right.get_ylim()  # so that they compare


def test_values_stand_at_the_epochs_after_which_they_were_measured():
    made = sparsely(record("teacher", epochs=11), 3)
    drawn = run_plots.four_plots(made)
    for word, epochs in (("training", list(range(1, 12))), ("validation", [2, 5, 8, 11])):
        (line,) = axes_titled(drawn, f"{word} accuracy").lines
        assert line.get_xdata().tolist() == epochs
    both = Results(STUDY, {0: {"teacher": made, "baseline": sparsely(record("baseline", epochs=6), 2)}})
    epochs = {line.get_label(): line.get_xdata().tolist() for line in study_plots.accuracy_curves(both).axes[0].lines}
    assert epochs == {"teacher": [2, 5, 8, 11], "baseline": [2, 4, 6]}


def test_losses_by_epoch_show_training_and_validation_of_each_loss():
    made = RUNS["exp2"]
    drawn = run_plots.losses_by_epoch(made)
    assert drawn.axes[0].get_title() == "total: 0.9 · soft + 0.1 · hard"
    assert drawn.axes[1].get_title().endswith("T = 4")
    for axes, loss in zip(drawn.axes, ("total", "soft", "hard"), strict=True):
        shown = curves(axes)
        assert shown["training"].tolist() == made.train[loss]
        assert shown["validation"].tolist() == made.test[loss]
        assert legend(axes) == ["training", "validation"]


def test_losses_by_step_show_each_step_and_a_running_mean():
    made = RUNS["exp2"]
    for axes, loss in zip(run_plots.losses_by_step(made).axes, ("total", "soft", "hard"), strict=True):
        steps, mean = curves(axes).items()
        assert steps[0] == "each step" and steps[1].tolist() == made.steps[loss]
        assert mean[0] == "mean of 5 steps"
        assert mean[1][10] == pytest.approx(np.mean(made.steps[loss][8:13]))
        assert len(mean[1]) == len(steps[1])


def test_stage_one_is_shown_by_what_it_explains_over_the_epochs_and_by_channel():
    made = RUNS["hint"]
    over_epochs, by_channel = picture("explained").axes
    assert curves(over_epochs)["training"].tolist() == measures.explained(made, "train")
    assert curves(over_epochs)["validation"].tolist() == measures.explained(made, "test")
    assert [0, 0] in [list(line.get_ydata()) for line in over_epochs.lines]
    assert by_channel.lines[0].get_ydata().tolist() == [0.9, 0.5, 0.2]


@pytest.mark.parametrize("draw", [run_plots.explained, lambda made, _: run_plots.six_plots(made, RUNS["exp1"])])
def test_a_stage_one_that_explains_almost_nothing_is_marked(draw):
    for r2, words, colour in ((0.05, "almost nothing", figure.RED), (0.5, "at the end", "#000000")):
        (title,) = [axes.title for axes in draw(record("hint", r2=r2), [r2]).axes if "R² =" in axes.get_title()]
        assert words in title.get_text() and to_hex(title.get_color()).upper() == colour


def test_a_stage_one_worse_than_the_mean_stays_in_the_frame():
    variance, _ = run_plots.explained(record("hint", r2=-0.4), [-0.4]).axes
    assert variance.get_ylim()[0] < -0.4


def test_six_plots_show_both_stages():
    drawn = picture("six_plots")
    assert len(drawn.axes) == 6
    assert curves(axes_titled(drawn, "hint loss at each step"))["each step"].tolist() == RUNS["hint"].steps["total"]
    assert curves(axes_titled(drawn, "hint loss over"))["training"].tolist() == RUNS["hint"].train["total"]
    for split, word in SPLITS.items():
        (line,) = axes_titled(drawn, f"{word} accuracy").lines
        assert line.get_ydata().tolist() == getattr(RUNS["exp1"], split)["accuracy"]


def test_bars_are_the_accuracies_of_the_classes():
    axes = picture("per_class").axes[0]
    expected = measures.per_class(RUNS["exp2"])
    assert [bar.get_height() for bar in axes.patches] == expected.tolist()
    assert [label.get_text() for label in axes.get_xticklabels()] == expected.index.tolist()
    assert texts(axes) == [f"{value:.1f}" for value in expected]
    assert f"{measures.accuracy(RUNS['exp2']):.2f} %" in legend(axes)[0]


# Of one seed


def test_confusions_show_percentages_and_colour_the_errors_alone():
    made = {"teacher": classified("0000111122", "0001111022"), "exp1": classified("0000111122", "2200111122", "exp1")}
    axes, other = study_plots.confusions(Results(STUDY, {0: made}), 0).axes[:2]
    assert sorted(texts(axes)) == sorted(["", "25", "25", "", "", "", "75", "75", "100"])
    mesh = axes.collections[0]
    assert mesh.get_array().mask.diagonal().all()
    assert mesh.get_array()[0, 1] == 25 and other.collections[0].get_array()[0, 2] == 50
    assert mesh.get_clim() == other.collections[0].get_clim() == (0, 50)


def test_confusions_of_all_models_share_a_colour_scale():
    panels = [axes for axes in picture("confusions").axes if axes.get_title()]
    assert [axes.get_title() for axes in panels] == [
        f"{arm.title}\n{measures.accuracy(RUNS[arm.name]):.2f} % correct" for arm in MODELS
    ]
    assert len({axes.collections[0].get_clim() for axes in panels}) == 1


def test_agreement_shows_each_pair_once():
    axes = picture("agreement").axes[0]
    assert len(texts(axes)) == 10
    assert texts(axes)[0] == f"{measures.agreement(RUNS['baseline'], RUNS['teacher']):.1f}"


def test_reliability_leaves_out_empty_bins_and_names_the_error():
    bins = {"count": [0.0, 1.0, 3.0], "confidence": [0.0, 0.5, 0.9], "correct": [0.0, 1.0, 0.8]}
    made = Results(STUDY, {0: RUNS, 7: RUNS | {"exp1": record("exp1", calibration=bins)}})
    above, below = study_plots.reliability(made, 7).axes
    shown = curves(above)["student (exp. 1): expected calibration error 20.00 points"]
    assert shown == pytest.approx([100, 80])
    assert any(list(line.get_ydata()) == [25, 75] for line in below.lines)


def test_minutes_of_a_student_with_a_stage_one_begin_when_that_has_ended(project):
    replicate = Replicate(STUDY.profile("full"), 0)
    for name, seconds in {"baseline": 60.0, "hint": 30.0, "exp2": 60.0}.items():
        files.write_json(replicate.run(name).timing_path, {"train_seconds": [seconds] * 8})
    (axes,) = study_plots.accuracy_over_minutes(SEEDS, replicate).axes
    lines = {line.get_color(): line for line in axes.lines}
    assert set(lines) == {COLOURS["baseline"], COLOURS["exp2"]}, "of the others there is no timing"
    assert lines[COLOURS["baseline"]].get_xdata().tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert lines[COLOURS["exp2"]].get_xdata().tolist() == [5, 6, 7, 8, 9, 10, 11, 12]
    assert lines[COLOURS["exp2"]].get_ydata().tolist() == RUNS["exp2"].test["accuracy"]
    assert legend(axes)[-1] == f"student (exp. 2): {measures.accuracy(RUNS['exp2']):.2f} % in 12.0 min"


def test_pictures_of_one_seed_show_that_seed():
    runs = SEEDS.by_seed[2]
    panel = study_plots.confusions(SEEDS, 2).axes[0]
    assert f"{measures.accuracy(runs['teacher']):.2f} %" in panel.get_title()
    shares = texts(study_plots.agreement(SEEDS, 2).axes[0])
    assert (
        shares[0]
        == f"{measures.agreement(runs['baseline'], runs['teacher']):.1f}"
        != texts(picture("agreement").axes[0])[0]
    )


# Of all seeds


@pytest.mark.parametrize(("made", "models"), [(ONE, 5), (DIGITS, 0)], ids=["CIFAR-10", "digits"])
def test_the_notes_figures_stand_beside_those_of_cifar10_only(made, models):
    ends = study_plots.accuracy_curves(made).axes[1]
    marks = {to_hex(line.get_color()).upper(): line.get_xdata() for line in ends.lines if line.get_marker() == "D"}
    shown = {colour: list(values) for colour, values in marks.items() if len(values)}
    assert len(shown) == models and (not models or shown[COLOURS["exp1"]] == [80.64])
    assert ("the note (best epoch)" in legend(ends)) == bool(models)


def test_accuracy_curves_are_means_with_the_range_of_the_seeds():
    axes, ends = picture("accuracy_curves").axes
    values = np.array([made.test["accuracy"] for made in SEEDS.records("exp2")])
    assert curves(axes)["student (exp. 2)"] == pytest.approx(values.mean(axis=0))
    (band,) = [shape for shape in axes.collections if to_hex(shape.get_facecolor()).upper() == COLOURS["exp2"]]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((values.min(), values.max()))
    assert inference.accuracy(SEEDS, "exp2").text(2, " %") in texts(ends)
    assert len(axes.collections) == 5
    assert "over 3 seeds" in legend(ends)[0] and "mean and range of 3 seeds" in axes.get_title()


def test_accuracy_curves_are_listed_best_first():
    swapped = Results(STUDY, {0: RUNS | {"exp1": RUNS["exp2"], "exp2": RUNS["exp1"]}})
    for made, last in ((ONE, "student (exp. 1)"), (swapped, "student (exp. 2)")):
        axes, ends = study_plots.accuracy_curves(made).axes
        assert legend(axes)[-1] == last
        assert ends.get_yticklabels()[0].get_text() == last
        assert not axes.collections  # one seed has no range


def test_loss_curves_compare_like_with_like():
    drawn = study_plots.loss_curves(ONE)
    hard, soft = axes_titled(drawn, "validation: hard loss"), axes_titled(drawn, "validation: soft loss")
    assert curves(hard)["baseline"].tolist() == RUNS["baseline"].test["total"]
    assert curves(hard)["student (distilled)"].tolist() == RUNS["distill"].test["hard"]
    assert curves(soft)["student (distilled)"].tolist() == RUNS["distill"].test["soft"]
    assert set(curves(soft)) == {"student (distilled)", "student (exp. 1)", "student (exp. 2)"}


@pytest.mark.parametrize("made", [SEEDS, ONE], ids=["three seeds", "one seed"])
def test_differences_show_intervals_verdicts_and_the_band_of_the_rule(made):
    axes = study_plots.differences(made).axes[0]
    for contrast, container, text in zip(STUDY.contrasts, axes.containers, texts(axes), strict=True):
        estimate = inference.difference(made, contrast)
        ((low, _), (high, _)) = container.lines[2][0].get_segments()[0]
        assert (low, high) == pytest.approx((estimate.low, estimate.high))
        assert text.endswith(inference.verdict(estimate))
        assert container.lines[0].get_markerfacecolor() == ("black" if contrast in STUDY.primary else "white")
    strokes = [list(line.get_xdata()) for line in axes.lines if line.get_marker() == "|" and len(line.get_xdata()) > 1]
    assert strokes == ([inference.by_seed(made, contrast) for contrast in STUDY.contrasts] if made is SEEDS else [])
    band = axes.patches[0]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((-0.8, 0.8))
    assert axes.get_xlabel().endswith("3 seeds)" if made is SEEDS else "200 test images)")


def test_pictures_name_all_numbers_of_seeds_where_the_arms_differ_in_them():
    made = accurate(exp2=[90, 91, 92], distill=[88, 90, 91], exp1=[None, 88, 89])
    axes, ends = study_plots.accuracy_curves(made).axes
    assert "mean and range of 2 to 3 seeds" in axes.get_title() and "mean of 2 to 3 seeds" in ends.get_title()
    assert legend(ends)[0].endswith("over 2 seeds / 3 seeds")
    assert study_plots.differences(made).axes[0].get_xlabel().endswith("over 2 seeds / 3 seeds)")


# Of the data


def test_images_stand_in_the_row_of_their_class(small_data):
    drawn = run_plots.images(small_data, count=3)
    (axes,) = drawn.axes
    sheet = axes.images[0].get_array()
    assert sheet.shape == (340, 102, 3)
    of_class_4 = small_data.train_images[small_data.train_labels == 4].numpy()
    assert (sheet[136:168, 34:66] == of_class_4[1]).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == list(small_data.classes)
    assert "not CIFAR-10" in drawn.get_supxlabel()


def test_images_of_a_class_with_too_few_leave_white(small_data):
    sheet = run_plots.images(small_data, count=200).axes[0].images[0].get_array()
    assert (sheet[:, -34:] == 255).all()


# Where they go


def test_save_writes_a_picture_at_print_resolution_and_returns_the_figure(project):
    drawn = study_plots.differences(ONE)
    assert figure.save(drawn, project / "figures", "06_differences") is drawn
    path = project / "figures" / "06_differences.png"
    with Image.open(path) as saved:
        assert saved.format == "PNG" and saved.width == figure.WIDTH * figure.DOTS_PER_INCH
        assert round(saved.info["dpi"][0]) == 200
        assert "Software" not in saved.info
    first = path.read_bytes()
    figure.save(study_plots.differences(ONE), project / "figures", "06_differences")
    assert path.read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["06_differences.png"]


def test_a_notebook_shows_a_returned_figure_once(project):
    cells = [
        "from pathlib import Path\nfrom factories import record\nfrom kdlib.report import figure, run_plots\n"
        "run_plots.four_plots(record())",
        f"shown = figure.save(run_plots.per_class(record()), Path({str(project)!r}), 'per_class')",
        "shown",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": Path(__file__).parent}}).execute()
    pictures = [[output for output in cell.outputs if "image/png" in output.get("data", {})] for cell in notebook.cells]
    assert [len(shown) for shown in pictures] == [1, 0, 1]

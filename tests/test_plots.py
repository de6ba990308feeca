"""Pictures by what they show: their data, labels and colours."""

import functools
import warnings
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from factories import classified, record, results, sparsely
from matplotlib.colors import to_hex

from kdlib.report import comparisons, plots, stats
from kdlib.report.plots import SPLITS
from kdlib.storage.runs import Results
from kdlib.study import STUDY

ALL = results(3, epochs=8, images=200)
CORE = ALL.core
RUNS = ALL.by_seed[0]
OBJECTIVE = {"name": "Distill", "alpha": 0.75, "temperature": 4.0}
EXP2 = RUNS["exp2"].model_copy(update={"identity": RUNS["exp2"].identity.model_copy(update={"objective": OBJECTIVE})})
COLOURS = {arm.name: arm.colour for arm in STUDY.arms}
TITLES = {arm.name: arm.title for arm in STUDY.arms}

OF_ONE_SEED = {
    "losses": lambda: plots.losses(EXP2),
    "six_plots": lambda: plots.six_plots(RUNS["hint"], RUNS["exp1"]),
    "confusions": lambda: comparisons.confusions(CORE, 0),
}
OF_ALL = {"accuracy_curves": CORE, "loss_curves": CORE, "matrix": ALL, "scales": ALL, "cost": ALL}


@functools.cache
def picture(name):
    """Drawn once for all tests that look at it."""
    return OF_ONE_SEED[name]() if name in OF_ONE_SEED else getattr(comparisons, name)(OF_ALL[name])


def texts(found):
    return [text.get_text() for text in found]


def curves(axes):
    """{label: values} of the lines that have a label."""
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("name", [*OF_ONE_SEED, *OF_ALL])
def test_picture_is_labelled_and_draws_without_complaint(name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn = picture(name)
        drawn.draw_without_rendering()
    assert plt.get_fignums() == []  # pyplot would keep it, and a notebook would show it twice
    seeds = "seed 0" if name in OF_ONE_SEED else "3 seeds"
    assert drawn.get_suptitle() and drawn.get_supxlabel() == f"CIFAR-10, profile full, {seeds}"
    whole = {"confusions": drawn.axes[:1], "matrix": drawn.axes[-1:]}  # of those that share an axis
    for axes in whole.get(name, drawn.axes):
        assert axes.get_xlabel() and (axes.get_ylabel() or texts(axes.get_yticklabels()))


def test_the_foot_says_in_red_what_is_not_cifar10_and_names_what_was_not_run():
    drawn = comparisons.accuracy_curves(results(1, epochs=2, images=50, profile="smoke", without=("exp1",)).core)
    foot = "handwritten digits, not CIFAR-10, profile smoke, seed 0, not run: student (exp. 1)"
    assert drawn.get_supxlabel() == foot and to_hex(drawn._supxlabel.get_color()).upper() == plots.RED
    assert not any(line.get_marker() == "D" for line in drawn.axes[1].lines), "the note's figures are not of digits"


def test_a_teacher_alone_can_be_analysed():
    alone = Results(STUDY, {0: {"teacher": RUNS["teacher"]}})
    assert list(curves(comparisons.accuracy_curves(alone).axes[0])) == ["teacher"]
    for name in ("loss_curves", "matrix", "scales", "cost"):
        getattr(comparisons, name)(alone).draw_without_rendering()


def test_values_stand_at_the_epochs_after_which_they_were_measured():
    made = sparsely(record("teacher", epochs=11), 3)
    for drawn in (plots.four_plots(made), plots.six_plots(RUNS["hint"], made)):
        panels = {axes.get_title(): axes for axes in drawn.axes}
        for split, epochs in (("train", list(range(1, 12))), ("test", [2, 5, 8, 11])):
            for curve, quantity in (("total", "loss"), ("accuracy", "accuracy")):
                (line,) = panels[f"{SPLITS[split]} {quantity}"].lines
                assert (line.get_xdata().tolist(), line.get_ydata().tolist()) == (epochs, getattr(made, split)[curve])
                assert line.get_color() == COLOURS["teacher"]


def test_losses_are_shown_by_epoch_and_the_hint_loss_by_step_with_a_running_mean():
    drawn = plots.losses(EXP2.model_copy(update={"run": "exp2-temperature8"}))
    assert drawn.get_suptitle().startswith("Student (exp. 2), temperature 8: ")
    assert drawn.axes[0].get_title() == "total: 0.75 · soft + 0.25 · hard"
    for epochs, loss in zip(drawn.axes, ("total", "soft", "hard"), strict=True):
        assert curves(epochs) == {"training": EXP2.train[loss], "test": EXP2.test[loss]}
    steps, hint = curves(picture("six_plots").axes[0]), RUNS["hint"].steps["total"]
    assert steps["each step"] == hint and steps["mean of 5 steps"][10] == pytest.approx(np.mean(hint[8:13]))
    explained = f"R² = {stats.final_explained(RUNS['hint']):.2f} at the end"
    assert picture("six_plots").axes[1].get_title() == f"hint loss over the epochs\n{explained}"


def test_confusions_show_percentages_and_colour_the_errors_alone_on_one_scale():
    made = {"teacher": classified("0000111122", "0001111122"), "exp1": classified("0000111122", "2200111122", "exp1")}
    axes, other = comparisons.confusions(Results(STUDY, {0: made, 7: {}}), 0).axes[:2]
    assert texts(axes.texts) == ["75", "25", "", "", "100", "", "", "", "100"]
    assert axes.collections[0].get_array().flatten().tolist() == [0, 25, 0, 0, 0, 0, 0, 0, 0]
    assert axes.collections[0].get_clim() == other.collections[0].get_clim() == (0, 50)


def test_accuracy_curves_are_means_with_the_range_of_the_seeds_beside_the_notes_figures():
    axes, ends = picture("accuracy_curves").axes
    values = np.array([made.test["accuracy"] for made in CORE.records("exp2")])  # (seeds, epochs)
    assert curves(axes)[TITLES["exp2"]] == pytest.approx(values.mean(axis=0))
    (band,) = [shape for shape in axes.collections if to_hex(shape.get_facecolor()).upper() == COLOURS["exp2"]]
    heights = band.get_paths()[0].vertices[:, 1]
    assert (heights.min(), heights.max()) == pytest.approx((values.min(), values.max()))
    models = {arm.title: stats.mean_accuracy(CORE, arm.name) for arm in CORE.models}
    assert texts(ends.get_yticklabels()) == sorted(models, key=lambda title: models[title].mean)
    assert texts(ends.texts) == [models[title].text(2, " %") for title in texts(ends.get_yticklabels())]
    notes = {line.get_color(): list(line.get_xdata()) for line in ends.lines if line.get_marker() == "D"}
    assert notes[COLOURS["exp1"]] == [80.64]


def test_loss_curves_compare_like_with_like_and_leave_out_what_a_model_lacks():
    losses = {"baseline": "total", "exp2": "hard"}  # learning from the labels alone, the baseline has no other
    hard, _, soft, _ = comparisons.loss_curves(Results(STUDY, {0: {name: RUNS[name] for name in losses}})).axes
    assert curves(hard) == {TITLES[name]: RUNS[name].train[loss] for name, loss in losses.items()}
    assert curves(soft) == {TITLES["exp2"]: RUNS["exp2"].train["soft"]}


def test_the_picture_of_the_matrix_has_the_same_student_the_note_and_a_rotation_frozen_and_fine_tuned():
    frozen, tuned = picture("matrix").axes
    pairs = [("wide_none_frozen", other) for other in ("wide_learned_frozen", "exp1", "wide_random_frozen")]
    means = [stats.difference(ALL, *pair).mean for pair in pairs]
    assert [bar.lines[0].get_xdata()[0] for bar in frozen.containers] == pytest.approx(means)
    assert all(text.startswith(f"{stats.signed(m)} (") for text, m in zip(texts(frozen.texts), means, strict=True))
    assert len(tuned.containers) == 3 and tuned.containers[0].lines[0].get_color() == COLOURS["exp2"]


def test_scales_are_of_the_arms_that_differ_from_exp2_in_the_guided_rate_alone():
    own = replace(STUDY.arm("exp2"), name="own", notebook="08_freezing", guided_rate=0.5)
    arms = (*STUDY.arms, own, replace(own, name="other_hint", notebook="09_one_stage", needs=("teacher", "hint_half")))
    runs = RUNS | {"own": RUNS["exp2"], "other_hint": RUNS["exp2"]}
    (axes,) = comparisons.scales(Results(replace(STUDY, arms=arms), {0: runs})).axes
    shown = {"exp1": 0, "scale01": 0.1, "scale03": 0.3, "own": 0.5, "exp2": 1}
    assert [float(label.split("\n")[0]) for label in texts(axes.get_xticklabels())] == list(shown.values())
    assert texts(axes.texts) == [f"{stats.accuracy(runs[name]):.2f}" for name in shown]


def test_cost_is_over_all_epochs_with_those_of_stage_one():
    lengths = dict(teacher=1, baseline=4, baseline_half=2, distill_long=5, hint=1, exp2=4, hint_double=2, exp2_double=8)
    made = {name: record(name, images=50, epochs=epochs, accuracy=80 + epochs) for name, epochs in lengths.items()}
    (axes,) = comparisons.cost(Results(STUDY, {0: made | {"wide_none_tuned": made["exp2"]}})).axes
    solid = [line for line in axes.lines if line.get_linestyle() == "-"]
    lines = {line.get_color(): dict(zip(map(round, line.get_xdata()), line.get_ydata(), strict=True)) for line in solid}
    for arm, points in {"baseline": {2: 82, 4: 84}, "distill": {5: 85}, "exp2": {5: 84, 10: 88}}.items():
        assert lines[COLOURS[arm]] == pytest.approx(points)
    assert len(axes.get_legend().get_texts()) == 3, "a way that was not trained has no entry"

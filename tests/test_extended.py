"""Tables, pictures and sentences about the arms beyond the note."""

import numpy as np
import pytest
from factories import record, results, save, with_curves

from kdlib.design import ANALYSIS
from kdlib.report import (
    cells,
    extended_plots,
    extended_tables,
    inference,
    measures,
    prose,
    publish,
    study_plots,
    tables,
)
from kdlib.report.inference import signed
from kdlib.storage import runs
from kdlib.storage.runs import Results
from kdlib.study import EXTENDED, GUIDANCE, STUDY

SEEDS = results(3, study=EXTENDED, images=100, epochs=6, r2=0.6)
BEYOND = [name for name in EXTENDED.notebooks if name > ANALYSIS]


def texts(axes):
    return [text.get_text() for text in axes.texts]


# The records of a notebook


@pytest.mark.parametrize("notebook", BEYOND)
def test_a_notebook_shows_what_it_trains_what_that_needs_and_what_it_is_compared_with(notebook):
    shown = SEEDS.of_notebook(notebook)
    own = {arm.name for arm in EXTENDED.trained_in(notebook)}
    names = {arm.name for arm in shown.study.arms}
    assert own < names and not shown.missing
    pairs = [pair for pair in EXTENDED.contrasts if own & {pair.first, pair.second}]
    assert names - own <= {arm.name for arm in STUDY.arms}.union(*({pair.first, pair.second} for pair in pairs))
    assert set(pairs) <= set(shown.study.contrasts)
    assert all(set(found) == names for found in shown.by_seed.values())


# Tables


def test_a_row_of_matrices_is_of_the_seeds_that_have_all_of_its_arms():
    lacking = {seed: dict(runs) for seed, runs in SEEDS.by_seed.items()}
    del lacking[2]["random_tuned"]
    row = extended_tables.guided(Results(EXTENDED, lacking)).loc["S, random matrix"]
    assert row["n"] == 2
    both = Results(EXTENDED, {seed: SEEDS.by_seed[seed] for seed in (0, 1)})
    assert row.equals(extended_tables.guided(both).loc["S, random matrix"])


def test_each_way_to_guide_is_a_row_beside_its_own_distilled_student():
    table = extended_tables.guided(SEEDS)
    assert table.index.tolist() == [way.title for way in GUIDANCE]
    for way in GUIDANCE:
        row = table.loc[way.title]
        assert row["n"] == 3
        assert row["R² of stage one"] == inference.over_seeds(SEEDS, way.stage_one, measures.final_explained).text(3)
        for title, name in (("frozen", way.frozen), ("fine-tuned", way.tuned)):
            pairs = SEEDS.together(name, way.distilled)
            gain = np.mean([measures.accuracy(one) - measures.accuracy(other) for one, other in pairs])
            assert row[f"gain, {title}"].startswith(f"{signed(gain)} (")
            alike = np.mean([made.similarity[2] for made in SEEDS.records(name)])
            assert row[f"alike, {title}"] == f"{alike:.2f}"
            assert row[f"accuracy, {title}"] == inference.accuracy(SEEDS, name).text(2, " %")


def test_a_way_of_which_an_arm_is_missing_is_left_out():
    made = results(1, study=EXTENDED, images=20, epochs=2, without=("random_frozen",))
    assert (
        "S, random matrix" not in extended_tables.guided(made).index
        and len(extended_tables.guided(made)) == len(GUIDANCE) - 1
    )
    extended_plots.guided(made, GUIDANCE).draw_without_rendering()


def test_primary_contrasts_of_the_matrix_are_corrected_for_their_own_number():
    table = tables.contrasts(SEEDS.of_notebook("07_regressor"), 0)
    assert table["contrast"].tolist()[:5] == ["primary"] * 4 + ["exploratory"]
    p_values = inference.holm([inference.p_value(SEEDS, pair) for pair in EXTENDED.primary])
    assert table["p over seeds"].tolist()[:4] == [f"{tables._p_value(p)} (Holm)" for p in p_values]


# Pictures


def test_stages_one_stand_in_the_order_of_what_they_explain():
    losses, curves, last = extended_plots.explained(SEEDS.of_notebook("07_regressor"), GUIDANCE).axes
    for panel in (losses, curves):
        assert {line.get_label() for line in panel.lines} == {way.title for way in GUIDANCE}
    ends = {way.title: inference.over_seeds(SEEDS, way.stage_one, measures.final_explained) for way in GUIDANCE}
    order = sorted(ends, key=lambda title: ends[title].mean)
    assert [label.get_text() for label in last.get_yticklabels()] == order
    assert texts(last) == [ends[title].text(3) for title in order]


def test_each_way_is_drawn_frozen_fine_tuned_and_without_a_hint():
    axes = extended_plots.guided(SEEDS, GUIDANCE).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [way.title for way in GUIDANCE]
    expected = [
        inference.accuracy(SEEDS, name).mean for way in GUIDANCE for name in (way.frozen, way.tuned, way.distilled)
    ]
    assert texts(axes) == [f"{value:.2f}" for value in expected]
    assert [container.lines[0].get_xdata()[0] for container in axes.containers] == pytest.approx(expected)


def test_scales_stand_from_frozen_to_fine_tuned():
    axes = extended_plots.scales(SEEDS.of_notebook("08_freezing")).axes[0]
    labels = [label.get_text().split("\n")[0] for label in axes.get_xticklabels()]
    assert labels == ["0", "0.03", "0.1", "0.3", "1"]
    names = ["exp1", "scale003", "scale01", "scale03", "exp2"]
    assert texts(axes) == [f"{inference.accuracy(SEEDS, name).mean:.2f}" for name in names]


def crossed(first, second):
    pair = [with_curves(record(name, epochs=4, images=20), test={"accuracy": values})
            for name, values in (("exp1", first), ("baseline", second))]  # fmt: skip
    return pair, Results(STUDY, {0: {"exp1": pair[0], "baseline": pair[1]}})


@pytest.mark.parametrize(
    ("first", "second", "epoch"),
    [
        ([50.0, 60.0, 70.0, 71.0], [40.0, 55.0, 69.0, 75.0], 3),
        ([50.0, 60.0, 70.0, 71.0], [40.0, 65.0, 69.0, 75.0], 3),
        ([50.0, 60.0, 70.0, 76.0], [40.0, 65.0, 69.0, 75.0], 2),
        ([50.0, 60.0, 70.0, 76.0], [40.0, 55.0, 69.0, 75.0], None),
    ],
)
def test_crossing_is_the_last_epoch_at_which_the_loser_led(first, second, epoch):
    pair, made = crossed(first, second)
    assert measures.crossing(*pair) == measures.crossing(*reversed(pair)) == epoch
    axes = extended_plots.crossing(made, 0, "exp1", "baseline").axes[0]
    assert (f"until epoch {epoch} " in axes.get_title()) == (epoch is not None)
    dotted = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted == ([epoch] if epoch else [])


def test_lengths_are_drawn_from_the_shortest_to_the_longest():
    lengths = {"half_exp1": 3, "exp1": 6, "double_exp1": 12}
    made = {name: record(name, study=EXTENDED, epochs=epochs, images=20) for name, epochs in lengths.items()}
    axes = extended_plots.lengths(Results(EXTENDED, {0: made}), 0, {"exp1": ("half_exp1", "double_exp1")}).axes[0]
    (line,) = axes.lines
    assert list(line.get_xdata()) == [3, 6, 12]
    assert list(line.get_ydata()) == [measures.accuracy(made[name]) for name in lengths]


@pytest.mark.parametrize("notebook", BEYOND)
def test_pictures_of_one_seed_and_of_few_arms_are_made(notebook):
    made = results(1, study=EXTENDED, images=20, epochs=2, dataset="digits").of_notebook(notebook)
    drawn = [study_plots.differences(made), study_plots.accuracy_curves(made)]
    if "07" in notebook:
        drawn += [extended_plots.guided(made, GUIDANCE), extended_plots.explained(made, GUIDANCE)]
        assert "interval" not in drawn[-1].axes[2].get_title(), "one seed has none"
    drawn += [extended_plots.scales(made)] if "08" in notebook else []
    for one in drawn:
        one.draw_without_rendering()
        assert one.get_supxlabel().startswith("handwritten digits, not CIFAR-10")


# Sentences


def test_notebooks_beyond_the_note_tell_their_primary_contrasts_or_else_all():
    told = {notebook: prose.sentences(notebook, SEEDS) for notebook in BEYOND}
    assert told["07_regressor"] == [prose.compare(SEEDS, pair) for pair in EXTENDED.primary]
    for notebook in ("08_freezing", "09_one_stage"):
        own = [pair for pair in EXTENDED.exploratory
               if max(EXTENDED.arm(name).notebook for name in (pair.first, pair.second)) == notebook]  # fmt: skip
        assert sorted(told[notebook]) == sorted(prose.compare(SEEDS, pair) for pair in own)


@pytest.mark.parametrize("notebook", BEYOND)
def test_the_published_answer_is_told_where_the_published_run_has_the_arms(notebook):
    published = STUDY.profile("published")
    save(results(2, images=20), published)
    assert cells.of_published(notebook) == ("The published run has no such arms yet", [])
    save(results(2, study=EXTENDED, images=20), published)
    heading, told = cells.of_published(notebook)
    made = runs.load_all(published, EXTENDED)
    answer = prose.answer(made)
    assert heading.startswith("published run, 2 seeds")
    assert told == (answer if notebook == "07_regressor" else prose.sentences(notebook, made))
    assert cells.of_published(ANALYSIS)[1] == [*answer, *prose.sentences(ANALYSIS, runs.load_all(published))]


def test_the_last_cell_renews_the_answer_with_all_seeds(monkeypatch):
    shown = {}
    monkeypatch.setattr(cells, "update_display", lambda value, display_id: shown.update({display_id: value.data}))
    told = prose.sentences("07_regressor", SEEDS)
    assert cells.concluded("07_regressor", STUDY.profile("quick"), SEEDS).data == "\n".join(
        f"- {sentence}" for sentence in told
    )
    assert "\n- ".join(told) in shown[cells.ANSWER] and "over 3 seeds" in shown[cells.ANSWER]


def test_the_summary_of_an_extended_report_adds_what_each_notebook_found():
    save(results(1, study=EXTENDED, images=20), STUDY.profile("quick"))
    made = runs.load_all(STUDY.profile("quick"), EXTENDED)
    text = publish.summary("quick", EXTENDED)
    for notebook in BEYOND:
        part = text.split(f"This run, {notebook}\n")[1].split("\n\n")[0]
        assert part.count("\n- ") + 1 == len(prose.sentences(notebook, made))
    assert "This run, 07" not in publish.summary("quick")

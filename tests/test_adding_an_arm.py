"""An arm is added in one place, the study: trained, it stands in the tables, the pictures and the graph."""

import dataclasses

import pytest
from conftest import small_network

from kdlib import models
from kdlib.design import Arm, Contrast
from kdlib.objectives import Classify
from kdlib.report import cells, inference, measures, study_plots, tables
from kdlib.storage import runs
from kdlib.storage.files import StorageError
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY
from kdlib.training import fit

WARM = Arm("warm", "student (warm)", "#888888", "03_distill", needs=("baseline",))
WIDER = dataclasses.replace(
    STUDY, arms=(*STUDY.arms, WARM), exploratory=(*STUDY.exploratory, Contrast("warm", "baseline"))
)


@pytest.fixture
def trained(small_data, small_profile):
    """{arm: record} of the added arm and of what it needs, trained on the digits."""
    replicate = Replicate(small_profile, 0, WIDER)
    baseline = fit(Classify(small_network()), small_data, small_profile.student, replicate.run("baseline"))
    start = models.load(replicate.run("baseline"))
    return {
        "baseline": baseline,
        "warm": fit(Classify(start), small_data, small_profile.student, replicate.run("warm")),
    }


def test_an_added_arm_stands_in_the_table_the_figure_and_the_graph(trained, small_profile):
    results = runs.load_all(small_profile, WIDER)
    assert results.by_seed == {0: trained}

    summary = tables.summary(results)["student (warm)"]
    assert summary.at["validation accuracy, final epoch", "here"] == inference.accuracy(results, "warm").text(2, " %")
    assert summary["note"].unique().tolist() == ["–"]
    gain = measures.accuracy(trained["warm"]) - measures.accuracy(trained["baseline"])
    row = tables.contrasts(results, 0).loc["student (warm) − baseline"]
    assert row["difference (points)"] == inference.signed(gain) and row["verdict"] == "one seed: none"

    for picture, curve in ((study_plots.accuracy_curves, "accuracy"), (study_plots.loss_curves, "total")):
        lines = [line for axes in picture(results).axes for line in axes.lines if line.get_label() == "student (warm)"]
        assert {line.get_color() for line in lines} == {"#888888"}
        assert lines[-1].get_ydata().tolist() == trained["warm"].test[curve]
    assert [label.get_text() for label in study_plots.differences(results).axes[0].get_yticklabels()] == [
        "student (warm) − baseline"
    ]

    told = cells.found("03_distill", Replicate(small_profile, 0, WIDER), trained["warm"]).data
    assert told.count("Student (warm)") == 2  # its accuracy, and its contrast with the baseline

    assert STUDY.graph()["03_distill"] == ["01_teacher"]
    assert WIDER.graph() == STUDY.graph() | {"03_distill": ["01_teacher", "02_baseline"]}


def test_it_is_named_where_it_was_not_run(trained, small_profile):
    Replicate(small_profile, 0, WIDER).run("warm").record_path.unlink()
    results = runs.load_all(small_profile, WIDER)
    assert WARM in results.missing and "student (warm)" in cells.shown(results).data
    assert tables.summary(results)["student (warm)", "here"].unique().tolist() == ["not run"]


def test_a_study_without_it_finds_its_own_records_beside_it(trained, small_profile):
    assert runs.load_all(small_profile).by_seed == {0: {"baseline": trained["baseline"]}}


def test_it_must_rest_on_the_arm_that_it_needs(trained, small_data, small_profile):
    run = Replicate(small_profile, 0, WIDER).run("warm")
    run.record_path.unlink()
    fit(Classify(small_network(seed=1)), small_data, small_profile.student, run)
    with pytest.raises(StorageError, match="was trained from another baseline than that beside it"):
        runs.load_all(small_profile, WIDER)

"""The published run is checked, not trusted: its weights, its analysis and the README's table."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kdlib import models
from kdlib.design import ANALYSIS
from kdlib.evaluation import evaluate
from kdlib.objectives import Classify, Hint
from kdlib.regressors import Regressor
from kdlib.report import cells, front_page, measures, prose, publish
from kdlib.settings import PUBLISHED, REFERENCE
from kdlib.storage import runs
from kdlib.storage.runs import Replicate
from kdlib.study import EXTENDED, PUBLISHED_WEIGHTS, STUDY

HOME = Path(__file__).parents[1]
STUDENTS = [arm.name for arm in STUDY.arms if arm.classifies]
WEIGHTS = sorted(path.stem for path in (HOME / "results/full/seed0").glob("*.safetensors"))
MOVED = 10  # test images that other processors may put into another class: 0.1 points


@pytest.fixture(autouse=True)
def published(project, monkeypatch):
    """The repository itself, in the place of a folder of the test's own."""
    monkeypatch.setenv("KDLIB_ROOT", str(HOME))
    return Replicate(STUDY.profile(PUBLISHED), 0)


def test_weights_are_committed_of_the_models_of_which_they_are_published(published):
    records = Replicate(published.profile, 0, EXTENDED).records()
    assert sorted(name for name in PUBLISHED_WEIGHTS if name in records) == WEIGHTS


@pytest.mark.parametrize("name", [name for name in WEIGHTS if EXTENDED.arm(name).classifies])
def test_committed_weights_give_the_published_predictions(published, cifar10, name, monkeypatch):
    for widths in ("TEACHER_WIDTHS", "STUDENT_WIDTHS", "WIDE_WIDTHS"):  # the record names its own
        monkeypatch.setattr(models, widths, ((4,), (4,), (4,), (4,)))
    run = Replicate(published.profile, 0, EXTENDED).run(name)
    record = run.record()
    found, logits = evaluate(Classify(models.load(run)), cifar10)
    assert found["accuracy"] == pytest.approx(measures.accuracy(record), abs=0.1)
    assert record.labels == cifar10.test_labels.tolist()
    assert (logits.argmax(1).numpy() != np.array(record.predictions)).sum() <= MOVED


def test_committed_stage_one_explains_what_is_published(published, cifar10):
    run = published.run("hint")
    teacher, student = (models.load(published.run(name)) for name in ("teacher", "hint"))
    regressor = Regressor(student, teacher, cifar10.sample(8))  # its statistics are among the weights
    run.load_weights({"regressor": regressor}, run.record())
    found, _ = evaluate(Hint(teacher, student, regressor), cifar10)
    assert 1 - found["total"] / found["power"] == pytest.approx(measures.final_explained(run.record()), abs=0.002)


def test_the_published_records_belong_together_and_rest_on_all_images(published):
    results = runs.load_all(published.profile)  # refuses records that do not
    assert not results.missing
    for seed, records in results.by_seed.items():
        teacher = records["teacher"].weights["model"]
        assert {records[name].identity.start["teacher"] for name in ("distill", "hint", "exp1", "exp2")} == {teacher}, (
            seed
        )
        assert {record.identity.data["train_images"] for record in records.values()} == {50_000}
        assert {len(records[name].labels) for name in STUDENTS} == {10_000}


@pytest.mark.parametrize("folder", sorted((HOME / "results/full").glob("seed*")), ids=lambda folder: folder.name)
def test_no_published_run_takes_more_than_100_kb_weights_aside(folder):
    for path in folder.glob("*.json"):
        parts = (path, path.with_suffix(".npz"), folder / "timing" / path.name)
        assert sum(part.stat().st_size for part in parts) <= 100_000, path


@pytest.mark.parametrize(("name", "language"), publish.READMES.items())
def test_the_readme_shows_what_the_records_hold(published, name, language):
    text = (HOME / name).read_text("utf-8")
    assert publish.update(text, front_page.published(language)) == text, "run make publish"


def test_the_reference_is_a_quick_run_of_todays_recipe_and_networks():
    """And has the order that this profile promises: the teacher on top, and hints ahead of distillation alone."""
    reference = runs.load_all(STUDY.profile(REFERENCE))
    assert not reference.missing and not prose.earlier(reference)
    for name, record in reference.by_seed[0].items():
        network = models.teacher() if name == "teacher" else models.student()
        assert record.parameters == models.count_parameters(network), name
        assert record.identity.data["train_images"] == 50_000
    accuracy = {arm.name: measures.accuracy(reference.by_seed[0][arm.name]) for arm in reference.models}
    assert accuracy["teacher"] == max(accuracy.values())
    assert accuracy["exp2"] > accuracy["distill"] >= accuracy["baseline"]


def test_every_notebook_shows_the_answer_of_the_committed_run():
    """The published one; those beyond the note the reference, as long as the published one lacks their arms."""
    for path in sorted((HOME / "notebooks").glob("0*.ipynb")):
        cells_of_it = json.loads(path.read_text("utf-8"))["cells"]
        compared = "# NBVAL_CHECK_OUTPUT"  # cells that show what no run changes
        outputs = [
            output for cell in cells_of_it if not "".join(cell["source"]).startswith(compared)
            for output in cell.get("outputs", [])
        ]  # fmt: skip
        shown = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
        beyond = path.stem > ANALYSIS
        name = publish.committed(path.stem) if beyond else PUBLISHED
        if name is None:
            assert not outputs, f"{path.stem} shows what is not committed"
            continue
        profile = STUDY.profile(name)
        results = runs.load_all(profile, EXTENDED).of_notebook(path.stem) if beyond else None
        answer = cells.answer(path.stem, profile, results).data
        assert answer in shown, f"{path.stem} was executed before the last records came"
        assert any("50,000 training images of CIFAR-10" in text for text in shown), path.stem


def run_analysis(folder):
    """What nbval reports of 06_analysis, run from the records in ``folder``."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "notebooks/06_analysis.ipynb"]
    environment = os.environ | {"KDLIB_ROOT": str(folder), "KDLIB_PROFILE": PUBLISHED}
    return subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=300)


def test_the_analysis_follows_from_the_records(tmp_path):
    shutil.copytree(HOME / "results", tmp_path / "results")
    result = run_analysis(tmp_path)
    assert result.returncode == 0, result.stdout

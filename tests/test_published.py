"""The published run is checked, not trusted: its weights, its analysis and the README's table."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kdlib import datasets, models, profiles, readme, records, report, statistics
from kdlib.objectives import Classify, Hint
from kdlib.records import Replicate
from kdlib.training import evaluate

HOME = Path(__file__).parents[1]
FULL = profiles.load("full")
MOVED = 10  # test images that other processors may put into another class: 0.1 points


@pytest.fixture(autouse=True)
def published(project, monkeypatch):
    """The repository itself, in the place of a folder of the test's own."""
    monkeypatch.setenv("KDLIB_ROOT", str(HOME))
    return Replicate(FULL, 0)


@pytest.fixture(scope="module")
def data():
    try:
        return datasets.load("cifar10", device="cpu")
    except datasets.DataUnavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", statistics.MODELS)
def test_committed_weights_give_the_published_accuracy_and_confusions(published, data, name):
    record = published.run(name).record()
    found, scores = evaluate(Classify(published.load_model(name)), data)
    assert found["accuracy"] == pytest.approx(statistics.accuracy(record), abs=0.1)

    here = dataclasses.replace(record, predictions="".join(map(str, scores.argmax(1).tolist())))
    difference = statistics.confusion(here) - statistics.confusion(record)
    assert difference.abs().to_numpy().sum() <= 2 * MOVED
    assert statistics.agreement(here, record) >= 100 - 100 * MOVED / len(data.test_labels)


def test_committed_stage_one_explains_what_is_published(published, data):
    record = published.run("hint").record()
    teacher, student = published.load_model("teacher"), models.student()
    regressor = models.Regressor(student, teacher, data.sample(8))  # its statistics are among the weights
    objective = Hint(teacher, student, regressor)
    published.run("hint").load_weights(objective.modules, record.weights)
    found, _ = evaluate(objective, data)
    assert 1 - found["total"] / found["power"] == pytest.approx(statistics.explained(record, "test")[-1], abs=0.002)


def test_both_experiments_rest_on_the_same_teacher_and_stage_one_and_every_run_on_all_images():
    for seed, runs in records.load_all(FULL).items():
        teacher = runs["teacher"].weights
        assert {runs[name].teacher for name in ("distill", "hint", "exp1", "exp2")} == {teacher}, seed
        assert {runs[name].after for name in ("exp1", "exp2")} == {runs["hint"].weights}, seed
        assert {record.settings["train_images"] for record in runs.values()} == {50_000}
        assert {len(runs[name].labels) for name in statistics.MODELS} == {10_000}


@pytest.mark.parametrize(("name", "language"), [("README.md", "en"), ("README.zh-CN.md", "zh")])
def test_the_readme_says_what_the_records_say(name, language):
    text = (HOME / name).read_text("utf-8")
    replicates = records.load_all(FULL)
    results = readme.results(replicates, language, readme.training_seconds(FULL, replicates))
    assert readme.update(text, results) == text, "run make readme"


def test_every_notebook_shows_the_published_run():
    for path in sorted((HOME / "notebooks").glob("0*.ipynb")):
        text = path.read_text("utf-8")
        assert "all 50,000 training images of CIFAR-10" in text, path.stem
        outputs = [output for cell in json.loads(text)["cells"] for output in cell.get("outputs", [])]
        shown = ["".join(output.get("data", {}).get("text/markdown", "")) for output in outputs]
        assert report.answer(path.stem).data in shown, f"{path.stem} was executed before the last records came"


def run_analysis(folder):
    """What nbval says of 06_analysis, run from the records in ``folder``."""
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "notebooks/06_analysis.ipynb"]
    environment = os.environ | {"KDLIB_ROOT": str(folder), "KDLIB_PROFILE": "full"}
    return subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=300)


def test_the_analysis_follows_from_the_records(tmp_path):
    shutil.copytree(HOME / "results", tmp_path / "results")
    result = run_analysis(tmp_path)
    assert result.returncode == 0, result.stdout

"""The published run is checked, not trusted: its records, its weights and its analysis."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kdlib.objectives import Classify, Hint
from kdlib.regressors import Regressor
from kdlib.report import publish, stats, tables
from kdlib.storage import files, runs
from kdlib.storage.records import CODE
from kdlib.storage.runs import Replicate
from kdlib.study import PUBLISHED, STUDY
from kdlib.training import evaluate

HOME = Path(__file__).parents[1]
IMAGES = 2_000  # of the 10,000 test images are classified again
MOVED = 2  # of them that other processors may put into another class
REPLICATE = Replicate(STUDY.profile(PUBLISHED))


@pytest.fixture(scope="module")
def results():
    return runs.load_all(REPLICATE.profile)  # refuses records that do not belong together, or to the study


@pytest.fixture(scope="module")
def data(cifar10):
    fewer = copy.copy(cifar10)
    fewer.test_images, fewer.test_labels = cifar10.test_images[:IMAGES], cifar10.test_labels[:IMAGES]
    return fewer


@pytest.mark.parametrize("name", [name for name in publish.WITH_WEIGHTS if STUDY.arm(name).classifies])
def test_committed_weights_give_the_published_predictions(cifar10, data, name):
    record = REPLICATE.run(name).record()
    _, logits = evaluate(Classify(REPLICATE.load(name)), data)
    assert record.labels == cifar10.test_labels.tolist()
    assert (logits.argmax(1).numpy() != np.array(record.predictions)[:IMAGES]).sum() <= MOVED
    right = np.mean(np.array(record.predictions) == np.array(record.labels))
    assert stats.accuracy(record) == pytest.approx(100 * right, abs=1e-4)


def test_committed_stage_one_explains_what_is_published(data):
    run = REPLICATE.run("hint")
    teacher, student = REPLICATE.load("teacher"), REPLICATE.load("hint")
    regressor = Regressor(student, teacher, data.sample(8))  # its statistics are among the weights
    run.load_weights({"regressor": regressor}, run.record())
    found, _ = evaluate(Hint(teacher, student, regressor), data)
    # 0.002 from that of all images
    assert 1 - found["total"] / found["power"] == pytest.approx(stats.final_explained(run.record()), abs=0.02)


def test_the_published_records_are_whole_small_and_of_all_images(results):
    assert not results.missing and len(results.by_seed) == 5
    for seed, made in results.by_seed.items():
        for name, record in made.items():
            run = Replicate(REPLICATE.profile, seed).run(name)
            parts = (run.record_path, run.record_path.with_suffix(".arrays"))
            assert sum(part.stat().st_size for part in parts) <= 100_000, name
            assert record.identity.data["train_images"] == 50_000
            assert len(record.labels) == (10_000 if run.arm.classifies else 0)


def test_the_seeds_of_the_next_edition_are_of_the_study_and_code_that_there_are(project):
    (project / "build" / "full").mkdir(parents=True)
    (project / "build" / "full" / "results").symlink_to(HOME / "results" / "second")
    made = runs.load_all(STUDY.profile("full"))  # refuses records of other settings
    assert not made.core.missing
    assert all(record.identity.code == CODE for arms in made.by_seed.values() for record in arms.values())


def test_the_table_for_others_holds_the_records(results):
    table = pd.read_csv(files.results(PUBLISHED) / "summary.csv").set_index(["arm", "seed"])
    own = tables.summary_csv(results).set_index(["arm", "seed"])
    pd.testing.assert_frame_equal(table, own, check_dtype=False)


def test_the_analysis_follows_from_the_records(project):
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "notebooks/06_analysis.ipynb"]
    environment = os.environ | {"KDLIB_PROFILE": PUBLISHED}
    result = subprocess.run(command, cwd=HOME, env=environment, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stdout

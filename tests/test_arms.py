"""The arms as their entries in the study say: each trained on a few real images, by small networks."""

import dataclasses

import pytest
import torch
from conftest import SMALL

from kdlib import arms, hardware, models
from kdlib.models import GUIDED_BLOCK
from kdlib.objectives import Distill, Hint
from kdlib.regressors import Regressor
from kdlib.report import stats, tables
from kdlib.storage.runs import Replicate, load_all
from kdlib.study import STUDY, Arm, Contrast, Schedule, Study
from kdlib.training import fit

NAMES = [arm.name for arm in STUDY.arms]
NARROW = models.Shape(((8,), (8, 8), (8, 8), (16,)), "ReLU")  # its guided layer needs a matrix, that of SMALL none
NETWORKS = {"teacher": SMALL, "S": NARROW, "S′": SMALL}
WARM = Arm("warm", "student (warm)", "#888888", "03_distill", needs=("baseline",))
WIDER = Study(STUDY.profiles, (*STUDY.arms, WARM), (*STUDY.contrasts, Contrast("warm", "baseline", "exploratory")))


def small(patch, root):
    """Train in float32, and leave everything in ``root``."""
    patch.setenv("KDLIB_ROOT", str(root))
    patch.setattr(hardware, "choose_precision", lambda *_: "float32")


@pytest.fixture(scope="module")
def root(small_data, tmp_path_factory):
    """The folder in which every arm was trained: two epochs of two steps for stage one, four for the others."""
    root = tmp_path_factory.mktemp("arms")
    with pytest.MonkeyPatch.context() as patch:
        small(patch, root)
        for name in [*NAMES, "warm"]:
            arms.train(replicate_of().run(name), small_data)
    return root


def replicate_of(study=WIDER):
    profile = STUDY.profile("smoke")
    groups = {"teacher": 0.1, "hint": 0.2, "scratch": 0.3, "tuned": 0.4, "frozen": 0.5}  # the learning rate of each
    groups = {name: Schedule(2 if name == "hint" else 4, rate / 10, batch_size=128) for name, rate in groups.items()}
    return Replicate(dataclasses.replace(profile, **groups, networks=NETWORKS), 0, study)


@pytest.fixture
def trained(root, monkeypatch):
    """The replicate of which every arm was trained."""
    small(monkeypatch, root)
    return replicate_of()


def equal(one, other):
    return all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_is_trained_as_its_entry_says(trained, name):
    arm, record, profile = STUDY.arm(name), trained.run(name).record(), trained.profile
    made = record.identity
    kind = "Hint" if arm.stage == "stage one" else "Joint" if arm.hint_weight else "Distill"
    assert made.objective["name"] == (kind if "teacher" in arm.needs else "Classify")
    assert made.objective["rates"] == [arm.guided_rate] * GUIDED_BLOCK + [1.0]
    shape = NARROW if arm.stage != "teacher" and arm.body == "S" else SMALL
    assert (made.widths, made.activation) == ([list(block) for block in shape.widths], shape.activation)
    one, two = arm.lasts or ((1, 0) if kind == "Hint" else (0, 1))
    epochs = 2 * one + 4 * two
    assert len(record.train["total"]) == epochs == made.schedule["epochs"]
    group = "frozen" if arm.guided_rate == 0 else "tuned" if len(arm.needs) == 2 else "scratch"
    group = {"teacher": "teacher", "stage one": "hint"}.get(arm.stage, group)
    assert made.schedule["learning_rate"] == arm.own.get("learning_rate", getattr(profile, group).learning_rate)
    if made.objective["name"] == "Distill":
        assert (made.objective["alpha"], made.objective["temperature"]) == (profile.alpha, profile.temperature)
    if kind != "Distill":
        assert made.objective["regressor"] == arm.regressor and record.weights.keys() == {"model", "regressor"}
    assert made.objective.get("weight", 0) == arm.hint_weight
    for need in arm.needs:
        role = "teacher" if need == "teacher" else "model"
        assert arm.takes != "all" or made.start[role] == trained.run(need).record().weights["model"]


def test_behind_the_front_of_the_distilled_student_everything_starts_anew(trained, small_data):
    student, new = arms.objective(trained.run("short_frozen"), small_data).modules["model"], models.student(0, NARROW)
    assert equal(student.blocks[GUIDED_BLOCK:], new.blocks[GUIDED_BLOCK:]) and equal(student.head, new.head)
    assert equal(student.blocks[:GUIDED_BLOCK], trained.load("distill_short").blocks[:GUIDED_BLOCK])


def test_a_matrix_that_is_kept_predicts_the_hint_within_the_network(trained, small_data):
    """Up to a constant in each channel, which the batch normalisation behind the guided layer takes away."""
    kept = arms.objective(trained.run("wide_kept_frozen"), small_data).modules["model"].eval()
    teacher, student = trained.load("teacher"), trained.load("hint_wide_learned")
    regressor, run = Regressor(student, teacher, small_data.sample()), trained.run("hint_wide_learned")
    run.load_weights({"regressor": regressor}, run.record())
    images = small_data.sample(16)
    with torch.no_grad():
        predicted = regressor(student.features(images, through=GUIDED_BLOCK))
        inside = kept.features(images, through=GUIDED_BLOCK) + regressor.conv.bias[:, None, None]
    torch.testing.assert_close(inside, predicted, rtol=1e-4, atol=1e-4)
    assert kept.rates == [0.0] * GUIDED_BLOCK + [1.0]


def test_the_notes_arms_are_the_runs_that_the_notebooks_train(trained, small_data):
    """Stage one and experiment 1, written as in 04_exp1, are found as trained."""
    teacher, student, profile = trained.load("teacher"), models.student(0, NARROW), trained.profile
    regressor = Regressor(student, teacher, small_data.sample())
    fit(Hint(teacher, student, regressor), small_data, profile.hint, trained.run("hint"))
    models.freeze(student, through=GUIDED_BLOCK)
    objective = Distill(teacher, student, profile.temperature, profile.alpha)
    assert fit(objective, small_data, profile.frozen, trained.run("exp1")) == trained.run("exp1").record()


def test_an_arm_added_in_one_place_stands_in_the_tables_and_in_the_list_of_its_notebook(trained):
    results = load_all(trained.profile, study=WIDER)
    assert list(results.by_seed[0]) == [*NAMES, "warm"] and not results.missing
    assert [arm.name for arm in WIDER.trained_in("03_distill")] == ["distill", "warm"]
    accuracy = stats.mean_accuracy(results, "warm").text(2, " %")
    assert tables.summary(results).at["student (warm)", "test accuracy"] == accuracy
    assert "student (warm) − baseline (exploratory)" in tables.contrasts(results).index
    without = load_all(trained.profile)
    assert list(without.by_seed[0]) == NAMES, "a study without it finds its own records beside it"
    missing = tables.summary(dataclasses.replace(without, study=WIDER))
    assert missing.at["student (warm)", "test accuracy"] == tables.NOT_RUN

"""The arms as their recipes say: each trained on a few real images, by small networks."""

import dataclasses

import pytest
import torch
from conftest import SMALL_WIDTHS

from kdlib import arms, models
from kdlib.models import GUIDED_STAGE
from kdlib.objectives import Distill, Hint
from kdlib.regressors import Regressor
from kdlib.report import measures
from kdlib.settings import Recipe
from kdlib.storage import runs
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import EXTENDED, GUIDANCE
from kdlib.training import fit

NAMES = [arm.name for arm in EXTENDED.arms]
NARROW = ((8,), (8, 8), (8, 8), (16,))  # its guided layer needs a matrix, SMALL_WIDTHS needs none


@pytest.fixture(scope="module")
def trained(small_data, tmp_path_factory):
    """A replicate of which every arm was trained for two steps and some."""
    root = tmp_path_factory.mktemp("arms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_ROOT", str(root))
        for name, widths in {"TEACHER": SMALL_WIDTHS, "STUDENT": NARROW, "WIDE": SMALL_WIDTHS}.items():
            patch.setattr(models, f"{name}_WIDTHS", widths)
        schedule = dataclasses.replace(EXTENDED.profile("smoke").student, epochs=2, batch_size=64)
        profile = dataclasses.replace(EXTENDED.profile("smoke"), teacher=schedule, student=schedule, hint=schedule)
        replicate = Replicate(profile, 0, EXTENDED)
        for name in NAMES:
            arms.train(replicate.run(name), small_data)
    return root, replicate


@pytest.fixture
def inside(trained, monkeypatch):
    """The project folder and the networks of `trained`."""
    root, replicate = trained
    monkeypatch.setenv("KDLIB_ROOT", str(root))
    for name, widths in {"TEACHER": SMALL_WIDTHS, "STUDENT": NARROW, "WIDE": SMALL_WIDTHS}.items():
        monkeypatch.setattr(models, f"{name}_WIDTHS", widths)
    return replicate


def stages(model, first, last):
    return {f"{number}.{key}": value for number in range(first, last + 1)
            for key, value in model.stages[number - 1].state_dict().items()}  # fmt: skip


def equal(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", NAMES)
def test_an_arm_is_trained_as_its_recipe_says(inside, name):
    arm, record = EXTENDED.arm(name), inside.run(name).record()
    recipe, made = arm.recipe, record.identity
    expected = "Classify" if "teacher" not in arm.needs else "Joint" if recipe.hint_weight else "Distill"
    assert made.objective["name"] == (expected if arm.classifies else "Hint")
    if arm.stage != "teacher":
        assert made.widths == [list(stage) for stage in (SMALL_WIDTHS if recipe.wide else NARROW)]
    lengths = {"half_baseline": 1, "half_exp1": 1, "double_baseline": 4, "double_exp1": 4}
    epochs = lengths.get(name, 4 if recipe.both_stages else 2)
    assert len(record.train["total"]) == epochs
    if expected == "Distill" and arm.classifies:
        guided = recipe.guided_stage
        assert made.objective["rates"] == [recipe.scale] * guided + [1.0] * (4 - guided)
    if not arm.classifies or recipe.hint_weight:
        assert made.objective["guided_stage"] == recipe.guided_stage
        assert record.weights.keys() == {"model", "regressor"}
    for need in arm.needs:
        if EXTENDED.arm(need).stage == "stage one":
            assert made.start["model"] == inside.run(need).record().weights["model"]


@pytest.mark.parametrize("name", [name for name in NAMES if EXTENDED.arm(name).recipe.scale == 0])
def test_frozen_layers_stay_those_of_the_student_that_was_needed(inside, name):
    through, (_, need) = EXTENDED.arm(name).recipe.guided_stage, EXTENDED.arm(name).needs
    frozen, before = (models.load(inside.run(run)) for run in (name, need))
    assert equal(stages(frozen, 1, through), stages(before, 1, through))
    assert not equal(stages(frozen, through + 1, 4), stages(before, through + 1, 4))


def test_behind_the_front_of_the_distilled_student_everything_starts_anew(inside, small_data):
    student = arms.objective(inside.run("distill_frozen"), small_data).modules["model"]
    assert equal(stages(student, GUIDED_STAGE + 1, 4), stages(models.student(0), GUIDED_STAGE + 1, 4))
    assert equal(stages(student, 1, GUIDED_STAGE), stages(models.load(inside.run("distill")), 1, GUIDED_STAGE))


@pytest.mark.parametrize("way", GUIDANCE, ids=lambda way: way.title)
def test_a_way_to_guide_differs_in_its_matrix_alone(inside, way):
    kind = {
        "learned": "learned 1 × 1 convolution",
        "learned 3 × 3": "learned 3 × 3 convolution",
        "random": "fixed random semi-orthogonal matrix",
        "none": "none",
        "components": "none, principal components of the hint",
    }
    recipe = EXTENDED.arm(way.stage_one).recipe
    made = inside.run(way.stage_one).record().identity.objective
    standard = inside.run("hint").record().identity.objective
    assert made == standard | {"regressor": kind[recipe.regressor]}
    for name, scale in ((way.frozen, 0.0), (way.tuned, 1.0)):
        arm = EXTENDED.arm(name)
        assert (arm.recipe.scale, arm.recipe.wide, arm.needs[1]) == (scale, recipe.wide, way.stage_one)
    assert EXTENDED.arm(way.distilled).recipe.wide == recipe.wide


def test_a_single_stage_learns_from_what_its_name_says(inside):
    labels, distill = (inside.run(f"joint_{name}").record() for name in ("labels", "distill"))
    assert "soft" not in labels.train and {"soft", "hard", "hint"} <= distill.train.keys()
    assert labels.identity.objective["alpha"] == 0 and distill.identity.objective["alpha"] == inside.profile.alpha


def test_the_notes_arms_are_the_runs_that_the_notebooks_train(inside, small_data):
    """Stage one and experiment 1, written as in 04_exp1, are found as trained."""
    teacher = models.load(inside.run("teacher"))
    student = models.student(0)
    regressor = Regressor(student, teacher, small_data.sample(), seed=0)
    assert fit(Hint(teacher, student, regressor), small_data, inside.profile.hint, inside.run("hint"))
    models.freeze(student, through=GUIDED_STAGE)
    objective = Distill(teacher, student, inside.profile.temperature, inside.profile.alpha)
    assert fit(objective, small_data, inside.profile.student, inside.run("exp1")) == inside.run("exp1").record()


def test_all_of_them_belong_together(inside):
    found = runs.load_all(inside.profile, EXTENDED)
    assert list(found.by_seed[0]) == NAMES and not found.missing
    assert all(measures.accuracy(record) > 0 for record in found.by_seed[0].values() if record.predictions)


def changed(name, **changes):
    return dataclasses.replace(
        EXTENDED,
        arms=tuple(
            dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, **changes)) if arm.name == name else arm
            for arm in EXTENDED.arms
        ),
    )


@pytest.mark.parametrize(
    ("name", "recipe", "sentence"),
    [
        ("hint_stage1", {"guided_stage": 5}, r"There is no stage 5: choose one from 1 to 4\."),
        ("exp1", {"guided_stage": 0}, r"There is no stage 0: choose one from 1 to 4\."),
        ("scale01", {"scale": 1.5}, r"scale, of the guided layers' learning rate, must be .* 0 to 1, not 1\.5\."),
        (
            "hint",
            {"regressor": "none"},
            r"Without a matrix .* ends with 8 channels .* with 16: .*",
        ),
        ("hint", {"regressor": "learnt"}, r"There is no regressor 'learnt'; did you mean learned\?"),
        ("joint_distill", {"hint_weight": -1.0}, r"weight, of the hint loss, must be a number from 0, not -1\.0\."),
        (
            "joint_distill",
            {"alpha": 2.0},
            r"alpha, the weight of the soft loss, must be .* from 0 to 1, not 2\.0\.",
        ),
        ("hint", {"rate": 0.0}, r"rate, of an arm's learning rate, must be a number above 0, not 0\.0\."),
    ],
)
def test_an_impossible_recipe_is_a_sentence_before_anything_is_trained(inside, small_data, name, recipe, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        arms.train(Replicate(inside.profile, 0, changed(name, **recipe)).run(f"{name}-x"), small_data)


def test_a_hint_narrower_than_the_guided_layer_has_too_few_components(inside, small_data, monkeypatch):
    monkeypatch.setattr(models, "STUDENT_WIDTHS", ((8,), (8, 8), (8, 32), (16,)))
    with pytest.raises(ValueError, match="has only 16 principal components for the student's 32 channels"):
        arms.objective(inside.run("hint_components"), small_data)


def test_what_is_missing_is_named(replicate, small_data):
    run = Replicate(replicate.profile, 0, EXTENDED).run("random_frozen")
    with pytest.raises(NotTrained, match=r"There is no trained hint_random .*: run 07_regressor first\."):
        arms.train(run, small_data)


def test_the_default_recipe_is_that_of_experiment_2():
    assert EXTENDED.arm("exp2").recipe == Recipe()

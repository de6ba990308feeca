"""Where runs lie, and how the records of a study are found, checked against each other, and missed."""

import shutil

import pytest
from factories import digest, record, results

from kdlib.storage import runs
from kdlib.storage.files import StorageError
from kdlib.storage.runs import NotTrained, Replicate, load_all
from kdlib.study import STUDY

FULL = STUDY.profile("full")


def run_of(name, seed=0):
    return Replicate(FULL, seed).run(name)


@pytest.fixture
def two_seeds():
    """The records of all arms for seeds 0 and 2, on disk."""
    for seed in (0, 2):
        for arm in STUDY.arms:
            record(arm.name, seed).save(run_of(arm.name, seed).record_path)


def changed(name, seed=0, **fields):
    """Replace the record of a run by one with another identity."""
    made = record(name, seed)
    identity = made.identity.model_copy(update=fields)
    made.model_copy(update={"identity": identity}).save(run_of(name, seed).record_path)


def test_own_runs_lie_in_build_and_the_published_ones_in_results(project):
    for name in ("smoke", "quick", "full"):
        replicate = Replicate(STUDY.profile(name), 3)
        assert replicate.folder == project / "build" / name / "results" / "seed3"
        assert replicate.figures == project / "build" / name / "figures" / "seed3"
        run = replicate.run("exp1")
        for path in (run.record_path, run.weights_path, run.timing_path, run.checkpoints, run.logits):
            assert path.is_relative_to(project / "build" / name)
    published = Replicate(STUDY.profile("published"), 3)
    assert published.run("exp1").record_path == project / "results" / "full" / "seed3" / "exp1.json"
    assert published.figures.is_relative_to(project / "build")


def test_variants_have_names_of_their_own():
    replicate = Replicate(STUDY.profile("smoke", temperature=8, epochs=5), 3)
    assert replicate.variant("distill").record_path.name == "distill-epochs5-temperature8.json"
    assert Replicate(STUDY.profile("smoke", epochs=5, temperature=8), 3) == replicate, (
        "in whatever order they are given"
    )
    assert replicate.variant("distill").arm == STUDY.arm("distill")
    assert replicate.run("distill").record_path.name == "distill.json"
    assert Replicate(STUDY.profile("smoke")).variant("distill").name == "distill"


def test_all_records_of_all_seeds_are_found(two_seeds):
    found = load_all(FULL)
    assert list(found.by_seed) == [0, 2] and found.missing == []
    assert found.by_seed[2]["exp1"].identity == record("exp1", 2).identity
    assert [arm.name for arm in found.models] == ["teacher", "baseline", "distill", "exp1", "exp2"]
    assert list(found.only(2).by_seed) == [2]


@pytest.mark.parametrize("arm", [arm.name for arm in STUDY.arms])
def test_any_arm_may_be_missing(two_seeds, arm):
    run_of(arm, 2).record_path.unlink()
    found = load_all(FULL)
    assert found.seeds(arm) == [0] and found.seeds() == [0, 2] and found.missing == []
    run_of(arm, 0).record_path.unlink()
    found = load_all(FULL)
    assert found.records(arm) == [] and [missing.name for missing in found.missing] == [arm]
    assert sorted(found.by_seed[0]) == sorted({other.name for other in STUDY.arms} - {arm})


def test_record_of_no_arm_of_the_study_is_left_aside(two_seeds):
    for name in ("distill-temperature8", "later"):
        shutil.copy(run_of("distill").record_path, run_of("distill").record_path.with_name(f"{name}.json"))
    assert set(load_all(FULL).by_seed[0]) == {arm.name for arm in STUDY.arms}


def test_variants_are_found_by_name(two_seeds):
    replicate = Replicate(FULL)
    for name in ("exp1-alpha0.9", "distill-temperature8"):
        record("distill").model_copy(update={"run": name}).save(replicate.run(name).record_path)
    assert [variant.run for variant in runs.load_variants(replicate)] == ["distill-temperature8", "exp1-alpha0.9"]


def test_folders_that_are_no_seeds_are_left_aside(two_seeds, project):
    results_folder = project / "build" / "full" / "results"
    for name in ("seed0.bak", "seedling", "seed", "seed-1", "seed007", "seed²", "seed99999999999", "copy of seed0"):
        (results_folder / name).mkdir()
    (results_folder / "seed5").mkdir()  # nothing trained yet
    assert list(load_all(FULL).by_seed) == [0, 2]


def test_missing_study_or_seed_names_the_notebook_to_run(two_seeds):
    with pytest.raises(NotTrained, match=r"^No notebook was run yet \(profile full, seed 7\): run 01_teacher first\.$"):
        load_all(FULL, including=7)
    with pytest.raises(NotTrained, match=r"\(profile quick, seed 0\): run 01_teacher first\.$"):
        load_all(STUDY.profile("quick"))


def test_damaged_record_is_not_taken_for_a_missing_one(two_seeds):
    path = run_of("exp2", 2).record_path
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(StorageError, match=r"seed2/exp2\.json is damaged: delete it and run the same command again\.$"):
        load_all(FULL)


@pytest.mark.parametrize(
    ("name", "need", "role"),
    [
        ("distill", "teacher", "teacher"),
        ("hint", "teacher", "teacher"),
        ("exp1", "teacher", "teacher"),
        ("exp1", "hint", "model"),
        ("exp2", "hint", "model"),
    ],
)
def test_record_that_rests_on_another_teacher_or_stage_one_is_refused(two_seeds, name, need, role):
    start = record(name, 2).identity.start
    sentence = rf"^.*seed2/{name}\.json was trained from another {need} than that beside it: delete it and run again\.$"
    for other in (start | {role: digest("another", 2)}, {key: start[key] for key in start if key != role}):
        changed(name, 2, start=other)
        with pytest.raises(StorageError, match=sentence):
            load_all(FULL)
    run_of(need, 2).record_path.unlink()
    assert load_all(FULL), "without the one beside it, there is nothing to compare with"


def test_precision_may_differ_between_seeds_but_not_within_one(two_seeds):
    changed("exp1", 2, precision="float32")
    sentence = r"seed2/exp1\.json was trained in float32, other runs of its seed in bfloat16, so they do not compare: "
    with pytest.raises(StorageError, match=sentence):
        load_all(FULL)
    for arm in STUDY.arms:
        changed(arm.name, 2, precision="float32")
    assert list(load_all(FULL).by_seed) == [0, 2]


@pytest.mark.parametrize(
    "fields",
    [
        {"widths": [[8], [32]]},
        {"classes": 11},
        {"channels": 1},
        {"objective": {"name": "Distill", "alpha": 0.5, "temperature": 4.0}},
        {"schedule": {"epochs": 12, "learning_rate": 0.1}},
        {"data": {"name": "digits", "train_images": 1437}},
        {"stream": "teacher"},
    ],
)
def test_replicates_of_different_settings_are_not_averaged(two_seeds, fields):
    changed("exp1", 2, **fields)
    sentence = r"^exp1 was trained with other settings for seed 2 than for seed 0: delete .*seed2 or .*seed0, "
    with pytest.raises(StorageError, match=sentence):
        load_all(FULL)


def test_results_without_records_miss_every_arm():
    assert results(0).missing == list(STUDY.arms) and results(0).models == []


@pytest.mark.parametrize(("name", "seed"), [("exp2", 0), ("exp1", 2)])
def test_a_record_copied_from_another_run_is_refused(two_seeds, name, seed):
    """A copy of seed 0 under another number would count as a second replicate."""
    for suffix in (".json", ".npz"):
        shutil.copy(run_of("exp1").record_path.with_suffix(suffix), run_of(name, seed).record_path.with_suffix(suffix))
    with pytest.raises(StorageError, match=rf"seed{seed}/{name}\.json is the record of exp1, seed 0: put it back or"):
        load_all(FULL)

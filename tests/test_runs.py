"""Where runs lie, and how the records of a study are found, checked against the study and each other, and missed."""

import dataclasses
import shutil

import pytest
from conftest import small_network
from factories import record, results

from kdlib.data import Data
from kdlib.errors import NotTrained, SettingError, StorageError
from kdlib.objectives import Classify
from kdlib.storage import files
from kdlib.storage.runs import Replicate, load_all
from kdlib.study import STUDY
from kdlib.training import fit

FULL, PUBLISHED = STUDY.profile("full"), STUDY.profile("published")
NAMES = (*STUDY.core, "short_frozen", "joint_distill")


def path_of(name, seed=2):
    return Replicate(FULL, seed).run(name).record_path


@pytest.fixture
def two_seeds():
    """The records of some arms for seeds 0 and 2, on disk."""
    for name, seed in ((name, seed) for name in NAMES for seed in (0, 2)):
        record(name, seed, images=20).save(path_of(name, seed))


def change(name, **fields):
    """Replace the record of a run of seed 2 by one with another identity."""
    made = record(name, 2, images=20)
    made.model_copy(update={"identity": made.identity.model_copy(update=fields)}).save(path_of(name))


def test_variants_have_names_of_their_own_and_are_found_by_them(two_seeds):
    replicate = Replicate(STUDY.profile("full", epochs=5, temperature=8))
    variant = replicate.variant("distill")
    assert variant.record_path.name == "distill-epochs5-temperature8.json" and variant.arm == STUDY.arm("distill")
    record("distill", images=20).model_copy(update={"run": variant.name}).save(variant.record_path)
    assert variant.record().run == variant.name and replicate.run("distill").record().run == "distill"
    assert list(load_all(FULL).by_seed[0]) == list(NAMES)
    with pytest.raises(SettingError, match=r"^seed must be a whole number from 0 to 4294967295, not -1\.$"):
        Replicate(FULL, -1)


def test_all_records_of_all_seeds_are_found_and_nothing_else(two_seeds, project):
    for name in ("seed0.bak", "seed-1", "seed²", "seed99999999999", "seed5"):
        (project / "build/full/results" / name).mkdir()
    shutil.copy(path_of("distill"), path_of("distill").with_name("later.json"))  # of no arm
    found = load_all(FULL)
    assert {seed: list(runs) for seed, runs in found.by_seed.items()} == {0: list(NAMES), 2: list(NAMES)}
    for name in NAMES:
        change(name, precision="float32")  # seeds may differ in it
    path_of("teacher").unlink()  # any arm may be missing, though others rest on it
    assert load_all(FULL).seeds("teacher") == [0] and load_all(FULL).seeds("exp1") == [0, 2]


def test_results_give_records_by_arm_and_narrow_to_some():
    found = results(2, images=20, epochs=1, without=("scale03", "distill_long"))
    assert found.seeds() == [0, 1] and found.seeds("exp1", "scale03") == [] == found.records("scale03")
    assert [made.run for made in found.together("exp2", "exp1")[1]] == ["exp2", "exp1"]
    assert [arm.name for arm in found.missing] == ["scale03", "distill_long"]
    assert set(found.of("exp1").by_seed[0]) == {"teacher", "hint", "exp1"}, "and what it needs"
    assert tuple(found.core.by_seed[1]) == STUDY.core and len(found.core.study.contrasts) == 7


def test_what_is_missing_names_the_notebook_to_run(two_seeds, project, monkeypatch):
    with pytest.raises(NotTrained, match=r"^No notebook was run yet \(profile full, seed 7\): run 01_teacher first\.$"):
        load_all(FULL, including=7)
    monkeypatch.setattr(files, "CHECKOUT", project)
    shutil.copytree(project / "build/full/results", project / "results/full")
    none = r"^There is no trained scale01 \(profile full, seed 2\): run 08_freezing first\.$"
    gone = r"exp1\.safetensors is not there: delete .*full/results/seed2/exp1\.json and run 04_exp1 again\.$"
    kept = r"seed2/exp1\.safetensors is not there: weights are published of few arms, and of seed 0 alone\.$"
    for profile, name, sentence in ((FULL, "scale01", none), (FULL, "exp1", gone), (PUBLISHED, "exp1", kept)):
        with pytest.raises(NotTrained, match=sentence):
            Replicate(profile, 2).load(name)


def test_published_records_are_only_read(small_data, small_profile, replicate, project, monkeypatch):
    monkeypatch.setattr(files, "CHECKOUT", project)
    published = Replicate(dataclasses.replace(small_profile, name="published")).run("baseline")
    train = Classify(small_network()), small_data, small_profile.scratch
    made = fit(*train, replicate.run("baseline"))
    shutil.copytree(project / "build/smoke/results", project / "results/full")
    shutil.rmtree(project / "build")
    monkeypatch.setattr(Data, "batches", None)  # asking for a batch would fail
    again = Classify(small_network(seed=1))  # where nothing is trained, it makes no difference what from
    assert fit(again, small_data, small_profile.scratch, published) == made
    assert not (project / "build").exists(), "neither a lock nor a checkpoint"


FRESH = r"^exp1 of seed 2 was made by other settings or code than that of seed 0: delete the one that is out of date"
SETTINGS = STUDY.arm("exp2").settings | {"guided_rate": 0.1}
SCHEDULE = vars(FULL.hint) | {"learning_rate": 0.3}
REFUSED = [  # what is wrong with seed 2, and the sentence
    (lambda: path_of("exp2").write_bytes(path_of("exp2").read_bytes()[:-9]), r"exp2\.json is damaged: delete it"),
    # A copy of seed 0 under another number would count as a second replicate.
    (lambda: record("exp1", 0).save(path_of("exp1")), r"seed2/exp1\.json is the record of exp1, seed 0: put it back"),
    (lambda: change("exp2", arm=SETTINGS), r"was trained with other settings .*: guided_rate \(0\.1, now 1\.0\)\. "),
    (lambda: change("hint", schedule=SCHEDULE), r": learning_rate \(0\.3, now [\d.]+\)\. Delete it to"),
    (lambda: change("distill", start={"teacher": "f" * 64}), "was trained from another teacher than that beside it"),
    (lambda: change("exp1", start=record("exp1", 2).identity.start | {"model": "f" * 64}), "another hint than that"),
    (lambda: change("hint", precision="float32"), r"in float32, other runs of its seed in bfloat16, so they do not"),
    (lambda: change("exp1", objective={"name": "Distill", "alpha": 0.5}), r": alpha \(0\.5, now 0\.75\)\. Delete it"),
    (lambda: change("exp1", code={"models": "f" * 64}), FRESH),
]


@pytest.mark.parametrize(("spoil", "sentence"), REFUSED)
def test_records_that_belong_neither_to_the_study_nor_together_are_refused(two_seeds, spoil, sentence):
    spoil()
    with pytest.raises(StorageError, match=sentence):
        load_all(FULL)

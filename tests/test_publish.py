"""Publishing takes over records, weights, outputs and pictures, and nothing else."""

from dataclasses import replace

import nbformat
import pandas as pd
import pytest
from factories import results, save
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kdlib.errors import NotTrained, SettingError
from kdlib.report import publish, run, stats
from kdlib.storage import files
from kdlib.storage.runs import Replicate
from kdlib.study import ANALYSIS, STUDY
from kdlib.tuning import SETTINGS, TUNING

NAMES = (*STUDY.notebooks, ANALYSIS, SETTINGS)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A project's folder of the test's own, with ten notebooks of one cell and a picture of an earlier time."""
    monkeypatch.setattr(files, "CHECKOUT", tmp_path)
    full = STUDY.profile("full")
    profiles = (STUDY.profile("quick"), full, replace(full, name="published"))
    monkeypatch.setattr(publish, "STUDY", replace(STUDY, profiles=profiles))
    for name in NAMES:
        cell = new_code_cell(f"print({name!r})", id="one")
        files.write_bytes(
            tmp_path / "notebooks" / f"{name}.ipynb", nbformat.writes(new_notebook(cells=[cell])).encode()
        )
    files.write_bytes(tmp_path / "figures/old.png", b"old")

    def execute(source, output, parameters):
        name = source.stem
        profile = publish.STUDY.profile("published") if name != SETTINGS else TUNING.profiles[0]
        assert parameters == ({"profile": "published"} if name != SETTINGS else {})
        cell = new_code_cell(f"print({name!r})", id="one", outputs=[new_output("stream", text=f"{name} ran\n")])
        files.write_bytes(output, nbformat.writes(new_notebook(cells=[cell])).encode())
        files.write_bytes(Replicate(profile).figures / f"{name}.png", b"new")

    monkeypatch.setattr(run, "notebook", execute)
    return tmp_path


def test_ones_own_full_run_takes_the_place_of_the_published_one(checkout):
    made = results(2, images=20)
    save(made, STUDY.profile("full"))
    files.write_bytes(files.results("full") / "seed0/distill-temperature8.json", b"a variant")
    files.write_bytes(files.results("published") / "seed7/teacher.json", b"an earlier run")
    publish.publish("full")
    published = files.results("published")
    names = {path.relative_to(published).as_posix() for path in published.rglob("*") if path.is_file()}
    arms = [arm.name for arm in STUDY.arms]
    expected = {f"seed{seed}/{arm}.{kind}" for seed in (0, 1) for arm in arms for kind in ("json", "arrays")}
    assert names == expected | {f"seed0/{arm}.safetensors" for arm in publish.WITH_WEIGHTS} | {"summary.csv"}
    table = pd.read_csv(published / "summary.csv").set_index(["arm", "seed"])
    assert table.loc[("exp1", 1), "test_accuracy"] == pytest.approx(stats.accuracy(made.by_seed[1]["exp1"]), abs=1e-4)
    for name in NAMES:
        (cell,) = nbformat.read(checkout / "notebooks" / f"{name}.ipynb", as_version=4).cells
        assert cell.source == f"print({name!r})" and cell.outputs[0].text == f"{name} ran\n"
    assert {path.name for path in (checkout / "figures").iterdir()} == {f"{name}.png" for name in NAMES}


def test_a_run_of_other_settings_than_the_published_one_is_refused(checkout, monkeypatch):
    save(results(1, images=20), STUDY.profile("full"))
    monkeypatch.setattr(publish, "STUDY", STUDY)
    with pytest.raises(SettingError, match=r"with other arms and settings than full: take kdlib/editions\.py and"):
        publish.publish("full")
    assert (checkout / "figures/old.png").exists() and not files.results("published").exists()


def test_a_run_that_lacks_an_arm_of_the_note_is_refused_and_nothing_is_touched(checkout):
    save(results(1, images=20, without=("exp2",)), STUDY.profile("full"))
    with pytest.raises(NotTrained, match="Seed 0 has no record of exp2: run make report PROFILE=full first"):
        publish.publish("full")
    assert (checkout / "figures/old.png").exists() and not files.results("published").exists()


def test_a_quick_run_becomes_what_others_are_compared_with(checkout):
    made = results(3, images=20, profile="quick")
    save(made, STUDY.profile("quick"))
    publish.publish("quick")
    table = pd.read_csv(checkout / "results/quick.csv", index_col="arm")
    values = [record.test["accuracy"][-1] for record in made.records("distill")]
    row = table.loc["distill"]
    assert (row["mean"], row["lowest"], row["highest"]) == pytest.approx(
        (sum(values) / 3, min(values), max(values)), abs=0.006
    )
    assert row["n"] == 3 and "hint" not in table.index

"""Publishing a run: what the repository shows follows from the records in ``results/``.

python -m kdlib.report.publish         execute all notebooks on the published records; take their outputs and pictures
python -m kdlib.report.publish full    first let one's own run of the profile full take the published one's place
python -m kdlib.report.publish quick   let one's own quick run be the one that others compare theirs with
"""

import dataclasses
import shutil
import sys
from pathlib import Path

import nbformat

from kdlib.errors import NotTrained, SettingError, as_sentences
from kdlib.report import run, tables
from kdlib.storage import files, runs
from kdlib.storage.runs import Replicate, Results
from kdlib.study import ANALYSIS, PUBLISHED, STUDY
from kdlib.tuning import SETTINGS

WITH_WEIGHTS = (*STUDY.core, "wide_baseline", "wide_distill")  # of seed 0; of all others the records alone


def publish(profile_name: str = PUBLISHED) -> None:
    """See the module's documentation. Raises `NotTrained` if there are no records, or not all of the note's own arms
    for seed 0, `SettingError` for another profile, and `Failed` if a notebook failed.
    """
    if profile_name == "quick":
        _take_expected(runs.load_all(STUDY.profile("quick")))
    elif profile_name in ("full", PUBLISHED):
        if profile_name == "full":
            _take_run(runs.load_all(STUDY.profile("full"), including=0))
        _render()
    else:
        raise SettingError(f"Only full and quick can be published, not {profile_name}.")


def _take_expected(results: Results) -> None:
    """Write the accuracies that a quick run is compared with."""
    by_arm = tables.summary_csv(results).dropna(subset="test_accuracy").groupby("arm", sort=False)["test_accuracy"]
    table = by_arm.agg(mean="mean", lowest="min", highest="max", n="count").round(2)
    files.write_bytes(files.CHECKOUT / "results" / "quick.csv", table.to_csv().encode())


def _take_run(results: Results) -> None:
    """Let one's own records take the place of the published ones."""
    if STUDY.profile(PUBLISHED) != dataclasses.replace(STUDY.profile("full"), name=PUBLISHED):
        edition = "The published run is of the first edition, with other arms and settings than full"
        raise SettingError(f"{edition}: take kdlib/editions.py and the profile published out of the way first.")
    missing = [arm.name for arm in results.core.only(0).missing]
    if missing:
        raise NotTrained(f"Seed 0 has no record of {', '.join(missing)}: run make report PROFILE=full first.")
    own, published = files.results("full"), files.results(PUBLISHED)
    profile = STUDY.profile("full")
    made = [Replicate(profile, seed).run(name) for seed, arms in results.by_seed.items() for name in arms]
    kept = [file for run in made for file in (run.record_path, run.record_path.with_suffix(".arrays"))]
    kept += [run.weights_path for run in made if run.replicate.seed == 0 and run.name in WITH_WEIGHTS]
    shutil.rmtree(published, ignore_errors=True)
    for path in kept:
        files.write_bytes(published / path.relative_to(own), path.read_bytes())


def _render() -> None:
    """Execute all notebooks on the published records; take over their outputs and pictures, of all or of none."""
    profile = STUDY.profile(PUBLISHED)
    results = runs.load_all(profile, including=0)
    folder, figures = files.build(PUBLISHED), [files.build(name) / "figures" for name in (PUBLISHED, "tuning")]
    for place in figures:
        shutil.rmtree(place, ignore_errors=True)  # no picture of an earlier time shall be taken for a new one
    names = sorted({*STUDY.notebooks, ANALYSIS, SETTINGS})
    for name in names:
        source = files.CHECKOUT / "notebooks" / f"{name}.ipynb"
        run.notebook(source, folder / source.name, {} if name == SETTINGS else {"profile": PUBLISHED})
    for name in names:
        _take_outputs(files.CHECKOUT / "notebooks" / f"{name}.ipynb", folder / f"{name}.ipynb")
    shutil.rmtree(files.CHECKOUT / "figures", ignore_errors=True)
    for picture in [path for place in figures for path in place.rglob("*.png")]:
        files.write_bytes(files.CHECKOUT / "figures" / picture.name, picture.read_bytes())
    table = tables.summary_csv(results).to_csv(index=False)
    files.write_bytes(files.results(PUBLISHED) / "summary.csv", table.encode())


def _take_outputs(source: Path, executed: Path) -> None:
    """Put the outputs of an executed copy into the notebook, whose cells stay as they are."""
    notebook = nbformat.read(source, as_version=4)
    outputs = {cell.id: cell for cell in nbformat.read(executed, as_version=4).cells}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs, cell.execution_count = outputs[cell.id].outputs, outputs[cell.id].execution_count
    nbformat.write(notebook, source)


if __name__ == "__main__":
    with as_sentences():
        publish(*sys.argv[1:])

"""The graph of the report, run by Snakemake on notebooks that train nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from kdlib.study import ANALYSIS, STUDY

HOME = Path(__file__).parents[1]
NAMES = [*STUDY.notebooks, ANALYSIS]
TRAIN = """
import sys
from pathlib import Path
print("trains", *sys.argv[1:])
if sys.argv[3] == "distill" and not Path("mended").exists():
    sys.exit("not yet")
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project whose notebooks only print their name, in a folder that has to be quoted."""
    folder = tmp_path / "mein Projekt é 'x' {seed}"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(HOME / "Snakefile", folder)
    shutil.copytree(HOME / "kdlib", folder / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NAMES:
        write(folder, name, f"print({name!r}, 'says hello', profile, seed)")
    (folder / "kdlib/arms.py").write_text(TRAIN)
    monkeypatch.delenv("KDLIB_ROOT", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


def write(project, name, source):
    cells = [new_code_cell("profile = seed = None", metadata={"tags": ["parameters"]}), new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "notebooks" / f"{name}.ipynb")


def snakemake(project, *targets, config=("profile=smoke", "seeds=1"), options=()):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete", "--nolock"]
    command += ["--config", *config, "--quiet", "host", "progress", "reason", "rules"]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [*command, *options, "--", *targets], cwd=project, env=environment, capture_output=True, text=True, timeout=300
    )


def test_a_failed_training_or_notebook_leaves_the_rest_and_is_not_taken_for_done(project):
    write(project, "04_exp1", "from pathlib import Path\nassert Path('mended').exists(), 'not yet'\nprint('mended')")
    targets = [f"build/smoke/seed0/{name}.ipynb" for name in ("01_teacher", "03_distill", "04_exp1")]
    result = snakemake(project, *targets, options=["--keep-going", "--cores", "1"])
    assert result.returncode != 0 and "not yet\n04_exp1 failed. Its copy: " in result.stderr
    assert (project / "build/smoke/trained/seed0/distill.log").read_text() == "not yet\n"
    assert "--- 01_teacher, seed 0\n01_teacher says hello smoke 0" in result.stdout, (
        "what a notebook prints appears in the terminal"
    )
    order = re.findall(r"trains smoke 0 (\w+)", result.stdout)
    assert order[:2] == ["teacher", "hint"], "what others wait for comes first"
    assert set(order[2:]) == {"distill", "exp1"}, "what a training prints appears too"
    assert [(project / target).exists() for target in targets] == [True, False, False]
    (project / "mended").touch()
    again = snakemake(project, *targets)
    assert again.returncode == 0 and "mended" in again.stdout and "03_distill says hello" in again.stdout
    assert "01_teacher" not in again.stdout and "exp1" not in re.findall(r"trains smoke 0 (\w+)", again.stdout)
    (project / "kdlib/report/plots.py").write_text("changed = True\n")
    assert needed(project, targets[0], ("profile=smoke", "seeds=1"), ()) == {("seed0", "01_teacher")}
    with (project / "kdlib/models.py").open("a") as file:
        file.write("# changed\n")
    assert ("seed0", "teacher") in needed(project, targets[0], ("profile=smoke", "seeds=1"), ())


def needed(project, target, config, force=("--forceall",)):
    """The notebooks and trainings, with their seeds, that would be run for a target."""
    result = snakemake(project, target, config=config, options=["--dry-run", *force, "--verbose"])
    told = re.findall(r"^build/\w+/(?:trained/)?(?:(seed\d)/)?(\w+)(?:\.ipynb)?: ", result.stdout + result.stderr, re.M)
    return set(told)


def test_edges_follow_from_the_study(project):
    one, two = ("profile=smoke", "seeds=1"), ("profile=smoke", "seeds=2", "extra=1")
    alone = {("seed0", "02_baseline"), ("seed0", "baseline")}
    assert needed(project, "build/smoke/seed0/02_baseline.ipynb", one) == alone
    fine_tuned = {("seed0", name) for name in ("05_exp2", "teacher", "hint", "exp2")}
    assert needed(project, "build/smoke/seed0/05_exp2.ipynb", one) == fine_tuned
    core = {("seed0", name) for name in STUDY.core}
    assert needed(project, f"build/smoke/{ANALYSIS}.ipynb", one) == {("", ANALYSIS)} | core
    # Those beyond the note compare with the arms before theirs, and show all seeds at once.
    arms = {arm.name for arm in STUDY.arms if arm.notebook <= "08_freezing"}
    beyond = {("", "08_freezing")} | {(seed, arm) for seed in ("seed0", "seed1") for arm in arms}
    assert needed(project, "build/smoke/08_freezing.ipynb", two) == beyond
    assert "MissingRule" in snakemake(project, "build/smoke/08_freezing.ipynb").stderr, "only with EXTRA=1"


def test_everything_goes_where_kdlib_root_says(project, monkeypatch):
    project = project.rename(project.with_name("readable"))  # with KDLIB_ROOT, the folder's name must have no braces
    monkeypatch.setenv("PYTHONPATH", str(project))
    elsewhere = project / "elsewhere"
    monkeypatch.setenv("KDLIB_ROOT", str(elsewhere))
    result = snakemake(project, "build/smoke/seed0/02_baseline.ipynb")
    assert result.returncode == 0 and (elsewhere / "build/smoke/seed0/02_baseline.ipynb").exists(), result.stderr
    assert not (project / "build").exists()

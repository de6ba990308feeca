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
CORE = [name for name in NAMES if name < ANALYSIS]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project whose notebooks only print their name, in a folder that has to be quoted."""
    folder = tmp_path / "mein Projekt é 'x' {seed}"
    (folder / "notebooks").mkdir(parents=True)
    shutil.copy(HOME / "Snakefile", folder)
    shutil.copytree(HOME / "kdlib", folder / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NAMES:
        write(folder, name, f"print({name!r}, 'says hello')")
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


def test_a_failed_notebook_leaves_the_rest_and_is_not_taken_for_done(project):
    write(project, "03_distill", "from pathlib import Path\nassert Path('mended').exists(), 'not yet'\nprint('mended')")
    targets = [f"build/smoke/seed0/{name}.ipynb" for name in ("01_teacher", "03_distill")]
    result = snakemake(project, *targets)
    assert result.returncode != 0 and "not yet\n03_distill failed. Its copy: " in result.stderr
    assert "01_teacher says hello" in result.stdout, "what a notebook prints appears in the terminal"
    assert (project / targets[0]).exists() and not (project / targets[1]).exists()
    (project / "mended").touch()
    again = snakemake(project, *targets)
    assert again.returncode == 0 and "mended" in again.stdout
    assert "says hello" not in again.stdout, "what is done is not done again"
    (project / "kdlib/report/plots.py").write_text("changed = True\n")
    assert needed(project, targets[0], ("profile=smoke", "seeds=1"), ()), "a change of kdlib shows"


def needed(project, target, config, force=("--forceall",)):
    """The notebooks, with their seeds, that would be executed for a target."""
    result = snakemake(project, target, config=config, options=["--dry-run", *force, "--verbose"])
    return set(re.findall(r"build/smoke/(?:(seed\d)/)?(\d\d_\w+)\.ipynb", result.stdout + result.stderr))


def test_edges_follow_from_the_study(project):
    one, two = ("profile=smoke", "seeds=1"), ("profile=smoke", "seeds=2", "extra=1")
    assert needed(project, "build/smoke/seed0/02_baseline.ipynb", one) == {("seed0", "02_baseline")}
    assert needed(project, "build/smoke/seed0/05_exp2.ipynb", one) == {
        ("seed0", name) for name in ("01_teacher", "04_exp1", "05_exp2")
    }
    assert needed(project, f"build/smoke/{ANALYSIS}.ipynb", one) == {
        ("", ANALYSIS),
        *(("seed0", name) for name in CORE),
    }
    # Those beyond the note compare with its arms and show all seeds: the first copy is made when the others are there.
    beyond = {("seed1", name) for name in (*CORE, "09_one_stage")}
    assert needed(project, "build/smoke/seed1/09_one_stage.ipynb", two) == beyond
    both = beyond | {("seed0", name) for _, name in beyond}
    assert needed(project, "build/smoke/seed0/09_one_stage.ipynb", two) == both
    assert "MissingRule" in snakemake(project, "build/smoke/seed0/09_one_stage.ipynb").stderr, "only with EXTRA=1"


def test_everything_goes_where_kdlib_root_says(project, monkeypatch):
    project = project.rename(project.with_name("readable"))  # with KDLIB_ROOT, the folder's name must have no braces
    monkeypatch.setenv("PYTHONPATH", str(project))
    elsewhere = project / "elsewhere"
    monkeypatch.setenv("KDLIB_ROOT", str(elsewhere))
    result = snakemake(project, "build/smoke/seed0/02_baseline.ipynb")
    assert result.returncode == 0 and (elsewhere / "build/smoke/seed0/02_baseline.ipynb").exists(), result.stderr
    assert not (project / "build").exists()

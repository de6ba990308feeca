"""The graph of the report, run by Snakemake on notebooks that train nothing."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from kdlib.design import ANALYSIS
from kdlib.study import EXTENDED, STUDY

HOME = Path(__file__).parents[1]
NAMES = [*STUDY.notebooks, ANALYSIS]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project whose notebooks only print their name, in a folder that has to be quoted."""
    folder = tmp_path / "mein Projekt é 'x'"
    (folder / "notebooks").mkdir(parents=True)
    (folder / ".venv").symlink_to(sys.prefix)
    shutil.copy(HOME / "Snakefile", folder)
    shutil.copytree(HOME / "kdlib", folder / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    for name in NAMES:
        write(folder, name, f"print({name!r}, 'says hello')")
    monkeypatch.delenv("KDLIB_ROOT", raising=False)
    return folder


def write(project, name, source):
    cells = [new_code_cell("profile = seed = None", metadata={"tags": ["parameters"]}), new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "notebooks" / f"{name}.ipynb")


def snakemake(project, *targets, config=("profile=smoke", "seeds=1"), options=()):
    command = [
        project / ".venv/bin/python",
        "-m",
        "snakemake",
        "--cores",
        "2",
        "--rerun-incomplete",
        "--nolock",
    ]
    command += ["--config", *config, "--quiet", "host", "progress", "reason", "rules"]
    return subprocess.run(
        [*command, *options, "--", *targets], cwd=project, capture_output=True, text=True, timeout=300
    )


def test_a_dying_kernel_fails_with_the_notebooks_name_and_the_rest_stays(project):
    write(project, "03_distill", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    built = project / "build/smoke/seed0"
    result = snakemake(project, *(f"build/smoke/seed0/{name}.ipynb" for name in ("01_teacher", "03_distill")))
    assert result.returncode != 0
    assert "03_distill.ipynb, seed 0 failed. Its copy: build/smoke/seed0/03_distill.unfinished.ipynb" in result.stderr
    assert "process was killed" in (project / "build/smoke/failed.log").read_text("utf-8")
    assert "01_teacher says hello" in result.stdout, "what a notebook prints appears in the terminal"
    assert (built / "01_teacher.ipynb").exists()

    write(project, "03_distill", "print('mended')")
    again = snakemake(project, "build/smoke/seed0/03_distill.ipynb")
    assert again.returncode == 0 and "mended" in again.stdout
    assert "01_teacher says hello" not in again.stdout, "what is done is not done again"

    once_more = snakemake(project, "build/smoke/seed0/03_distill.ipynb")
    assert once_more.returncode == 0 and "mended" not in once_more.stdout


def test_a_notebook_that_failed_is_not_taken_for_done(project):
    write(project, "01_teacher", "from pathlib import Path\nassert Path('mended').exists(), 'not yet'\nprint('mended')")
    target = "build/smoke/seed0/01_teacher.ipynb"
    assert "not yet" in snakemake(project, target).stderr
    assert not (project / target).exists() and (project / "build/smoke/seed0/01_teacher.unfinished.ipynb").exists()
    (project / "mended").touch()
    assert "mended" in snakemake(project, target).stdout
    assert [path.name for path in (project / target).parent.iterdir()] == ["01_teacher.ipynb"]


def pending(project, *names):
    """Which of the notebooks would run again, had all of them run now."""
    outputs = {name: f"build/smoke/{'' if name == ANALYSIS else 'seed0/'}{name}.ipynb" for name in NAMES}
    now = time.time()  # Snakemake tells times apart by the second
    ages = {path: now - 3600 for path in project.rglob("*") if path.is_file()}
    ages[project / "build/smoke/data.ready"] = now - 1800
    ages |= {project / output: now - 900 for output in outputs.values()} | {project / name: now for name in names}
    for path, when in ages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (when, when))
    summary = snakemake(project, *outputs.values(), options=["--summary"])
    assert summary.returncode == 0, summary.stderr
    again = [line.split("\t")[0] for line in summary.stdout.splitlines() if "update pending" in line]
    return {name for name, path in outputs.items() if path in again}


@pytest.fixture
def real(project):
    """The project with its real notebooks, whose imports decide what runs again."""
    shutil.copytree(HOME / "notebooks", project / "notebooks", dirs_exist_ok=True)
    return project


def test_a_notebook_runs_again_when_a_module_that_it_uses_has_changed_and_only_then(real):
    assert pending(real) == set()
    assert pending(real, "kdlib/report/study_plots.py") == {ANALYSIS}
    assert pending(real, "kdlib/selection.py") == set()
    assert pending(real, "kdlib/study.py") == set(NAMES)
    # The analysis runs again because its records may.
    assert pending(real, "kdlib/report/run_plots.py") == set(NAMES)


def test_the_answers_at_the_top_are_renewed_when_the_published_records_change(real):
    assert pending(real, "results/full/seed1/teacher.json") == set(NAMES)


def test_edges_follow_from_the_study_an_arm_more_included(project):
    """The Snakefile itself, in a process whose study has another arm in a notebook of its own."""
    write(project, "05_more", "print('more')")
    (project / "more.smk").write_text(
        "import dataclasses\nfrom kdlib import study\n"
        "arm = study.Arm('more', 'more', '#888888', '05_more', needs=('baseline',))\n"
        "study.STUDY = dataclasses.replace(study.STUDY, arms=(*study.STUDY.arms, arm))\n"
        "include: 'Snakefile'\n"
    )
    result = snakemake(project, "build/smoke/seed0/05_more.ipynb", options=["--snakefile", "more.smk"])
    assert result.returncode == 0, result.stderr
    built = project / "build/smoke/seed0"
    assert (built / "05_more.ipynb").exists() and (built / "02_baseline.ipynb").exists()
    assert not (built / "01_teacher.ipynb").exists(), "nothing that the new arm does not need"


def test_the_first_copy_of_a_notebook_beyond_the_note_needs_those_of_other_seeds(project):
    for name in EXTENDED.notebooks:
        write(project, name, "1 + 1")
    options = ["--dry-run", "--forceall", "--verbose"]
    first, other = (f"build/smoke/seed{seed}/09_one_stage.ipynb" for seed in (0, 1))
    for target, expected in ((first, {f"seed{seed}" for seed in (0, 1)}), (other, {"seed1"})):
        result = snakemake(project, target, config=("profile=smoke", "seeds=2", "extra=1"), options=options)
        made = re.findall(r"build/smoke/(seed\d)/(\w+)\.ipynb", result.stdout + result.stderr)
        assert {seed for seed, _ in made} == expected
        assert {name for _, name in made} == {*STUDY.notebooks, "09_one_stage"}, "it compares with the note's arms"
    assert "MissingRule" in snakemake(project, first).stderr, "only EXTRA=1 makes it"


def test_everything_goes_where_kdlib_root_says(project, monkeypatch):
    elsewhere = project / "elsewhere"
    monkeypatch.setenv("KDLIB_ROOT", str(elsewhere))
    result = snakemake(project, f"{elsewhere}/build/smoke/seed0/02_baseline.ipynb")
    assert result.returncode == 0 and (elsewhere / "build/smoke/seed0/02_baseline.ipynb").exists()
    assert not (project / "build").exists()


CLUSTER = """
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, ResourceSettings

with SnakemakeApi() as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(nodes=5), config_settings=ConfigSettings(config={"profile": "full"})
    )
    workflow.dag().summary()
"""


def test_graph_is_made_without_knowing_a_clusters_cores(project):
    result = subprocess.run([sys.executable, "-c", CLUSTER], cwd=project, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and "build/full/seed0/01_teacher.ipynb" in result.stdout, result.stderr

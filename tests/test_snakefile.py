"""The graph of the report, run by Snakemake on notebooks that train nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

HOME = Path(__file__).parents[1]
NAMES = ["01_teacher", "02_baseline", "03_distill", "04_exp1", "05_exp2", "06_analysis"]


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the project whose notebooks only say their name."""
    shutil.copy(HOME / "Snakefile", tmp_path)
    shutil.copytree(HOME / "kdlib", tmp_path / "kdlib", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "notebooks").mkdir()
    for name in NAMES:
        write(tmp_path, name, f"print({name!r}, 'says hello')")
    monkeypatch.delenv("KDLIB_ROOT", raising=False)
    return tmp_path


def write(project, name, source):
    cells = [new_code_cell("profile = seed = None", metadata={"tags": ["parameters"]}), new_code_cell(source)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), project / "notebooks" / f"{name}.ipynb")


def snakemake(project, *targets, config=("profile=smoke", "seeds=1"), options=()):
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--rerun-incomplete", "--keep-incomplete", "--nolock"]
    command += ["--config", *config, "--quiet", "host", "progress", "reason", "rules"]
    return subprocess.run(
        [*command, *options, "--", *targets], cwd=project, capture_output=True, text=True, timeout=300
    )


def test_a_dying_kernel_fails_with_the_notebooks_name_and_the_rest_stays(project):
    write(project, "03_distill", "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    built = project / "build/smoke/seed0"
    result = snakemake(project, *(f"build/smoke/seed0/{name}.ipynb" for name in ("01_teacher", "03_distill")))
    assert result.returncode != 0
    assert "03_distill" in result.stderr and "Kernel died" in result.stderr
    assert "01_teacher says hello" in result.stdout, "what a notebook prints appears in the terminal"
    assert (built / "01_teacher.ipynb").exists()

    write(project, "03_distill", "print('mended')")
    again = snakemake(project, "build/smoke/seed0/03_distill.ipynb")
    assert again.returncode == 0 and "mended" in again.stdout
    assert "01_teacher says hello" not in again.stdout, "what is done is not done again"

    once_more = snakemake(project, "build/smoke/seed0/03_distill.ipynb")
    assert once_more.returncode == 0 and "mended" not in once_more.stdout


def test_a_replicate_published_without_weights_is_not_run_again(project):
    for seed, files in enumerate((["teacher.json", "teacher.safetensors"], ["teacher.json"], [])):
        folder = project / f"results/full/seed{seed}"
        folder.mkdir(parents=True)
        for name in files:
            (folder / name).touch()
    planned = snakemake(project, config=("profile=full", "seeds=3"), options=["--summary"])
    assert planned.returncode == 0
    assert [f"build/full/seed{seed}/" in planned.stdout for seed in range(3)] == [True, False, True]


def test_what_tells_of_the_published_run_runs_again_when_records_come(project):
    build = project / "build/full"
    (build / "seed0").mkdir(parents=True)
    for name in ("data.ready", "06_analysis.ipynb", *(f"seed0/{name}.ipynb" for name in NAMES[:-1])):
        (build / name).touch()

    def to_do():
        targets = ["build/full/06_analysis.ipynb", *(f"build/full/seed0/{name}.ipynb" for name in NAMES[:-1])]
        return snakemake(project, *targets, config=("profile=full", "seeds=2"), options=["--summary"]).stdout

    (project / "results/full/seed1").mkdir(parents=True)
    assert "update pending" not in to_do()
    (project / "results/full/seed1/teacher.json").touch()
    assert to_do().count("update pending") == len(NAMES)


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

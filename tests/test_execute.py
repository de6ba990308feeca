"""`make report`: its options, what it shows while it runs, and how it ends."""

import json
import subprocess
import sys
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from kdlib.report import execute, graph, publish
from kdlib.study import EXTENDED, STUDY


@pytest.fixture
def snakemake(monkeypatch):
    """Snakemake replaced: a list of the commands that were run; each ends with ``snakemake.code``."""
    calls = SimpleNamespace(commands=[], code=0)

    def run(command, **_):
        calls.commands.append(command)
        return SimpleNamespace(returncode=calls.code)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(publish, "summary", lambda profile, study: f"summary of {profile}, {len(study.notebooks)}")
    return calls


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"SEED": "3"}, r"make report has no option SEED; did you mean SEEDS\?"),
        ({"EPOCHS": "3"}, r"make report has no option EPOCHS: choose one of PROFILE, SEEDS, CORES, EXTRA\."),
        ({"SEEDS": "abc"}, r"SEEDS must be a whole number of at least 1, not 'abc'\."),
        ({"SEEDS": "all"}, r"SEEDS must be a whole number of at least 1, not 'all'\."),
        ({"SEEDS": "0"}, r"SEEDS must be a whole number of at least 1, not 0\."),
        ({"SEEDS": "-2"}, r"SEEDS must be a whole number of at least 1, not -2\."),
        ({"SEEDS": "2.5"}, r"SEEDS must be a whole number of at least 1, not 2\.5\."),
        ({"SEEDS": "inf"}, r"SEEDS must be a whole number of at least 1, not inf\."),
        ({"SEEDS": ""}, r"SEEDS must be a whole number of at least 1, not ''\."),
        ({"CORES": "0"}, r"CORES must be a whole number of at least 1, not 0\."),
        ({"EXTRA": "2"}, r"EXTRA must be a whole number from 0 to 1, not 2\."),
        ({"EXTRA": "yes"}, r"EXTRA must be a whole number from 0 to 1, not 'yes'\."),
        ({"PROFILE": "smokee"}, r"There is no profile 'smokee'; did you mean smoke\?"),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(snakemake, options, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        graph.report(options)
    assert not snakemake.commands


def test_options_reach_the_graph_and_the_summary_comes_last(snakemake, monkeypatch):
    assert graph.report({"PROFILE": "smoke", "SEEDS": "2", "CORES": "1", "PYTHON": "python3"}) == "summary of smoke, 5"
    (command,) = snakemake.commands
    assert command[command.index("--cores") + 1] == "1" and {"profile=smoke", "seeds=2", "extra=0"} <= set(command)
    monkeypatch.setenv("KDLIB_PROFILE", "smoke")
    graph.report({"SEEDS": "3.0"})
    assert "seeds=3" in snakemake.commands[1] and "profile=smoke" in snakemake.commands[1]
    graph.report({})
    assert snakemake.commands[2][command.index("--cores") + 1] == "all" and "seeds=1" in snakemake.commands[2]
    assert graph.report({"PROFILE": "smoke", "EXTRA": "1"}) == "summary of smoke, 8"
    assert "extra=1" in snakemake.commands[3]


def test_a_graph_that_fails_says_how_to_go_on(snakemake):
    snakemake.code = 1
    with pytest.raises(
        execute.Failed, match=r"the same command goes on from here\. The graph's log: .*snakemake\.log$"
    ):
        graph.report({"PROFILE": "smoke"})


def toy(path, *sources):
    """A notebook with a cell of parameters and others."""
    cells = [new_code_cell("profile = seed = None", metadata={"tags": ["parameters"]}), *map(new_code_cell, sources)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    return path


def test_what_a_notebook_prints_goes_to_the_terminal_under_its_name(tmp_path, capsys):
    notebook = toy(tmp_path / "02_baseline.ipynb", "print('profile', profile, 'seed', seed)")
    execute.run(notebook, tmp_path / "out.ipynb", 1, False, {"profile": "smoke", "seed": 4})
    assert capsys.readouterr().out.splitlines() == ["--- 02_baseline, seed 4", "profile smoke seed 4"]


def test_a_failing_notebook_is_named_at_the_end_with_its_sentence_its_copy_and_the_traceback(tmp_path, monkeypatch):
    notebook = toy(tmp_path / "03_distill.ipynb", "raise ValueError('alpha must be a number.')")
    output, copy = tmp_path / "out.ipynb", tmp_path / "out.unfinished.ipynb"

    def graph_with_that_notebook(*_, **__):
        with pytest.raises(execute.Failed):
            execute.run(notebook, output, 1, False, {"profile": "smoke", "seed": 0})
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(graph.subprocess, "run", graph_with_that_notebook)
    for _ in range(2):  # an earlier failure is not told again
        with pytest.raises(execute.Failed) as failed:
            graph.report({"PROFILE": "smoke"})
        sentence, where = str(failed.value).splitlines()
        assert sentence == "alpha must be a number."
        assert where.startswith(f"03_distill.ipynb, seed 0 failed. Its copy: {copy}; full tracebacks: ")
        assert copy.exists() and not output.exists()


def test_time_left_follows_from_the_notebooks_that_have_run(project):
    """In smoke every training has two epochs: ten before 04 and 05 have trained their three, stage one's included."""
    assert execute._time_left("smoke", 2, STUDY) == ""
    folder = project / "build/smoke/seed0"
    folder.mkdir(parents=True)
    for name in ("01_teacher", "02_baseline"):
        text = json.dumps({"metadata": {"papermill": {"duration": 300.0}}})
        (folder / f"{name}.ipynb").write_text(text)
    # Four epochs in ten minutes, of twelve a seed.
    assert execute._time_left("smoke", 1, STUDY) == " (about 20 min left in all)"
    assert execute._time_left("smoke", 2, STUDY) == " (about 50 min left in all)"
    epochs = sum(arm.schedule(EXTENDED.profile("smoke")).epochs for arm in EXTENDED.arms)
    assert execute._time_left("smoke", 1, EXTENDED) == f" (about {round((epochs - 4) * 2.5)} min left in all)"


def test_a_job_imports_no_library_that_only_its_notebook_needs():
    code = "import sys, kdlib.report.execute; print({'torch', 'pandas', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"

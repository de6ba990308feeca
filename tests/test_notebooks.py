"""The notebooks as files, and what they say when a parameter is wrong or a model is missing."""

import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from kdlib.tuning import SETTINGS

HOME = Path(__file__).parents[1]
NOTEBOOKS = {path.stem: path for path in sorted(HOME.glob("notebooks/*.ipynb"))}
SEEDS = len([*HOME.glob("results/full/seed*/exp1.json")])
each = pytest.mark.parametrize("name", NOTEBOOKS)


def code(name):
    return [cell for cell in nbformat.read(NOTEBOOKS[name], as_version=4).cells if cell.cell_type == "code"]


@each
def test_a_notebook_opens_with_its_question_and_its_answer_and_has_no_long_cell(name):
    first, second = nbformat.read(NOTEBOOKS[name], as_version=4).cells[:2]
    source = "held-out images, 1 to 3 seeds" if name == SETTINGS else f"published run, {SEEDS} seeds"
    assert "**Question.**" in first.source and f"**Answer** ({source})." in first.source
    assert name == SETTINGS or second.metadata.tags == ["parameters"]
    assert all(len(cell.source.splitlines()) <= 30 for cell in code(name))


@each
def test_stored_outputs_are_those_of_the_published_run_and_clean(name):
    """No error, warning or path of a machine is kept."""
    shown = ""
    for cell in code(name):
        for output in cell.outputs:
            assert output.output_type != "error" and output.get("name") != "stderr"
            data = output.get("data", {})
            text = str(output.get("text", "")) + data.get("text/plain", "") + data.get("text/markdown", "")
            assert "Warning" not in text and str(Path.home()) not in text
            shown += text
    assert ("the tuning" if name == SETTINGS else "the published run") in shown


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("01_teacher", ["-p", "epoch", "1"], "epoch is no parameter of this notebook; did you mean epochs?"),
        ("05_exp2", ["-p", "seed", "3"], "There is no trained teacher (profile smoke, seed 3): run 01_teacher first."),
    ],
)
def test_what_a_user_gets_wrong_is_a_sentence(tmp_path, project, name, parameters, sentence):
    command = [sys.executable, "-m", "papermill", NOTEBOOKS[name], tmp_path / "out.ipynb", "-k", "python3"]
    command += ["--no-progress-bar", "-p", "profile", "smoke", *parameters]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == sentence
    assert "kdlib/" not in result.stderr.partition("Exception encountered")[2]


def executed(*sources):
    """The outputs of the last of some cells that begin like a notebook, with errors allowed."""
    cells = [nbformat.v4.new_code_cell(f"from kdlib.report import notebook\nnotebook.begin('smoke', 0)\n{sources[0]}")]
    cells += map(nbformat.v4.new_code_cell, sources[1:])
    made = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(made, timeout=120, allow_errors=True).execute()
    return made.cells[-1].outputs


def test_an_error_that_the_user_cannot_put_right_is_shown_in_full(project):
    """A key that is missing in a record, too; an interruption is a sentence."""
    (error,) = executed("", "raise KeyboardInterrupt")
    assert error.traceback == ["Interrupted. Run the cell again: a training goes on from its last epoch."]
    (error,) = executed("", "from kdlib.storage.runs import Results\nResults(None, {0: {}}).by_seed[0]['baseline']")
    assert "Traceback" in "".join(error.traceback) and "baseline" in error.evalue


def test_a_notebook_goes_on_after_a_mistake_in_its_parameters_and_its_banner_says_what_was_changed(project):
    again = "from kdlib.report import notebook\nreplicate = notebook.begin('smoke', 0, epochs=9)"
    (banner,) = executed("", "# Change a line and run again\nepochs = = 9", again)
    assert "2 epochs for the teacher, 2 for each student" in banner.data["text/markdown"], "which others trained"
    assert "**Changed: epochs 9**" in banner.data["text/markdown"]


def test_pictures_are_shown_whatever_the_shell_and_a_matplotlibrc_say(monkeypatch, tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    monkeypatch.setenv("MATPLOTLIBRC", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "Agg")
    (shown,) = executed("", "from kdlib.report import plots\nplots.new('title', 'digits')[0]")
    assert "image/png" in shown.data

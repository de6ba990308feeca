"""The notebooks as files, and what they say when a parameter is wrong or a model is missing."""

import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

from kdlib import datasets
from kdlib.progress import Progress
from kdlib.report import cells
from kdlib.storage.runs import Replicate
from kdlib.study import EXTENDED, STUDY

NOTEBOOKS = sorted(Path(__file__).parents[1].joinpath("notebooks").glob("0*.ipynb"))
TRAINING = [path for path in NOTEBOOKS if not path.name.startswith("06")]
BEYOND = [path for path in NOTEBOOKS if path.stem > "06_analysis"]


def read(path):
    return nbformat.read(path, as_version=4).cells


def code(path):
    return [cell for cell in read(path) if cell.cell_type == "code"]


def test_the_report_has_its_six_notebooks_and_three_beyond_the_note():
    expected = ["01_teacher", "02_baseline", "03_distill", "04_exp1", "05_exp2", "06_analysis"]
    assert [path.stem for path in NOTEBOOKS] == [*expected, "07_regressor", "08_freezing", "09_one_stage"]
    assert {path.stem for path in TRAINING} == set(EXTENDED.notebooks)


@pytest.mark.parametrize("path", BEYOND, ids=lambda path: path.stem)
def test_a_notebook_beyond_the_note_cites_what_is_expected_and_ends_with_what_was_not_tested(path):
    headings = re.findall(r"^## (.+)$", "\n".join(cell.source for cell in read(path)), re.MULTILINE)
    assert headings[0] == "What the literature expects" and headings[-2:] == ["What was not tested", "What was found"]
    assert "https://arxiv.org/abs/" in next(cell.source for cell in read(path) if "the literature" in cell.source)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_opens_with_its_question_and_shows_its_answer_next(path):
    cells = read(path)
    assert cells[0].cell_type == "markdown" and "**Question.**" in cells[0].source
    assert "parameters" in cells[1].metadata.tags
    assert f'cells.opening("{path.stem}", profile' in cells[2].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_checks_its_parameters_before_it_uses_them(path):
    assert [line for line in code(path)[1].source.splitlines() if line.startswith(("cells.prepare", "profile ="))] == [
        "cells.prepare()",
        next(line for line in code(path)[1].source.splitlines() if line.startswith("profile = STUDY.profile(profile")),
    ]
    assert code(path)[0].source.startswith("# Change a line"), "by which prepare() finds the known parameters"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_cell_is_longer_than_a_screen(path):
    assert all(len(cell.source.splitlines()) <= 30 for cell in code(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_outputs_are_clean(path):
    """No error, warning, machine path or parameter cell of papermill's is kept."""
    for cell in code(path):
        assert "injected-parameters" not in cell.metadata.get("tags", [])
        for output in cell.outputs:
            assert output.output_type != "error"
            text = str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", ""))
            assert "Warning" not in text and str(Path.home()) not in text and output.get("name") != "stderr"


def test_every_training_notebook_has_cells_that_nbval_compares():
    for path in TRAINING:
        checked = [cell for cell in code(path) if cell.source.startswith("# NBVAL_CHECK_OUTPUT")]
        assert checked and all(cell.outputs for cell in checked), path.stem


def test_one_line_makes_the_experiments_differ():
    freeze = "models.freeze(student, through=GUIDED_STAGE)"
    uses = {path.stem: [cell for cell in code(path) if freeze in cell.source] for path in NOTEBOOKS}
    assert [name for name, cells in uses.items() if cells] == ["04_exp1"]


def papermill(name, folder, *parameters):
    source = next(path for path in NOTEBOOKS if path.stem == name)
    command = [sys.executable, "-m", "papermill", str(source), str(folder / "out.ipynb"), "-k", "python3"]
    command += ["--no-progress-bar", "-p", "profile", "smoke", *parameters]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(
    ("name", "parameters", "sentence"),
    [
        ("01_teacher", ["-p", "epoch", "1"], "epoch is no parameter of this notebook; did you mean epochs?"),
        ("05_exp2", ["-p", "seed", "3"], "There is no trained teacher (profile smoke, seed 3): run 01_teacher first."),
    ],
)
def test_what_a_user_gets_wrong_is_a_sentence_and_the_traceback_lies_in_a_file(
    tmp_path, project, name, parameters, sentence
):
    result = papermill(name, tmp_path, *parameters)
    assert result.returncode != 0
    log = project / "build" / "errors.log"
    *_, said, empty, where = result.stderr.strip().splitlines()
    assert (said, empty, where) == (sentence, "", f"The full traceback: {log}")
    assert "kdlib/" not in result.stderr.partition("Exception encountered")[2].replace(str(log), "")
    assert "Traceback" in log.read_text("utf-8") and sentence in log.read_text("utf-8")


def test_an_error_that_is_not_kdlibs_is_shown_in_full(project):
    source = "from kdlib.report import cells\ncells.prepare()\n1 / 0"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="1 / 0"):
        nbclient.NotebookClient(notebook, timeout=120).execute()
    assert "ZeroDivisionError" in (project / "build" / "errors.log").read_text("utf-8")


def test_an_interruption_is_a_sentence_that_says_what_to_do(project):
    source = "from kdlib.report import cells\ncells.prepare()\nraise KeyboardInterrupt"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    nbclient.NotebookClient(notebook, timeout=120, allow_errors=True).execute()
    (error,) = notebook.cells[0].outputs
    assert error.traceback == ["Interrupted. Run the cell again: a training goes on from its last epoch."]


def interrupt(*arguments):
    raise KeyboardInterrupt


def train(name):
    """Execute a notebook's cells up to its last training, without pictures, and each training interrupted after its
    first epoch and its cell then run again, twice.
    """
    space = {}
    sources = [cell.source for cell in code(next(path for path in NOTEBOOKS if path.stem == name))]
    last = max(number for number, source in enumerate(sources) if "= fit(" in source)
    for source in sources[: last + 1]:
        if "= fit(" in source:
            with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(Progress, "epoch", interrupt)
                exec(source, space)
            exec(source, space)
        if "figure.save" not in source:
            exec(source, space)
        if source.startswith("# Change a line"):
            space["profile"] = "smoke"


@pytest.mark.parametrize("name", [name for name in STUDY.notebooks if name > "01_teacher"])
def test_a_training_cell_run_again_goes_on_after_an_interruption_and_is_loaded_once_finished(
    name, small_data, monkeypatch, capsys
):
    monkeypatch.setattr(cells, "prepare", lambda: None)
    monkeypatch.setattr(datasets, "load", lambda *arguments, **options: small_data)
    for notebook in ("01_teacher", name):
        train(notebook)
        printed = capsys.readouterr().out
        for arm in STUDY.trained_in(notebook):
            assert f"{arm.name} (seed 0)  goes on after epoch 1 of 2" in printed
            assert f"{arm.name} (seed 0)  already trained" in printed
            assert Replicate(STUDY.profile("smoke")).run(arm.name).record().run == arm.name

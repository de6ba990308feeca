"""What surrounds the notebooks: the choice of the profile, the summary, the index, publishing."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kdlib import datasets, profiles, records, report
from kdlib.datasets import DataUnavailable


@pytest.fixture
def no_cifar10(monkeypatch):
    """A machine on which CIFAR-10 cannot be had."""
    load = datasets.load

    def unavailable(name, **arguments):
        if name == "cifar10":
            raise DataUnavailable("CIFAR-10 cannot be had: …")
        return load(name, **arguments)

    monkeypatch.setattr(datasets, "load", unavailable)


def test_without_cifar10_a_bare_report_falls_back_to_digits_and_says_so(no_cifar10, capsys):
    assert report.choose(None) == "smoke"
    assert "Handwritten digits, not CIFAR-10" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["quick", "full"])
def test_without_cifar10_a_named_profile_is_an_error(no_cifar10, name):
    with pytest.raises(DataUnavailable):
        report.choose(name)


def test_unknown_profile_is_an_error_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report", "choose", "huge"])
    with pytest.raises(SystemExit) as error:
        report.main()
    assert str(error.value) == "There is no profile 'huge': choose one of smoke, quick, full."


def test_banner_tells_digits_quick_runs_and_changes_apart():
    assert "not CIFAR-10" in report.banner(profiles.load("smoke")).data
    assert "10,000 of the 50,000" in report.banner(profiles.load("quick")).data
    changed = report.banner(profiles.load("quick", temperature=8)).data
    assert "Changed: temperature 8" in changed


def test_publishing_keeps_the_cells_and_takes_the_outputs(project):
    for folder in ("notebooks", "build/full/seed0"):
        (project / folder).mkdir(parents=True)
    for name in report.NOTEBOOKS:
        cell = new_code_cell("1 + 1", id="a")
        nbformat.write(new_notebook(cells=[cell]), project / "notebooks" / f"{name}.ipynb")
        done = new_code_cell("1 + 1", id="a", execution_count=1, outputs=[new_output("stream", text="2")])
        done.metadata["papermill"] = {"duration": 1}
        injected = new_code_cell("seed = 0", id="b", metadata={"tags": ["injected-parameters"]})
        folder = "build/full" if name == report.ANALYSIS else "build/full/seed0"
        nbformat.write(new_notebook(cells=[injected, done]), project / folder / f"{name}.ipynb")
    report.publish("full")
    for name in report.NOTEBOOKS:
        (cell,) = nbformat.read(project / "notebooks" / f"{name}.ipynb", as_version=4).cells
        assert cell.outputs[0].text == "2" and not cell.metadata

    changed = nbformat.read(project / "notebooks" / "03_distill.ipynb", as_version=4)
    changed.cells[0].source = "1 + 2"
    nbformat.write(changed, project / "notebooks" / "03_distill.ipynb")
    with pytest.raises(ValueError, match=r"^03_distill\.ipynb was changed since it ran: run make report PROFILE=full"):
        report.publish("full")


def test_what_needs_a_profile_says_so(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report", "publish"])
    with pytest.raises(SystemExit):
        report.main()
    assert "publish needs a profile: smoke, quick, full." in capsys.readouterr().err


def test_publishing_what_did_not_run_says_what_to_do(project):
    with pytest.raises(records.NotTrained, match=r"is missing: run make report PROFILE=full first\.$"):
        report.publish("full")

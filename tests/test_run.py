"""`make report`: its options, what it shows while it runs, and how it ends."""

from types import SimpleNamespace

import joblib
import nbformat
import pytest
from factories import record, results, save
from nbformat.v4 import new_code_cell, new_notebook

from kdlib.errors import SettingError
from kdlib.report import run
from kdlib.storage import files
from kdlib.study import STUDY


@pytest.fixture
def snakemake(monkeypatch):
    """Snakemake replaced: a list of the commands that were run."""
    commands = []
    monkeypatch.setattr(run.subprocess, "run", lambda told, **_: commands.append(told) or SimpleNamespace(returncode=1))
    return commands


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"SEED": "3"}, r"make report has no option SEED; did you mean SEEDS\?"),
        ({"SEEDS": "abc"}, r"SEEDS must be a whole number of at least 1, not 'abc'\."),
        ({"CORES": "-2"}, r"CORES must be a whole number of at least 1, not '-2'\."),
        ({"PROFILE": "smokee"}, r"There is no profile 'smokee'; did you mean smoke\?"),
        ({"PROFILE": "published"}, r"The published records are read .* choose the profile full to train them\."),
    ],
)
def test_wrong_options_are_refused_before_anything_starts(snakemake, options, sentence):
    with pytest.raises(SettingError, match=f"^{sentence}$"):
        run.report(options)
    assert not snakemake


def test_options_reach_the_graph_and_a_graph_that_fails_says_how_to_go_on(snakemake, monkeypatch):
    monkeypatch.setenv("KDLIB_PROFILE", "smoke")
    for options in ({"PYTHON": "python3"}, {"PROFILE": "smoke", "SEEDS": "2", "CORES": "1", "EXTRA": "1"}):
        with pytest.raises(
            run.Failed, match=r"the same command goes on from here\. The graph's log: .*snakemake\.log$"
        ):
            run.report(options)
    standard, given = map(" ".join, snakemake)
    assert f"--cores {joblib.cpu_count()} " in standard and standard.endswith("profile=smoke seeds=1 extra=0")
    assert "--cores 1 " in given and given.endswith("profile=smoke seeds=2 extra=1")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A project's folder of the test's own, with the notebook 03_distill of one cell, its argument."""

    def write(source):
        cells = [new_code_cell("profile = seed = None", metadata={"tags": ["parameters"]}), new_code_cell(source)]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(new_notebook(cells=cells, metadata=kernel), tmp_path / "notebooks/03_distill.ipynb")

    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(files, "CHECKOUT", tmp_path)
    return write


def test_a_notebook_whose_kernel_was_killed_is_told_at_the_end_once(checkout, project, tmp_path, monkeypatch):
    checkout("import os; os.kill(os.getpid(), 9)")
    output = project / "build/smoke/seed0/03_distill.ipynb"

    def graph(*_, **__):
        with pytest.raises(run.Failed):
            run.notebook(tmp_path / "notebooks/03_distill.ipynb", output, {"profile": "smoke"})
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(run.subprocess, "run", graph)
    for _ in range(2):  # an earlier failure is not told again
        with pytest.raises(run.Failed) as failed:
            run.report({"PROFILE": "smoke"})
        copy = output.with_suffix(".unfinished.ipynb")
        assert str(failed.value) == f"{run.KILLED}\n03_distill failed. Its copy: {copy}"
        assert copy.exists() and not output.exists()


def test_a_training_that_failed_is_told_and_what_has_no_record_is_not_taken_for_trained(project, monkeypatch):
    marks = project / "build/smoke/trained/seed0"
    marks.mkdir(parents=True)
    for name in ("teacher", "baseline"):
        (marks / name).touch()
        (marks / f"{name}.log").write_text("of an earlier call")
    record("teacher", images=20, profile="smoke").save(project / "build/smoke/results/seed0/teacher.json")

    def graph(*_, **__):
        assert [path.name for path in marks.iterdir()] == ["teacher"]
        (marks / "teacher.log").write_text("a warning")
        (marks / "baseline.log").write_text("The loss is not finite.\n")
        (marks / "hint.log").touch()
        return SimpleNamespace(returncode=1)

    monkeypatch.setattr(run.subprocess, "run", graph)
    with pytest.raises(run.Failed) as failed:
        run.report({"PROFILE": "smoke"})
    loss, killed = str(failed.value).split("\n\n")
    assert loss == f"The loss is not finite.\nbaseline failed. Its log: {marks / 'baseline.log'}"
    assert killed == f"{run.KILLED}\nhint failed. Its log: {marks / 'hint.log'}"


def test_the_summary_has_the_models_the_findings_and_what_is_expected(project):
    save(results(2, images=20, profile="quick"), STUDY.profile("quick"))
    text = run.summary("quick")
    assert "Profile quick, 2 seed(s)" in text and "student (exp. 2) − student (exp. 1)" in text
    assert "Yours beside an earlier quick run" in text and f"{project}/build/quick/html/index.html" in text
    save(results(1, images=20, profile="smoke"), STUDY.profile("smoke"))
    assert run.summary("smoke").startswith("Handwritten digits, not CIFAR-10") and "earlier" not in run.summary("smoke")

"""What surrounds the notebooks: the choice of the profile, their words, the summary, the index, publishing."""

import dataclasses
import itertools
import runpy
import subprocess
from pathlib import Path

import nbformat
import pytest
from factories import readme, record, results, save
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kdlib import datasets
from kdlib.design import ANALYSIS
from kdlib.report import cells, front_page, inference, prose, publish, tables
from kdlib.settings import COMMITTED, PUBLISHED, REFERENCE
from kdlib.storage import files, runs
from kdlib.storage.cifar10 import DataUnavailable
from kdlib.storage.runs import NotTrained, Replicate, Results
from kdlib.study import EXTENDED, STUDY

FULL, THERE = STUDY.profile("full"), STUDY.profile(PUBLISHED)
NOTEBOOKS = [*STUDY.notebooks, ANALYSIS]
README = f"before\n{publish.START}\nold\n{publish.END}\nafter\n"


def command(monkeypatch, *arguments):
    """Run ``python -m kdlib.report`` in this process; its exit status or message, None if all is well."""
    monkeypatch.setattr("sys.argv", ["report", *arguments])
    try:
        runpy.run_module("kdlib.report", run_name="__main__")
    except SystemExit as error:
        return error.code


# The choice of the profile


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
    assert publish.choose(None) == "smoke"
    assert cells.DIGITS in capsys.readouterr().err


@pytest.mark.parametrize("name", ["quick", "full"])
def test_without_cifar10_a_named_profile_is_an_error(no_cifar10, name):
    with pytest.raises(DataUnavailable):
        publish.choose(name)


def test_data_that_are_named_and_cannot_be_used_are_an_error_and_nothing_is_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("KDLIB_CACHE", str(tmp_path / "empty"))
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PATH", "")  # no npm
    with pytest.raises(DataUnavailable, match=r"nowhere, which KDLIB_DATA names: there is no such file or folder"):
        publish.choose(None)


@pytest.mark.parametrize("name", COMMITTED)
def test_committed_records_are_not_run(name):
    with pytest.raises(ValueError, match=f"The {name} records .* choose {COMMITTED[name]} to train"):
        publish.choose(name)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["choose", "huge"], "There is no profile 'huge': choose one of smoke, quick, full, published, reference."),
        (["choose", "smok"], "There is no profile 'smok'; did you mean smoke?"),
        (["publish", "smoke"], "Only full and quick can be published, not smoke."),
        (["publish", "full"], "No notebook was run yet (profile full, seed 0): run 01_teacher first."),
        (["publish"], "No notebook was run yet (profile published, seed 0): run 01_teacher first."),
    ],
)
def test_the_command_line_ends_in_one_line_that_says_what_to_do(monkeypatch, arguments, sentence):
    assert command(monkeypatch, *arguments) == sentence


@pytest.mark.parametrize("arguments", [["summarise"], ["export"], ["book", "quick", "full"], ["report", "quick"], []])
def test_the_command_line_lists_what_it_can_do(monkeypatch, arguments):
    assert "python -m kdlib.report export ARM" in command(monkeypatch, *arguments)


def test_the_command_line_prints_the_profile(monkeypatch, capsys):
    assert command(monkeypatch, "choose", "smoke") is None
    assert capsys.readouterr().out == "smoke\n"


# What notebooks display


def test_banner_tells_digits_quick_runs_and_changes_apart():
    assert cells.DIGITS in cells.banner(STUDY.profile("smoke")).data
    part = dataclasses.replace(STUDY.profile("quick"), train_images=10_000)
    assert "10,000 of the 50,000" in cells.banner(part).data
    assert "all 50,000" in cells.banner(FULL).data and "Changed" not in cells.banner(FULL).data
    assert "Changed: temperature 8" in cells.banner(STUDY.profile("quick", temperature=8)).data


def test_the_analysis_says_what_it_shows():
    text = cells.shown(results(2, images=20)).data
    assert all(part in text for part in ("50,000", "CIFAR-10", "2 seed", "full")) and cells.DIGITS not in text
    assert cells.DIGITS in cells.shown(results(1, images=20, dataset="digits")).data


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_the_answer_is_that_of_the_published_records(notebook):
    assert "no published run" in cells.answer(notebook, THERE).data
    save(results(2, images=20), FULL)  # one's own run does not answer
    assert "no published run" in cells.answer(notebook, THERE).data
    made = results(3, images=20)
    save(made, THERE)
    answer = cells.answer(notebook, THERE).data
    assert answer.endswith("\n- ".join(prose.sentences(notebook, made)))
    assert "3 seeds, by an earlier recipe" in answer and "this run" not in answer


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_run_of_ones_own_is_answered_first_and_the_published_one_set_apart(notebook):
    made, own = results(3, images=20), results(1, images=20, accuracies={"exp1": 95.0})
    save(made, THERE)
    quick = STUDY.profile("quick")
    before, published = cells.answer(notebook, quick).data.split("\n\n> ")
    assert "when the last cell has run" in before
    assert published.replace("\n> ", "\n") == cells.answer(notebook, THERE).data
    after, published = cells.answer(notebook, quick, own).data.split("\n\n> ")
    assert after.startswith("**Answer of this run** (profile `quick`). " + "\n- ".join(prose.sentences(notebook, own)))
    assert published.replace("\n> ", "\n") == cells.answer(notebook, THERE).data
    assert after.endswith("\n- ".join(prose.reversals(notebook, own, made)))


def test_the_last_cell_renews_the_answer_at_the_top(replicate, monkeypatch):
    stored = results(1, images=20, dataset="digits")
    save(stored, replicate.profile)
    shown = {}
    monkeypatch.setattr(cells, "display", lambda value, display_id=None: shown.update({display_id: value.data}))
    monkeypatch.setattr(cells, "update_display", lambda value, display_id: shown.update({display_id: value.data}))
    cells.opening("03_distill", replicate.profile)
    assert "will stand here" in shown[cells.ANSWER] and cells.DIGITS in shown[None]
    cells.found("03_distill", replicate)
    assert "\n- ".join(prose.sentences("03_distill", stored)) in shown[cells.ANSWER]


def test_what_a_run_found_is_told_beside_the_runs_of_its_own_replicate(replicate):
    stored = results(2, images=20, dataset="digits", without=("exp1", "exp2"))
    save(stored, replicate.profile)
    variant = record("distill-temperature8", accuracy=50.0, images=20, dataset="digits")
    told = cells.found("03_distill", replicate, variant).data
    expected = Results(STUDY, {0: {**stored.by_seed[0], "distill": variant}})
    assert told == "\n".join(f"- {sentence}" for sentence in prose.sentences("03_distill", expected))
    assert len(told.splitlines()) == 2 and "50.00" in told  # and is compared with the baseline


# The summary


def test_summary_prints_the_tables_and_where_all_lies(project):
    made = results(2, images=20)
    save(made, STUDY.profile("quick"))
    text = publish.summary("quick")
    table = tables.summary(made)
    for level in ("here", "note"):
        assert table.xs(level, axis=1, level=1).to_string() in text
    assert "no published run yet" in text and "no reference run to compare with" in text and cells.DIGITS not in text
    assert "build/quick/html/index.html" in text and "build/quick/results/" in text


def test_summary_of_the_digits_says_so(project):
    save(results(1, images=20, dataset="digits"), STUDY.profile("smoke"))
    save(results(1, images=20, accuracies={"exp1": 95.0}), THERE)
    text = publish.summary("smoke")
    assert text.startswith(cells.DIGITS) and "beside" not in text
    assert "here and" not in text, "digits are not compared with images of another data set"


@pytest.mark.parametrize("committed", COMMITTED)
def test_summary_shows_ones_own_accuracies_beside_the_committed_ones_of_the_profile(committed):
    own, there = results(1, images=20, accuracies={"exp1": 80.0}), results(3, images=20)
    save(own, STUDY.profile(COMMITTED[committed]))
    assert f"no {committed} run to compare with" in publish.summary(COMMITTED[committed])
    save(there, STUDY.profile(committed))
    text = publish.summary(COMMITTED[committed])
    assert f"Yours beside the {committed} run\n{tables.beside(own, there).to_string()}" in text


def test_summary_says_what_this_run_found_and_then_what_the_published_run_found():
    own, there = results(1, images=20, accuracies={"exp1": 95.0}), results(3, images=20)
    save(own, STUDY.profile("quick"))
    save(there, THERE)
    text = publish.summary("quick")
    here = text.split("This run\n")[1].split("\n\n")[0]
    published = text.split("Published run, 3 seeds, by an earlier recipe\n")[1].split("\n\n")[0]
    for found, made in ((here, own), (published, there)):
        told = prose.sentences(ANALYSIS, made)
        assert [line.replace("\n  ", " ") for line in found[2:].split("\n- ")][: len(told)] == told
    assert max(map(len, here.splitlines())) <= 110


# Publishing


def executed(name, source="1 + 1"):
    """A notebook as papermill leaves it: with its parameters injected, and an output."""
    done = new_code_cell(source, id="a", execution_count=1, outputs=[new_output("stream", text=f"of {name}")])
    done.metadata["papermill"] = {"duration": 1}
    injected = new_code_cell("seed = 0", id="b", metadata={"tags": ["injected-parameters"]})
    return new_notebook(cells=[injected, done])


def write(notebook, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@pytest.fixture
def papermill(monkeypatch, project):
    """In the place of papermill, what executes a notebook at once and draws a picture; the commands it was given."""
    commands = []

    def run(command):
        commands.append([str(part) for part in command])
        source, profile = Path(command[command.index("papermill") + 1]), command[-1]
        write(executed(source.stem), Path(command[command.index("papermill") + 2]))
        name = "differences" if source.stem == ANALYSIS else source.stem
        files.write_bytes(Replicate(STUDY.profile(profile)).figures / f"{name}.png", profile.encode())
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


@pytest.fixture
def own(project, papermill):
    """A finished run of the profile full, of two seeds, and an older published one."""
    save(results(2, images=20), FULL)
    save(results(3, images=20, accuracies={"exp1": 70.0}), THERE)
    variant = Replicate(FULL).run("distill-temperature8")
    record(variant.name).save(variant.record_path)
    for run in (variant, Replicate(FULL, 0, EXTENDED).run("random_tuned")):
        files.write_bytes(run.weights_path, b"weights")
    for name in NOTEBOOKS:
        write(new_notebook(cells=[new_code_cell("1 + 1", id="a")]), project / f"notebooks/{name}.ipynb")
        write(executed(name), project / f"build/full/seed0/{name}.ipynb")
    for path, content in {
        "figures/stale.png": b"",
        "build/full/figures/seed0/four_plots.png": b"own",
        "build/full/figures/seed0/differences.png": b"own",
        "build/full/figures/seed1/four_plots.png": b"other",
        "README.md": README.encode(),
        "README.zh-CN.md": README.encode(),
    }.items():
        files.write_bytes(project / path, content)
    return results(2, images=20)


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def outputs(project):
    """{notebook: its output}, empty where it has none."""
    read = {name: nbformat.read(project / f"notebooks/{name}.ipynb", as_version=4) for name in NOTEBOOKS}
    return {name: "".join(output.text for output in notebook.cells[0].outputs) for name, notebook in read.items()}


def test_publishing_takes_records_of_all_seeds_and_weights_of_seed_0_and_nothing_else(project, own):
    source = contents(project / "build/full/results")
    publish.publish("full")
    expected = {f"seed{seed}/{arm.name}.{suffix}" for seed, arm, suffix in itertools.product(
        (0, 1), STUDY.arms, ("json", "npz"))}  # fmt: skip
    expected |= {f"seed{seed}/timing/{arm.name}.json" for seed, arm in itertools.product((0, 1), STUDY.arms)}
    expected |= {f"seed0/{arm.name}.safetensors" for arm in STUDY.arms}
    found = contents(project / "results/full")
    assert set(found) == expected  # no variant, no other weights, and nothing of the older run
    assert all(found[name] == source[name] for name in expected)
    assert runs.load_all(THERE) == runs.load_all(FULL) and contents(project / "build/full/results") == source


def test_publishing_renews_figures_notebooks_and_readmes(project, own, papermill):
    files.write_bytes(Replicate(THERE).figures / "four_plots.png", b"drawn from the earlier run")
    publish.publish("full")
    assert contents(project / "figures") == {"four_plots.png": b"own", "differences.png": b"published"}
    assert outputs(project) == {name: f"of {name}" for name in NOTEBOOKS}
    for name in NOTEBOOKS:
        (cell,) = nbformat.read(project / f"notebooks/{name}.ipynb", as_version=4).cells
        assert not cell.metadata and cell.execution_count == 1
    for name, language in publish.READMES.items():
        new = readme(own, language, front_page.training_seconds(THERE, own))
        assert (project / name).read_text("utf-8") == README.replace("old", new)
    ((*_, source, target, _, _, _, _, parameter, value),) = papermill
    assert source == str(project / f"notebooks/{ANALYSIS}.ipynb") and (parameter, value) == ("profile", PUBLISHED)
    assert target == str(project / f"build/published/{ANALYSIS}.ipynb")


def test_publishing_again_renews_the_analysis_its_figures_and_the_readmes_alone(project, own):
    before = contents(project)
    publish.publish()
    after = contents(project)
    changed = {name for name in after if after[name] != before.get(name) and not name.startswith("build/")}
    assert changed == {f"notebooks/{ANALYSIS}.ipynb", "figures/differences.png", *publish.READMES}
    assert not set(before) - set(after)
    assert outputs(project) == dict.fromkeys(NOTEBOOKS, "") | {ANALYSIS: f"of {ANALYSIS}"}
    older = inference.accuracy(runs.load_all(THERE), "exp1").text(2, " %")
    assert older.startswith("69.98 ") and older in (project / "README.md").read_text("utf-8")


def refused(project, profile, error, match):
    """Publishing ends in a sentence, and nothing has changed."""
    before = contents(project)
    with pytest.raises(error, match=match):
        publish.publish(profile)
    assert contents(project) == before


def test_an_analysis_that_fails_leaves_everything_as_it_was(project, own, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda command: subprocess.CompletedProcess(command, 1))
    refused(project, None, ValueError, r"^06_analysis\.ipynb failed")


def test_a_notebook_that_was_changed_since_it_ran_leaves_everything_as_it_was(project, own):
    write(executed("03_distill", "1 + 2"), project / "build/full/seed0/03_distill.ipynb")
    refused(project, "full", ValueError, r"^03_distill\.ipynb was changed since it ran: run make report PROFILE=full")


def test_a_notebook_that_did_not_run_leaves_everything_as_it_was(project, own):
    (project / "build/full/seed0/05_exp2.ipynb").unlink()
    refused(project, "full", NotTrained, r"05_exp2\.ipynb is missing: run make report PROFILE=full first\.$")


def test_a_run_that_lacks_an_arm_is_not_published(project, own):
    for seed in (0, 1):
        Replicate(FULL, seed).run("exp2").record_path.unlink()
    refused(project, "full", NotTrained, "exp2")


@pytest.mark.parametrize("name", ["smoke", PUBLISHED, "huge"])
def test_no_other_profile_is_published(project, own, name):
    refused(project, name, ValueError, f"^Only full and quick can be published, not {name}.$")


def test_the_records_of_a_quick_run_become_the_reference(project, own):
    save(results(1, images=20), STUDY.profile("quick"))
    before = contents(project)
    publish.publish("quick")
    new = {name for name, content in contents(project).items() if before.get(name) != content}
    kinds = ("{}.json", "{}.npz", "timing/{}.json")
    taken = {f"results/quick/seed0/{kind.format(arm.name)}" for kind in kinds for arm in STUDY.arms}
    assert {name for name in new if name.startswith("results/")} == taken
    assert runs.load_all(STUDY.profile(REFERENCE)) == runs.load_all(STUDY.profile("quick"))


@pytest.mark.parametrize("both", [False, True], ids=["the reference has the arms", "the published run has them too"])
def test_notebooks_beyond_the_note_show_the_published_run_or_else_the_reference(project, own, papermill, both):
    beyond = [name for name in EXTENDED.notebooks if name > ANALYSIS]
    for name in beyond:
        write(new_notebook(cells=[new_code_cell("1 + 1", id="a")]), project / f"notebooks/{name}.ipynb")
    publish.publish()
    assert len(papermill) == 1 and [publish.committed(name) for name in beyond] == [None] * 3

    lacking = [arm.name for arm in EXTENDED.trained_in("09_one_stage")]
    small = results(2, study=EXTENDED, images=20, without=lacking)
    save(small, STUDY.profile(REFERENCE))
    if both:
        save(results(2, study=EXTENDED, images=20), THERE)
    publish.publish()
    expected = [PUBLISHED] * 3 if both else [REFERENCE, REFERENCE, None]
    assert [publish.committed(name) for name in beyond] == expected
    shown = {Path(command[command.index("papermill") + 1]).stem: command[-1] for command in papermill[1:]}
    assert shown == {ANALYSIS: PUBLISHED} | {name: run for name, run in zip(beyond, expected, strict=True) if run}
    assert (project / "figures/07_regressor.png").read_bytes() == expected[0].encode()


def test_publishing_renews_the_answers_and_what_was_found_in_notebooks_that_stay(project, own):
    def displayed(text):
        return new_output("display_data", {"text/markdown": text})

    made = results(3, images=20, accuracies={"exp1": 70.0})
    for name in STUDY.notebooks:
        shown = [displayed("old"), displayed("banner")]
        opening = new_code_cell(f'cells.opening("{name}", profile)', id="a", outputs=shown)
        found = new_code_cell(f'cells.found("{name}", replicate)', id="b", outputs=[displayed("old")])
        write(new_notebook(cells=[opening, found]), project / f"notebooks/{name}.ipynb")
    publish.publish()
    for name in STUDY.notebooks:
        opening, found = nbformat.read(project / f"notebooks/{name}.ipynb", as_version=4).cells
        expected = [cells.answer(name, THERE).data, "banner"]
        assert [output.data["text/markdown"] for output in opening.outputs] == expected
        assert found.outputs[0].data["text/markdown"] == cells.listed(name, made.only(0)).data


def test_the_analysis_is_executed_by_papermill_with_the_published_profile(project):
    """Once with papermill itself, on a small notebook."""
    save(results(1, images=20), THERE)
    cells = [
        new_code_cell("profile = None", id="a", metadata={"tags": ["parameters"]}),
        new_code_cell("print(profile)", id="b"),
    ]
    language = {"language_info": {"name": "python"}}
    write(new_notebook(cells=cells, metadata=language), project / f"notebooks/{ANALYSIS}.ipynb")
    for name in STUDY.notebooks:
        write(new_notebook(), project / f"notebooks/{name}.ipynb")
    for name in publish.READMES:
        files.write_bytes(project / name, README.encode())
    publish.publish()
    (asked, shown) = nbformat.read(project / f"notebooks/{ANALYSIS}.ipynb", as_version=4).cells
    assert asked.source == "profile = None" and shown.outputs[0].text == "published\n"


def test_training_time_is_that_of_all_runs_of_a_seed_in_the_mean():
    made = results(2, images=20)
    save(made, THERE)  # 10 s in the first epoch of seed 0, 20 s of seed 1, and 5 s in the second epoch
    assert front_page.training_seconds(THERE, made) == len(STUDY.arms) * (15 + 25) / 2


def test_operations_of_training_are_six_for_each_multiplication_of_an_image_and_epoch():
    made = results(2, images=20, epochs=3)
    assert front_page.training_operations(made) == len(STUDY.arms) * 3 * 50_000 * 6 * 25_000_000


# The marks in the READMEs


def test_only_what_stands_between_the_marks_is_replaced():
    once = publish.update(README, "new")
    assert once == README.replace("old", "new")
    assert publish.update(once, "newer") == publish.update(README, "newer")


@pytest.mark.parametrize(
    "marks", [[], [publish.START], [publish.END, publish.START], [publish.START, *2 * [publish.END]],
              [publish.START, publish.START, publish.END]]
)  # fmt: skip
def test_marks_that_are_not_there_once_are_named(marks):
    with pytest.raises(ValueError, match=r"^The marks .* must stand in it once"):
        publish.update("text".join(["", *marks, ""]), "new")

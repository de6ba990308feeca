"""Around the notebooks: the choice of a profile, the summary at the end, and publishing."""

import functools
import itertools
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import nbformat

from kdlib import datasets
from kdlib.design import ANALYSIS, Study
from kdlib.report import cells, front_page, tables
from kdlib.settings import COMMITTED, PUBLISHED
from kdlib.storage import files, folders, runs
from kdlib.storage.cifar10 import DataUnavailable, DataUnusable
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import EXTENDED, PUBLISHED_WEIGHTS, STUDY

START, END = "<!-- results: written by make publish -->", "<!-- end of results -->"
READMES = {"README.md": "en", "README.zh-CN.md": "zh"}


def choose(name: str | None) -> str:
    """The profile to run, its data at hand: ``name``, else "quick", else "smoke" if CIFAR-10 is out of reach.

    Raises:
        ValueError: no such profile, or that of committed records, which are not run.
        DataUnavailable: ``name`` is given, and its data cannot be had; or ``KDLIB_DATA`` is, and cannot be used.
    """
    profile = STUDY.profile(name or "quick")
    if profile.name in COMMITTED:
        again = COMMITTED[profile.name]
        raise ValueError(f"The {profile.name} records are read without a command: choose {again} to train them again.")
    try:
        datasets.load(profile.dataset)
    except DataUnavailable as error:
        if name or isinstance(error, DataUnusable):
            raise
        print(f"{error}\n\n{'=' * 100}\n{cells.DIGITS}\n{'=' * 100}\n", file=sys.stderr)
        return "smoke"
    return profile.name


def summary(profile_name: str, study: Study = STUDY) -> str:
    """The closing text of `make report`.

    It says what this run found, then, set apart, what the published run found, and shows the own accuracies beside the
    committed ones of the same profile. Of the extended study it adds what each notebook beyond the note found.
    """
    profile = STUDY.profile(profile_name)
    results, folder, home = runs.load_all(profile), folders.build(profile.name), folders.root()
    table = tables.summary(results)
    notice = cells.DIGITS if profile.dataset == "digits" else ""
    seeds = f"Profile {profile.name}, {len(results.by_seed)} seed(s)"
    here, note = (table.xs(level, axis=1, level=1).to_string() for level in ("here", "note"))
    parts = [*([notice] if notice else []), f"{seeds}\n{here}", f"The note\n{note}"]
    parts.append(_listed("This run", cells.of_this_run(ANALYSIS, profile, results)))
    for notebook in (name for name in study.notebooks if name > ANALYSIS):
        told = cells.of_this_run(notebook, profile, runs.load_all(profile, study))
        parts.append(_listed(f"This run, {notebook}", told))
    heading, published = cells.of_published(ANALYSIS)
    parts.append(_listed(heading[0].upper() + heading[1:], published))
    for alias in (alias for alias, name in COMMITTED.items() if name == profile.name):
        try:
            beside = tables.beside(results, runs.load_all(STUDY.profile(alias)))
            parts.append(f"Yours beside the {alias} run\n{beside.to_string()}")
        except NotTrained:
            parts.append(f"There is no {alias} run to compare with.")
    parts.append(
        f"Book       {folder.relative_to(home)}/html/index.html\n"
        f"Figures    {folder.relative_to(home)}/figures/\n"
        f"Records    {folders.results(profile.name).relative_to(home)}/"
    )
    return "\n\n".join(parts)


def _listed(heading: str, sentences: list[str]) -> str:
    """A heading and a list, for a terminal."""
    fill = functools.partial(textwrap.fill, width=110, initial_indent="- ", subsequent_indent="  ")
    return "\n".join([heading, *map(fill, sentences)])


def publish(profile_name: str | None = None) -> None:
    """Renew what the repository shows of the committed runs: ``results/``, ``figures/``, notebooks and READMEs.

    Args:
        profile_name: "full" first takes over one's own run of that profile: its records, some of the weights of seed 0
            (`study.PUBLISHED_WEIGHTS`), and the executed notebooks. "quick" first takes over the records of one's own
            run as the reference of that profile.
            None renews what follows from ``results/``: the analysis and the notebooks beyond the note, their figures,
            the answers in the other notebooks, the READMEs.

    Raises:
        NotTrained: there are no records, or a notebook has not been executed.
        ValueError: another profile, or a notebook was changed after it was executed.
    """
    if profile_name not in (None, *COMMITTED.values()):
        raise ValueError(f"Only {' and '.join(COMMITTED.values())} can be published, not {profile_name}.")
    if profile_name:
        _take_run(profile_name)
    runs.load_all(STUDY.profile(PUBLISHED), including=0)  # there must be one
    beyond = {name: committed(name) for name in EXTENDED.notebooks if name > ANALYSIS}
    shown = {ANALYSIS: PUBLISHED} | {name: profile for name, profile in beyond.items() if profile}
    for profile in set(shown.values()):  # no picture of an earlier time shall be taken for a new one
        shutil.rmtree(Replicate(STUDY.profile(profile)).figures, ignore_errors=True)
    _take_outputs({name: _execute(name, profile) for name, profile in shown.items()})
    for name in STUDY.notebooks:
        _renew_answer(name)
    home = folders.root()
    for profile in set(shown.values()):
        for picture in Replicate(STUDY.profile(profile)).figures.glob("*.png"):
            files.write_bytes(home / "figures" / picture.name, picture.read_bytes())
    for name, language in READMES.items():
        text = update((home / name).read_text("utf-8"), front_page.published(language))
        files.write_bytes(home / name, text.encode())


def _take_run(profile_name: str) -> None:
    """Let one's own run of a profile take the place of the committed one."""
    home, build = folders.root(), folders.build(profile_name)
    missing = runs.load_all(STUDY.profile(profile_name), including=0).only(0).missing
    if missing:
        names = ", ".join(arm.name for arm in missing)
        raise NotTrained(f"Seed 0 has no record of {names}: run make report PROFILE={profile_name} first.")
    patterns = ["seed*/**/*.json", "seed*/**/*.npz"]
    if profile_name == COMMITTED[PUBLISHED]:
        _take_outputs({name: build / "seed0" / f"{name}.ipynb" for name in STUDY.notebooks})
        _replace(home / "figures", (build / "figures" / "seed0").glob("*.png"), build / "figures" / "seed0")
        patterns += [f"seed0/{name}.safetensors" for name in PUBLISHED_WEIGHTS]
    # Records of all seeds with their timings, but of no variant.
    taken = [path for pattern in patterns for path in (build / "results").glob(pattern) if "-" not in path.name]
    _replace(home / "results" / profile_name, taken, build / "results")


def committed(notebook: str) -> str | None:
    """Which committed run a notebook beyond the note shows: the published one or, while that lacks its arms, the
    reference; None if neither has them.
    """
    arms = [arm.name for arm in EXTENDED.trained_in(notebook)]
    for name in COMMITTED:
        if any(list(folders.results(name).glob(f"seed*/{arm}.json")) for arm in arms):
            return name
    return None


def _execute(notebook: str, profile_name: str) -> Path:
    """Execute a notebook on committed records; where its copy lies."""
    output = folders.build(profile_name) / f"{notebook}.ipynb"
    output.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "papermill", folders.root() / "notebooks" / output.name, output, "-k", "python3"]
    if subprocess.run([*command, "--no-progress-bar", "-p", "profile", profile_name]).returncode:
        raise ValueError(f"{output.name} failed (see above): repair it, then run make publish again.")
    return output


def _replace(folder: Path, new: Iterable[Path], base: Path) -> None:
    """Make ``folder`` hold the files ``new``, at the same places as below ``base``, and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in new:
        files.write_bytes(folder / path.relative_to(base), path.read_bytes())


def _take_outputs(executed: dict[str, Path]) -> None:
    """Put the outputs of executed notebooks into ``notebooks/``, whose cells stay as they are; of all, or of none."""
    notebooks = {}
    for name, path in executed.items():
        source = folders.root() / "notebooks" / f"{name}.ipynb"
        if not path.exists():
            raise NotTrained(f"{path} is missing: run make report PROFILE=full first.")
        notebook = nbformat.read(source, as_version=4)
        outputs = {cell.id: cell for cell in nbformat.read(path, as_version=4).cells}
        for cell in notebook.cells:
            if cell.id not in outputs or outputs[cell.id].source != cell.source:
                raise ValueError(f"{source.name} was changed since it ran: run make report PROFILE=full again.")
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = outputs[cell.id].outputs, outputs[cell.id].execution_count
        notebooks[source] = notebook
    for source, notebook in notebooks.items():
        nbformat.write(notebook, source)


def _renew_answer(name: str) -> None:
    """Have a notebook show the answer, and at its end what seed 0 found, as they follow from the published records."""
    path, profile = folders.root() / "notebooks" / f"{name}.ipynb", STUDY.profile(PUBLISHED)
    notebook, seed = nbformat.read(path, as_version=4), runs.load_all(profile, including=0).only(0)
    new = {"cells.opening(": cells.answer(name, profile), "cells.found(": cells.listed(name, seed)}
    for cell, call in itertools.product(notebook.cells, new):
        if cell.cell_type == "code" and call in cell.source:
            if not cell.outputs:
                raise ValueError(f"{path.name} has no outputs: take it from the repository again.")
            cell.outputs[0].data["text/markdown"] = new[call].data
    nbformat.write(notebook, path)


def update(text: str, new: str) -> str:
    """``text`` with ``new`` between the two marks. Raises ``ValueError`` if they are not there, once and in order."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end or START in rest or END in before + after:
        raise ValueError(f"The marks {START!r} and {END!r} must stand in it once: put them where the results belong.")
    return f"{before}{START}\n{new}\n{END}{after}"

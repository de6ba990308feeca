"""What a notebook displays around its experiment: the answer, the kind of run, what it found."""

import ast
import contextlib
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from IPython import get_ipython
from IPython.display import Markdown, display, update_display

from kdlib.checks import nearest
from kdlib.datasets import DATASETS
from kdlib.design import ANALYSIS
from kdlib.report import prose
from kdlib.settings import PUBLISHED, Profile
from kdlib.storage import folders, runs
from kdlib.storage.records import Record
from kdlib.storage.runs import NotTrained, Replicate, Results
from kdlib.study import EXTENDED, STUDY, study_of

ANSWER = "answer"  # names the display that `found` renews
DIGITS = "Handwritten digits, not CIFAR-10: this run shows that everything works, and tells nothing about distillation."


def prepare() -> None:
    """Check a notebook's parameters, and from here on show errors of kdlib as the sentence that they are.

    Raises:
        ValueError: papermill was given a parameter that the notebook does not have.
    """
    shell = get_ipython()
    shell.set_custom_exc((Exception, KeyboardInterrupt), _show_error)
    executed = shell.user_ns["In"]
    known = _assigned(executed, "# Change a line")
    for name in _assigned(executed, "# Parameters"):  # the cell that papermill adds
        if name not in known:
            raise ValueError(f"{name} is no parameter of this notebook{nearest(name, known)}")


def _assigned(cells: list[str], opening: str) -> list[str]:
    """The names to which the lines of the cells with this opening assign a value."""
    lines = [line for cell in cells if cell.startswith(opening) for line in ast.parse(cell).body]
    targets = [target for line in lines if isinstance(line, ast.Assign) for target in line.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _show_error(
    shell: Any, kind: type, error: BaseException, trace: TracebackType, tb_offset: int | None = None
) -> None:
    """Show an error that kdlib raises as its sentence alone, any other in full; keep the traceback of both."""
    if kind is KeyboardInterrupt:
        shell._showtraceback(kind, error, ["Interrupted. Run the cell again: a training goes on from its last epoch."])
        return
    folders.error_log().parent.mkdir(parents=True, exist_ok=True)
    with folders.error_log().open("a", encoding="utf-8") as file:
        traceback.print_exception(kind, error, trace, file=file)
    raised_in = Path(traceback.extract_tb(trace)[-1].filename)
    if Path(__file__).parents[1] in raised_in.parents:
        shell._showtraceback(kind, error, [f"{error}\n\nThe full traceback: {folders.error_log()}"])
    else:
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def banner(profile: Profile) -> Markdown:
    """What kind of run a notebook shows, so that nobody takes its numbers for others."""
    images = "all 50,000" if profile.train_images is None else f"{profile.train_images:,} of the 50,000"
    text = (
        f"Profile `{profile.name}`: {images} training images of CIFAR-10, {profile.teacher.epochs} epochs for the "
        f"teacher, {profile.student.epochs} for each student, {profile.hint.epochs} more for stage one."
    )
    changes = ", ".join(f"{name} {value:g}" for name, value in profile.changes)
    more = f" **Changed: {changes}**; stored under a name of its own." if changes else ""
    return _notice(profile.dataset, profile.name, text, more)


def shown(results: Results) -> Markdown:
    """Which records the analysis shows, and which arms they lack."""
    record, data = results.any_record, results.any_record.identity.data
    images = f"{data['train_images']:,} training images of {DATASETS[data['name']].title}"
    text = f"{images}, {len(results.by_seed)} seed(s), profile `{record.profile}`."
    missing = ", ".join(arm.title for arm in results.missing)
    return _notice(data["name"], record.profile, text, f" **Not run: {missing}.**" if missing else "")


def _notice(dataset: str, profile: str, text: str, more: str) -> Markdown:
    """A quoted line, in which a warning takes the place of the text where the data are digits."""
    return Markdown("> " + (f"⚠️ **{DIGITS}** (profile `{profile}`)" if dataset == "digits" else text) + more)


def opening(notebook: str, profile: Profile, results: Results | None = None) -> None:
    """Display the answer to a notebook's question, and what kind of run it shows.

    Without ``results`` the answer of this run comes when `found` knows it.
    """
    display(answer(notebook, profile, results), display_id=ANSWER)
    display(banner(profile) if results is None else shown(results))


def answer(notebook: str, profile: Profile, results: Results | None = None) -> Markdown:
    """The answer of this run, from its ``results``, and set apart from it that of the published run."""
    heading, published = of_published(notebook)
    there = _told(f"**Answer** ({heading}).", published) if published else f"**Answer.** {heading}."
    if profile.name == PUBLISHED:
        return Markdown(there)
    if results is None:
        here = "**Answer of this run.** It will stand here when the last cell has run."
    else:
        here = _told(f"**Answer of this run** (profile `{profile.name}`).", of_this_run(notebook, profile, results))
    return Markdown(f"{here}\n\n> " + there.replace("\n", "\n> "))


def _told(heading: str, sentences: list[str]) -> str:
    """The first sentence behind the heading, the others as a list below."""
    return "\n".join([f"{heading} {sentences[0]}" if sentences else heading, *(f"- {text}" for text in sentences[1:])])


def of_this_run(notebook: str, profile: Profile, results: Results) -> list[str]:
    """What a run tells of a notebook's question, and why that differs from the published run, where it does."""
    told = _findings(notebook, profile, results)
    with contextlib.suppress(NotTrained):
        published = runs.load_all(STUDY.profile(PUBLISHED), results.study)
        if profile.dataset == published.any_record.identity.data["name"]:
            told += prose.reversals(notebook, results, published)
    return told


def _findings(notebook: str, profile: Profile, results: Results) -> list[str]:
    """What a run tells of a notebook's question.

    The analysis, and the notebook of the arms that answer the study's question, begin with that answer. It holds all
    that the latter compares.
    """
    answer = []
    if notebook in (ANALYSIS, *(EXTENDED.arm(pair.first).notebook for pair in EXTENDED.primary)):
        with contextlib.suppress(NotTrained):
            answer = prose.answer(runs.load_all(profile, EXTENDED))
    return answer if answer and notebook > ANALYSIS else answer + prose.sentences(notebook, results)


def of_published(notebook: str) -> tuple[str, list[str]]:
    """What kind of run the published one is, and what it tells of a notebook's question."""
    try:
        published = runs.load_all(STUDY.profile(PUBLISHED), study_of(notebook))
    except NotTrained:
        return "There is no published run yet", []
    seeds = f", {len(published.by_seed)} seeds" if len(published.by_seed) > 1 else ""
    recipe = ", by an earlier recipe" if prose.earlier(published) else ""
    told = _findings(notebook, STUDY.profile(PUBLISHED), published)
    return (f"published run{seeds}{recipe}" if told else "The published run has no such arms yet"), told


def found(notebook: str, replicate: Replicate, *new: Record) -> Markdown:
    """What the runs ``new`` of a notebook show, beside the standard runs of the same replicate."""
    told = replicate.records() | {replicate.study.arm(record.run).name: record for record in new}
    return concluded(notebook, replicate.profile, Results(replicate.study, {replicate.seed: told}))


def concluded(notebook: str, profile: Profile, results: Results) -> Markdown:
    """What the records of all seeds tell of a notebook's question; renews its answer at the top."""
    update_display(answer(notebook, profile, results), display_id=ANSWER)
    return listed(notebook, results)


def listed(notebook: str, results: Results) -> Markdown:
    """What the records tell of a notebook's question, as a list."""
    return Markdown("\n".join(f"- {sentence}" for sentence in prose.sentences(notebook, results)))

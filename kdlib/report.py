"""Around the notebooks: which profile runs, the words at their top and end, the closing summary.

python -m kdlib.report choose [PROFILE]   have the data at hand and print the profile to run
python -m kdlib.report summary PROFILE    write index.html, print the summary table and where to look
python -m kdlib.report publish PROFILE    put the outputs of the executed notebooks into notebooks/
"""

import argparse
import html
import sys

import nbformat
import pandas as pd
from IPython.display import Markdown

from kdlib import datasets, profiles, records, statistics, storage
from kdlib.profiles import Profile
from kdlib.records import NotTrained, Record, Replicate
from kdlib.statistics import Replicates

ANALYSIS = "06_analysis"
NOTEBOOKS = [*dict.fromkeys(records.RUNS.values()), ANALYSIS]

# What each notebook tells: its model, and with which others it is compared.
_TOLD = {
    "01_teacher": ("teacher", ()),
    "02_baseline": ("baseline", ("teacher",)),
    "03_distill": ("distill", ("baseline", "teacher")),
    "04_exp1": ("exp1", ("baseline", "distill")),
    "05_exp2": ("exp2", ("exp1", "distill", "baseline", "teacher")),
}

_DIGITS = "Handwritten digits, not CIFAR-10: this run shows that everything works, and says nothing about distillation."


def banner(profile: Profile) -> Markdown:
    """What kind of run a notebook shows, so that no one takes its numbers for others."""
    if profile.dataset == "digits":
        return Markdown(f"> ⚠️ **{_DIGITS}** (profile `{profile.name}`)")
    images = "all 50,000" if profile.train_images is None else f"{profile.train_images:,} of the 50,000"
    text = f"Profile `{profile.name}`: {images} training images of CIFAR-10"
    text += f", {profile.teacher.epochs} epochs for the teacher, {profile.student.epochs} for each student, "
    text += f"{profile.hint.epochs} more for stage one."
    if profile.changes:
        changes = ", ".join(f"{name} {value:g}" for name, value in profile.changes)
        text += f" **Changed: {changes}**; stored under a name of its own."
    return Markdown("> " + text)


def answer(notebook: str) -> Markdown:
    """A notebook's answer, from the records of the published run."""
    try:
        replicates = records.load_all(profiles.load("full"))
    except NotTrained:
        return Markdown("**Answer.** There is no published run yet; what this replicate found stands at the end.")
    run = f"published run, mean of {len(replicates)} replicates" if len(replicates) > 1 else "published run"
    return Markdown(f"**Answer** ({run}). {' '.join(sentences(notebook, replicates))}")


def found(notebook: str, *new: Record) -> Markdown:
    """What the runs ``new`` say, beside the standard runs of the same replicate that have been trained."""
    replicate = Replicate(profiles.load(new[0].profile), new[0].seed)
    runs = {}
    for name in records.RUNS:
        try:
            runs[name] = replicate.run(name).record()
        except NotTrained:
            continue
    runs |= {record.run.partition("-")[0]: record for record in new}
    return Markdown("\n".join(f"- {sentence}" for sentence in sentences(notebook, {replicate.seed: runs})))


def sentences(notebook: str, replicates: Replicates) -> list[str]:
    """What the records say of a notebook's question; comparisons with runs that are not there are left out."""
    if notebook == ANALYSIS:
        return [
            statistics.effect_of_the_matrix(replicates),
            *(statistics.compare(replicates, *pair) for pair in statistics.ANSWER),
            *statistics.ordering(replicates),
        ]
    model, others = _TOLD[notebook]
    available = set.intersection(*(set(runs) for runs in replicates.values()))
    stage_one = [statistics.stage_one(replicates)] if notebook in ("04_exp1", "05_exp2") else []
    return [
        *stage_one,
        statistics.headline(replicates, model),
        *(statistics.compare(replicates, model, other) for other in others if other in available),
    ]


def choose(name: str | None) -> str:
    """The profile to run, its data at hand: ``name``, else "quick", else "smoke" if CIFAR-10 is out of reach.

    Raises:
        ValueError: no such profile.
        DataUnavailable: ``name`` is given, and its data cannot be had.
    """
    profile = profiles.load(name or "quick")
    try:
        datasets.load(profile.dataset)
    except datasets.DataUnavailable as error:
        if name:
            raise
        print(f"{error}\n\n{'=' * 100}\n{_DIGITS}\n{'=' * 100}\n", file=sys.stderr)
        return "smoke"
    return profile.name


def summary(profile_name: str) -> str:
    """Write ``index.html`` beside the executed notebooks; the summary table as text, and where to look."""
    profile = profiles.load(profile_name)
    replicates = records.load_all(profile)
    table = statistics.summary_table(replicates)
    folder = records.build_folder(profile.name)
    storage.write_bytes(folder / "index.html", _index(profile, replicates, table).encode())
    lines = [_DIGITS, ""] if profile.dataset == "digits" else []
    for level, title in (("here", f"Profile {profile.name}, {len(replicates)} replicate(s)"), ("note", "The note")):
        lines += [title, table.xs(level, axis=1, level=1).to_string(), ""]
    home = records.root()
    return "\n".join(
        [
            *lines,
            f"Notebooks  {folder.relative_to(home)}/index.html",
            f"Figures    {records.figures_folder(profile.name).relative_to(home)}/",
            f"Records    {records.results_folder(profile.name).relative_to(home)}/",
        ]
    )


def _index(profile: Profile, replicates: Replicates, table: pd.DataFrame) -> str:
    folder = records.build_folder(profile.name)
    pages = sorted(path.relative_to(folder) for path in folder.glob("**/0*.html"))
    links = "\n".join(f'<li><a href="{page}">{html.escape(str(page.with_suffix("")))}</a></li>' for page in pages)
    told = "\n".join(f"<li>{html.escape(sentence)}</li>" for sentence in statistics.findings(replicates))
    notice = f"<p><strong>{_DIGITS}</strong></p>" if profile.dataset == "digits" else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>FitNets in two stages: profile {profile.name}</title>
<style>
body {{ font: 16px/1.5 sans-serif; max-width: 80em; margin: 2em auto; padding: 0 1em }}
table {{ border-collapse: collapse; font-size: 85% }}
td, th {{ border: 1px solid #ccc; padding: .3em .5em; text-align: right }}
</style>
<h1>FitNets in two stages</h1>
{notice}
<p>Profile {profile.name}, {len(replicates)} replicate(s). "here" is this run, "note" the note it reproduces.</p>
{table.to_html()}
<h2>What this run found</h2>
<ul>{told}</ul>
<h2>Executed notebooks</h2>
<ul>{links}</ul>
</html>
"""


def publish(profile_name: str) -> None:
    """Put the outputs of the executed notebooks of seed 0 into ``notebooks/``, whose cells stay as they are.

    Raises:
        NotTrained: a notebook has not been executed.
        ValueError: a notebook was changed after it was executed.
    """
    folder = records.build_folder(profile_name)
    for name in NOTEBOOKS:
        source = records.root() / "notebooks" / f"{name}.ipynb"
        executed = folder / ("" if name == ANALYSIS else "seed0") / source.name
        if not executed.exists():
            raise NotTrained(f"{executed} is missing: run make report PROFILE={profile_name} first.")
        notebook = nbformat.read(source, as_version=4)
        outputs = {cell.id: cell for cell in nbformat.read(executed, as_version=4).cells}
        for cell in notebook.cells:
            if cell.id not in outputs or outputs[cell.id].source != cell.source:
                raise ValueError(
                    f"{source.name} was changed since it ran: run make report PROFILE={profile_name} again."
                )
            if cell.cell_type == "code":
                cell.outputs, cell.execution_count = outputs[cell.id].outputs, outputs[cell.id].execution_count
        nbformat.write(notebook, source)


def main() -> None:
    """See the module's documentation."""
    parser = argparse.ArgumentParser(prog="python -m kdlib.report", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["choose", "summary", "publish"])
    parser.add_argument("profile", nargs="?", help="may be left out for choose")
    arguments = parser.parse_args()
    if arguments.profile is None and arguments.action != "choose":
        parser.error(f"{arguments.action} needs a profile: {', '.join(profiles.PROFILES)}.")
    action = {"choose": choose, "summary": summary, "publish": publish}[arguments.action]
    try:
        result = action(arguments.profile)
    except (ValueError, NotTrained, datasets.DataUnavailable, storage.StorageError) as error:
        sys.exit(str(error))
    if result:
        print(result)


if __name__ == "__main__":
    main()

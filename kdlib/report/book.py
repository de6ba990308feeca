"""The report as a book in the browser: a cover, the executed notebooks, the method, the note beside this report.

Sphinx makes it from ``book/`` in the project's folder and from what is written here; it runs no notebook.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from kdlib.design import ANALYSIS
from kdlib.report import cells, front_page, prose, tables
from kdlib.settings import PUBLISHED, Profile
from kdlib.storage import files, folders, runs
from kdlib.storage.runs import Replicate, Results
from kdlib.study import EXTENDED, STUDY

NAMES = sorted({*EXTENDED.notebooks, ANALYSIS})  # of the notebooks, in their order


def build(profile_name: str = PUBLISHED) -> str:
    """Build the book of a profile's run, by default the published one; return where its cover lies.

    Raises:
        NotTrained: the profile has no records.
        ValueError: no such profile, its analysis has not been executed, its cover's picture not drawn, Sphinx failed.
        StorageError: a record is damaged, or the disk is full.
    """
    profile = STUDY.profile(profile_name)
    results, beyond = runs.load_all(profile), runs.load_all(profile, EXTENDED)
    folder = folders.build(profile.name)
    source, output = folder / "book", folder / "html"
    chapters = _chapters(profile.name)
    if ANALYSIS not in chapters:
        raise ValueError(f"{ANALYSIS} of profile {profile.name} has not been executed: run make report first.")
    pictures = folders.root() / "figures" if profile.name == PUBLISHED else Replicate(profile).figures
    cover = f"{front_page.picture(beyond)}.png"
    if not (pictures / cover).exists():
        raise ValueError(f"{pictures / cover} of the cover has not been drawn: run make report with EXTRA=1 first.")
    shutil.rmtree(source, ignore_errors=True)
    for name, path in chapters.items():
        files.write_bytes(source / f"{name}.ipynb", path.read_bytes())
    for name, text in _pages(profile, results, beyond, list(chapters)).items():
        files.write_bytes(source / f"{name}.md", text.encode())
    for path in (folders.root() / "book").glob("*.md"):
        files.write_bytes(source / path.name, path.read_bytes())
    files.write_bytes(source / "figures" / cover, (pictures / cover).read_bytes())

    command = [sys.executable, "-m", "sphinx", "--quiet", "--conf-dir", folders.root() / "book"]
    made = subprocess.run([*command, source, output], stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise ValueError(f"The book was not built: {made.stderr.strip()}")
    sys.stderr.write(made.stderr)  # warnings
    return f"{output}/index.html"


def _chapters(profile_name: str) -> dict[str, Path]:
    """The executed notebooks that there are, by the name of their page; those of seed 0 first, in their order."""
    if profile_name == PUBLISHED:
        return {name: folders.root() / "notebooks" / f"{name}.ipynb" for name in NAMES}
    folder = folders.build(profile_name)
    places = {name: folder / ("" if name == ANALYSIS else "seed0") / f"{name}.ipynb" for name in NAMES}
    others = sorted(folder.glob("seed[1-9]*/*.ipynb"))
    places |= {f"{path.parent.name}/{path.stem}": path for path in others if path.stem in NAMES}
    return {name: path for name, path in places.items() if path.exists()}


def _pages(profile: Profile, results: Results, beyond: Results, chapters: list[str]) -> dict[str, str]:
    """The pages that follow from the records, in Markdown."""
    headings = {
        "The note's experiments": [name for name in chapters if name in NAMES and name <= ANALYSIS],
        "Beyond the note": [name for name in chapters if name in NAMES and name > ANALYSIS],
        "Background": ["comparison", "method"],
        "Other seeds": [name for name in chapters if name not in NAMES],
    }
    cover = prose.fill(
        "cover",
        "markdown",
        notice=cells.DIGITS if profile.dataset == "digits" else "",
        results=front_page.text(results, beyond, "en", front_page.training_seconds(profile, results)),
        chapters={heading: names for heading, names in headings.items() if names},
    )
    summary = tables.summary(results)
    models = {
        title: [
            (name, *row) for name, row in summary[title][["note", "here"]].iterrows() if set(row) != {tables.NOTHING}
        ]
        for title in summary.columns.unique(0)
    }
    conclusions = tables.conclusions(results).reset_index().to_numpy().tolist()
    return {"index": cover, "comparison": prose.fill("comparison", "markdown", models=models, conclusions=conclusions)}

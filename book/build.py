"""The report as a book in the browser: a cover, the executed notebooks, and the pages of this folder.

python book/build.py [PROFILE]    by default of the published run; Sphinx makes it, and runs no notebook
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

from kdlib.errors import KdlibError, as_sentences
from kdlib.report.notebook import DIGITS
from kdlib.storage import files
from kdlib.study import ANALYSIS, PUBLISHED, STUDY
from kdlib.tuning import SETTINGS

PAGES = Path(__file__).parent
NOTEBOOKS = sorted({*STUDY.notebooks, ANALYSIS, SETTINGS})
COVER_ENDS = "## Two commands"  # in the README, whose first screen is the cover


def build(profile_name: str = PUBLISHED) -> Path:
    """Build the book of a profile's run; return where its cover lies."""
    profile = STUDY.profile(profile_name)
    folder = files.build(profile.name)
    source, output = folder / "book", folder / "html"
    chapters = _chapters(profile.name)
    if ANALYSIS not in chapters:
        raise KdlibError(f"{ANALYSIS} of profile {profile.name} has not been executed: run make report first.")
    shutil.rmtree(source, ignore_errors=True)
    for name, path in chapters.items():
        files.write_bytes(source / f"{name}.ipynb", path.read_bytes())
    pages = {*chapters, *(path.stem for path in PAGES.glob("*.md"))}
    for path in PAGES.glob("*.md"):
        files.write_bytes(source / path.name, _linked(path.read_text("utf-8"), pages).encode())
    for path in [*files.CHECKOUT.glob("figures/*.png"), *files.CHECKOUT.glob("benchmarks/*.png")]:
        files.write_bytes(source / path.relative_to(files.CHECKOUT), path.read_bytes())
    files.write_bytes(source / "index.md", _cover(profile.name, list(chapters), pages).encode())
    command = [sys.executable, "-m", "sphinx", "--quiet", "--conf-dir", PAGES, source, output]
    made = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if made.returncode:
        raise KdlibError(f"The book was not built: {made.stderr.strip()}")
    sys.stderr.write(made.stderr)  # warnings
    return output / "index.html"


def _chapters(profile: str) -> dict[str, Path]:
    """The executed notebooks that there are, by the name of their page; those of seed 0 first, in their order."""
    if profile == PUBLISHED:
        return {name: files.CHECKOUT / "notebooks" / f"{name}.ipynb" for name in NOTEBOOKS}
    folder = files.build(profile)
    places = {name: folder / ("" if name >= ANALYSIS else "seed0") / f"{name}.ipynb" for name in NOTEBOOKS}
    places[SETTINGS] = files.CHECKOUT / "notebooks" / f"{SETTINGS}.ipynb"  # not about a run of the reader's
    others = (path for path in sorted(folder.glob("seed[1-9]*/*.ipynb")) if path.stem in NOTEBOOKS)
    places |= {f"{path.parent.name}/{path.stem}": path for path in others}
    return {name: path for name, path in places.items() if path.exists()}


def _linked(text: str, pages: Collection[str]) -> str:
    """A page's text with links to files of the checkout led to these pages of the book, or taken away."""
    link = re.compile(r"\[([^]]*)\]\((?:\.\./)?(?:notebooks|book)/(\w+)\.(?:ipynb|md)\)")
    text = link.sub(lambda found: f"[{found[1]}]({found[2]})" if found[2] in pages else found[1], text)
    return text.replace("](../benchmarks/", "](benchmarks/")


def _cover(profile: str, chapters: list[str], pages: Collection[str]) -> str:
    """The README's first screen, with links to the pages of this book, and the table of contents."""
    text = (files.CHECKOUT / "README.md").read_text("utf-8").partition(COVER_ENDS)[0]
    text = _linked(text, pages)
    text = re.sub(r"\[(README\.zh-CN\.md)\]\(.*?\)", r"\1", text)
    if profile != PUBLISHED:
        digits = f" **{DIGITS}**" if STUDY.profile(profile).dataset == "digits" else ""
        yours = f"These notebooks are *your run*, profile `{profile}`;{digits} [{ANALYSIS}]({ANALYSIS}) has its table."
        title, rest = text.split("\n", 1)
        text = f"{title}\n\n:::{{note}}\n{yours} What follows is the published run.\n:::\n{rest}"
    headings = {
        "The note's experiments": [name for name in chapters if name in NOTEBOOKS and name <= ANALYSIS],
        "Beyond the note": [name for name in chapters if name in NOTEBOOKS and name > ANALYSIS],
        "Background": sorted(path.stem for path in PAGES.glob("*.md")),
        "Other seeds": [name for name in chapters if name not in NOTEBOOKS],
    }
    parts = (
        "\n".join([":::{toctree}", ":hidden:", f":caption: {heading}", "", *names, ":::"])
        for heading, names in headings.items()
        if names
    )
    return "\n\n".join([text, *parts])


if __name__ == "__main__":
    with as_sentences():
        print(build(*sys.argv[1:]))

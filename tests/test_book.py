"""The book: built without a warning, whole, and seen in a real browser."""

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from factories import results, save

from kdlib.report import book, front_page, prose
from kdlib.storage import files, runs
from kdlib.storage.runs import NotTrained
from kdlib.study import EXTENDED, STUDY

HOME = Path(__file__).parents[1]
NARROW = 390  # pixels: a telephone


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the published notebooks' book, built in a project of its own."""
    project = tmp_path_factory.mktemp("project")
    for name in ("book", "figures", "notebooks", "results"):
        (project / name).symlink_to(HOME / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDLIB_ROOT", str(project))
        written = []
        patch.setattr(book.sys.stderr, "write", written.append)
        cover = Path(book.build())
    assert "".join(written) == "", "no warning of Sphinx"
    return cover.parent


class Links(HTMLParser):
    """What a page refers to, and the names that it can be referred to by."""

    def __init__(self, page):
        super().__init__()
        self.targets, self.names = set(), set()
        self.feed(page.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.names |= {values["id"]} if "id" in values else set()
        self.targets |= {values[key] for key in ("href", "src") if values.get(key)}


def test_every_notebook_is_a_chapter_between_its_neighbours(pages):
    for before, after in zip(book.NAMES, book.NAMES[1:], strict=False):
        assert re.search(rf'class="right-next"\s+href="{after}.html"', (pages / f"{before}.html").read_text("utf-8"))


def test_the_cover_has_the_answer_the_picture_and_the_table(pages, monkeypatch):
    monkeypatch.setenv("KDLIB_ROOT", str(HOME))
    cover = (pages / "index.html").read_text("utf-8")
    profile = STUDY.profile("published")
    beyond = runs.load_all(profile, EXTENDED)
    answer = (prose.answer(beyond) or prose.matrix(runs.load_all(profile)))[0]
    places = [cover.index(what) for what in (answer.replace("'", "’"), f"{front_page.picture(beyond)}.png", "<table")]
    assert places == sorted(places)


def test_the_note_stands_beside_this_report(pages):
    text = (pages / "comparison.html").read_text("utf-8")
    for arm, accuracy in STUDY.note.figures["validation accuracy, best epoch"].items():
        assert f"{accuracy} %" in text, arm


def test_the_docstrings_and_formulas_of_kdlib_are_in_it(pages):
    text = (pages / "method.html").read_text("utf-8")
    assert 'id="kdlib.objectives.Distill"' in text and 'class="math notranslate nohighlight"' in text


def test_no_link_and_no_picture_is_broken(pages):
    found = {page: Links(page) for page in pages.glob("*.html")}
    for page, links in found.items():
        for target in links.targets:
            parts = urlsplit(target)
            if parts.scheme in ("http", "https", "data", "mailto"):
                continue
            file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert file.exists(), f"{page.name}: {target}"
            if parts.fragment and file in found:
                assert unquote(parts.fragment) in found[file].names, f"{page.name}: {target}"


def test_nothing_is_fetched_from_the_network(pages):
    for page in pages.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.https?://", text), page.name


# In a browser


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api", reason="make test sets up requirements-extra.txt first")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except api.Error:
            pytest.skip("There is no Chromium: playwright install chromium fetches one.")
        yield started
        started.close()


VIEWS = [(1280, "light"), (1280, "dark"), (NARROW, "light"), (NARROW, "dark")]
both_widths = pytest.mark.parametrize("tab", [VIEWS[0], VIEWS[-1]], ids=str, indirect=True)


@pytest.fixture(params=VIEWS, ids=str)
def tab(browser, request):
    """A tab that must not complain, and must not ask for anything outside the folder."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, complaints = context.new_page(), []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda asked: complaints.append(asked.url))
    page.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
    yield page
    assert complaints == []
    context.close()


@pytest.mark.parametrize("name", ["index", "03_distill", "06_analysis", "comparison", "method"])
def test_a_page_is_seen_whole(pages, tab, name):
    tab.goto((pages / f"{name}.html").as_uri())
    width = tab.viewport_size["width"]
    assert tab.evaluate("document.documentElement.scrollWidth") <= width, "nothing is cut off at the right"
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    shade = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    light = min(map(int, re.findall(r"\d+", shade)[:3])) > 127
    assert light == (tab.evaluate("document.documentElement.dataset.theme") == "light")
    assert light == tab.evaluate("matchMedia('(prefers-color-scheme: light)').matches")


@both_widths
def test_a_formula_is_typeset(pages, tab):
    tab.goto((pages / "03_distill.html").as_uri())
    tab.wait_for_selector("mjx-container", timeout=20_000)


@both_widths
def test_the_search_finds_the_regressor(pages, tab):
    tab.goto((pages / "search.html").as_uri() + "?q=regressor")
    tab.wait_for_selector("#search-results li a", timeout=20_000)
    found = tab.eval_on_selector_all("#search-results li a", "links => links.map(link => link.textContent)")
    assert any(title.startswith("4 · Experiment 1") for title in found), found


def test_without_records_or_notebooks_a_sentence_says_what_to_run(project):
    with pytest.raises(NotTrained, match="run 01_teacher first"):
        book.build("quick")


def test_without_the_executed_analysis_a_sentence_says_what_to_run(project):
    save(results(1, images=20), STUDY.profile("quick"))
    with pytest.raises(ValueError, match="06_analysis of profile quick has not been executed: run make report first"):
        book.build("quick")


def test_without_the_picture_of_the_cover_a_sentence_says_what_to_run(project):
    """All arms have records, but 07 was not executed."""
    save(results(2, study=EXTENDED, images=20), STUDY.profile("quick"))
    files.write_bytes(project / "build/quick/06_analysis.ipynb", b"executed")
    with pytest.raises(ValueError, match="of the cover has not been drawn: run make report with EXTRA=1"):
        book.build("quick")

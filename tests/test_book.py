"""The book: built without a warning, whole, and seen in a real browser; what its pages say to run works."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.storage.runs import Replicate
from kdlib.study import STUDY

HOME = Path(__file__).parents[1]
NARROW = 390  # pixels: a telephone


def build(root, *profile):
    environment = {"KDLIB_ROOT": str(root), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, HOME / "book/build.py", *profile]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The folder of the published notebooks' book."""
    made = build(tmp_path_factory.mktemp("project"))
    assert (made.returncode, made.stderr) == (0, ""), "no warning of Sphinx"
    return Path(made.stdout.strip()).parent


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


def test_no_link_and_no_picture_is_broken_and_nothing_is_fetched_from_the_network(pages):
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
        assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=.https?://", page.read_text("utf-8")), page.name


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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (NARROW, "dark")])
def test_pages_are_seen_whole_without_a_complaint(pages, browser, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, complaints = context.new_page(), []
    tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("requestfailed", lambda asked: complaints.append(asked.url))
    tab.on("request", lambda asked: None if asked.url.startswith(("file:", "data:")) else complaints.append(asked.url))
    for name in ("index", "03_distill", "06_analysis", "elsewhere", "method"):
        tab.goto((pages / f"{name}.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, f"{name}: nothing is cut off at the right"
        assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)"), name
        assert tab.evaluate("document.documentElement.dataset.theme") == scheme
    tab.wait_for_selector("mjx-container", timeout=20_000)  # a formula is typeset
    assert complaints == []
    context.close()


def test_the_lines_about_onnx_give_the_probabilities_that_the_network_gives_here(cifar10, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="make test sets up requirements-extra.txt first")
    text = (HOME / "book/elsewhere.md").read_text("utf-8")
    export, classify = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(export, {})
    with torch.no_grad():
        model = Replicate(STUDY.profile("published")).load("distill")
        ours = model(cifar10.normalise(cifar10.test_images[:500])).softmax(1).numpy()
    (theirs,) = onnxruntime.InferenceSession("distill.onnx").run(None, {"images": cifar10.test_images[:500].numpy()})
    assert np.abs(theirs - ours).max() < 1e-4
    Image.fromarray(cifar10.test_images[0].numpy()).resize((320, 320), Image.Resampling.NEAREST).save("photo.png")
    seen = []
    exec(classify, {"print": seen.append})
    assert seen == ["cat"] == [cifar10.classes[cifar10.test_labels[0]]]

"""A network taken away as ONNX classifies as it does here."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib import datasets, models
from kdlib.report import export
from kdlib.settings import PUBLISHED
from kdlib.storage import folders
from kdlib.storage.runs import NotTrained, Replicate
from kdlib.study import STUDY

onnxruntime = pytest.importorskip("onnxruntime", reason="make test sets up requirements-extra.txt first")
HOME = Path(__file__).parents[1]


@pytest.fixture
def published(project):
    """The published record and weights, in a folder of the test's own."""
    (project / "results").mkdir(parents=True)
    (project / "results" / "full").symlink_to(HOME / "results" / "full")
    return Replicate(STUDY.profile(PUBLISHED), 0)


def test_the_exported_student_gives_the_probabilities_that_it_gives_here(published, cifar10, monkeypatch, capfd):
    path, card = map(Path, export.export("distill").splitlines())
    assert capfd.readouterr() == ("", ""), "no warning of the exporter"
    with torch.no_grad():
        ours = models.load(published.run("distill"))(cifar10.normalise(cifar10.test_images[:1000])).softmax(1).numpy()
    session = onnxruntime.InferenceSession(path)
    for count in (1, 1000):
        (theirs,) = session.run(None, {"images": cifar10.test_images[:count].numpy()})
        assert theirs.dtype == np.float32 and np.abs(theirs - ours[:count]).max() < 1e-4
        assert (theirs.argmax(1) == ours[:count].argmax(1)).all()

    accuracy = published.run("distill").record().test["accuracy"][-1]
    assert f"{accuracy:.2f} % on 10,000 images" in card.read_text("utf-8")
    _readme_classifies(path.parent, cifar10, monkeypatch)


def _readme_classifies(folder, cifar10, monkeypatch):
    """The README's lines name the class of a PNG file."""
    (lines,) = (
        code for code in re.findall(r"```python\n(.*?)```", (HOME / "README.md").read_text("utf-8"), re.DOTALL)
        if "onnxruntime" in code
    )  # fmt: skip
    monkeypatch.chdir(folder)
    Image.fromarray(cifar10.test_images[0].numpy()).resize((320, 320), Image.Resampling.NEAREST).save("photo.png")
    seen = []
    exec(lines, {"print": seen.append})
    assert seen == ["cat"] == [cifar10.classes[cifar10.test_labels[0]]]


def test_what_cannot_be_exported_is_refused_with_a_sentence(published, monkeypatch):
    with pytest.raises(ValueError, match="stage one classifies no images: choose an arm that does"):
        export.export("hint")
    with pytest.raises(ValueError, match=r"distil.* mean distill"):
        export.export("distil")
    with pytest.raises(NotTrained, match="run 03_distill first"):
        export.export("distill", "quick")

    def without_onnxscript(*_, **__):
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", without_onnxscript)
    monkeypatch.setattr(datasets, "load", lambda name, device: datasets.Data(name, (), *[torch.zeros(2, 2)] * 6, False))
    with pytest.raises(ValueError, match="onnxscript is missing: run make export"):
        export.export("distill")
    assert not (folders.build(PUBLISHED) / "export").exists()

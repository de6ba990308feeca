"""The structure of kdlib: data flow in one direction, so a module imports only from those before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdlib"
ORDER = [
    "errors", "streams", "models", "regressors", "objectives", "data", "profiles", "study", "tuning", "editions",
    "optimiser", "hardware",
    "storage.files", "storage.cifar10", "storage.weights", "storage.records", "storage.logits",
    "storage.runs", "training", "arms",
    "report.note", "report.stats", "report.tables", "report.plots", "report.schematic", "report.comparisons",
    "report.images", "report.settings", "report.notebook", "report.run", "report.publish",
]  # fmt: skip


def imported(text):
    """The modules of kdlib that a module imports."""
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, ast.Import) or "kdlib" not in ast.unparse(node), "from kdlib… import is seen alone"
        assert not isinstance(node, ast.ImportFrom) or node.level == 0
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdlib"):
            package = node.module.removeprefix("kdlib").lstrip(".")
            names = [f"{package}.{alias.name}".lstrip(".") for alias in node.names]
            yield from (name if name in ORDER else package for name in names)


def test_every_module_has_its_place():
    modules = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("[!_]*.py")}
    assert modules == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_is_small_and_imports_only_from_those_before_it(name):
    text = PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text("utf-8")
    assert all(ORDER.index(other) < ORDER.index(name) for other in imported(text))
    assert len(text.splitlines()) <= 300
    if not name.startswith("report"):
        assert "matplotlib" not in text and "kdlib.report" not in text

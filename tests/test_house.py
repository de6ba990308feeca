"""The structure of kdlib: data flow in one direction, so a module imports only from those before it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kdlib"
ORDER = [
    "checks", "note", "settings", "design", "study", "streams", "hardware",
    "storage.folders", "storage._torchvision", "storage.files", "storage.pickled", "storage.cifar10", "storage.weights",
    "storage.records", "storage.checkpoints", "storage.logits", "storage.runs",
    "datasets", "models", "regressors", "losses", "objectives", "optimisers", "identity", "progress",
    "similarity", "calibration", "evaluation", "training", "arms", "selection",
    "report.measures", "report.inference", "report.tables", "report.extended_tables", "report.held_out",
    "report.figure", "report.run_plots", "report.image_plots", "report.study_plots", "report.error_plots",
    "report.extended_plots", "report.prose", "report.front_page", "report.cells", "report.publish", "report.book",
    "report.execute", "report.export", "report.graph", "report.__main__",
]  # fmt: skip


def name_of(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


def imported(path):
    """The modules of kdlib that a file imports."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdlib"):
            package = node.module.removeprefix("kdlib").lstrip(".")
            for alias in node.names:
                full = f"{package}.{alias.name}".lstrip(".")
                yield full if full in ORDER else package


def test_every_module_has_its_place():
    modules = {name_of(path) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    assert modules == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_a_module_imports_only_from_those_before_it(name):
    path = PACKAGE.joinpath(*name.split(".")).with_suffix(".py")
    assert all(ORDER.index(other) < ORDER.index(name) for other in imported(path)), name


def test_the_method_neither_draws_nor_reports():
    for name in ORDER[: ORDER.index("report.measures")]:
        text = PACKAGE.joinpath(*name.split(".")).with_suffix(".py").read_text("utf-8")
        assert "matplotlib" not in text and "kdlib.report" not in text, name

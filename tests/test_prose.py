"""Every figure in a sentence written by hand is one that the records give, at its rounding."""

import re
from pathlib import Path

import nbformat
import pytest

from kdlib.report import note, settings, stats, tables
from kdlib.report.stats import signed
from kdlib.storage import runs
from kdlib.study import STUDY
from kdlib.tuning import TUNING

HOME = Path(__file__).parents[1]
TEXTS = ["README.md", "README.zh-CN.md", *sorted(f"notebooks/{path.name}" for path in HOME.glob("notebooks/*.ipynb"))]

# Signs may be left out where the words give the direction; "to" is 至 in Chinese.
NUMBER = r"[+−]?\d+\.\d\d"
RANGE = re.compile(rf"({NUMBER}) (?:to|至) ({NUMBER})")
ESTIMATE = re.compile(r"(\d+\.\d\d) ± (\d\.\d\d)")
PERCENT = re.compile(r"(?<![\d.])(\d\d\.\d\d) %")
PARAMETERS = re.compile(r"(?<![\d.])(\d+ k|\d\.\d\d M)(?!\w)")
SINGLE = re.compile(rf"(?<![\d.])({NUMBER})(?![\d.%])(?! %)")


def told(path):
    """The prose of a file: a README, or the Markdown cells of a notebook; tables, formulas, settings and code aside."""
    text = (HOME / path).read_text("utf-8")
    if path.endswith(".ipynb"):
        text = "\n".join(cell.source for cell in nbformat.reads(text, 4).cells if cell.cell_type == "markdown")
    text = re.sub(r"^\|.*$|Python \S+ (?:to|至) \S+|[αT] = [\d.]+", " ", text, flags=re.MULTILINE)
    return " ".join(re.sub(r"```.*?```|`[^`]*`|\$[^$]*\$|https?://\S+", " ", text, flags=re.DOTALL).split())


@pytest.fixture(scope="module")
def results():
    return runs.load_all(STUDY.profile("published"))


@pytest.fixture(scope="module")
def known(results):
    """What the records give: ranges, estimates (mean, half width), single differences, percentages and parameters."""
    tuning = runs.load_all(TUNING.profiles[0])
    means = {text.partition(" ")[0] for text in settings.rates(tuning).to_numpy().flat}
    found = {"range": set(), "estimate": set(), "percent": means}
    pairs = [pair for pair in TUNING.contrasts if tuning.seeds(pair.first, pair.second)]
    found["single"] = {signed(stats.difference(tuning, pair.first, pair.second).mean) for pair in pairs}
    found["single"] |= {text for cell in settings.protocol(tuning).to_numpy().flat for text in cell.split(", ")}
    for pair in results.study.contrasts:
        estimate = stats.difference(results, pair.first, pair.second)
        low, high, mean = (signed(value) for value in (estimate.low, estimate.high, estimate.mean))
        mirrored = tuple(signed(-value) for value in (estimate.high, estimate.low))
        found["range"] |= {(low, high), mirrored}
        found["single"].add(mean)
    found["parameters"] = {*tables.summary(results)["parameters"]}
    for arm in results.models:
        for measure in (stats.accuracy, stats.training_accuracy):
            mean, half_width = stats.over_seeds(results, arm.name, measure)[:2]
            found["estimate"].add((f"{mean:.2f}", f"{half_width:.2f}"))
    return found


def plain(values):
    return tuple(value.lstrip("+−") for value in values)


def wrong(text, known):
    """The figures of a text that the records do not give."""
    bad = []
    for low, high in RANGE.findall(text):
        # With its signs it must be the interval itself; without, all of an interval must lie on one side of zero.
        one_sided = {plain(pair) for pair in known["range"] if pair[0][0] == pair[1][0] == "+"}
        if (low, high) not in known["range"] and (plain((low, high)) != (low, high) or (low, high) not in one_sided):
            bad.append(f"{low} to {high}")
    bad += [" ± ".join(pair) for pair in ESTIMATE.findall(text) if pair not in known["estimate"]]
    rest = RANGE.sub(" ", ESTIMATE.sub(" ", text))
    noted = {figure for figures in note.FIGURES.values() for figure in figures.values()}
    bad += [text for text in PARAMETERS.findall(rest) if text not in known["parameters"] | noted]
    bad += [f"{value} %" for value in PERCENT.findall(rest) if value not in noted | known["percent"]]
    known_singles = known["single"] | {value.lstrip("+−") for value in known["single"]}
    rest = PARAMETERS.sub(" ", PERCENT.sub(" ", rest))
    return bad + [value for value in SINGLE.findall(rest) if value not in known_singles]


@pytest.mark.parametrize("path", TEXTS)
def test_the_records_give_every_figure(path, known):
    assert wrong(told(path), known) == []


def test_a_wrong_figure_is_found(results, known):
    estimates = [stats.difference(results, pair.first, pair.second) for pair in results.study.contrasts]
    # Next to its mean, and opposite to it, is no other contrast's by chance.
    above = next(one for one in estimates if one.low > 0 and not known["single"] & neighbours(one))
    around = next(estimate for estimate in estimates if estimate.low < 0 < estimate.high)
    accuracy = stats.mean_accuracy(results, "exp2")
    sentences = [
        f"better by {above.mean + 0.01:.2f} points", f"{signed(-above.mean)} points",
        f"an interval of {above.low - 0.01:.2f} to {above.high:.2f}", f"{signed(around.low)} to {signed(-around.high)}",
        f"of one sign: {-around.low:.2f} to {around.high:.2f}", f"{accuracy.mean + 0.01:.2f} % of them",
        f"{accuracy.mean:.2f} ± {accuracy.half_width + 0.01:.2f} %", "300 k parameters",
    ]  # fmt: skip
    assert [sentence for sentence in sentences if not wrong(sentence, known)] == []


def test_the_readmes_tables_have_the_rows_of_the_records(results):
    ends = [("exp1", "wide_learned_frozen", "wide_none_frozen"), ("exp2", "wide_learned_tuned", "wide_none_tuned")]
    expected = [
        [*(stats.mean_accuracy(results, arm).text(2, " %") for arm in arms), difference(results, arms[2], arms[1])]
        for arms in ends
    ]
    for path, to in (("README.md", "to"), ("README.zh-CN.md", "至")):
        lines = (HOME / path).read_text("utf-8").replace(f" {to} ", " to ").splitlines()
        rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| S")]
        assert [[cell.strip("*") for cell in column] for column in zip(*rows, strict=True)][1:] == expected


def neighbours(estimate):
    return {signed(estimate.mean + 0.01), signed(-estimate.mean)}


def difference(results, first, second):
    estimate = stats.difference(results, first, second)
    return f"{signed(estimate.mean)} ({estimate.ends})"


def test_the_readmes_have_the_same_figures_and_the_number_of_seeds(results):
    english, chinese = ([*map(plain, RANGE.findall(told(path)))] for path in TEXTS[:2])
    assert english == chinese
    seeds = [re.findall(r"(\d+) (?:seeds|个随机种子)", told(path)) for path in TEXTS[:2]]
    assert {*seeds[0], *seeds[1]} == {str(len(results.seeds("wide_none_frozen", "exp1")))}
    assert all(len((HOME / path).read_bytes()) <= 8192 for path in TEXTS[:2])

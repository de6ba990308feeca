"""Every figure in a sentence written by hand is one that the records give, at its rounding."""

import re
from pathlib import Path

import nbformat
import pytest

from kdlib.report import note, settings, stats
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
def known():
    """What the records give: ranges (low, high), estimates (mean, half width), single differences and percentages."""
    results, tuning = runs.load_all(STUDY.profile("published")), runs.load_all(TUNING.profiles[0])
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
    counts = [results.records(arm.name)[0].parameters for arm in results.models]
    found["parameters"] = {f"{count / 1e6:.2f} M" for count in counts} | {f"{count / 1e3:.0f} k" for count in counts}
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


WRONG = ["better by 0.93 points", "+0.08 points", "interval 0.67 to 1.16", "−0.29 to −0.12", "level: 0.29 to 0.12"]
WRONG += ["the student reaches 89.16 ± 0.12 %", "the student reaches 89.17 %", "308 k parameters"]


@pytest.mark.parametrize("sentence", WRONG)
def test_a_wrong_figure_is_found(sentence, known):
    assert wrong(sentence, known)


def test_the_readmes_tables_have_the_rows_of_the_records():
    results = runs.load_all(STUDY.profile("published"))
    ends = {"frozen": ("exp1",), "tuned": ("exp2",)}
    for end in ends:
        ends[end] += tuple(f"wide_{matrix}_{end}" for matrix in ("learned", "none"))
    expected = [
        [*(stats.mean_accuracy(results, arm).text(2, " %") for arm in arms), difference(results, arms[2], arms[1])]
        for arms in ends.values()
    ]
    for path, to in (("README.md", "to"), ("README.zh-CN.md", "至")):
        lines = (HOME / path).read_text("utf-8").replace(f" {to} ", " to ").splitlines()
        rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| S")]
        assert [[cell.strip("*") for cell in column] for column in zip(*rows, strict=True)][1:] == expected


def difference(results, first, second):
    estimate = stats.difference(results, first, second)
    return f"{signed(estimate.mean)} ({signed(estimate.low)} to {signed(estimate.high)})"


def test_the_chinese_readme_has_the_english_ones_figures():
    english, chinese = ([*map(plain, RANGE.findall(told(path)))] for path in TEXTS[:2])
    assert english == chinese
    assert all(len((HOME / path).read_bytes()) <= 8192 for path in TEXTS[:2])

"""The results at the top of the READMEs."""

import re

import pytest
from factories import replicates

from kdlib import readme, statistics


def test_results_show_every_model_beside_the_note():
    made = replicates(5)
    lines = readme.results(made, "en").splitlines()
    row = next(line for line in lines if line.startswith("| student (exp. 2) |"))
    assert f"**{statistics.final_accuracy(made, 'exp2').text(2, ' %')}**" in row and row.endswith("| 86.36 % |")
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 1 + 5
    assert lines[-3:] == [f"- {statistics.compare(made, *pair)}" for pair in statistics.ANSWER]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ({"exp2": 91.0, "exp1": 87.0}, ("高 3.95 个百分点", "，有差距。")),
        ({"exp2": 87.0, "exp1": 91.0}, ("低 4.05 个百分点", "，有差距。")),
        ({"exp2": 90.0, "exp1": 90.0}, ("个百分点", "，没有差距。")),
    ],
)
def test_chinese_findings_follow_from_the_numbers(accuracies, said):
    first = readme.results(replicates(5, accuracies=accuracies), "zh").splitlines()[-3]
    assert first.startswith("- 实验二的测试准确率比实验一") and all(part in first for part in said)


def test_both_languages_give_the_same_numbers():
    made = replicates(3)
    english, chinese = (
        [re.findall(r"\d+\.\d+", line) for line in readme.results(made, language).splitlines() if line.startswith("|")]
        for language in ("en", "zh")
    )
    assert english == chinese


def test_only_what_stands_between_the_marks_is_replaced():
    text = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"
    assert readme.update(text, "new") == f"before\n{readme.START}\nnew\n{readme.END}\nafter\n"
    assert readme.update(readme.update(text, "new"), "newer") == readme.update(text, "newer")


def test_missing_marks_are_named():
    with pytest.raises(ValueError, match=r"^The marks .* are missing: put them back"):
        readme.update("no marks", "new")

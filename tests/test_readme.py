"""The results at the top of the READMEs."""

import re

import pytest
from factories import replicates

from kdlib import profiles, readme, statistics, storage
from kdlib.records import Replicate


def test_results_show_every_model_beside_the_note():
    made = replicates(5)
    lines = readme.results(made, "en", 3600).splitlines()
    row = next(line for line in lines if line.startswith("| student (exp. 2) |"))
    assert f"**{statistics.final_accuracy(made, 'exp2').text(2, ' %')}**" in row and row.endswith("| 86.36 % |")
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 1 + 5
    assert f"**{statistics.effect_of_the_matrix(made)}**" in lines
    assert lines[-3:] == [f"- {statistics.compare(made, *pair)}" for pair in statistics.ANSWER]


@pytest.mark.parametrize(
    ("accuracies", "said"),
    [
        ({"exp2": 91.0, "exp1": 87.0}, ("比实验一高 3.95 个百分点", "，有差距。")),
        ({"exp2": 87.0, "exp1": 91.0}, ("比实验一低 4.05 个百分点", "，有差距。")),
        ({"exp2": 90.05, "exp1": 90.0}, ("与实验一持平", "，没有差距。")),
    ],
)
def test_chinese_findings_follow_from_the_numbers(accuracies, said):
    first = readme.results(replicates(5, accuracies=accuracies), "zh", 3600).splitlines()[-3]
    assert first.startswith("- 实验二的测试准确率") and all(part in first for part in said)


@pytest.mark.parametrize(
    ("exp1", "exp2", "said"),
    [
        (87.05, 90.03, ("有差距：实验一比仅蒸馏的学生低 2.93 个", "则没有差距：实验二与仅蒸馏的学生持平")),
        (93.05, 90.8, ("有差距：实验一比仅蒸馏的学生高 3.07 个", "则无法判定：实验二比仅蒸馏的学生高 0.77 个")),
    ],
)  # fmt: skip
def test_chinese_answer_follows_from_the_numbers(exp1, exp2, said):
    made = replicates(5, accuracies={"exp1": exp1, "exp2": exp2, "distill": 90.0})
    (answer,) = [line for line in readme.results(made, "zh", 3600).splitlines() if line.startswith("**")]
    assert all(part in answer for part in said)


def test_both_languages_give_the_same_numbers():
    texts = [readme.results(replicates(3), language, 5000) for language in ("en", "zh")]
    tables = [[re.findall(r"\d+\.\d+", line) for line in text.splitlines() if line.startswith("|")] for text in texts]
    assert tables[0] == tables[1]
    assert "in 1.4 hours a replicate" in texts[0] and "每次重复 1.4 小时" in texts[1]


def test_training_time_is_that_of_all_runs_of_a_replicate_in_the_mean(project):
    made, profile = replicates(2), profiles.load("full")
    for seed, runs in made.items():
        for name in runs:
            storage.write_json(Replicate(profile, seed).run(name).timing_path, {"seconds": [10.0 * (seed + 1), 5.0]})
    assert readme.training_seconds(profile, made) == 6 * (15 + 25) / 2


def test_only_what_stands_between_the_marks_is_replaced():
    text = f"before\n{readme.START}\nold\n{readme.END}\nafter\n"
    assert readme.update(text, "new") == f"before\n{readme.START}\nnew\n{readme.END}\nafter\n"
    assert readme.update(readme.update(text, "new"), "newer") == readme.update(text, "newer")


@pytest.mark.parametrize(
    "text",
    ["no marks", readme.START, readme.END + readme.START, 2 * readme.START + readme.END, readme.START + 2 * readme.END],
)
def test_marks_that_are_not_there_once_are_named(text):
    with pytest.raises(ValueError, match=r"^The marks .* must stand in it once"):
        readme.update(text, "new")

"""Sentences about the records, and the results at the top of the READMEs: words and numbers follow from the records."""

import dataclasses
import re

import pytest
from factories import accurate, readme, record, results, with_curves

from kdlib.design import ANALYSIS, Contrast
from kdlib.report import front_page, inference, measures, prose
from kdlib.storage.runs import Results
from kdlib.study import CONTROLS, EQUAL_RATES, EXTENDED, GUIDANCE, STUDY

LANGUAGES = ["en", "zh"]
EXPERIMENTS = Contrast("exp2", "exp1")
ABOVE, BELOW, LEVEL = {"en": "above", "zh": "高"}, {"en": "below", "zh": "低"}, {"en": "level with", "zh": "持平"}


def numbers(text):
    """All numbers of a text with their signs, sorted; those in the names of arms, which Chinese writes out, aside."""
    text = re.sub(r"exp(eriment|\.) \d", "", text, flags=re.IGNORECASE)
    return sorted(re.findall(r"[+−]?\d+(?:,\d{3})*(?:\.\d+)?", text))


# Comparisons


def test_a_comparison_gives_difference_interval_and_verdict():
    ahead = accurate(exp2=[90.0, 91.0, 92.1], exp1=[88.0, 89.0, 90.0])
    assert prose.compare(ahead, EXPERIMENTS) == (
        "Experiment 2 is 2.03 points above experiment 1 in test accuracy "
        "(95 % interval +1.89 to +2.18 over 3 seeds): a gap by the 0.8-point rule."
    )


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_comparison_follows_the_sign_in_both_languages(language):
    made = accurate(exp2=[90.0, 91.0, 92.1], exp1=[88.0, 89.0, 90.0])
    ahead = prose.compare(made, EXPERIMENTS, language)
    behind = prose.compare(made, Contrast("exp1", "exp2"), language)
    assert ABOVE[language] in ahead and BELOW[language] not in ahead
    assert BELOW[language] in behind and ABOVE[language] not in behind
    assert {"2.03", "+1.89", "+2.18", "3"} <= set(numbers(ahead))
    assert {"2.03", "−1.89", "−2.18", "3"} <= set(numbers(behind))
    level = prose.compare(accurate(exp2=[90.0, 90.1], exp1=[90.0, 90.1]), EXPERIMENTS, language)
    assert LEVEL[language] in level and ABOVE[language] not in level and BELOW[language] not in level
    assert numbers(level).count("+0.00") == 2


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("exp2", "exp1", "verdict"),
    [
        ([91.0, 91.1], [87.0, 87.1], "gap"),
        ([87.0, 87.1], [91.0, 91.1], "gap"),
        ([90.0, 90.1], [90.1, 90.2], "no gap"),
        ([90.0, 92.0], [90.0, 90.0], "undecided"),
        ([90.0], [80.0], "one seed: none"),
    ],
)
def test_the_verdict_is_told_in_both_languages(language, exp2, exp1, verdict):
    made = accurate(exp2=exp2, exp1=exp1)
    assert inference.verdict(inference.difference(made, EXPERIMENTS)) == verdict
    rule = {"en": "{} by the 0.8-point rule", "zh": "按 0.8 个百分点的规则，{}"}[language]
    words, *others = (prose.fill(name, language) for name in (verdict, *{"gap", "no gap", "undecided"} - {verdict}))
    sentence = re.split(":|：", prose.compare(made, EXPERIMENTS, language))[-1].strip(" .。")
    assert sentence == (rule.format(words) if verdict != "one seed: none" else words) and words not in others


# The question of the matrix


def studies():
    """Experiment 1 and 2 far above, far below, level with, and undecidedly beside the distilled student."""
    distilled = [90.0, 90.1]
    sides = {"above": [95.0, 95.1], "below": [85.0, 85.1], "level": distilled, "undecided": [88.0, 93.0]}
    for frozen in sides.values():
        for tuned in sides.values():
            yield accurate(distill=distilled, exp1=frozen, exp2=tuned)


def test_the_answer_names_the_differences_of_experiment_1_and_claims_no_gap():
    for made in studies():
        (english,), (chinese,) = prose.matrix(made), prose.matrix(made, "zh")
        first = english.split("Experiment 2")[0]
        assert "cannot tell" in first and "several things" in first
        assert all(word in first.split("several things")[1] for word in ("hints", "matrix", "fewer epochs", "frozen"))
        assert "多处" in chinese and all(word in chinese for word in ("无法判定", "hint", "矩阵", "较少", "冻结"))
        for text in (english, chinese):
            assert not re.search(r"\bgap\b|差距|\b0\.8\b|does not matter|no effect|没有影响", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_answer_follows_the_signs(language):
    made = accurate(distill=[90.0, 90.1], exp1=[87.0, 87.1], exp2=[91.5, 91.6])
    mirrored = accurate(distill=[90.0, 90.1], exp1=[91.5, 91.6], exp2=[87.0, 87.1])
    for results_, words, sizes in (
        (made, (BELOW, ABOVE), ["3.00", "1.50"]),
        (mirrored, (ABOVE, BELOW), ["1.50", "3.00"]),
    ):
        (text,) = prose.matrix(results_, language)
        said = re.findall(f"{ABOVE[language]}|{BELOW[language]}", text)
        assert said == [word[language] for word in words] and re.findall(r"\d\.\d\d", text) == sizes


SAME, APART, UNSURE = (0.0, 0.1, -0.1), (-3.0, -3.1, -2.9), (-1.0, 1.0, 3.0)


def of_the_matrix(*differences, seeds=3, **runs):
    """Results in which the primary contrasts of the extended study have these differences, one a seed."""
    for contrast, values in zip(EXTENDED.primary, differences, strict=True):
        runs |= {contrast.first: [90 + value for value in values[:seeds]], contrast.second: [90.0] * seeds}
    return accurate(EXTENDED, **runs)


@pytest.mark.parametrize(
    ("frozen", "tuned", "english", "chinese"),
    [
        (SAME, UNSURE, "No effect of leaving out the extra matrix was found:", "未发现去掉额外的矩阵对结果有影响："),
        (APART, SAME, "affects the result while the guided layers are frozen, and no effect was found where they are",
         "引导层冻结时，去掉额外的矩阵影响结果；引导层微调时未发现影响："),
        (UNSURE, APART, "affects the result where the guided layers are fine-tuned, and no effect was found while they",
         "引导层微调时，去掉额外的矩阵影响结果；引导层冻结时未发现影响："),
        (APART, APART, "affects the result, whether the guided layers are frozen or fine-tuned:",
         "无论引导层冻结还是微调，去掉额外的矩阵都影响结果："),
    ],
)  # fmt: skip
def test_the_question_is_answered_by_the_students_without_a_matrix(frozen, tuned, english, chinese):
    """Whatever a random matrix does, which the second sentence tells."""
    made = of_the_matrix(frozen, tuned, SAME, APART)
    estimates = [inference.difference(made, pair) for pair in EXTENDED.primary]
    for language, words in (("en", english), ("zh", chinese)):
        first, second = prose.answer(made, language)
        assert words in first
        for text, pair in ((first, estimates[:2]), (second, estimates[2:])):
            values = [inference.signed(value) for one in pair for value in (one.mean, one.low, one.high)]
            assert re.findall(r"[+−]\d+\.\d\d", text) == values
        assert "3 seeds" in first if language == "en" else "3 个随机种子" in first


@pytest.mark.parametrize(("p", "effect"), [(0.012, True), (0.013, False)])
def test_an_effect_has_a_p_value_below_a_twentieth_after_holms_correction_for_four(monkeypatch, p, effect):
    monkeypatch.setattr(inference, "p_value", lambda results_, pair: p if pair == EXTENDED.primary[0] else 0.9)
    first, _ = prose.answer(of_the_matrix(APART, SAME, SAME, SAME))
    assert first.startswith("No effect") != effect


def test_each_primary_contrast_has_its_verdict():
    made = of_the_matrix(APART, UNSURE, SAME, APART)
    for language, verdicts in (("en", ["a gap", "undecided", "no gap", "a gap"]),
                               ("zh", ["有差距", "无法判定", "没有差距", "有差距"])):  # fmt: skip
        text = "".join(prose.answer(made, language))
        assert re.findall(r"\d[:：] ?([^)）]+)[)）]", text) == verdicts


@pytest.mark.parametrize("rate", [1.0, 0.5])
def test_the_answer_says_so_where_learning_rates_differ_as_well(rate):
    first = {pair.first for pair in EXTENDED.primary}
    arms = [
        dataclasses.replace(arm, recipe=dataclasses.replace(arm.recipe, rate=rate if arm.name in first else 1.0))
        for arm in EXTENDED.arms
    ]
    made = Results(dataclasses.replace(EXTENDED, arms=tuple(arms)), of_the_matrix(*[SAME] * 4).by_seed)
    assert ("learning rate" in prose.answer(made)[1]) == ("学习率" in prose.answer(made, "zh")[1]) == (rate != 1)


def test_the_question_has_no_answer_from_one_seed_or_without_one_of_the_arms():
    assert prose.answer(of_the_matrix(*[APART] * 4, seeds=1)) == []
    for contrast in EXTENDED.primary:
        made = results(2, study=EXTENDED, images=20, without=[contrast.first])
        assert prose.answer(made) == []


def test_the_readme_opens_with_the_answer_and_tells_no_primary_contrast_twice():
    made = results(3, study=EXTENDED, images=200)
    core = Results(STUDY, results(3, images=200).by_seed)
    for language in LANGUAGES:
        text = front_page.text(core, made, language, 60)
        first, second = prose.answer(made, language)
        assert text.startswith(f"**{first}**\n\n{second}\n\n![") and prose.matrix(core, language)[0] not in text
        found = [line for line in text.splitlines() if line.startswith("- ")]
        assert found[: len(CONTROLS)] == [f"- {prose.compare(made, pair, language)}" for pair in CONTROLS]
        assert not {f"- {prose.compare(made, pair, language)}" for pair in EXTENDED.primary} & set(found)
        assert "(figures/regressor_accuracy.png)" in text
        (caption,) = (line for line in text.splitlines() if line.startswith("*S "))
        slower = [way.title for way in GUIDANCE if EXTENDED.arm(way.tuned).recipe.rate < 1]
        assert re.findall("“(.+?)”", caption) == slower and slower
        assert "(figures/accuracy_curves.png)" in front_page.text(core, Results(EXTENDED, core.by_seed), language, 60)


def test_the_answer_tells_what_an_equal_learning_rate_leaves_of_the_random_matrix():
    made = of_the_matrix(SAME, SAME, SAME, (1.0, 1.1, 0.9), half_rate=[90.8, 90.9, 90.8])
    estimate = inference.difference(made, EQUAL_RATES)
    for language, words in (("en", "at an equal one the difference is {} points ({} to {})"),
                            ("zh", "学习率相同时相差 {} 个百分点（{} 至 {}）")):  # fmt: skip
        figures = map(inference.signed, (estimate.mean, estimate.low, estimate.high))
        assert words.format(*figures) in prose.answer(made, language)[1]


def rising(**runs):
    """Results of one seed, of arms with these test accuracies after each epoch."""
    made = {run: record(run, epochs=len(values), accuracy=values[-1]) for run, values in runs.items()}
    return Results(STUDY, {0: {run: with_curves(made[run], test={"accuracy": runs[run]}) for run in runs}})


def test_a_short_runs_order_is_explained_by_the_published_curves():
    """Experiment 1 leads the baseline in the short run, and until epoch 3 of 4 of the published one."""
    published = rising(baseline=[50.0, 60.0, 70.0, 88.0], exp1=[70.0, 75.0, 80.0, 87.0], distill=[6.0, 7.0, 8.0, 89.0])
    short = rising(baseline=[60.0, 70.0], exp1=[75.0, 80.0], distill=[65.0, 81.0])
    (sentence,) = prose.reversals("04_exp1", short, published)
    assert sentence.startswith(
        "The baseline ends below experiment 1 here and above it in the published run, where it was"
    )
    assert "below it until epoch 3 of 4" in sentence
    assert not prose.reversals("04_exp1", published, published)
    always = rising(baseline=[90.0, 90.0], exp1=[80.0, 80.0])
    (sentence,) = prose.reversals("04_exp1", short, always)
    assert sentence.endswith("above it in the published run.")
    assert not prose.reversals("02_baseline", short, published), "of this notebook's contrasts none turns"


def test_a_short_run_is_compared_with_published_trainings_of_two_lengths():
    """Trained for more epochs, an arm has its tests at other epochs, and curves of another length."""
    published = rising(baseline=[50.0, 60.0, 70.0, 88.0], exp1=[70.0, 80.0, 87.0])
    short = rising(baseline=[60.0, 70.0], exp1=[75.0, 80.0])
    (sentence,) = prose.reversals("04_exp1", short, published)
    assert sentence.endswith("above it in the published run.")


def test_no_sentence_with_the_matrix_in_it_claims_a_gap():
    for made in studies():
        for sentence in prose.sentences(ANALYSIS, made):
            assert not ("matrix" in sentence and "gap" in sentence)


# Ordering, headline, stage one


def test_ordering_holds_or_not_in_the_mean_and_in_each_seed():
    holds = prose.ordering(accurate(baseline=[89, 89], distill=[89, 90], exp1=[85, 86], exp2=[91, 92]))[0]
    assert "holds for" in holds and holds.endswith("It holds in 2 of 2 seeds.")
    assert re.findall(r"\d\d\.\d\d", holds) == ["91.50", "89.50", "89.00", "85.50"]
    mixed = prose.ordering(accurate(baseline=[89, 89], distill=[89, 88], exp1=[85, 86], exp2=[91, 92]))[0]
    assert "does not hold for" in mixed and mixed.endswith("It holds in 1 of 2 seeds.")
    alone = prose.ordering(accurate(baseline=[89], distill=[89], exp1=[90], exp2=[91]))[0]
    assert "does not hold for" in alone and "seeds" not in alone
    assert re.findall(r"([\w ]+) \d\d\.\d\d", alone)[:2] == [" experiment 2", " experiment 1"]


def test_ordering_names_the_neighbours_whose_lead_is_in_doubt():
    close = accurate(baseline=[89, 89.1], distill=[89.2, 89], exp1=[85, 85.1], exp2=[91.2, 91])
    (doubt,) = prose.ordering(close)[1:]
    assert "the distilled student over the baseline" in doubt and "experiment" not in doubt
    clear = accurate(baseline=[89, 89.1], distill=[90, 90.1], exp1=[85, 85.1], exp2=[91, 91.1])
    assert len(prose.ordering(clear)) == 1


def test_headline_gives_test_and_training_accuracy_of_the_final_epoch():
    made = with_curves(record("exp1"), test={"accuracy": [95.0, 80.0]}, train={"accuracy": [99.0, 81.25]})
    sentence = prose.headline(Results(STUDY, {0: {"exp1": made}}), "exp1")
    assert sentence.startswith("Experiment 1 ")
    assert [number for number in numbers(sentence) if "." in number] == ["2.48", "80.00", "81.25"]
    assert "1,000 test images" in sentence


def test_it_is_told_when_stage_one_explains_almost_nothing():
    for r2, words in ((0.5, "explains 49 % of"), (0.06, "explains almost nothing of")):
        made = results(1, images=20, r2=r2)
        sentence = prose.stage_one(made, "hint")
        assert words in sentence and f"R² = {measures.final_explained(made.records('hint')[0]):.2f}" in sentence


# Of the notebooks


def test_each_notebook_is_told_by_its_arms_and_the_contrasts_that_they_complete():
    made = results(2, images=20)
    told = {notebook: prose.sentences(notebook, made) for notebook in STUDY.notebooks}
    assert told["01_teacher"] == [prose.headline(made, "teacher")]
    assert told["02_baseline"] == [
        prose.headline(made, "baseline"),
        prose.compare(made, Contrast("teacher", "baseline")),
    ]
    assert told["04_exp1"][:2] == [prose.stage_one(made, "hint"), prose.headline(made, "exp1")]
    assert told["05_exp2"][:2] == [prose.stage_one(made, "hint"), prose.headline(made, "exp2")]
    compared = [sentence for sentences in told.values() for sentence in sentences if "in test accuracy" in sentence]
    assert sorted(compared) == sorted(prose.compare(made, contrast) for contrast in STUDY.contrasts)


def test_the_analysis_is_told_by_the_primary_contrasts():
    made = results(2, images=20)
    told = prose.sentences(ANALYSIS, made)
    compared = [prose.compare(made, contrast) for contrast in STUDY.primary]
    assert told == [*prose.matrix(made), *compared, *prose.ordering(made)]


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("notebook", [*STUDY.notebooks, ANALYSIS])
def test_sentences_are_whole_and_of_readable_length(notebook, seeds):
    for sentence in prose.sentences(notebook, results(seeds, images=20)):
        assert sentence[0].isupper() and sentence.endswith(".") and len(sentence) < 500
        assert not re.search(r"nan|None|\{|  |-\d", sentence)


# The READMEs


def test_readme_shows_every_model_beside_the_note():
    made = results(5, images=200)
    lines = readme(made, "en", 3600).splitlines()
    row = next(line for line in lines if line.startswith("| student (exp. 2) |"))
    assert f"**{inference.accuracy(made, 'exp2').text(2, ' %')}**" in row and row.endswith("| 86.36 % |")
    assert len([line for line in lines if line.startswith("| ")]) == 1 + 1 + 5 + len(made.study.note.paper)
    assert "| FitNet 2 (Romero et al., 2015) | 862 k | – | 91.06 % | – | – |" in lines
    assert [line for line in lines if line.startswith("**")] == [f"**{prose.matrix(made)[0]}**"]
    assert [line for line in lines if line.startswith("- ")] == [
        f"- {line}" for line in front_page.findings(made, "en")
    ]


def test_findings_are_the_contrasts_whose_interval_excludes_zero_and_a_list_of_the_others():
    made = accurate(
        exp2=[90.0, 91.0, 92.0], exp1=[88.0, 89.0, 90.1], distill=[89.0, 91.0, 93.0], baseline=[80.0, 81.0, 82.0]
    )
    *clear, last = front_page.findings(made, "en")
    expected = [
        Contrast("exp2", "exp1"),
        Contrast("distill", "baseline"),
        Contrast("exp2", "baseline"),
        Contrast("baseline", "exp1"),
    ]
    assert clear == [prose.compare(made, contrast) for contrast in expected]
    assert last.endswith(
        "zero: experiment 2 − the distilled student (+0.00), the distilled student − experiment 1 (+1.97)."
    )
    assert len(front_page.findings(accurate(exp2=[90.0, 91.0], exp1=[88.0, 89.0]), "zh")) == 1


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_both_languages_give_the_same_numbers(seeds):
    english, chinese = (readme(results(seeds, images=200), language, 5000) for language in LANGUAGES)
    assert "in 83 minutes" in english  # a seed
    pairs = list(zip(english.splitlines(), chinese.splitlines(), strict=True))
    for one, other in [pair for pair in pairs if "CIFAR-10" in pair[0] or pair[0][:1] in "|-*"]:
        assert numbers(one) == numbers(other), one


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_caption_tells_of_an_earlier_recipe_where_one_record_is_of_another_than_todays(language):
    profile = STUDY.profile("full")
    schedules = {"teacher": profile.teacher, "stage one": profile.hint, "stage two": profile.student}
    today = {}
    for arm in STUDY.arms:
        schedule = dataclasses.asdict(schedules[arm.stage])
        made = record(arm.name, images=20)
        today[arm.name] = made.model_copy(update={"identity": made.identity.model_copy(update={"schedule": schedule})})
    other = Results(STUDY, {0: {**today, "exp1": record("exp1", images=20)}})
    words = {"en": "earlier", "zh": "较早"}[language]
    assert words not in readme(Results(STUDY, {0: today}), language, 60)
    assert words in readme(other, language, 60)


def test_the_caption_names_all_numbers_of_seeds_where_the_arms_differ_in_them():
    made = accurate(teacher=[92, 92], baseline=[89, 89.5], exp2=[91, None], hint=[None, 0])
    assert "over 2 seeds / 20 test images" in readme(made, "en", 60)

"""A study in which an arm was not run: every table and picture of the rest, with the missing one named."""

import re

import pandas as pd
import pytest
from factories import readme, results, save

from kdlib.design import ANALYSIS
from kdlib.report import cells, front_page, prose, study_plots, tables
from kdlib.storage import runs
from kdlib.study import EXTENDED, STUDY

ARMS = {arm.name: arm for arm in STUDY.arms}
LACKING = {name: results(2, images=100, epochs=6, without=(name,)) for name in ARMS}
ALONE = results(2, images=100, epochs=6, without=tuple(name for name in ARMS if name != "teacher"))

TABLES = {
    "summary": tables.summary,
    "contrasts": lambda made: tables.contrasts(made, 1),
    "dynamics": tables.dynamics,
    "conclusions": tables.conclusions,
    "most_confused": lambda made: tables.most_confused(made, 1),
    "one_pair": lambda made: tables.one_pair(made, 1, "cat – dog"),
    "better_classes": lambda made: tables.better_classes(made, 1),
    "beside": lambda made: tables.beside(made, results(2, images=100)),
    "beside, published": lambda made: tables.beside(results(2, images=100), made),
}
PICTURES = {
    "accuracy_curves": study_plots.accuracy_curves,
    "loss_curves": study_plots.loss_curves,
    "differences": study_plots.differences,
    "confusions": lambda made: study_plots.confusions(made, 1),
    "agreement": lambda made: study_plots.agreement(made, 1),
    "reliability": lambda made: study_plots.reliability(made, 1),
}


def named(made):
    return ", ".join(arm.title for arm in made.missing)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("missing", ARMS)
def test_every_table_of_the_rest_is_made(table, missing):
    made = TABLES[table](LACKING[missing])
    text = "" if made.empty else made.to_string()
    assert isinstance(made, pd.DataFrame) and "nan" not in text.lower()
    if ARMS[missing].classifies:  # the summary names it, the others leave it out
        assert (ARMS[missing].title in text) == (table == "summary")


@pytest.mark.parametrize("missing", ARMS)
def test_the_summary_names_the_missing_arm_and_gives_the_others_as_before(missing):
    here, whole = (tables.summary(made).xs("here", axis=1, level=1)
                   for made in (LACKING[missing], results(2, images=100, epochs=6)))  # fmt: skip
    if ARMS[missing].classifies:
        assert here[ARMS[missing].title].unique().tolist() == ["not run"]
        here, whole = (table.drop(columns=ARMS[missing].title) for table in (here, whole))
    else:
        rows = ["fit (hint) loss", "explained variance R² of the hint"]
        assert (here.loc[rows, ["student (exp. 1)", "student (exp. 2)"]] == "not run").all(axis=None)
        here, whole = (table.drop(index=rows) for table in (here, whole))
    assert here.equals(whole) and "not run" not in here.to_string()


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("missing", ["teacher", "baseline", "hint", "exp2"])  # one of each kind
def test_every_picture_of_the_rest_names_the_missing_one_at_its_foot(picture, missing):
    drawn = PICTURES[picture](LACKING[missing])
    drawn.draw_without_rendering()
    assert drawn.get_supxlabel().endswith(f"not run: {ARMS[missing].title}")


def test_without_a_contrast_the_picture_of_differences_says_so():
    drawn = study_plots.differences(ALONE)
    drawn.draw_without_rendering()
    assert drawn.axes[0].get_title() == "no contrast has both its arms trained" and not drawn.axes[0].axison


def test_of_one_model_the_picture_of_agreement_says_so():
    assert study_plots.agreement(ALONE, 1).axes[0].get_title() == "only one model was trained"


def test_a_foot_has_room_for_the_names_of_five_missing_arms():
    made = results(1, images=20, epochs=2, study=EXTENDED, without=[arm.name for arm in EXTENDED.arms[5:]])
    assert study_plots.differences(made).get_supxlabel().endswith(f"not run: {len(EXTENDED.arms) - 5} of the arms")


@pytest.mark.parametrize("missing", ARMS)
def test_what_is_said_is_about_the_rest(missing):
    arm, made = ARMS[missing], LACKING[missing]
    told = [sentence for notebook in [*STUDY.notebooks, ANALYSIS] for sentence in prose.sentences(notebook, made)]
    assert len(told) > 5
    if arm.classifies:
        assert not any(arm.called("en") in sentence.lower() for sentence in told)
    left = [contrast for contrast in STUDY.contrasts if missing not in (contrast.first, contrast.second)]
    for language in ("en", "zh"):
        text = readme(made, language, 3600)
        assert not re.search(r"nan|None|\*{3}|\n{3}", text)
        findings = [line for line in text.splitlines() if line.startswith("- ")]
        assert findings == [f"- {sentence}" for sentence in front_page.findings(made, language)]
        told_of = "\n".join(findings)
        assert all(
            STUDY.arm(name).called(language) in told_of.lower() for pair in left for name in (pair.first, pair.second)
        )


def test_the_question_of_the_matrix_is_left_out_only_where_an_arm_that_it_needs_is_missing():
    answered = {missing: bool(prose.matrix(made)) for missing, made in LACKING.items()}
    assert [missing for missing, answer in answered.items() if not answer] == ["distill", "exp1", "exp2"]
    for missing, made in LACKING.items():
        assert readme(made, "en", 60).startswith("**") == answered[missing]


@pytest.mark.parametrize("missing", ARMS)
def test_the_readme_has_a_row_for_each_model_that_was_run(missing):
    rows = re.findall(r"^\| (?!:)(.+?) \|", readme(LACKING[missing], "en", 60), re.MULTILINE)
    assert rows[1:-2] == [arm.title for arm in STUDY.arms if arm.classifies and arm.name != missing]


@pytest.mark.parametrize("missing", ARMS)
def test_the_analysis_says_at_its_top_what_was_not_run(missing):
    assert f"Not run: {ARMS[missing].title}." in cells.shown(LACKING[missing]).data
    assert "Not run" not in cells.shown(results(1, images=20)).data


def test_the_teacher_alone_is_a_study_too():
    for table in TABLES.values():
        assert isinstance(table(ALONE), pd.DataFrame)
    for picture in PICTURES.values():
        drawn = picture(ALONE)
        drawn.draw_without_rendering()
        assert drawn.get_supxlabel().endswith(f"not run: {named(ALONE)}")
    assert prose.sentences("01_teacher", ALONE) == [prose.headline(ALONE, "teacher")]
    assert "| teacher |" in readme(ALONE, "en", 60) and prose.sentences(ANALYSIS, ALONE) == []
    assert f"Not run: {named(ALONE)}." in cells.shown(ALONE).data


@pytest.mark.parametrize("missing", ARMS)
def test_the_records_of_the_rest_are_found(missing, project):
    made = LACKING[missing]
    save(made, STUDY.profile("full"))
    found = runs.load_all(STUDY.profile("full"))
    assert found.missing == [ARMS[missing]]
    assert tables.summary(found).equals(tables.summary(made))


def test_an_arm_that_one_seed_lacks_is_named_in_the_pictures_of_that_seed_alone():
    whole = results(2, images=100, epochs=6)
    made = runs.Results(STUDY, {0: whole.by_seed[0], 1: LACKING["exp1"].by_seed[1]})
    feet = {name: picture(made).get_supxlabel() for name, picture in PICTURES.items()}
    named = [name for name, foot in feet.items() if foot.endswith("not run: student (exp. 1)")]
    assert named == ["confusions", "agreement", "reliability"]

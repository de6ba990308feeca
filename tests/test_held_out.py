"""Tables of what was tried on held-out images."""

import pytest

from kdlib.report import held_out
from kdlib.report.inference import signed
from kdlib.storage import files
from kdlib.study import EXTENDED

BODIES = ("baseline", "wide_baseline", "distill", "wide_distill")


def save(project, **kinds):
    files.write_json(project / "results" / "selection.json", kinds)


def rates(arm, scores, values=(0.5, 1.0, 2.0), second=()):
    return {"arm": arm, "setting": "rate", "values": list(values), "scores": scores, "second": list(second)}


def test_before_anything_is_tried_the_tables_are_empty(project):
    assert held_out.trials().empty and held_out.grids(EXTENDED.arms).empty and held_out.bodies().empty


def test_a_trial_is_a_row_with_its_scores_and_what_it_moved(project):
    save(project, trials=[
        {"training": "baseline", "change": "", "scores": [84.34, 84.6], "moved": 0.0},
        {"training": "baseline", "change": "SGD", "scores": [79.12], "moved": -5.22},
    ])  # fmt: skip
    table = held_out.trials()
    assert table.index.tolist() == [("baseline", "the recipe"), ("baseline", "SGD")]
    assert table["scores"].tolist() == ["84.34, 84.60", "79.12"] and table["moved"].tolist() == [0, -5.22]


def test_the_grids_say_what_each_arm_chose_from_and_what_it_has(project):
    weights = {
        "arm": "joint_labels",
        "setting": "hint_weight",
        "values": [0.25, 1.0],
        "scores": [80.0, 81.0],
        "second": [],
    }
    save(
        project,
        grids=[
            rates("hint_random", [70.0, 71.5, 69.0]),
            rates("hint", [60, 61, 62, 60], (0.5, 1, 2, 4), [(1, 61.5), (2, 61.75)]),
            weights,
        ],
    )
    table = held_out.grids([EXTENDED.arm(name) for name in ("hint", "hint_random", "baseline")])
    assert table.columns.tolist() == ["chosen", "0.5", "1", "2", "4", "second seed"]
    own = f"{EXTENDED.arm('hint_random').recipe.rate:g}"
    assert table.loc[("stage one, S, random matrix", "rate")].tolist() == [own, "70.00", "71.50", "69.00", "", ""]
    assert table.loc[("stage one", "rate")].tolist()[1:] == ["60.00", "61.00", "62.00", "60.00", "1: 61.50, 2: 61.75"]
    assert len(table) == 2 and len(held_out.grids([EXTENDED.arm("joint_labels")])) == 1


@pytest.mark.parametrize("tried", [BODIES, BODIES[:3]])
def test_the_bodies_are_compared_at_the_rates_that_they_have(project, tried):
    save(project, grids=[rates(arm, [number, number + 0.25, number + 0.5]) for number, arm in enumerate(tried, 80)])
    scores = {
        arm: number + {0.5: 0, 1.0: 0.25, 2.0: 0.5}[EXTENDED.arm(arm).recipe.rate]
        for number, arm in enumerate(tried, 80)
    }
    table = held_out.bodies()
    assert table.columns.tolist() == ["baseline", "student (distilled)"][: len(tried) // 2]
    for name, column in zip(("baseline", "distill"), table, strict=False):
        pair = scores[name], scores[f"wide_{name}"]
        assert table[column].tolist() == [f"{pair[0]:.2f}", f"{pair[1]:.2f}", signed(pair[1] - pair[0])]

"""Tables of what `kdlib.selection` tried on held-out images, by which the settings were chosen.

They are empty where the project's folder has no such results; ``StorageError`` is raised if those are damaged.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from kdlib.design import Arm
from kdlib.report.inference import signed
from kdlib.storage import files, folders
from kdlib.study import EXTENDED


def trials() -> pd.DataFrame:
    """The trials that change one thing in a recipe: scores in percent, and what each change moved."""
    table = pd.DataFrame(_tried("trials"), columns=["training", "change", "scores", "moved"])
    table["change"] = table["change"].replace("", "the recipe")
    table["scores"] = [", ".join(f"{score:.2f}" for score in scores) for scores in table["scores"]]
    return table.set_index(["training", "change"])


def grids(arms: Iterable[Arm]) -> pd.DataFrame:
    """The score (%) of each value that an arm could have, and the value that it has.

    Scores are accuracies, of stage one R². Of values that gain enough there is a second seed, which decides.
    """
    known = {arm.name: arm for arm in arms}
    rows = {}
    for row in _tried("grids"):
        if row["arm"] in known:
            arm = known[row["arm"]]
            scores = {value: f"{score:.2f}" for value, score in zip(row["values"], row["scores"], strict=True)}
            again = ", ".join(f"{value:g}: {score:.2f}" for value, score in row["second"])
            chosen = f"{getattr(arm.recipe, row['setting']):g}"
            rows[arm.title, row["setting"]] = {"chosen": chosen, **scores, "second seed": again}
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    values = sorted(name for name in table if not isinstance(name, str))
    columns = ["chosen", *values, "second seed"] if rows else []
    return table[columns].rename(columns={value: f"{value:g}" for value in values})


def bodies() -> pd.DataFrame:
    """Accuracy (%) of both students without any hint, and how S′ differs from S: the note's third condition."""
    rates = {
        row["arm"]: dict(zip(row["values"], row["scores"], strict=True))
        for row in _tried("grids")
        if row["setting"] == "rate"
    }
    columns = {}
    for name in ("baseline", "distill"):
        pair = [EXTENDED.arm(name), EXTENDED.arm(f"wide_{name}")]
        if all(arm.name in rates for arm in pair):
            scores = [rates[arm.name][arm.recipe.rate] for arm in pair]
            columns[pair[0].title] = [*(f"{score:.2f}" for score in scores), signed(scores[1] - scores[0])]
    return pd.DataFrame(columns, index=["S", "S′", "difference (points)"] if columns else [])


def _tried(kind: str) -> list[dict[str, Any]]:
    path = folders.root() / "results" / "selection.json"
    return files.read_json(path).get(kind, []) if path.exists() else []

"""Tables of the arms beyond the note: each returns a pandas table, as text."""

import pandas as pd

from kdlib.design import Contrast
from kdlib.models import GUIDED_STAGE
from kdlib.report import inference, measures
from kdlib.report.inference import signed
from kdlib.report.tables import interval_text, tried
from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import EXTENDED, GUIDANCE


def guided(results: Results) -> pd.DataFrame:
    """Each way to guide a student, one a row, as text: means over the seeds, and what is gained over distillation.

    "alike" is linear CKA, 0 to 1, between guided layer and hint: after stage one, and after both kinds of stage two.
    "gain" is the accuracy minus that of the distilled student of the same body, in points, with its 95 % interval.
    """
    rows = {}
    for way in GUIDANCE:
        if not results.seeds(way.stage_one, way.frozen, way.tuned, way.distilled):
            continue
        last = {name: inference.over_seeds(results, name, _similarity) for name in way[1:4]}
        rows[way.title] = {
            "n": len(results.seeds(way.stage_one, way.frozen, way.tuned, way.distilled)),
            "R² of stage one": inference.over_seeds(results, way.stage_one, measures.final_explained).text(3),
        }
        rows[way.title] |= {f"alike, {title}": f"{last[name].mean:.2f}" for title, name in
                            zip(("stage one", "frozen", "fine-tuned"), way[1:4], strict=True)}  # fmt: skip
        for title, name in (("frozen", way.frozen), ("fine-tuned", way.tuned)):
            gain = inference.difference(results, Contrast(name, way.distilled))
            rows[way.title] |= {
                f"accuracy, {title}": inference.accuracy(results, name).text(2, " %"),
                f"gain, {title}": f"{signed(gain.mean)} ({interval_text(gain)})",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _similarity(record: Record) -> float:
    """Linear CKA of a student's guided layer with the hint."""
    return record.similarity[GUIDED_STAGE - 1]


def bodies() -> pd.DataFrame:
    """Held-out accuracy (%) of both students without any hint, and how S′ differs from S: the note's third condition.

    Empty where the project's folder has no such results. Raises ``StorageError`` if they are damaged.
    """
    found = tried()
    of_s = {row["training"]: row["scores"][0] for row in found.get("trials", []) if not row["change"]}
    of_wide = {row["arm"]: dict(zip(row["values"], row["scores"], strict=True)) for row in found.get("grids", [])}
    columns = {}
    for name in ("baseline", "distill"):
        wide = EXTENDED.arm(f"wide_{name}")
        if name in of_s and wide.name in of_wide:
            pair = [of_s[name], of_wide[wide.name][wide.recipe.rate]]
            columns[EXTENDED.arm(name).title] = [f"{value:.2f}" for value in pair] + [signed(pair[1] - pair[0])]
    return pd.DataFrame(columns, index=["S", "S′", "difference (points)"] if columns else [])


def grids(notebook: str) -> pd.DataFrame:
    """The held-out score (%) of each value that an arm of a notebook could have, and the value that it has.

    Scores are accuracies, of stage one R². Empty where the project's folder has no such results. Raises
    ``StorageError`` if they are damaged.
    """
    arms = {arm.name: arm for arm in EXTENDED.arms if arm.notebook == notebook}
    rows = {}
    for row in tried().get("grids", []):
        if row["arm"] in arms:
            arm = arms[row["arm"]]
            scores = {f"{value:g}": f"{score:.2f}" for value, score in zip(row["values"], row["scores"], strict=True)}
            rows[arm.title, row["setting"]] = {"has": f"{getattr(arm.recipe, row['setting']):g}"} | scores
    return pd.DataFrame.from_dict(rows, orient="index").fillna("")

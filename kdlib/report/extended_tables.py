"""Tables of the arms beyond the note: each returns a pandas table, as text."""

import pandas as pd

from kdlib.design import Contrast
from kdlib.models import GUIDED_STAGE
from kdlib.report import inference, measures
from kdlib.report.inference import signed
from kdlib.report.tables import interval_text
from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import GUIDANCE


def guided(results: Results) -> pd.DataFrame:
    """Each way to guide a student, one a row, as text: means over the seeds, and what is gained over distillation.

    A row is of the seeds that have all of its arms.

    "alike" is linear CKA, 0 to 1, between guided layer and hint: after stage one, and after both kinds of stage two.
    "gain" is the accuracy minus that of the distilled student of the same body, in points, with its 95 % interval.
    """
    rows = {}
    for way in GUIDANCE:
        seeds = results.seeds(way.stage_one, way.frozen, way.tuned, way.distilled)
        if not seeds:
            continue
        whole = Results(results.study, {seed: results.by_seed[seed] for seed in seeds})
        rows[way.title] = {
            "n": len(seeds),
            "R² of stage one": inference.over_seeds(whole, way.stage_one, measures.final_explained).text(3),
        }
        for title, name in (("stage one", way.stage_one), ("frozen", way.frozen), ("fine-tuned", way.tuned)):
            rows[way.title][f"alike, {title}"] = f"{inference.over_seeds(whole, name, _similarity).mean:.2f}"
        for title, name in (("frozen", way.frozen), ("fine-tuned", way.tuned)):
            gain = inference.difference(whole, Contrast(name, way.distilled))
            rows[way.title] |= {
                f"accuracy, {title}": inference.accuracy(whole, name).text(2, " %"),
                f"gain, {title}": f"{signed(gain.mean)} ({interval_text(gain)})",
            }
    return pd.DataFrame.from_dict(rows, orient="index")


def _similarity(record: Record) -> float:
    """Linear CKA of a student's guided layer with the hint."""
    return record.similarity[GUIDED_STAGE - 1]

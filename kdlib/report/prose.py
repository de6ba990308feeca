"""Sentences about the records, in English and Chinese: the templates of ``prose.toml``, filled with numbers."""

import dataclasses
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np

from kdlib import optimisers
from kdlib.report import inference, measures, tables
from kdlib.report.inference import Estimate, signed
from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import ANALYSIS, GAP, Contrast

Language = Literal["en", "zh"]

_COLUMNS = (
    "parameters", "training accuracy", "validation accuracy, final epoch", "validation accuracy, best epoch",
)  # fmt: skip

_EPOCHS = {"teacher": "teacher", "student": "stage two", "hint": "stage one"}  # stages whose epochs the caption names

_environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
_templates = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def say(name: str, language: Language = "en", **values: Any) -> str:
    """The sentence ``name`` of a language, filled with ``values``; it starts with a capital letter."""
    text = _word(name, language, **values)
    return text[0].upper() + text[1:]


def compare(results: Results, contrast: Contrast, language: Language = "en") -> str:
    """By how much the first arm is above or below the second, and the verdict."""
    estimate = inference.difference(results, contrast)
    return say(
        "compare",
        language,
        first=results.study.arm(contrast.first).called(language),
        second=results.study.arm(contrast.second).called(language),
        distance=_distance(results, estimate, contrast.second, language),
        low=signed(estimate.low),
        high=signed(estimate.high),
        n=_over(estimate, language),
        verdict=_word(inference.verdict(estimate), language, gap=GAP),
    )


def matrix(results: Results, language: Language = "en") -> list[str]:
    """What the note's two experiments can tell of its question, and what they cannot; nothing if one was not run."""
    if not results.seeds("exp1", "exp2", "distill"):
        return []
    distances = {
        name: _distance(results, inference.difference(results, Contrast(arm, "distill")), "distill", language)
        for name, arm in (("frozen", "exp1"), ("tuned", "exp2"))
    }
    return [say("matrix", language, **distances)]


def headline(results: Results, arm: str) -> str:
    """The test accuracy of an arm after the final epoch, and its training accuracy."""
    last = inference.accuracy(results, arm)
    training = inference.over_seeds(results, arm, measures.training_accuracy)
    return say(
        "headline",
        arm=results.study.arm(arm).called("en"),
        last=last.text(2, " %"),
        n=_over(last, "en"),
        training=training.text(2, " %"),
    )


def stage_one(results: Results, arm: str) -> str:
    """How much of the teacher's hint stage one explains."""
    loss = inference.over_seeds(results, arm, measures.final_loss("total")).mean
    r2 = inference.over_seeds(results, arm, measures.final_explained).mean
    little = r2 < measures.LITTLE
    return say("stage one", loss=f"{loss:.3f}", little=little, share=f"{100 * r2:.0f}", r2=f"{r2:.2f}")


def ordering(results: Results) -> list[str]:
    """Whether the note's ordering of the small networks holds here, and which of the leads are in doubt."""
    order, study = results.study.note.ordering, results.study
    seeds = results.seeds(*order)
    if not order or not seeds:
        return []
    accuracies = {
        arm: [measures.accuracy(results.by_seed[seed][arm]) for seed in seeds] for arm in order
    }  # {arm: [a value a seed]}
    means = {arm: float(np.mean(values)) for arm, values in accuracies.items()}
    count = sum(all(a >= b for a, b in pairwise(values)) for values in zip(*accuracies.values(), strict=True))
    here = sorted(means, key=means.get, reverse=True)
    names = {arm: study.arm(arm).called("en") for arm in order}
    sentences = [
        say(
            "ordering",
            order=" > ".join(names[arm] for arm in order),
            holds=all(a >= b for a, b in pairwise(means.values())),
            means=", ".join(f"{names[arm]} {means[arm]:.2f} %" for arm in here),
            seeds=len(seeds),
            count=count,
        )
    ]
    unsure = [
        f"{names[first]} over {names[second]}"
        for first, second in pairwise(here)
        if inference.difference(results, Contrast(first, second)).low <= 0
    ]
    return [*sentences, *([say("unsure", leads=" and of ".join(unsure))] if unsure else [])]


def sentences(notebook: str, results: Results) -> list[str]:
    """What the records tell of a notebook's question; comparisons with arms that were not run are left out.

    A training notebook is described by its own arms, and by the contrasts of which one of them is the later arm; the
    analysis by the primary contrasts.
    """
    study = results.study
    if notebook == ANALYSIS:
        told = [compare(results, contrast) for contrast in inference.available(results, study.primary)]
        return [*matrix(results), *told, *ordering(results)]
    order = [arm.name for arm in study.arms]
    needed = {need for arm in study.arms if arm.notebook == notebook for need in arm.needs}
    told = []
    for arm in study.arms:
        if not results.seeds(arm.name):
            continue
        if not arm.classifies and (arm.notebook == notebook or arm.name in needed):
            told.append(stage_one(results, arm.name))
        elif arm.notebook == notebook:
            told.append(headline(results, arm.name))
    for contrast in inference.available(results, study.contrasts):
        later = max(contrast.first, contrast.second, key=order.index)
        if study.arm(later).notebook == notebook:
            told.append(compare(results, contrast))
    return told


def readme(results: Results, language: Language, seconds: float) -> str:
    """Picture, table, answer and findings for the top of the README, as Markdown.

    Args:
        results: the published records.
        language: of the README.
        seconds: how long a seed trained.
    """
    study = results.study
    table = tables.summary(results).xs("here", axis=1, level=1)
    note = study.note.figures.get("validation accuracy, best epoch", {})
    rows = []
    for arm in results.models:
        cells = [table.at[row, arm.title] for row in _COLUMNS]
        cells[2] = f"**{cells[2]}**"
        title = arm.title if language == "en" else arm.title_zh or arm.title
        rows.append([title, *cells, f"{note[arm.name]} %" if arm.name in note else tables.NOTHING])
    epochs = {name: _epochs(results, stage) for name, stage in _EPOCHS.items()}
    caption = say(
        "caption",
        language,
        images=f"{results.any_record.identity.data['train_images']:,}",
        seeds=len(results.by_seed),
        precision=_all(results, lambda record: record.identity.precision),
        device=_all(results, lambda record: record.machine["device"]),
        threads=_all(results, lambda record: record.machine["threads"]),
        hours=f"{seconds / 3600:.1f}",
        n=" / ".join(dict.fromkeys(_over(inference.accuracy(results, arm.name), language) for arm in results.models)),
        earlier=any(_is_earlier(record, results) for runs in results.by_seed.values() for record in runs.values()),
        **epochs,
    )
    return (
        _environment.from_string(_templates["readme"]["both"])
        .render(
            picture=say("picture", language),
            head=say("head", language),
            rows=rows,
            caption=caption,
            answers=matrix(results, language),
            findings=findings(results, language),
        )
        .rstrip()
    )


def findings(results: Results, language: Language) -> list[str]:
    """The contrasts whose interval excludes zero, a sentence each, and one sentence that lists the others."""
    clear, open_ = [], []
    for contrast in inference.available(results, results.study.contrasts):
        estimate = inference.difference(results, contrast)
        if estimate.low > 0 or estimate.high < 0:
            clear.append(compare(results, contrast, language))
        else:
            first, second = (results.study.arm(arm).called(language) for arm in (contrast.first, contrast.second))
            open_.append(f"{first} − {second} ({signed(estimate.mean)})")
    comma = {"en": ", ", "zh": "，"}[language]
    return [*clear, *([say("open", language, contrasts=comma.join(open_))] if open_ else [])]


def _is_earlier(record: Record, results: Results) -> bool:
    """Whether a record was made by another recipe than its profile has today."""
    stage = results.study.arm(record.run).stage
    schedule = results.study.profile(record.profile).schedule(stage)
    now = {"optimiser": optimisers.NAME, **dataclasses.asdict(schedule)}
    return record.identity.stream != stage or record.identity.schedule != now


def _epochs(results: Results, stage: str) -> int | str:
    """How many epochs the arms of a stage were trained; a dash where none of them was."""
    schedules = [results.records(arm.name)[0].identity.schedule for arm in results.study.arms
                 if arm.stage == stage and results.seeds(arm.name)]  # fmt: skip
    return schedules[-1]["epochs"] if schedules else tables.NOTHING


def _all(results: Results, read: Any) -> str:
    """What the records hold in one place: one value, or all of them."""
    return " / ".join(sorted({str(read(record)) for runs in results.by_seed.values() for record in runs.values()}))


def _word(name: str, language: Language, **values: Any) -> str:
    """A part of a sentence: like `say`, but as it stands."""
    return _environment.from_string(_templates[name][language]).render(values)


def _over(estimate: Estimate, language: Language) -> str:
    return _word(estimate.source, language, n=f"{estimate.n:,}")


def _distance(results: Results, estimate: Estimate, second: str, language: Language) -> str:
    """Where the first of two arms stands: "1.84 points above", or "level with" where that is 0.00."""
    size = f"{abs(estimate.mean):.2f}"
    second = results.study.arm(second).called(language)
    return _word("distance", language, level=float(size) == 0, size=size, above=estimate.mean > 0, second=second)

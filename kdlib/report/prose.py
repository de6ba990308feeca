"""Sentences about the records, in English and Chinese: the templates of ``prose.toml``, filled with numbers."""

import dataclasses
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import jinja2
import numpy as np

from kdlib.design import ANALYSIS, GAP, Contrast
from kdlib.report import inference, measures
from kdlib.report.inference import Estimate, signed
from kdlib.storage.records import Record
from kdlib.storage.runs import Results
from kdlib.study import EQUAL_RATES

Language = Literal["en", "zh"]

_environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False)
_templates = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def say(name: str, language: Language = "en", **values: Any) -> str:
    """The sentence ``name`` of a language, filled with ``values``; it starts with a capital letter."""
    text = fill(name, language, **values)
    return text[0].upper() + text[1:]


def compare(results: Results, contrast: Contrast, language: Language = "en") -> str:
    """By how much the first arm is above or below the second, and the verdict."""
    estimate = inference.difference(results, contrast)
    first, second = names(results, contrast, language)
    seeds = len(results.seeds(contrast.first, contrast.second))
    distance, told = _distance(results, contrast, language), _figures(estimate, language)
    n = over(estimate, language)
    return say("compare", language, first=first, second=second, distance=distance, seeds=seeds, gap=GAP, n=n, **told)


def matrix(results: Results, language: Language = "en") -> list[str]:
    """What the note's two experiments can tell of its question, and what they cannot; nothing if one was not run."""
    if not results.seeds("exp1", "exp2", "distill"):
        return []
    frozen, tuned = (_distance(results, Contrast(arm, "distill"), language) for arm in ("exp1", "exp2"))
    return [say("matrix", language, frozen=frozen, tuned=tuned)]


def answer(beyond: Results, language: Language = "en") -> list[str]:
    """Whether the matrix matters: a sentence on students guided without one, another on those with a random one.

    From the four primary contrasts of the extended study, and `EQUAL_RATES` if it was run. An effect is a p-value below
    0.05 by Holm's method. Nothing unless each primary contrast was run with several seeds.
    """
    pairs = beyond.study.primary
    if not all(len(beyond.seeds(pair.first, pair.second)) > 1 for pair in pairs):
        return []
    estimates = [inference.difference(beyond, pair) for pair in pairs]
    p_values = inference.holm([inference.p_value(beyond, pair) for pair in pairs])
    found: dict[str, dict[str, Any]] = {"none": {}, "random": {}}
    for pair, estimate, p in zip(pairs, estimates, p_values, strict=True):
        recipe = beyond.study.arm(pair.first).recipe
        found[recipe.regressor]["frozen" if recipe.scale == 0 else "tuned"] = {
            "effect": p < 1 - inference.CONFIDENCE,
            **_figures(estimate, language),
        }
    arms = [[beyond.study.arm(name) for name in (pair.first, pair.second)] for pair in pairs]
    rates = any(first.recipe.rate != second.recipe.rate for first, second in arms)
    equal = None
    if rates and beyond.seeds(EQUAL_RATES.first, EQUAL_RATES.second):
        equal = _figures(inference.difference(beyond, EQUAL_RATES), language)
    without, random = (fill("effect", language, random=name == "random", **found[name]) for name in found)
    return [
        say("answer", language, effect=without, n=over(estimates[0], language)),
        say("random matrix", language, effect=random, rates=rates, equal=equal, gap=GAP, tests=len(pairs)),
    ]


def headline(results: Results, arm: str) -> str:
    """The test accuracy of an arm after the final epoch, and its training accuracy."""
    last = inference.accuracy(results, arm)
    training = inference.over_seeds(results, arm, measures.training_accuracy).text(2, " %")
    name = results.study.arm(arm).called("en")
    return say("headline", arm=name, last=last.text(2, " %"), n=over(last, "en"), training=training)


def stage_one(results: Results, arm: str) -> str:
    """How much of the teacher's hint stage one explains."""
    loss = inference.over_seeds(results, arm, measures.final_loss("total")).mean
    r2 = inference.over_seeds(results, arm, measures.final_explained).mean
    little = r2 < measures.LITTLE
    return say("stage one", loss=f"{loss:.3f}", little=little, share=f"{100 * r2:.0f}", r2=f"{r2:.2f}")


def ordering(results: Results) -> list[str]:
    """Whether the note's ordering of the small networks holds here, and which of the leads are in doubt."""
    order = list(results.study.note.ordering)
    accuracies = np.array([[measures.accuracy(record) for record in runs] for runs in results.together(*order)])
    if not accuracies.size:
        return []
    means = dict(zip(order, accuracies.mean(axis=0), strict=True))
    here = sorted(order, key=means.get, reverse=True)
    names = {arm: results.study.arm(arm).called("en") for arm in order}
    told = [
        say(
            "ordering",
            order=" > ".join(names.values()),
            holds=here == order,
            means=", ".join(f"{names[arm]} {means[arm]:.2f} %" for arm in here),
            seeds=len(accuracies),
            count=(np.diff(accuracies) <= 0).all(axis=1).sum(),
        )
    ]
    unsure = [
        f"{names[first]} over {names[second]}"
        for first, second in pairwise(here)
        if inference.difference(results, Contrast(first, second)).low <= 0
    ]
    if unsure:
        told.append(say("unsure", leads=" and of ".join(unsure)))
    return told


def sentences(notebook: str, results: Results) -> list[str]:
    """What the records tell of a notebook's question; comparisons with arms that were not run are left out.

    A training notebook is described by its own arms, and by the contrasts of which one of them is the later arm; the
    analysis by the primary contrasts; notebooks beyond it by their primary contrasts or, without any, by all.
    """
    study = results.study
    told = [compare(results, contrast) for contrast in _contrasts(notebook, results)]
    if notebook == ANALYSIS:
        return [*matrix(results), *told, *ordering(results)]
    if notebook > ANALYSIS:
        return told
    own = {arm.name for arm in study.arms if arm.notebook == notebook}
    needed = {need for arm in own for need in study.arm(arm).needs}
    models = []
    for arm in study.arms:
        if results.seeds(arm.name) and arm.classifies and arm.name in own:
            models.append(headline(results, arm.name))
        elif results.seeds(arm.name) and not arm.classifies and arm.name in own | needed:
            models.append(stage_one(results, arm.name))
    return models + told


def _contrasts(notebook: str, results: Results) -> list[Contrast]:
    """The contrasts that a notebook tells of, as far as both arms were run; see `sentences`."""
    study = results.study
    if notebook == ANALYSIS:
        return inference.available(results, study.primary)
    arms = {arm.name: arm for arm in study.arms}
    order = list(arms)
    own = [
        contrast
        for contrast in study.contrasts
        if arms[max(contrast.first, contrast.second, key=order.index)].notebook == notebook
    ]
    primary = [contrast for contrast in own if contrast in study.primary]
    return inference.available(results, primary if primary and notebook > ANALYSIS else own)


def reversals(notebook: str, results: Results, published: Results) -> list[str]:
    """Of each contrast that a notebook tells of and whose sign differs from the published run's, when it turned there.

    A short run may end where a long one still was on its way: the published curves show it.
    """
    told = []
    for contrast in _contrasts(notebook, results):
        pairs = published.together(contrast.first, contrast.second)
        here = inference.difference(results, contrast).mean
        if not pairs or here * inference.difference(published, contrast).mean >= 0:
            continue
        first, second = names(results, contrast, "en")
        epochs, turned = pairs[0][0].epochs("test"), None
        if all(record.epochs("test") == epochs for pair in pairs for record in pair):  # trainings of one length
            curves = [np.subtract(*(record.test["accuracy"] for record in pair)) for pair in pairs]
            alike = np.flatnonzero(here * np.mean(curves, axis=0) > 0)
            turned = epochs[alike[-1]] if alike.size else None
        told.append(say("reversal", first=first, second=second, above=here > 0, turned=turned, epochs=epochs[-1]))
    return told


def earlier(results: Results) -> bool:
    """Whether a record was made by another recipe than its profile has today."""

    def differs(record: Record) -> bool:
        arm = results.study.arm(record.run)
        now = dataclasses.asdict(arm.schedule(results.study.profile(record.profile)))
        return record.identity.stream != arm.stage or record.identity.schedule != now

    return any(differs(record) for records in results.by_seed.values() for record in records.values())


def fill(name: str, version: str, **values: Any) -> str:
    """The template ``name`` in a language, or in the only version that it has, filled with ``values``."""
    return _environment.from_string(_templates[name][version]).render(values)


def over(estimate: Estimate, language: Language) -> str:
    """Of what an interval is over, and of how many."""
    return fill(estimate.source, language, n=f"{estimate.n:,}")


def names(results: Results, contrast: Contrast, language: Language) -> list[str]:
    """What sentences call the two arms."""
    return [results.study.arm(arm).called(language) for arm in (contrast.first, contrast.second)]


def _figures(estimate: Estimate, language: Language) -> dict[str, str]:
    """A difference, its interval and its verdict, as text."""
    figures = {name: signed(getattr(estimate, name)) for name in ("mean", "low", "high")}
    return figures | {"verdict": fill(inference.verdict(estimate), language)}


def _distance(results: Results, contrast: Contrast, language: Language) -> str:
    """Where the first of two arms stands: "1.84 points above", or "level with" where that is 0.00."""
    mean, (_, second) = inference.difference(results, contrast).mean, names(results, contrast, language)
    size = f"{abs(mean):.2f}"
    return fill("distance", language, level=float(size) == 0, size=size, above=mean > 0, second=second)

"""The front page, at the top of the READMEs and on the book's cover: answer, picture, table, findings."""

from collections.abc import Callable

from kdlib.report import inference, prose, tables
from kdlib.report.inference import signed
from kdlib.report.prose import Language
from kdlib.settings import PUBLISHED, Profile
from kdlib.storage import runs
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate, Results
from kdlib.study import CONTROLS, EXTENDED, GUIDANCE, STUDY

_COLUMNS = ("parameters", "training accuracy", "validation accuracy, final epoch", "validation accuracy, best epoch")
_EPOCHS = {"teacher": "teacher", "student": "stage two", "hint": "stage one"}  # stages whose epochs the caption names


def text(results: Results, beyond: Results, language: Language, seconds: float) -> str:
    """Answer, picture, table and findings, as Markdown.

    Args:
        results, beyond: of the note's arms, and of all.
        language: of the text.
        seconds: of training, a seed of the note's arms.
    """
    answers = prose.answer(beyond, language)
    controls = inference.available(beyond, CONTROLS) if answers else []  # the primary contrasts stand in the answer
    table = tables.summary(results).xs("here", axis=1, level=1)
    note = results.study.note.figures.get("validation accuracy, best epoch", {})
    rows = []
    for arm in results.models:
        parameters, training, last, best = (table.at[row, arm.title] for row in _COLUMNS)
        title = arm.title if language == "en" else arm.title_zh or arm.title
        noted = f"{note[arm.name]} %" if arm.name in note else tables.NOTHING
        rows.append([title, parameters, training, f"**{last}**", best, noted])
    for network, (parameters, last) in results.study.note.paper.items():
        title = f"{network} (Romero et al., 2015)"
        rows.append([title, parameters, tables.NOTHING, f"{last} %", tables.NOTHING, tables.NOTHING])
    records = [record for arms in results.by_seed.values() for record in arms.values()]

    def all_of(read: Callable[[Record], object], stage: str | None = None) -> str:
        """What the records, or those of a stage, hold in one place: one value, or all of them."""
        values = {str(read(record)) for record in records if stage in (None, results.study.arm(record.run).stage)}
        return " / ".join(sorted(values)) or tables.NOTHING

    accuracies = [inference.accuracy(results, arm.name) for arm in results.models]
    caption = prose.say(
        "caption",
        language,
        images=f"{results.any_record.identity.data['train_images']:,}",
        seeds=len(results.by_seed),
        **{name: all_of(lambda record: record.identity.schedule["epochs"], stage) for name, stage in _EPOCHS.items()},
        precision=all_of(lambda record: record.identity.precision),
        device=all_of(lambda record: record.machine["device"]),
        minutes=f"{seconds / 60:.0f}",
        operations=f"{training_operations(results):.1e}".replace("e+", "e"),
        n=" / ".join(dict.fromkeys(prose.over(estimate, language) for estimate in accuracies)),
        earlier=prose.earlier(results),
    )
    shown = picture(beyond)
    slower = [f"“{way.title}”" for way in GUIDANCE if beyond.study.arm(way.tuned).recipe.rate < 1]
    return prose.fill(
        "readme",
        "both",
        picture=shown,
        shown=prose.say(shown, language),
        bodies=prose.say("bodies", language, slower=slower) if answers else "",
        head=prose.say("head", language),
        rows=rows,
        caption=caption,
        answers=answers or prose.matrix(results, language),
        findings=[prose.compare(beyond, pair, language) for pair in controls] + findings(results, language),
    ).rstrip()


def picture(beyond: Results) -> str:
    """The name of the figure that shows the answer or, while there is none, the accuracies of the note's models."""
    return "regressor_accuracy" if prose.answer(beyond) else "accuracy_curves"


def findings(results: Results, language: Language) -> list[str]:
    """The contrasts whose interval excludes zero, a sentence each, and one sentence that lists the others."""
    told, others = [], []
    for contrast in inference.available(results, results.study.contrasts):
        estimate = inference.difference(results, contrast)
        if estimate.low > 0 or estimate.high < 0:
            told.append(prose.compare(results, contrast, language))
        else:
            others.append(f"{' − '.join(prose.names(results, contrast, language))} ({signed(estimate.mean)})")
    if others:
        told.append(prose.say("open", language, contrasts={"en": ", ", "zh": "，"}[language].join(others)))
    return told


def published(language: Language) -> str:
    """What the top of a README shows: the published run."""
    profile = STUDY.profile(PUBLISHED)
    results, beyond = runs.load_all(profile, including=0), runs.load_all(profile, EXTENDED)
    return text(results, beyond, language, training_seconds(profile, results))


def training_seconds(profile: Profile, results: Results) -> float:
    """How long a seed of a profile trained, in the mean; tests between the epochs included."""
    done = [Replicate(profile, seed).run(arm) for seed, arms in results.by_seed.items() for arm in arms]
    return sum(sum(run.timing().get("seconds", [])) for run in done) / len(results.by_seed)


def training_operations(results: Results) -> float:
    """Floating-point operations of a seed's trainings, in the mean, by the usual count: a multiplication is two, with
    its addition, and an image takes three times a forward pass. What the teacher computes for its students is left out.
    """
    images = [
        record.multiplications * record.identity.data["train_images"] * record.identity.schedule["epochs"]
        for arms in results.by_seed.values()
        for record in arms.values()
    ]
    return 6 * sum(images) / len(results.by_seed)

"""What a notebook displays around its experiment: the published answer, the kind of run, what it found."""

from IPython.display import Markdown

from kdlib.datasets import DATASETS
from kdlib.report import prose
from kdlib.storage import runs
from kdlib.storage.records import Record
from kdlib.storage.runs import NotTrained, Replicate, Results
from kdlib.study import PUBLISHED, STUDY, Profile

DIGITS = "Handwritten digits, not CIFAR-10: this run shows that everything works, and tells nothing about distillation."


def banner(profile: Profile) -> Markdown:
    """What kind of run a notebook shows, so that nobody takes its numbers for others."""
    if profile.dataset == "digits":
        return Markdown(f"> ⚠️ **{DIGITS}** (profile `{profile.name}`)")
    images = "all 50,000" if profile.train_images is None else f"{profile.train_images:,} of the 50,000"
    text = (
        f"Profile `{profile.name}`: {images} training images of CIFAR-10, {profile.teacher.epochs} epochs for the "
        f"teacher, {profile.student.epochs} for each student, {profile.hint.epochs} more for stage one."
    )
    if profile.changes:
        changes = ", ".join(f"{name} {value:g}" for name, value in profile.changes)
        text += f" **Changed: {changes}**; stored under a name of its own."
    return Markdown("> " + text)


def shown(results: Results) -> Markdown:
    """Which records the analysis shows, and which arms they lack."""
    record = results.any_record
    if record.identity.data["name"] == "digits":
        text = f"⚠️ **{DIGITS}**"
    else:
        images, dataset = f"{record.identity.data['train_images']:,}", DATASETS[record.identity.data["name"]].title
        text = f"{images} training images of {dataset}, {len(results.by_seed)} seed(s), profile `{record.profile}`."
    if results.missing:
        text += f" **Not run: {', '.join(arm.title for arm in results.missing)}.**"
    return Markdown("> " + text)


def answer(notebook: str) -> Markdown:
    """A notebook's answer, from the published records."""
    try:
        results = runs.load_all(STUDY.profile(PUBLISHED))
    except NotTrained:
        return Markdown("**Answer.** There is no published run yet; what this run found stands at the end.")
    seeds = f", {len(results.by_seed)} seeds" if len(results.by_seed) > 1 else ""
    return Markdown(f"**Answer** (published run{seeds}). {' '.join(prose.sentences(notebook, results))}")


def found(notebook: str, replicate: Replicate, *new: Record) -> Markdown:
    """What the runs ``new`` of a notebook show, beside the standard runs of the same replicate."""
    records = {}
    for arm in replicate.study.arms:
        try:
            records[arm.name] = replicate.run(arm.name).record()
        except NotTrained:
            continue
    records |= {replicate.study.arm(record.run).name: record for record in new}
    results = Results(replicate.study, {replicate.seed: records})
    return Markdown("\n".join(f"- {sentence}" for sentence in prose.sentences(notebook, results)))

"""Made-up records, for tests of what reads them."""

import hashlib
import zlib

import numpy as np

from kdlib.data import DATASETS
from kdlib.editions import study_of
from kdlib.storage import files
from kdlib.storage.records import Identity, Record
from kdlib.storage.runs import Replicate, Results
from kdlib.study import STUDY

STEPS = 20  # an epoch
MEANS = {"teacher": 91.8, "baseline": 89.6, "distill": 90.3, "exp1": 87.9, "exp2": 91.0}  # %; of other arms 90


def record(run="teacher", seed=0, *, accuracy=90.0, epochs=None, images=1000, r2=0.5, profile="full", **fields):
    """A finished run with curves of a likely shape, always the same for the same arguments.

    ``accuracy`` is the last one, in percent; of ``epochs`` other than the profile's it does not belong to the study;
    ``r2`` is where stage one ends; ``fields`` are put in the record, e.g. ``names=[…]`` of the classes.
    """
    arm, settings = study_of(profile).arm(run), study_of(profile).profile(profile)
    epochs = epochs or arm.schedule(settings).epochs
    names = list(fields.get("names", DATASETS[settings.dataset].classes))
    random = np.random.default_rng([zlib.crc32(run.encode()), seed])
    done = np.arange(1, epochs + 1) / epochs
    rest = 0.1 * (1 - done) + 0.9 * np.exp(-6 * done) * (1 - done)  # falls from almost 1 to 0
    noise = random.normal(0, 1, epochs) * (1 - done)
    if not arm.classifies:
        end = (1 - r2) * (1 + 0.02 * random.normal())
        train = {"total": end + 0.5 * rest + 0.01 * noise, "power": np.full(epochs, 1.0)}
        test = {"total": train["total"] + 0.02, "power": np.full(epochs, 1.02)}
    else:
        error = 1 - accuracy / 100
        more = 1.5 + 1.5 * random.random()  # of training than of test accuracy
        train = {"total": error * 2 + 2 * rest, "accuracy": accuracy + more - 70 * rest}
        test = {"total": error * 3 + 2 * rest + 0.1 * abs(noise), "accuracy": accuracy - 70 * rest + 3 * noise}
        if "teacher" in arm.needs:
            for curves in (train, test):
                curves |= {"hard": curves["total"] * 1.1, "soft": curves["total"] * 0.9}
                curves |= {"hint": curves["total"] * 0.5} if arm.hint_weight else {}
    losses = {name: np.repeat(curve, STEPS) for name, curve in train.items() if name != "accuracy"}
    steps = {name: curve * random.lognormal(0, 0.1, epochs * STEPS) for name, curve in losses.items()}
    correct = round(images * accuracy / 100)
    labels, predictions = _tested(images, correct, len(names), random) if arm.classifies else ([], [])
    content = {
        "run": run, "profile": profile, "names": names, "identity": identity(run, seed, epochs, profile),
        "machine": {"device": "AMD EPYC", "threads": 2}, "weights": {"model": digest(run, seed)},
        "parameters": 1_350_000 if run == "teacher" else 306_000, "multiplications": 25_000_000,
        "steps": {name: curve.tolist() for name, curve in steps.items()},
        "train": {name: curve.tolist() for name, curve in train.items()},
        "test": {name: curve.tolist() for name, curve in test.items()},
        "tested": list(range(1, epochs + 1)), "labels": labels, "predictions": predictions,
    }  # fmt: skip
    return Record(**content | fields)


def digest(run, seed):
    """What stands for the digest of a run's weights."""
    return hashlib.sha256(f"{run} {seed}".encode()).hexdigest()


def identity(run, seed, epochs, profile):
    """All that made a run."""
    arm, settings = study_of(profile).arm(run), study_of(profile).profile(profile)
    shape = arm.shape(settings)
    start = {"model": digest("first weights", seed)}
    for need in arm.needs:
        start["teacher" if need == "teacher" else "model"] = digest(need, seed)
    return Identity(
        arm=arm.settings,
        widths=[list(block) for block in shape.widths],
        activation=shape.activation,
        objective={"name": "Hint" if not arm.classifies else "Distill" if "teacher" in arm.needs else "Classify"},
        schedule=vars(arm.schedule(settings)) | {"epochs": epochs},
        data={"name": settings.dataset, "train_images": 50_000},
        seed=seed,
        precision="bfloat16",
        start=start,
        code={},
    )


def _tested(images, correct, classes, random):
    """Labels and predictions of test images."""
    labels = np.arange(images) % classes
    wrong = np.isin(np.arange(images), random.choice(images, images - correct, replace=False))
    return labels.tolist(), ((labels + wrong * random.integers(1, classes, images)) % classes).tolist()


def results(seeds=1, *, accuracies=None, without=(), **fields):
    """The records of the study but for the arms ``without``; ``accuracies`` (%) are the last ones of some arms."""
    means = MEANS | (accuracies or {})

    def accuracy(run, seed):
        # All models of a seed share part of its deviation.
        shared = np.random.default_rng(seed).normal(0, 0.2)
        return means.get(run, 90.0) + shared + np.random.default_rng([seed, zlib.crc32(run.encode())]).normal(0, 0.1)

    names = [arm.name for arm in STUDY.arms if arm.name not in without]
    return Results(
        STUDY,
        {seed: {run: record(run, seed, accuracy=accuracy(run, seed), **fields) for run in names}
         for seed in range(seeds)},
    )  # fmt: skip


def with_curves(made, **parts):
    """The record with other values of some curves, e.g. ``test={"accuracy": […]}``; of any number of epochs."""
    changed = {part: getattr(made, part) | values for part, values in parts.items()}
    if "test" in parts:
        changed["tested"] = list(range(1, len(next(iter(parts["test"].values()))) + 1))
    return made.model_copy(update=changed)


def sparsely(made, step):
    """The record of a run whose test split was evaluated after every so many epochs."""
    tested = made.tested[::-1][::step][::-1]
    test = {name: [values[epoch - 1] for epoch in tested] for name, values in made.test.items()}
    return made.model_copy(update={"tested": tested, "test": test})


def accurate(**runs):
    """Results whose arms end at these test accuracies (%), one a seed; None where an arm was not run."""
    made = {}
    for run, values in runs.items():
        for seed, value in enumerate(values):
            if value is not None:
                last = with_curves(record(run, seed, images=20, epochs=1), test={"accuracy": [value]})
                made.setdefault(seed, {})[run] = last
    return Results(STUDY, {seed: made[seed] for seed in sorted(made)})


def classified(labels, predictions, run="teacher", names=("ant", "bee", "cow")):
    """A record of these test images, a digit each: true and predicted class."""
    numbers = {"labels": [int(digit) for digit in labels], "predictions": [int(digit) for digit in predictions]}
    return record(run, names=list(names), **numbers)


def save(made, profile):
    """Store records, with something in the place of weights, where kdlib finds them."""
    for seed, runs in made.by_seed.items():
        for name, made_record in runs.items():
            run = Replicate(profile, seed).run(name)
            made_record.save(run.record_path)
            files.write_bytes(run.weights_path, b"weights")

"""Made-up records, for tests of what reads them."""

import hashlib
import zlib

import numpy as np

from kdlib.datasets import DATASETS
from kdlib.report import front_page
from kdlib.storage import files
from kdlib.storage.records import Identity, Record
from kdlib.storage.runs import Replicate, Results
from kdlib.study import EXTENDED, STUDY

STEPS = 20  # an epoch


def record(
    run="teacher", seed=0, *, study=STUDY, accuracy=90.0, epochs=12, images=1000, r2=0.5, dataset="cifar10", **fields
):
    """A finished run with curves of a likely shape, always the same for the same arguments.

    Args:
        study: that it is a run of.
        accuracy: last test accuracy in percent, of which the predictions are a true picture.
        r2: where stage one ends.
        fields: what shall be in the record instead, e.g. ``names=[…]`` of the classes.
    """
    arm = study.arm(run)
    names = list(fields.get("names", DATASETS[dataset].classes))
    random = np.random.default_rng([zlib.crc32(run.encode()), seed])
    done = np.arange(1, epochs + 1) / epochs
    rest = 0.1 * (1 - done) + 0.9 * np.exp(-6 * done) * (1 - done)  # falls from almost 1 to 0
    noise = random.normal(0, 1, epochs) * (1 - done)
    if not arm.classifies:
        train = {
            "total": (1 - r2) * (1 + 0.02 * random.normal()) + 0.5 * rest + 0.01 * noise,
            "power": np.full(epochs, 1.0),
        }
        test = {"total": train["total"] + 0.02, "power": np.full(epochs, 1.02)}
    else:
        error = 1 - accuracy / 100
        more = 1.5 + 1.5 * random.random()  # of training than of test accuracy
        train = {"total": error * 2 + 2 * rest, "accuracy": accuracy + more - 70 * rest}
        test = {"total": error * 3 + 2 * rest + 0.1 * abs(noise), "accuracy": accuracy - 70 * rest + 3 * noise}
        if teacher_of(arm, study):
            for curves in (train, test):
                curves |= {"hard": curves["total"] * 1.1, "soft": curves["total"] * 0.9}
    steps = {
        name: np.repeat(curve, STEPS) * random.lognormal(0, 0.1, epochs * STEPS)
        for name, curve in train.items()
        if name != "accuracy"
    }
    content = {
        "run": run,
        "profile": "full" if dataset == "cifar10" else "smoke",
        "names": names,
        "identity": identity(run, seed, study=study, epochs=epochs, dataset=dataset, classes=len(names)),
        "machine": {"device": "AMD EPYC", "threads": 2},
        "parameters": 1_350_000 if run == "teacher" else 306_000,
        "multiplications": 25_000_000,
        "weights": {"model": digest(run, seed)},
        "steps": {name: curve.tolist() for name, curve in steps.items()},
        "train": {name: curve.tolist() for name, curve in train.items()},
        "test": {name: curve.tolist() for name, curve in test.items()},
        "labels": [],
        "predictions": [],
        "similarity": [0.9, 0.8, round(random.uniform(0.3, 0.7), 4), 0.5] if teacher_of(arm, study) else [],
    }
    if arm.classifies:
        content |= _tested(images, round(images * accuracy / 100), len(names), random)
    return Record(**content | fields)


def digest(run, seed):
    """What stands for the digest of a run's weights."""
    return hashlib.sha256(f"{run} {seed}".encode()).hexdigest()


def teacher_of(arm, study):
    """The teachers among the needs of an arm."""
    return [need for need in arm.needs if study.arm(need).stage == "teacher"]


def identity(run, seed, *, study=STUDY, epochs=12, dataset="cifar10", precision="bfloat16", classes=10):
    """All that made a run of a study."""
    arm = study.arm(run)
    start = {"model": digest("first weights", seed)}
    for need in arm.needs:
        start["teacher" if need in teacher_of(arm, study) else "model"] = digest(need, seed)
    objective = {"name": "Classify"}
    if not arm.classifies:
        objective = {"name": "Hint", "guided_stage": 3}
    elif teacher_of(arm, study):
        objective = {"name": "Distill", "alpha": 0.9, "temperature": 4.0}
    return Identity(
        widths=[[16], [32]],
        classes=classes,
        channels=3,
        objective=objective,
        schedule={"epochs": epochs, "learning_rate": 0.2},
        data={"name": dataset, "train_images": 50_000},
        seed=seed,
        stream=arm.stage,
        precision=precision,
        start=start,
    )


def _tested(images, correct, classes, random):
    """Labels, predictions (cat and dog are the hardest) and a somewhat overconfident calibration."""
    labels = np.arange(images) % classes
    weights = np.where(np.isin(labels, (3, 5)), 4.0, 1.0)
    wrong = random.choice(images, images - correct, replace=False, p=weights / weights.sum())
    predictions = labels.copy()
    for image in wrong:
        others = [number for number in range(classes) if number != labels[image]]
        likely = np.array([6.0 if {number, labels[image]} == {3, 5} else 1.0 for number in others])
        predictions[image] = random.choice(others, p=likely / likely.sum())
    confidence = (np.arange(15) + 0.5) / 15
    count = np.arange(15) ** 3
    return {
        "labels": labels.tolist(),
        "predictions": predictions.tolist(),
        "calibration": {
            "count": count.astype(float).tolist(),
            "confidence": (confidence * (count > 0)).tolist(),
            "correct": (confidence**1.2 * (count > 0)).tolist(),
        },
    }


def results(seeds=1, *, accuracies=None, study=STUDY, without=(), **fields):
    """The records of a study.

    Args:
        seeds: how many.
        accuracies: the last test accuracy of some arms (%).
        study: whose arms are recorded.
        without: names of arms that were not run.
        fields: of every record.
    """
    means = dict.fromkeys([arm.name for arm in study.arms], 90.0)
    means |= {"teacher": 91.8, "baseline": 89.6, "distill": 90.3, "exp1": 87.9, "exp2": 91.0} | (accuracies or {})

    def accuracy(run, seed):
        # All models of a seed share part of its deviation.
        shared = np.random.default_rng(seed).normal(0, 0.2)
        return means[run] + shared + np.random.default_rng([seed, zlib.crc32(run.encode())]).normal(0, 0.1)

    names = [arm.name for arm in study.arms if arm.name not in without]
    return Results(
        study,
        {
            seed: {run: record(run, seed, study=study, accuracy=accuracy(run, seed), **fields) for run in names}
            for seed in range(seeds)
        },
    )


def with_curves(made, **parts):
    """The record with other values of some curves, e.g. ``test={"accuracy": […]}``; of any number of epochs."""
    return made.model_copy(update={part: getattr(made, part) | values for part, values in parts.items()})


def sparsely(made, step):
    """The record of a run whose test split was evaluated after every so many epochs."""
    tested = made.epochs("test")[::-1][::step][::-1]
    test = {name: [values[epoch - 1] for epoch in tested] for name, values in made.test.items()}
    return made.model_copy(update={"tested": tested, "test": test})


def accurate(study=STUDY, **runs):
    """Results whose arms end at these test accuracies (%), one a seed; None where an arm was not run."""
    count = len(next(iter(runs.values())))
    return Results(
        study,
        {
            seed: {
                run: with_curves(record(run, seed, study=study, images=20, epochs=1), test={"accuracy": [values[seed]]})
                for run, values in runs.items()
                if values[seed] is not None
            }
            for seed in range(count)
        },
    )


def classified(labels, predictions, run="teacher", names=("ant", "bee", "cow")):
    """A record of these test images, a digit each: true and predicted class."""
    numbers = {"labels": [int(digit) for digit in labels], "predictions": [int(digit) for digit in predictions]}
    return record(run, names=list(names), **numbers)


def with_discordant(only_first, only_second, images=1000):
    """Two records of one class, that are right on different images."""
    labels = "0" * images
    first = "1" * only_second + "0" * (images - only_second)
    second = "0" * only_second + "1" * only_first + "0" * (images - only_first - only_second)
    return classified(labels, first), classified(labels, second)


def save(made, profile):
    """Store the records of a study, with timings and something in the place of weights, where kdlib finds them."""
    for seed, runs in made.by_seed.items():
        for name, made_record in runs.items():
            run = Replicate(profile, seed, made.study).run(name)
            made_record.save(run.record_path)
            files.write_json(run.timing_path, {"seconds": [10.0 * (seed + 1), 5.0]})
            files.write_bytes(run.weights_path, b"weights")


def readme(made, language="en", seconds=60):
    """The top of a README, from results of the note's arms alone."""
    return front_page.text(made, Results(EXTENDED, made.by_seed), language, seconds)

"""Made-up records, for tests of what reads them."""

import zlib

import numpy as np

from kdlib.datasets import CIFAR10_CLASSES, DIGITS_CLASSES
from kdlib.records import RUNS, Record

STEPS = 20  # an epoch


def record(run="teacher", seed=0, *, accuracy=90.0, epochs=12, images=1000, r2=0.5, dataset="cifar10", **fields):
    """A finished run with curves of a likely shape, always the same for the same arguments.

    Args:
        accuracy: last test accuracy in percent, of which the predictions are a true picture.
        r2: where stage one ends.
        fields: what shall be in the record instead, e.g. ``predictions="0123"``.
    """
    random = np.random.default_rng([zlib.crc32(run.encode()), seed])
    done = np.arange(1, epochs + 1) / epochs
    rest = 0.1 * (1 - done) + 0.9 * np.exp(-6 * done) * (1 - done)  # falls from almost 1 to 0
    noise = random.normal(0, 1, epochs) * (1 - done)
    stage_one = run == "hint"
    if stage_one:
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
        if run.split("-")[0] in ("distill", "exp1", "exp2"):
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
        "seed": seed,
        "dataset": dataset,
        "classes": list(CIFAR10_CLASSES if dataset == "cifar10" else DIGITS_CLASSES),
        "settings": {"epochs": epochs, "train_images": 50_000}
        | ({"alpha": 0.9, "temperature": 4.0} if "soft" in train else {}),
        "machine": {"device": "AMD EPYC", "threads": 2, "precision": "bfloat16"},
        "parameters": 1_350_000 if run == "teacher" else 306_000,
        "multiplications": 25_000_000,
        "weights": "",
        "teacher": None,
        "after": None,
        "steps": {name: curve.tolist() for name, curve in steps.items()},
        "train": {name: curve.tolist() for name, curve in train.items()},
        "test": {name: curve.tolist() for name, curve in test.items()},
    }
    if not stage_one:
        content |= _tested(images, round(images * accuracy / 100), random)
    return Record(**content | fields)


def _tested(images, correct, random):
    """Labels, predictions (cat and dog are the hardest) and a somewhat overconfident calibration."""
    labels = np.arange(images) % 10
    weights = np.where(np.isin(labels, (3, 5)), 4.0, 1.0)
    wrong = random.choice(images, images - correct, replace=False, p=weights / weights.sum())
    predictions = labels.copy()
    for image in wrong:
        others = [number for number in range(10) if number != labels[image]]
        likely = np.array([6.0 if {number, labels[image]} == {3, 5} else 1.0 for number in others])
        predictions[image] = random.choice(others, p=likely / likely.sum())
    confidence = (np.arange(15) + 0.5) / 15
    count = np.arange(15) ** 3
    return {
        "labels": "".join(map(str, labels)),
        "predictions": "".join(map(str, predictions)),
        "calibration": {
            "count": count.tolist(),
            "confidence": (confidence * (count > 0)).tolist(),
            "correct": (confidence**1.2 * (count > 0)).tolist(),
        },
    }


def replicates(seeds=1, *, accuracies=None, **fields):
    """Whole studies, {seed: {run: record}}; ``accuracies`` gives the last test accuracy of some models (%)."""
    means = {"teacher": 91.8, "baseline": 89.6, "distill": 90.3, "exp1": 87.9, "exp2": 91.0} | (accuracies or {})

    def accuracy(run, seed):
        # All models of a seed share part of its luck.
        luck = np.random.default_rng(seed).normal(0, 0.2)
        return means.get(run, 0.0) + luck + np.random.default_rng([seed, zlib.crc32(run.encode())]).normal(0, 0.1)

    return {
        seed: {run: record(run, seed, accuracy=accuracy(run, seed), **fields) for run in RUNS} for seed in range(seeds)
    }

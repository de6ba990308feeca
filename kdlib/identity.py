"""All that makes a run, gathered before its first step: what a record is compared with before it is used again."""

import dataclasses
from typing import Any

from kdlib.datasets import Data
from kdlib.objectives import Objective
from kdlib.settings import Schedule
from kdlib.storage import weights
from kdlib.storage.records import Identity
from kdlib.storage.runs import Run


def identify(objective: Objective, data: Data, schedule: Schedule, run: Run, precision: str) -> Identity:
    """All that makes a run, as it is now: before the first step."""
    model: Any = objective.modules["model"]
    # Of a regressor the parameters alone: its statistics follow from the teacher, up to the rounding of the device.
    start = {name: weights.parameters_digest(part) for name, part in objective.modules.items() if part is not model}
    start |= weights.digests({"model": model})
    if objective.teacher is not None:
        start["teacher"] = weights.digests({"model": objective.teacher})["model"]
    return Identity(
        widths=[list(stage) for stage in model.widths],
        classes=model.classes,
        channels=model.channels,
        objective=objective.settings(),
        schedule=dataclasses.asdict(schedule),
        data={
            "name": data.name,
            "fingerprint": data.fingerprint,
            "train_images": len(data.train_labels),
            **data.augmentation,
        },
        seed=run.replicate.seed,
        stream=run.arm.stage,
        precision=precision,
        start=start,
    )

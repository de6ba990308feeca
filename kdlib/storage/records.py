"""What is known of one finished run: its identity, which says all that made it, and its measured values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from kdlib.storage import files
from kdlib.storage.files import StorageError

FORMAT = 2

Curves = dict[str, list[float]]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=True)


class Identity(_Model):
    """All that decides how a run comes out, besides the machine. Two runs are the same if these are equal."""

    widths: list[list[int]]  # of the trained network's convolutions, a list a stage
    classes: int  # of its output
    channels: int  # of its images
    objective: dict[str, Any]  # name and settings at the start of training, the regressor's kind and stage among them
    schedule: dict[str, Any]  # the fields of `settings.Schedule`
    data: dict[str, Any]  # name, fingerprint, number of training images, and augmentation
    seed: int  # of the replicate
    stream: str  # the training whose batches it sees; with the seed it decides all random numbers
    precision: str  # of training, "float32" or "bfloat16"
    start: dict[str, Digest]  # of what it started from: "teacher", "model" and "regressor" before the first step

    def differences(self, other: "Identity") -> list[str]:
        """The fields in which ``other`` differs, each with both values: "objective.alpha (0.5, now 0.9)"."""
        old, new = _flat(self.model_dump()), _flat(other.model_dump())
        changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
        return [f"{key} ({_short(old.get(key))}, now {_short(new.get(key))})" for key in changed]

    def recipe(self) -> dict[str, Any]:
        """What replicates have in common: all but the seed, the networks to start from, and the precision."""
        return self.model_dump(exclude={"seed", "start", "precision"})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _short(value: object) -> str:
    return f"{value[:8]}…" if isinstance(value, str) and len(value) == 64 else str(value)


class Record(_Model):
    """One finished run. Losses are in nats or, of the hint, in squared standard deviations of the hint.

    ``train`` and ``test`` are {name: value after each of `epochs`}: losses and, of a classifier, "accuracy" in percent.
    Training values are means over the epoch's augmented batches. Test values are computed in the precision of training,
    those of the final epoch in float32.
    """

    run: str  # its name, e.g. "distill", or "distill-temperature8" for a reader's variant
    profile: str  # by whose settings it was made
    names: list[str]  # of the classes
    identity: Identity
    machine: dict[str, Any]  # device, threads and versions; no part of the identity
    parameters: int  # of the network
    multiplications: int  # of the network, for one image
    weights: dict[str, Digest]  # of each stored module
    train: Curves = Field(min_length=1)
    test: Curves
    tested: list[int] = []  # the epochs after which the test split was evaluated; empty in earlier records: after each
    similarity: list[float] = []  # of each stage with the teacher's: linear CKA, 0 to 1; empty without a teacher
    calibration: Curves = {}  # by bins of confidence, 1/15 wide: "count", mean "confidence", share "correct"
    # Kept in a binary file of their own, as they are long.
    steps: Curves = Field(exclude=True)  # {loss name: value at each step}, on training batches
    labels: list[int] = Field(exclude=True)  # of each test image; empty without a classifier, as are the predictions
    predictions: list[int] = Field(exclude=True)

    @model_validator(mode="after")
    def _check(self) -> Self:
        last = self.identity.schedule.get("epochs")
        for split, curves in (("train", self.train), ("test", self.test)):
            epochs = self.epochs(split)
            if epochs[-1:] != [last] or {len(values) for values in curves.values()} != {len(epochs)}:
                raise ValueError(f"not every {split} curve has one value an epoch")
        if len(self.labels) != len(self.predictions):
            raise ValueError("labels and predictions differ in number")
        if not set(self.labels) | set(self.predictions) <= set(range(len(self.names))):
            raise ValueError("a class number is out of range")
        return self

    def epochs(self, split: Literal["train", "test"]) -> list[int]:
        """The epochs (from 1) after which the values of a split's curves were taken."""
        count = len(next(iter(getattr(self, split).values()), []))
        return self.tested if split == "test" and self.tested else list(range(1, count + 1))

    def save(self, path: Path) -> None:
        """Write the record as JSON, and its long lists as an ``.npz`` file beside it."""
        arrays = {f"steps.{name}": np.array(values, np.float16) for name, values in self.steps.items()}
        arrays |= {name: np.array(getattr(self, name), np.uint16) for name in ("labels", "predictions")}
        # The record names the arrays by their digest, so it is written when they are there.
        digest = files.write_arrays(path.with_suffix(".npz"), arrays)
        files.write_json(path, {**self.model_dump(), "arrays": digest, "format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it, or its file of arrays, is damaged, incomplete or of another format.
        """
        content = files.read_json(path)
        if content.pop("format", None) != FORMAT:
            wrong = f"{path} is not of format {FORMAT}, which this kdlib reads"
            raise StorageError(f"{wrong}: update kdlib, or delete it and run its notebook again.")
        arrays = files.read_arrays(path.with_suffix(".npz"), content.pop("arrays", ""))
        steps = {key.removeprefix("steps."): arrays.pop(key) for key in list(arrays) if key.startswith("steps.")}
        try:
            return cls(
                **content,
                steps={name: values.astype(float).tolist() for name, values in steps.items()},
                **{name: values.tolist() for name, values in arrays.items()},
            )
        except ValidationError as error:
            first = error.errors()[0]
            problem = ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))
            wrong = f"{path} is not a complete record ({problem})"
            raise StorageError(f"{wrong}: delete it and run its notebook again.") from None


def rounded(curves: Mapping[str, list[float]]) -> Curves:
    """Curves with six significant digits: all that a picture shows, at half the size of the file."""
    return {name: [float(f"{value:.6g}") for value in values] for name, values in curves.items()}


def rounded_steps(curves: Mapping[str, list[float]]) -> Curves:
    """Curves rounded to float16 (three significant digits), as they are stored."""
    return {name: np.array(values, np.float16).astype(float).tolist() for name, values in curves.items()}

"""What is known of one finished run: its identity, which says all that made it, and its measured values."""

import ast
import hashlib
import io
import tokenize
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from kdlib.errors import StorageError
from kdlib.storage import files

FORMAT = 3

Curves = dict[str, list[float]]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=True)


class Identity(_Model):
    """All that decides how a run comes out, besides the machine. Two runs are the same if these are equal."""

    arm: dict[str, Any]  # `study.Arm.settings`
    widths: list[list[int]]  # of the trained network's `models.Shape`
    activation: str = "ReLU"  # likewise; the first published records do not name it
    objective: dict[str, Any]  # `objectives.Objective.settings` at the start of training
    schedule: dict[str, Any]  # the fields of `profiles.Schedule`
    data: dict[str, Any]  # name, fingerprint, number of training images, and augmentation
    seed: int  # of the replicate
    precision: str  # of training, "float32" or "bfloat16"
    start: dict[str, Digest]  # of what it started from: "teacher", "model" and "regressor" before the first step
    code: dict[str, Digest]  # `CODE`; empty in the published records, which are older

    def differences(self, other: "Identity") -> list[str]:
        """The fields in which ``other`` differs, each with both values: "objective.alpha (0.5, now 0.9)"."""
        old, new = _flat(self.model_dump()), _flat(other.model_dump())
        changed = [key for key in sorted(old | new) if old.get(key) != new.get(key)]
        return [f"{key} ({old.get(key)!s:.40}, now {new.get(key)!s:.40})" for key in changed]

    def recipe(self) -> dict[str, Any]:
        """What replicates have in common: all but the seed, the networks to start from, and the precision."""
        return self.model_dump(exclude={"seed", "start", "precision"})


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def bare(source: str) -> str:
    """Python code without comments, docstrings and empty lines; by its text, so the same on every Python."""
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            first, last = node.body[0].lineno, node.body[0].end_lineno
            lines[first - 1 : last] = [""] * (last - first + 1)
    return "\n".join(line.rstrip() for line in lines if line.strip())


def _digest(module: str) -> str:
    source = Path(__file__).parents[1].joinpath(f"{module}.py").read_text("utf-8")
    return hashlib.sha256(bare(source).encode()).hexdigest()


# Modules of kdlib that decide how a training comes out, as they were when this process started.
CODE = {
    name: _digest(name)
    for name in ("streams", "models", "regressors", "objectives", "optimiser", "data", "training", "storage/weights")
}


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
    tested: list[int]  # the epochs after which the test split was evaluated
    # Kept in a binary file of their own, as they are long.
    steps: Curves = Field(exclude=True)  # {loss name: value at each step}, on training batches
    labels: list[int] = Field(exclude=True)  # of each test image; empty without a classifier, as are the predictions
    predictions: list[int] = Field(exclude=True)

    def epochs(self, split: Literal["train", "test"]) -> list[int]:
        """The epochs (from 1) after which the values of a split's curves were taken."""
        return self.tested if split == "test" else list(range(1, len(next(iter(self.train.values()))) + 1))

    def save(self, path: Path) -> None:
        """Write the record as JSON, and its long lists as tensors in a file beside it."""
        tensors = {f"steps.{name}": torch.tensor(values, dtype=torch.float16) for name, values in self.steps.items()}
        tensors |= {name: torch.tensor(getattr(self, name), dtype=torch.uint8) for name in ("labels", "predictions")}
        # The record names the tensors by their digest, so it is written when they are there.
        files.write_tensors(path.with_suffix(".arrays"), tensors, {})
        files.write_json(path, {**self.model_dump(), "arrays": files.digest(tensors), "format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record. Raises ``FileNotFoundError`` if there is none, and `StorageError` if it, or the file of its
        tensors, is damaged, incomplete or of another format.
        """
        content = files.read_json(path)
        if content.pop("format", None) != FORMAT:
            wrong = f"{path} is not of format {FORMAT}, which this kdlib reads"
            raise StorageError(f"{wrong}: update kdlib, or delete it and run its notebook again.")
        arrays = path.with_suffix(".arrays")
        tensors = files.read_tensors(arrays)[0] if arrays.exists() else {}
        if files.digest(tensors) != content.pop("arrays", ""):
            raise StorageError(f"{arrays} is missing or of another run: delete {path}, run again.")
        lists = {name: values.tolist() for name, values in tensors.items()}
        steps = {name.removeprefix("steps."): lists.pop(name) for name in list(lists) if name.startswith("steps.")}
        try:
            return cls(**content, **lists, steps=steps)
        except ValidationError as error:
            raise StorageError(f"{path} is not a complete record: delete it and run its notebook again.") from error


def rounded(curves: Mapping[str, list[float]]) -> Curves:
    """Curves with six significant digits: all that a picture shows, at half the size of the file."""
    return {name: [float(f"{value:.6g}") for value in values] for name, values in curves.items()}

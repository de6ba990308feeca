"""What a run leaves behind: one JSON record and one weights file, and where they lie.

A `Replicate` is the whole study for one seed under one profile; its `Run`s are called teacher, baseline,
distill, hint (stage one), exp1 and exp2. The profile ``full`` is the published one: its records and
weights lie in ``results/``, everything else under ``build/``.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdlib import models, storage
from kdlib.profiles import Profile
from kdlib.storage import StorageError

FORMAT = 1

# In the order of the report. The number is the notebook that trains the run.
RUNS = {
    "teacher": "01_teacher",
    "baseline": "02_baseline",
    "distill": "03_distill",
    "hint": "04_exp1",
    "exp1": "04_exp1",
    "exp2": "05_exp2",
}


class NotTrained(RuntimeError):
    """A model is asked for that no notebook has trained yet. The message says which notebook to run."""


def root() -> Path:
    """The project's folder: ``KDLIB_ROOT`` if set, else the one that holds the package."""
    return Path(os.environ.get("KDLIB_ROOT") or Path(__file__).parents[1]).resolve()


def build_folder(profile_name: str) -> Path:
    """Where everything of a profile goes that is not published."""
    return root() / "build" / profile_name


def results_folder(profile_name: str) -> Path:
    """Where a profile's records and weights lie."""
    return root() / "results" / "full" if profile_name == "full" else build_folder(profile_name) / "results"


def figures_folder(profile_name: str) -> Path:
    """Where a profile's pictures lie."""
    return root() / "figures" if profile_name == "full" else build_folder(profile_name) / "figures"


@dataclass(frozen=True)
class Record:
    """All that the report needs to know of one finished run. Losses in nats or (hint) squared units.

    Attributes:
        run: its name, e.g. "distill", or "distill-temperature8" for a reader's variant.
        profile, seed, dataset, classes: what was run, and the names of the classes.
        settings: the schedule and the objective's numbers; runs are the same if these are.
        machine: device, threads, precision, library versions. Not part of what makes runs the same.
        parameters, multiplications: of the network, the latter for one image.
        weights: digest of the stored weights. teacher: the digest of the teacher's, or None.
        after: the digest of the weights that stage one left, where training went on from them, or None.
        steps: {loss name: value at each step} on training batches.
        train, test: {name: value after each epoch}; losses, and "accuracy" in percent where there are
            class scores. Training values are means over the epoch's augmented batches.
        labels, predictions: true and predicted class of each test image, a digit each; "" without scores.
        calibration: per confidence bin of width 1/15, "count", mean "confidence" and share "correct".
    """

    run: str
    profile: str
    seed: int
    dataset: str
    classes: list[str]
    settings: dict[str, Any]
    machine: dict[str, Any]
    parameters: int
    multiplications: int
    weights: str
    teacher: str | None
    after: str | None
    steps: dict[str, list[float]]
    train: dict[str, list[float]]
    test: dict[str, list[float]]
    labels: str = ""
    predictions: str = ""
    calibration: dict[str, list[float]] = field(default_factory=dict)
    format: int = FORMAT

    def save(self, path: Path) -> None:
        """Write the record as JSON, atomically. Raises ``StorageError`` when that is impossible."""
        storage.write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> "Record":
        """Read a record.

        Raises:
            FileNotFoundError: there is none.
            StorageError: it is damaged, incomplete or of a newer format.
        """
        content = storage.read_json(path)
        if content.get("format") != FORMAT:
            raise StorageError(
                f"{path} has format {content.get('format')!r}, this kdlib reads {FORMAT}: update kdlib, or delete the "
                "file and run its notebook again."
            )
        problem = _problem(content)
        if problem:
            raise StorageError(f"{path} is not a complete record ({problem}): delete it and run its notebook again.")
        return cls(**content)


def _problem(content: Mapping[str, Any]) -> str | None:
    """What is wrong with the fields of a record, or None."""
    kinds = {
        "run": str, "profile": str, "seed": int, "dataset": str, "classes": list, "settings": dict, "machine": dict,
        "parameters": int, "multiplications": int, "weights": str, "teacher": str | None, "after": str | None,
        "steps": dict, "train": dict, "test": dict, "labels": str, "predictions": str, "calibration": dict,
        "format": int,
    }  # fmt: skip
    if set(content) != set(kinds):
        return f"fields missing or unknown: {', '.join(sorted(set(content) ^ set(kinds)))}"
    for name, kind in kinds.items():
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            return f"{name} has the wrong type"
    for group in ("steps", "train", "test", "calibration"):
        for name, values in content[group].items():
            if not isinstance(values, list) or not all(isinstance(value, int | float) for value in values):
                return f"{group}.{name} is not a list of numbers"
    epochs = content["settings"].get("epochs")
    lengths = {len(values) for group in ("train", "test") for values in content[group].values()}
    if lengths != {epochs} or not content["train"]:
        return "not every curve has one value an epoch"
    if len(content["labels"]) != len(content["predictions"]):
        return "labels and predictions differ in number"
    classes = {str(number) for number in range(len(content["classes"]))}
    if not set(content["labels"] + content["predictions"]) <= classes:
        return "a class number is out of range"
    return None


@dataclass(frozen=True)
class Run:
    """One training of a replicate, finished or not: the names of its files and its lock."""

    replicate: "Replicate"
    name: str

    @property
    def record_path(self) -> Path:
        return self.replicate.folder / f"{self.name}.json"

    @property
    def weights_path(self) -> Path:
        return self.replicate.folder / f"{self.name}.safetensors"

    @property
    def timing_path(self) -> Path:
        """Seconds and images a second of each epoch: kept apart, as they never repeat to the bit."""
        return self.replicate.folder / "timing" / f"{self.name}.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints while the run is not finished."""
        return self._scratch("checkpoints") / self.name

    @property
    def answers(self) -> Path:
        """Folder of the teacher's answers, shared by the runs of the replicate."""
        return self._scratch("answers")

    def _scratch(self, kind: str) -> Path:
        return build_folder(self.replicate.profile.name) / kind / f"seed{self.replicate.seed}"

    def __str__(self) -> str:
        return f"{self.name} (seed {self.replicate.seed})"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold this run for the current process. Raises ``BusyError`` if another one trains it now."""
        path = self.checkpoints.with_name(f"{self.checkpoints.name}.lock")  # a name may hold a dot: temperature0.5
        busy = f"{self} is being trained by another process, which holds {path}: wait for it, or stop it."
        with storage.locked(path, busy):
            yield

    def record(self) -> Record:
        """The run's record. Raises ``NotTrained`` if there is none, ``StorageError`` if it is damaged."""
        try:
            return Record.load(self.record_path)
        except FileNotFoundError:
            raise NotTrained(self._missing()) from None

    def save_weights(self, modules: Mapping[str, nn.Module]) -> str:
        """Store the weights of ``modules`` in float16 and return their digest. Raises ``StorageError``.

        Call `round_weights` on them first, so that what is stored is what was measured.
        """
        storage.write_tensors(self.weights_path, _half_state(modules), {"run": self.name, "format": str(FORMAT)})
        return weights_digest(modules)

    def load_weights(self, modules: Mapping[str, nn.Module], expected: str) -> None:
        """Fill ``modules`` with the stored weights, whose digest must be ``expected``.

        Raises:
            NotTrained: the weights file is missing, or not published with its record.
            StorageError: it is damaged, of another run or of another network.
        """
        try:
            tensors, _ = storage.read_tensors(self.weights_path)
        except FileNotFoundError:
            raise NotTrained(self._weights_missing()) from None
        if storage.digest(tensors) != expected:
            raise StorageError(
                f"{self.weights_path} does not belong to {self.record_path.name}: delete both and run "
                f"{self.notebook} again."
            )
        load_state(modules, tensors, self.weights_path)

    @property
    def notebook(self) -> str:
        """The notebook that trains this run, or a variant of it."""
        return RUNS[self.name.partition("-")[0]]

    def _missing(self) -> str:
        what = f"profile {self.replicate.profile.name}, seed {self.replicate.seed}"
        return f"There is no trained {self.name} ({what}): run {self.notebook} first."

    def _weights_missing(self) -> str:
        if not self.record_path.exists():
            return self._missing()
        # A replicate that is published as records alone has no weights at all: its runs need each other's.
        others = any(self.replicate.folder.glob("*.safetensors"))
        old = self.record_path if others else self.replicate.folder
        return f"{self.weights_path} is missing though its record is there: delete {old} to train it again."


@dataclass(frozen=True)
class Replicate:
    """All runs of one seed under one profile.

    Raises:
        ValueError: the seed is not a whole number from 0 to 2³² − 1.
    """

    profile: Profile
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be a whole number from 0 to 4294967295, not {self.seed!r}.")

    @property
    def folder(self) -> Path:
        return results_folder(self.profile.name) / f"seed{self.seed}"

    @property
    def figures(self) -> Path:
        """Where its pictures lie: those of seed 0 are the report's, and no other seed's take their place."""
        if self.seed == 0:
            return figures_folder(self.profile.name)
        return build_folder(self.profile.name) / "figures" / f"seed{self.seed}"

    def run(self, name: str) -> Run:
        """The run called ``name`` with the profile's own settings."""
        return Run(self, name)

    def variant(self, name: str) -> Run:
        """The run called ``name``, with the reader's changes in its name: no change replaces a standard run."""
        return Run(self, "-".join([name, *(f"{key}{value:g}" for key, value in self.profile.changes)]))

    def load_model(self, name: str, device: torch.device | str = "cpu") -> models.ConvNet:
        """The trained network of a run, in evaluation mode.

        Raises:
            NotTrained: its notebook has not been run; the message says which one.
            StorageError: the record or the weights are damaged.
        """
        run = self.run(name)
        model = (models.teacher() if name == "teacher" else models.student()).to(device)
        # Stage one trains a regressor too, which is no part of the student.
        run.load_weights({"model": model}, run.record().weights)
        return model.eval()


def load_all(profile: Profile, including: int | None = None) -> dict[int, dict[str, Record]]:
    """Every standard record of a profile: {seed: {run name: record}}, complete replicates only.

    Args:
        profile: the profile.
        including: a seed whose replicate must be among them.

    Raises:
        NotTrained: no replicate is complete, or not that of ``including``; the message names what is missing.
        StorageError: a record is damaged, or the replicates were trained with different settings.
    """
    replicates: dict[int, dict[str, Record]] = {}
    missing: dict[int, NotTrained] = {}
    names = [path.name.removeprefix("seed") for path in results_folder(profile.name).glob("seed*")]
    seeds = {int(name) for name in names if name.isdecimal()} | ({including} - {None})
    for seed in sorted(seeds):
        replicate = Replicate(profile, seed)
        try:
            replicates[seed] = {name: replicate.run(name).record() for name in RUNS}
        except NotTrained as error:
            missing[seed] = error
    if including in missing:
        raise missing[including]
    if not replicates:
        nothing = NotTrained(f"No notebook was run with profile {profile.name}: run 01_teacher first.")
        raise next(iter(missing.values()), nothing)
    _check_alike(profile, replicates)
    return replicates


def _check_alike(profile: Profile, replicates: Mapping[int, Mapping[str, Record]]) -> None:
    """Refuse replicates of which a mean would say nothing."""
    first, *others = replicates
    for seed in others:
        for name, record in replicates[seed].items():
            other = replicates[first][name]
            if (record.dataset, record.settings) != (other.dataset, other.settings):
                old = Replicate(profile, seed).folder
                raise StorageError(
                    f"{name} was trained with other settings for seed {seed} than for seed {first}: delete {old} or "
                    f"{Replicate(profile, first).folder}, whichever is out of date."
                )


def load_variants(profile: Profile, seed: int) -> list[Record]:
    """The records of runs with a reader's changes, e.g. "distill-temperature8", by name."""
    folder = Replicate(profile, seed).folder
    return [Record.load(path) for path in sorted(folder.glob("*-*.json"))]


def flat_state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Weights and statistics of several modules under one set of names, ``"model.stages.0…"``."""
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def load_state(modules: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``modules`` from ``tensors``; ``path`` is named in the ``StorageError`` when they do not fit."""
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
        except RuntimeError as error:
            raise StorageError(
                f"{path} holds the weights of another network than this kdlib builds: delete it and run again."
            ) from error


def weights_digest(modules: Mapping[str, nn.Module]) -> str:
    """Digest of the weights of ``modules`` as they are stored, in float16: the ``weights`` of their record."""
    return storage.digest(_half_state(modules))


def round_weights(modules: Mapping[str, nn.Module]) -> None:
    """Round all weights and statistics to float16, in place: what is reported is then exactly what is stored."""
    state = flat_state(modules)
    for key, value in _half_state(modules).items():
        state[key].copy_(value)


def _half_state(modules: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    state = flat_state(modules)
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}

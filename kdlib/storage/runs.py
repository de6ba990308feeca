"""Where the runs of a study lie: own ones under ``build/<profile>``, the published ones in ``results/full``."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kdlib.checks import whole_number
from kdlib.design import Arm, Study
from kdlib.settings import COMMITTED, Profile, Schedule
from kdlib.storage import files, folders, weights
from kdlib.storage.files import StorageError
from kdlib.storage.records import Record
from kdlib.storage.weights import Modules
from kdlib.study import STUDY


class NotTrained(RuntimeError):
    """A model is asked for that no notebook has trained yet. The message says which notebook to run."""


@dataclass(frozen=True)
class Replicate:
    """All runs of one seed under one profile. Raises ``ValueError`` unless ``seed`` is whole, from 0 to 2³² − 1."""

    profile: Profile
    seed: int = 0
    study: Study = STUDY

    def __post_init__(self) -> None:
        object.__setattr__(self, "seed", whole_number("seed", self.seed, most=2**32 - 1))

    @property
    def folder(self) -> Path:
        """Where its records and weights lie."""
        return folders.results(self.profile.name) / f"seed{self.seed}"

    @property
    def figures(self) -> Path:
        """Where its pictures are written."""
        return folders.build(self.profile.name) / "figures" / f"seed{self.seed}"

    def run(self, name: str) -> "Run":
        """The run of an arm, or of a variant of one. Raises ``ValueError`` if the study has no such arm."""
        return Run(self, name)

    def records(self) -> dict[str, Record]:
        """The records of its finished runs by arm, variants aside. Raises ``StorageError`` if one is damaged."""
        found = {}
        for arm in self.study.arms:
            with contextlib.suppress(NotTrained):
                found[arm.name] = self.run(arm.name).record()
        return found

    def variant(self, name: str) -> "Run":
        """The run of an arm with the profile's changes, which are in its name: "distill-temperature8"."""
        return Run(self, "-".join([name, *(f"{key}{value:g}" for key, value in self.profile.changes)]))


@dataclass(frozen=True)
class Run:
    """One training of a replicate, finished or not: its files and its lock."""

    replicate: Replicate
    name: str

    def __post_init__(self) -> None:
        self.replicate.study.arm(self.name)

    def __str__(self) -> str:
        return f"{self.name} (seed {self.replicate.seed})"

    @property
    def arm(self) -> Arm:
        """The arm of the study that it is a run of."""
        return self.replicate.study.arm(self.name)

    @property
    def schedule(self) -> Schedule:
        """The schedule of its arm under the replicate's profile."""
        return self.arm.schedule(self.replicate.profile)

    @property
    def record_path(self) -> Path:
        return self.replicate.folder / f"{self.name}.json"

    @property
    def weights_path(self) -> Path:
        return self.replicate.folder / f"{self.name}.safetensors"

    @property
    def timing_path(self) -> Path:
        """Seconds and images a second of each epoch: kept apart, as no two trainings agree in them."""
        return self.replicate.folder / "timing" / f"{self.name}.json"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints while the run is not finished."""
        return self._scratch("checkpoints") / self.name

    @property
    def logits(self) -> Path:
        """Folder of the cached teacher logits, shared by the runs of the replicate."""
        return self._scratch("logits")

    def _scratch(self, kind: str) -> Path:
        return folders.build(self.replicate.profile.name) / kind / f"seed{self.replicate.seed}"

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold this run for the current process. Raises ``BusyError`` if another one trains it now."""
        path = self.checkpoints.with_name(f"{self.checkpoints.name}.lock")  # a name may hold a dot: temperature0.5
        busy = f"{self} is being trained by another process, which holds {path}: wait for it, or stop it."
        return files.locked(path, busy)

    def record(self) -> Record:
        """The run's record. Raises ``NotTrained`` if there is none, ``StorageError`` if it is damaged."""
        try:
            return Record.load(self.record_path)
        except FileNotFoundError:
            profile = self.replicate.profile.name
            what = f"There is no trained {self.name} (profile {profile}, seed {self.replicate.seed})"
            where = f" under the profile {COMMITTED[profile]}" if profile in COMMITTED else ""
            raise NotTrained(f"{what}: run {self.arm.notebook}{where} first.") from None

    def timing(self) -> dict[str, list[float]]:
        """By epoch: "train_seconds", "seconds" with its test, and "images_per_second"; empty if they are not kept."""
        return files.read_json(self.timing_path) if self.timing_path.exists() else {}

    def save_weights(self, modules: Modules) -> dict[str, str]:
        """Store ``modules`` in float16 (see `weights.round_weights`); return their digests. Raises ``StorageError``."""
        files.write_tensors(self.weights_path, weights.half_state(modules), {"run": self.name})
        return weights.digests(modules)

    def load_weights(self, modules: Modules, record: Record) -> None:
        """Fill ``modules`` with the stored weights that belong to ``record``.

        Raises:
            NotTrained: the weights file is missing.
            StorageError: it is damaged, of another run or of another network.
        """
        try:
            tensors, _ = files.read_tensors(self.weights_path)
        except FileNotFoundError:
            profile = self.replicate.profile.name
            todo = f"delete {self.record_path} to train it again"
            if profile in COMMITTED:  # of most arms the record alone is committed
                todo = f"run {self.arm.notebook} under the profile {COMMITTED[profile]}, and use that profile"
            raise NotTrained(f"{self.weights_path} is missing beside its record: {todo}.") from None
        if any(weights.stored_digest(tensors, name) != record.weights.get(name) for name in modules):
            both = f"{self.weights_path} does not belong to {self.record_path.name}"
            raise StorageError(f"{both}: delete both and run {self.arm.notebook} again.")
        weights.load_state(modules, tensors, self.weights_path)


@dataclass(frozen=True)
class Results:
    """The records of a study, ``{seed: {arm: record}}``; for any seed, arms may be missing."""

    study: Study
    by_seed: Mapping[int, Mapping[str, Record]]

    def seeds(self, *arms: str) -> list[int]:
        """The seeds that have a record of each of ``arms``."""
        return [seed for seed, runs in self.by_seed.items() if all(arm in runs for arm in arms)]

    def records(self, arm: str) -> list[Record]:
        """The records of an arm, one a seed."""
        return [self.by_seed[seed][arm] for seed in self.seeds(arm)]

    def together(self, *arms: str) -> list[list[Record]]:
        """The records of several arms, side by side for each seed that has them all."""
        return [[self.by_seed[seed][arm] for arm in arms] for seed in self.seeds(*arms)]

    @property
    def models(self) -> list[Arm]:
        """The arms with an accuracy that have a record, in the order of the study."""
        return [arm for arm in self.study.arms if arm.classifies and self.seeds(arm.name)]

    @property
    def missing(self) -> list[Arm]:
        """The arms that have no record, in the order of the study."""
        return [arm for arm in self.study.arms if not self.seeds(arm.name)]

    @property
    def any_record(self) -> Record:
        """One of the records, for what all of them share."""
        return next(record for runs in self.by_seed.values() for record in runs.values())

    def only(self, seed: int) -> "Results":
        """The records of one seed alone."""
        return Results(self.study, {seed: self.by_seed[seed]})

    def of_notebook(self, notebook: str) -> "Results":
        """The records of what a notebook trains, of what it is compared with, and of what both need."""
        own = {arm.name for arm in self.study.trained_in(notebook)}
        pairs = ({contrast.first, contrast.second} for contrast in self.study.contrasts)
        shown = own.union(*(pair for pair in pairs if pair & own))
        return self.of(*shown, *(need for name in shown for need in self.study.arm(name).needs))

    def of(self, *arms: str) -> "Results":
        """The records of some arms alone."""
        return Results(self.study.select(arms), {
            seed: {arm: record for arm, record in runs.items() if arm in arms} for seed, runs in self.by_seed.items()
        })  # fmt: skip


def load_all(profile: Profile, study: Study = STUDY, including: int | None = None) -> Results:
    """Every record of a study under a profile, readers' variants aside; the seed ``including`` must be among them.

    Raises:
        NotTrained: there is no record, or none of that seed; the message says what to run.
        StorageError: a record is damaged, or records do not belong together.
    """
    names = [path.name.removeprefix("seed") for path in folders.results(profile.name).glob("seed*")]
    by_seed: dict[int, dict[str, Record]] = {}
    for seed in sorted(int(name) for name in names if name.isdecimal() and int(name) < 2**32):
        replicate = Replicate(profile, seed, study)
        if runs := replicate.records():
            _check_replicate(replicate, runs)
            by_seed[seed] = runs
    if not by_seed or including not in (None, *by_seed):
        what = f"profile {profile.name}, seed {including or 0}"
        raise NotTrained(f"No notebook was run yet ({what}): run {study.notebooks[0]} first.")
    _check_alike(profile, by_seed)
    return Results(study, by_seed)


def _check_replicate(replicate: Replicate, runs: Mapping[str, Record]) -> None:
    """Refuse runs of one seed that do not rest on each other, or were trained in different precision."""
    first = next(iter(runs.values())).identity.precision
    for name, record in runs.items():
        path, made = replicate.run(name).record_path, record.identity
        if (record.run, made.seed) != (name, replicate.seed):
            raise StorageError(f"{path} is the record of {record.run}, seed {made.seed}: put it back or delete it.")
        for need in replicate.study.arm(name).needs:
            role = "teacher" if replicate.study.arm(need).stage == "teacher" else "model"
            if role == "model" and replicate.study.arm(name).recipe.takes != "all":
                continue  # its first weights are not those of one run
            if need in runs and made.start.get(role) != runs[need].weights["model"]:
                raise StorageError(
                    f"{path} was trained from another {need} than that beside it: delete it and run again."
                )
        if made.precision != first:
            raise StorageError(
                f"{path} was trained in {made.precision}, other runs of its seed in {first}, so they do not compare: "
                "delete those of one precision and run again."
            )


def _check_alike(profile: Profile, by_seed: Mapping[int, Mapping[str, Record]]) -> None:
    """Refuse replicates of which a mean would mean nothing."""
    first_seed: dict[str, int] = {}
    for seed, runs in by_seed.items():
        for name, record in runs.items():
            first = first_seed.setdefault(name, seed)
            if record.identity.recipe() != by_seed[first][name].identity.recipe():
                one, two = (folders.results(profile.name) / f"seed{number}" for number in (seed, first))
                raise StorageError(
                    f"{name} was trained with other settings for seed {seed} than for seed {first}: delete {one} or "
                    f"{two}, whichever is out of date."
                )


def load_variants(replicate: Replicate) -> list[Record]:
    """The records of runs with a reader's changes, e.g. "distill-temperature8", by name."""
    return [Record.load(path) for path in sorted(replicate.folder.glob("*-*.json"))]

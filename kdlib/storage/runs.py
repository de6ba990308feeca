"""Where runs lie: own ones under ``build/<profile>``, those published in ``results/full`` and ``results/tuning``."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from kdlib import data, hardware
from kdlib.data import Data
from kdlib.editions import study_of
from kdlib.errors import NotTrained, SettingError, StorageError
from kdlib.models import ConvNet, Shape
from kdlib.profiles import Profile, with_own
from kdlib.storage import cifar10, files, weights
from kdlib.storage.records import Record
from kdlib.storage.weights import Modules
from kdlib.study import PUBLISHED, Arm, Study

READ = {"cifar10": cifar10.read, "cifar10-held-out": lambda: data.hold_out(cifar10.read()), "digits": data.digits}


class Replicate:
    """All runs of one seed, a whole number from 0 to 2³² − 1, under one profile."""

    def __init__(self, profile: Profile, seed: int = 0, study: Study | None = None):
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise SettingError(f"seed must be a whole number from 0 to {2**32 - 1}, not {seed!r}.")
        self.profile, self.seed, self.study = profile, seed, study or study_of(profile.name)
        self.folder = files.results(profile.name) / f"seed{self.seed}"  # of records and weights
        self.figures, self.checkpoints, self.logits = (
            files.build(profile.name) / kind / f"seed{self.seed}" for kind in ("figures", "checkpoints", "logits")
        )

    def run(self, name: str) -> "Run":
        """The run of an arm, or of a variant of one. Raises `SettingError` if the study has no such arm."""
        return Run(self, name)

    def variant(self, name: str) -> "Run":
        """The run of an arm with the profile's changes, which are in its name: "distill-temperature8"."""
        return Run(self, "-".join([name, *(f"{key}{value:g}" for key, value in self.profile.changes)]))

    def data(self, device: torch.device | str | None = None) -> Data:
        """The data set of the profile, on the device that trains unless another is given. Raises `DataUnavailable`."""
        name = self.profile.dataset
        return Data(name, READ[name](), device or hardware.choose_device())

    def load(self, name: str, device: torch.device | str = "cpu") -> ConvNet:
        """The trained network of an arm, in evaluation mode.

        Raises `NotTrained`, which says what notebook to run, or `StorageError`: its record or weights are damaged.
        """
        run = self.run(name)
        record = run.record()
        shape = Shape(tuple(map(tuple, record.identity.widths)), record.identity.activation)
        model = ConvNet(shape, len(record.names)).to(device)
        run.load_weights({"model": model}, record)
        return model.eval()

    def records(self) -> dict[str, Record]:
        """The records of its finished runs by arm, variants aside.

        Raises `StorageError` if one is damaged, was made by other settings than the study has, rests on another run
        than that beside it, or was trained in another precision than the rest.
        """
        found: dict[str, Record] = {}
        for arm in self.study.arms:
            with contextlib.suppress(NotTrained):
                record = found[arm.name] = self.run(arm.name).record()
                self._check(arm, record, found)
        return found

    def _check(self, arm: Arm, record: Record, found: Mapping[str, Record]) -> None:
        """See `records`; ``found`` are the arm's record and those before it."""
        path, made = self.run(arm.name).record_path, record.identity
        if (record.run, made.seed) != (arm.name, self.seed):
            raise StorageError(f"{path} is the record of {record.run}, seed {made.seed}: put it back or delete it.")
        profile, shape = with_own(self.profile, arm.own), arm.shape(self.profile)
        then = made.objective | made.arm | made.schedule | {"widths": made.widths, "activation": made.activation}
        now = arm.settings | vars(arm.schedule(profile)) | {"activation": shape.activation}
        now |= {"widths": [list(block) for block in shape.widths]}
        now |= {name: getattr(profile, name) for name in ("temperature", "alpha") if name in made.objective}
        if changed := [f"{name} ({then.get(name)}, now {now[name]})" for name in now if now[name] != then.get(name)]:
            what = f"{path} was trained with other settings than {arm.name} has in the study: {', '.join(changed)}"
            raise StorageError(f"{what}. Delete it to train it again, or undo the change.")
        first = next(iter(found.values())).identity.precision
        if made.precision != first:
            raise StorageError(
                f"{path} was trained in {made.precision}, other runs of its seed in {first}, so they do not compare: "
                f"delete it and run again with KDLIB_PRECISION={first}."
            )
        for need in set(arm.needs) & found.keys():
            role = "teacher" if self.study.arm(need).stage == "teacher" else "model"
            # A student that takes the front of another one starts with weights that are those of no run.
            if (role == "teacher" or arm.takes == "all") and made.start.get(role) != found[need].weights["model"]:
                raise StorageError(f"{path} was trained from another {need} than that beside it: delete it, run again.")


class Run:
    """One training of a replicate, finished or not: its files and its lock."""

    def __init__(self, replicate: Replicate, name: str):
        self.replicate, self.name = replicate, name
        self.arm = replicate.study.arm(name)
        self.schedule = self.arm.schedule(replicate.profile)
        self.record_path = replicate.folder / f"{name}.json"
        self.weights_path = replicate.folder / f"{name}.safetensors"
        self.timing_path = replicate.folder / "timing" / f"{name}.json"  # kept apart: no two trainings agree in it
        self.checkpoint = replicate.checkpoints / f"{name}.safetensors"  # while it is not finished
        self.published = replicate.profile.name == PUBLISHED
        by_hand = f"python -m kdlib.arms {replicate.profile.name} {replicate.seed} {name}"
        self.made_by = by_hand if replicate.profile.name == "tuning" else self.arm.notebook

    def __str__(self) -> str:
        return f"{self.name} (seed {self.replicate.seed})"

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Hold this run for the current process. Raises `BusyError` if another one trains it now."""
        path = self.replicate.checkpoints / f"{self.name}.lock"
        busy = f"{self} is being trained by another process, which holds {path}: wait for it, or stop it."
        return files.locked(path, busy)

    def record(self) -> Record:
        """The run's record. Raises `NotTrained` if there is none, `StorageError` if it is damaged."""
        try:
            return Record.load(self.record_path)
        except FileNotFoundError:
            which = f"{self.name} (profile {self.replicate.profile.name}, seed {self.replicate.seed})"
            raise NotTrained(f"There is no trained {which}: run {self.made_by} first.") from None

    def timing(self) -> dict[str, list[float]]:
        """By epoch: "train_seconds", "seconds" with its test, and "images_per_second"."""
        return files.read_json(self.timing_path)

    def save_weights(self, modules: Modules) -> dict[str, str]:
        """Store ``modules`` in float16 (see `weights.round_weights`); return their digests. Raises `StorageError`."""
        files.write_tensors(self.weights_path, weights.half_state(modules), {"run": self.name})
        return weights.digests(modules)

    def load_weights(self, modules: Modules, record: Record) -> None:
        """Fill ``modules`` with the stored weights that belong to ``record``.

        Raises `NotTrained` if they are not there, `StorageError` if they are damaged or those of another run.
        """
        try:
            tensors, _ = files.read_tensors(self.weights_path)
        except FileNotFoundError:
            todo = "weights are published of few arms, and of seed 0 alone"
            if not self.published:
                todo = f"delete {self.record_path} and run {self.made_by} again"
            raise NotTrained(f"{self.weights_path} is not there: {todo}.") from None
        if any(weights.stored_digest(tensors, name) != record.weights.get(name) for name in modules):
            both = f"{self.weights_path} does not belong to {self.record_path.name}"
            raise StorageError(f"{both}: delete both and run {self.made_by} again.")
        # Blocks were called stages when the published networks were trained.
        tensors = {key.replace(".stages.", ".blocks."): value for key, value in tensors.items()}
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

    def of(self, *arms: str) -> "Results":
        """The records of some arms, and of those that they need."""
        study = self.study.select(arms)
        names = {arm.name for arm in study.arms}
        by_seed = {seed: {name: runs[name] for name in runs if name in names} for seed, runs in self.by_seed.items()}
        return Results(study, {seed: runs for seed, runs in by_seed.items() if runs})

    @property
    def core(self) -> "Results":
        """The records of the note's own arms."""
        return self.of(*self.study.core)


def load_all(profile: Profile, including: int | None = None, study: Study | None = None) -> Results:
    """Every record of a profile, readers' variants aside; the seed ``including`` must be among them.

    Raises `NotTrained` if there is none, or none of that seed, and `StorageError` as `Replicate.records` does, or if
    seeds were trained with different settings.
    """
    study = study or study_of(profile.name)
    names = [path.name.removeprefix("seed") for path in files.results(profile.name).glob("seed*")]
    by_seed: dict[int, Mapping[str, Record]] = {}
    first: dict[str, Record] = {}
    for seed in sorted(int(name) for name in names if name.isdecimal() and int(name) < 2**32):
        if runs := Replicate(profile, seed, study).records():
            by_seed[seed] = runs
        for name, record in runs.items():
            one = first.setdefault(name, record).identity
            if record.identity.recipe() != one.recipe():
                raise StorageError(
                    f"{name} of seed {seed} was made by other settings or code than that of seed {one.seed}: delete "
                    f"the one that is out of date from {files.results(profile.name)}, and run again."
                )
    if not by_seed or including not in (None, *by_seed):
        what = f"profile {profile.name}, seed {including or 0}"
        raise NotTrained(f"No notebook was run yet ({what}): run {study.notebooks[0]} first.")
    return Results(study, by_seed)

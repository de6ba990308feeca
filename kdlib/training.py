"""`fit`: one training loop for every stage of every arm; and `evaluate`.

It is fast because nothing waits: images are augmented on the device in whole batches, losses and correct counts stay
there and are read once an epoch. It loses nothing: a checkpoint is written after each epoch, and a run that was killed
goes on from the last one; on CPUs the result is bit-identical to that of an undisturbed run.
"""

import json
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdlib import hardware, models
from kdlib.data import Data
from kdlib.errors import StorageError, TrainingError
from kdlib.objectives import Losses, Objective
from kdlib.optimiser import Muon, learning_rate
from kdlib.profiles import Schedule
from kdlib.storage import files, records, weights
from kdlib.storage.logits import with_targets
from kdlib.storage.records import Identity, Record
from kdlib.storage.runs import Run

TESTS = 10  # of the test split in one training, at most: more would cost time and show nothing


def fit(objective: Objective, data: Data, schedule: Schedule, run: Run, *, precision: str = "auto") -> Record:
    """Train ``objective`` on ``data``, or load what an earlier call trained; write and return the record.

    Called again after a kill it goes on from the last epoch's checkpoint; called again after it finished it loads the
    weights and returns the record. The modules of the objective are changed in place. On CPUs, equal identities,
    machines and thread counts give bit-identical results. Runs of the profile "published" are only loaded.

    Args:
        run: whose record and weights are written; its seed and its arm's stage decide the batches.
        precision: of training: "float32", "bfloat16" (autocast) or "auto": see `hardware.choose_precision`. The final
            epoch is tested in float32.

    Raises:
        TrainingError: the loss is not finite, or an earlier record or checkpoint has another identity.
        NotTrained, StorageError: what an earlier call left is incomplete or damaged, or the disk is full.
        BusyError: another process trains this run.
        SettingError: the batch size or the precision is impossible.
    """
    training = _Training(objective, data, schedule, run, hardware.choose_precision(precision, data.device))
    if run.published or run.record_path.exists():
        return training.reuse(run.record())
    with run.lock():
        # Another process may just have finished it.
        return training.reuse(run.record()) if run.record_path.exists() else training.finish()


class _Training:
    """One run on its way from its first step, or its last checkpoint, to its record."""

    def __init__(self, objective: Objective, data: Data, schedule: Schedule, run: Run, precision: str):
        self.objective, self.data, self.schedule, self.run, self.precision = objective, data, schedule, run, precision
        self.identity = _identify(objective, data, schedule, run, precision)
        self.machine = hardware.describe_machine(data.device)
        self.optimizer = Muon(objective.groups(), schedule)
        self.steps, self.epoch = data.steps(schedule.batch_size), 0
        every = math.ceil(schedule.epochs / TESTS)
        self.tested = [epoch for epoch in range(1, schedule.epochs + 1) if (schedule.epochs - epoch) % every == 0]
        self.history: dict[str, records.Curves] = {"steps": {}, "train": {}, "test": {}, "timing": {}}
        self.cached = None
        if objective.cache_targets:
            depends = self.identity.model_dump(include={"data", "seed", "precision", "code"}) | self.machine
            depends |= {"teacher": self.identity.start["teacher"], "stage": run.arm.stage, "batch": schedule.batch_size}
            self.cached = run.replicate.logits / files.digest({}, {"of": repr(depends)})[:16]

    def reuse(self, record: Record) -> Record:
        """Load what an earlier call trained, if it is the same run."""
        if not self.run.published:
            self._check(record.identity, self.run.record_path)
        self.run.load_weights(self.objective.modules, record)
        self.run.checkpoint.unlink(missing_ok=True)  # of a run that was killed between its record and this line
        print(f"{self.run}  already trained: loaded")
        return record

    @hardware.true_float32()
    def finish(self) -> Record:
        """Train the epochs that are still to do, then write weights and record."""
        self._resume()
        outputs = None
        while self.epoch < self.schedule.epochs:
            outputs = self._next_epoch()
        if outputs is None and self.run.arm.classifies:  # killed between the last checkpoint and the record
            _, outputs = evaluate(self.objective, self.data, self.cached)
        files.write_json(self.run.timing_path, records.rounded(self.history["timing"]))
        self._record(outputs).save(self.run.record_path)
        self.run.checkpoint.unlink(missing_ok=True)
        return self.run.record()

    def _resume(self) -> None:
        """Go on from the checkpoint, if there is one."""
        try:
            tensors, metadata = files.read_tensors(self.run.checkpoint)
            found = Identity.model_validate_json(metadata["identity"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError):
            raise StorageError(f"{self.run.checkpoint} is of another kdlib: delete it to start again.") from None
        self._check(found, self.run.checkpoint)
        weights.load_state(self.objective.modules, tensors, self.run.checkpoint)
        self.optimizer.load_momenta(tensors)
        self.epoch, self.history = int(metadata["epoch"]), json.loads(metadata["history"])
        print(f"{self.run}  goes on after epoch {self.epoch} of {self.schedule.epochs}", flush=True)

    def _check(self, found: Identity, path: Path) -> None:
        """Refuse what another run left at ``path``."""
        if differences := found.differences(self.identity):
            what = f"{path} was made by a different run: {'; '.join(differences)}. "
            if all(change.startswith("start.") for change in differences):
                what += "If the network was trained since it was made, make it anew and call again. "
            raise TrainingError(f"{what}Delete it to train {self.run} again, or undo the change.")

    def _next_epoch(self) -> Tensor | None:
        """Train, test and store one epoch; the logits (N, classes) of the test images if it was tested."""
        started = time.perf_counter()
        train, test, outputs = self._train_epoch(), {}, None
        seconds = time.perf_counter() - started
        self.epoch += 1
        last = self.epoch == self.schedule.epochs
        if last:
            weights.round_weights(self.objective.modules)
        if self.epoch in self.tested:
            test, outputs = evaluate(self.objective, self.data, self.cached, "float32" if last else self.precision)
        speed = self.steps * self.schedule.batch_size / seconds
        timing = {"train_seconds": seconds, "seconds": time.perf_counter() - started, "images_per_second": speed}
        for part, values in (("train", train), ("test", test), ("timing", timing)):
            for name, value in values.items():
                self.history[part].setdefault(name, []).append(value)
        metadata = {"epoch": str(self.epoch), "history": json.dumps(self.history)}
        metadata["identity"] = self.identity.model_dump_json()
        tensors = weights.flat_state(self.objective.modules) | self.optimizer.momenta()
        files.write_tensors(self.run.checkpoint, tensors, metadata)
        self._tell(train, test, timing)
        return outputs

    def _train_epoch(self) -> dict[str, float]:
        """One pass over the training images; the means of the losses and the accuracy in percent."""
        for module in self.objective.modules.values():
            module.train()
        losses: dict[str, list[Tensor]] = {}
        correct: list[Tensor] = []
        batch_size, done = self.schedule.batch_size, self.epoch * self.steps
        batches = self.data.batches(self.identity.seed, self.run.arm.stage, self.epoch, batch_size)
        batches = with_targets(batches, self._target, self.cached, f"epoch{self.epoch + 1:04d}")
        for step, (images, labels, target) in enumerate(batches):
            self.optimizer.set_rate(learning_rate(done + step, self.schedule.epochs * self.steps, self.schedule))
            values, outputs = self._step(images, labels, target)
            # Everything stays on the device until the epoch ends.
            for name, value in values.items():
                losses.setdefault(name, []).append(value.detach())
            if outputs is not None:
                correct.append((outputs.argmax(1) == labels).sum())
        curves = {name: torch.stack(values).tolist() for name, values in losses.items()}
        if not math.isfinite(sum(curves["total"])):
            raise TrainingError(
                f"{self.run}: the loss is not finite in epoch {self.epoch + 1}. Delete {self.run.checkpoint} and train "
                f"again at a lower learning rate than {self.schedule.learning_rate:g}."
            )
        for name, curve in curves.items():
            self.history["steps"].setdefault(name, []).extend(curve)
        means = {name: statistics.fmean(curve) for name, curve in curves.items()}
        if correct:
            means["accuracy"] = 100 * int(torch.stack(correct).sum()) / (self.steps * batch_size)
        return means

    def _step(self, images: Tensor, labels: Tensor, target: Tensor | None) -> tuple[Losses, Tensor | None]:
        """One update of the weights; the losses and logits of the batch."""
        with hardware.autocast(self.data.device, self.precision):
            values, outputs = self.objective.losses(images, labels, target)
        self.optimizer.zero_grad()
        values["total"].backward()
        self.optimizer.step()
        return values, outputs

    def _target(self, images: Tensor) -> Tensor | None:
        with hardware.autocast(self.data.device, self.precision):
            return self.objective.target(images)

    def _tell(self, train: Mapping[str, float], test: Mapping[str, float], timing: Mapping[str, float]) -> None:
        """One line for the user: losses and accuracies of the epoch, speed, and the time that is left."""
        parts, told = [part for part in (train, test) if part], [f"loss {train['total']:.3f}"]
        if "power" in train:
            told.append("R² " + ", test ".join(f"{1 - part['total'] / part['power']:.3f}" for part in parts))
        if "accuracy" in train:
            told.append("accuracy " + ", test ".join(f"{part['accuracy']:.1f} %" for part in parts))
        minutes = (self.schedule.epochs - self.epoch) * timing["seconds"] / 60
        told += [f"{timing['images_per_second']:,.0f} images/s", f"{minutes:.1f} min left"]
        print(f"{self.run}  epoch {self.epoch}/{self.schedule.epochs}  {'  '.join(told)}", flush=True)

    def _record(self, outputs: Tensor | None) -> Record:
        """Of a classifier with its ``outputs``: the logits (N, classes) of the test images."""
        model = self.objective.modules["model"]
        return Record(
            run=self.run.name, profile=self.run.replicate.profile.name, names=list(self.data.classes),
            identity=self.identity, machine=self.machine, weights=self.run.save_weights(self.objective.modules),
            parameters=models.count_parameters(model), multiplications=models.count_multiplications(model),
            train=records.rounded(self.history["train"]), test=records.rounded(self.history["test"]),
            tested=self.tested, steps=self.history["steps"],
            labels=[] if outputs is None else self.data.test_labels.tolist(),
            predictions=[] if outputs is None else outputs.argmax(1).tolist(),
        )  # fmt: skip


def _identify(objective: Objective, data: Data, schedule: Schedule, run: Run, precision: str) -> Identity:
    """All that makes a run, as it is now: before the first step."""
    model, start = objective.modules["model"], weights.digests({"model": objective.modules["model"]})
    # Of a regressor the parameters alone: its statistics follow from the teacher, up to the rounding of the device.
    start |= {
        name: files.digest(dict(part.named_parameters()))
        for name, part in objective.modules.items()
        if part is not model
    }
    if objective.teacher is not None:
        start["teacher"] = weights.digests({"model": objective.teacher})["model"]
    arrays = {name: getattr(data, name) for name in ("train_images", "test_images", "train_labels", "test_labels")}
    found = {"name": data.name, "fingerprint": files.digest(arrays), "train_images": len(data.train_labels)}
    return Identity(
        arm=run.arm.settings, widths=[list(block) for block in model.shape.widths], activation=model.shape.activation,
        objective=objective.settings(), schedule=vars(schedule), data=found | data.augmentation,
        seed=run.replicate.seed, precision=precision, start=start, code=records.CODE,
    )  # fmt: skip


@torch.no_grad()
@hardware.true_float32()
def evaluate(
    objective: Objective, data: Data, cached: Path | None = None, precision: str = "float32"
) -> tuple[dict[str, float], Tensor | None]:
    """Losses and accuracy of ``objective`` on the test split, in evaluation mode.

    The teacher's logits are read from the folder ``cached``, or else stored there (`storage.logits`). In ``precision``
    "float32" all machines find the same up to rounding. Returns {loss name: mean; "accuracy": percent, of a classifier}
    and the logits (N, classes), if any.
    """
    for module in objective.modules.values():
        module.eval()
    sums: dict[str, Tensor] = {}
    outputs = []
    with hardware.autocast(data.device, precision):
        for images, labels, target in with_targets(data.test_batches(), objective.target, cached, f"test-{precision}"):
            values, logits = objective.losses(images, labels, target)
            for name, value in values.items():
                sums[name] = sums.get(name, 0) + value * len(labels)
            if logits is not None:
                outputs.append(logits.float())
    metrics = {name: float(value) / len(data.test_labels) for name, value in sums.items()}
    if not outputs:
        return metrics, None
    logits = torch.cat(outputs)
    metrics["accuracy"] = 100 * int((logits.argmax(1) == data.test_labels).sum()) / len(data.test_labels)
    return metrics, logits

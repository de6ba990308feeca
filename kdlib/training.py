"""`fit`: one training loop for every stage of every arm.

It is fast because nothing waits: images are augmented on the device in whole batches, losses and correct counts stay
there and are read once an epoch. It loses nothing: a checkpoint is written after each epoch, and a run that was killed
goes on from the last one; on CPUs the result is bit-identical to that of an undisturbed run.
"""

import math
import os
import time

import torch
from torch import Tensor

from kdlib import hardware, models, optimisers
from kdlib.calibration import confidence_bins
from kdlib.datasets import Data
from kdlib.evaluation import evaluate
from kdlib.identity import identify
from kdlib.objectives import Losses, Objective
from kdlib.progress import Progress
from kdlib.settings import COMMITTED, Schedule
from kdlib.similarity import by_stage
from kdlib.storage import checkpoints, files, logits, records, weights
from kdlib.storage.records import Identity, Record
from kdlib.storage.runs import NotTrained, Run

CHECK_EVERY = 50  # steps between looks at the loss: a diverged run stops soon, and no step waits for the device
COMPARED = 300  # test images on which a student's stages are compared with its teacher's
TESTS = 10  # of the test split in one training, at most: more would cost time and show nothing


class TrainingError(RuntimeError):
    """Training cannot start, go on or be reused. The message says why and what to do."""


class DivergedError(TrainingError):
    """The loss is not finite."""


def fit(objective: Objective, data: Data, schedule: Schedule, run: Run, *, precision: str = "auto") -> Record:
    """Train ``objective`` on ``data``, or load what an earlier call trained; write and return the record.

    Called again after a kill it goes on from the last epoch's checkpoint; called again after it finished it loads the
    weights and returns the record. The modules of the objective are changed in place. On CPUs, equal identities,
    machines and thread counts give bit-identical results.

    Args:
        objective: what to optimise.
        data: the data set, on the device that trains.
        schedule: epochs, learning rate, weight decay, batch size.
        run: whose record and weights are written; its seed and its arm's stage decide the batches.
        precision: of training: "float32", "bfloat16" (autocast) or "auto": bfloat16 where the hardware multiplies it
            natively. The final epoch is tested in float32.

    Raises:
        DivergedError: the loss is not finite.
        TrainingError: an earlier record or checkpoint has another identity, or the profile's records are only read.
        NotTrained: there is a record, but not its weights.
        StorageError: a record or weights file is damaged, or the disk is full.
        BusyError: another process trains this run.
        ValueError: the batch size or the precision is impossible.
    """
    profile = run.replicate.profile.name
    if profile in COMMITTED:
        raise TrainingError(f"The {profile} records are only read: choose the profile {COMMITTED[profile]} to train.")
    training = _Training(objective, data, schedule, run, hardware.choose_precision(precision, data.device))
    with run.lock():
        try:
            record = run.record()
        except NotTrained:
            return training.finish()
        return training.reuse(record)


class _Training:
    """One run on its way from its first step, or its last checkpoint, to its record."""

    def __init__(self, objective: Objective, data: Data, schedule: Schedule, run: Run, precision: str):
        self.objective, self.data, self.schedule, self.run = objective, data, schedule, run
        self.precision = precision
        self.identity = identify(objective, data, schedule, run, precision)
        self.machine = hardware.describe_machine(data.device)
        self.optimizer = optimisers.optimiser(objective.groups(), schedule)
        self.steps = data.steps(schedule.batch_size)
        self.epoch = 0
        self.tested = range(schedule.epochs, 0, -math.ceil(schedule.epochs / TESTS))[::-1]
        self.history: dict[str, records.Curves] = {"steps": {}, "train": {}, "test": {}, "timing": {}}
        self.cached = None
        if objective.cache_targets:
            self.cached = logits.cache(
                run.logits, teacher=self.identity.start["teacher"], data=self.identity.data, seed=self.identity.seed,
                stream=self.identity.stream, batch_size=schedule.batch_size, precision=precision, machine=self.machine,
            )  # fmt: skip

    def reuse(self, record: Record) -> Record:
        """Load what an earlier call trained, if it is the same run."""
        self._check_identity(record.identity, self.run.record_path)
        self.run.load_weights(self.objective.modules, record)
        checkpoints.clear(self.run.checkpoints)  # of a run that was killed between its record and this line
        folder = self.run.record_path.parent
        print(f"{self.run}  already trained: loaded from {os.path.relpath(folder, folder.parents[3])}")
        return record

    @hardware.true_float32()
    def finish(self) -> Record:
        """Train the epochs that are still to do, then write weights and record."""
        self._resume()
        outputs = None
        with Progress(str(self.run), self.epoch, self.schedule.epochs, self.steps) as progress:
            while self.epoch < self.schedule.epochs:
                started = time.perf_counter()
                train = self._train_epoch(progress)
                seconds = time.perf_counter() - started
                self.epoch += 1
                last = self.epoch == self.schedule.epochs
                if last:
                    weights.round_weights(self.objective.modules)
                test = {}
                if self.epoch in self.tested:
                    precision = "float32" if last else self.precision
                    test, outputs = evaluate(self.objective, self.data, self.cached, precision)
                timing = {
                    "train_seconds": seconds,
                    "seconds": time.perf_counter() - started,
                    "images_per_second": self.steps * self.schedule.batch_size / seconds,
                }
                for part, values in (("train", train), ("test", test), ("timing", timing)):
                    for name, value in values.items():
                        self.history[part].setdefault(name, []).append(value)
                self._save_checkpoint()
                progress.epoch(self.epoch, train, test, self.history["timing"])
        if outputs is None and self.run.arm.classifies:  # killed between the last checkpoint and the record
            _, outputs = evaluate(self.objective, self.data, self.cached)
        return self._write_record(outputs)

    def _train_epoch(self, progress: Progress) -> dict[str, float]:
        """One pass over the training images; the means of the losses and the accuracy in percent."""
        for module in self.objective.modules.values():
            module.train()
        losses: dict[str, list[Tensor]] = {}
        correct: list[Tensor] = []
        batch_size = self.schedule.batch_size
        batches = self.data.batches(self.identity.seed, self.identity.stream, self.epoch, batch_size)
        batches = logits.with_targets(batches, self._target, self.cached, f"epoch{self.epoch + 1:04d}")
        for step, (images, labels, target) in enumerate(batches):
            values, outputs = self._step(self._rate(step), images, labels, target)
            # Everything stays on the device until the epoch ends.
            for name, value in values.items():
                losses.setdefault(name, []).append(value.detach())
            if outputs is not None:
                correct.append((outputs.argmax(1) == labels).sum())
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps:
                self._check_finite(torch.stack(losses["total"]))
            progress.step()
        curves = {name: torch.stack(values) for name, values in losses.items()}
        for name, curve in curves.items():
            self.history["steps"].setdefault(name, []).extend(curve.tolist())
        means = {name: float(curve.mean()) for name, curve in curves.items()}
        if correct:
            means["accuracy"] = 100 * int(torch.stack(correct).sum()) / (self.steps * batch_size)
        return means

    def _step(self, rate: float, images: Tensor, labels: Tensor, target: Tensor | None) -> tuple[Losses, Tensor | None]:
        """One update of the weights; the losses and logits of the batch."""
        optimisers.set_rate(self.optimizer, rate)
        with hardware.autocast(self.data.device, self.precision):
            values, outputs = self.objective.losses(images, labels, target)
        self.optimizer.zero_grad()
        values["total"].backward()
        self.optimizer.step()
        return values, outputs

    def _target(self, images: Tensor) -> Tensor | None:
        with hardware.autocast(self.data.device, self.precision):
            return self.objective.target(images)

    def _rate(self, step: int) -> float:
        """The learning rate at a step of the present epoch."""
        steps = self.schedule.epochs * self.steps
        return optimisers.learning_rate(self.epoch * self.steps + step, steps, self.schedule)

    def _check_finite(self, totals: Tensor) -> None:
        if torch.isfinite(totals).all():
            return
        step = int(torch.nonzero(~torch.isfinite(totals))[0])
        last = checkpoints.path_of(self.run.checkpoints, self.epoch)
        where = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise DivergedError(
            f"{self.run}: the loss is not finite at step {step + 1} of epoch {self.epoch + 1} "
            f"(learning rate {self._rate(step):.3g}); {where}. Try a lower learning rate."
        )

    def _save_checkpoint(self) -> None:
        tensors = weights.flat_state(self.objective.modules) | optimisers.state_tensors(self.optimizer)
        checkpoints.save(self.run.checkpoints, self.epoch, tensors, self.history, self.identity)

    def _resume(self) -> None:
        """Go back to the newest checkpoint that is whole; without one, start from the beginning."""
        checkpoint = checkpoints.newest(self.run.checkpoints)
        if checkpoint is None:
            return
        self._check_identity(checkpoint.identity, checkpoint.path)
        weights.load_state(self.objective.modules, checkpoint.tensors, checkpoint.path)
        optimisers.load_state(self.optimizer, checkpoint.tensors)
        self.epoch, self.history = checkpoint.epoch, checkpoint.history
        print(f"{self.run}  goes on after epoch {self.epoch} of {self.schedule.epochs}", flush=True)

    def _check_identity(self, found: Identity, path: os.PathLike) -> None:
        differences = found.differences(self.identity)
        if differences:
            what = f"{path} was made by a different run: {'; '.join(differences)}. "
            if all(change.startswith("start.") for change in differences):
                what += "If the network was trained since it was made, make it anew and call again. "
            raise TrainingError(f"{what}Delete it to train {self.run} again, or undo the change.")

    def _write_record(self, outputs: Tensor | None) -> Record:
        """Of a classifier with its ``outputs``: the logits (N, classes) of the test images."""
        model = self.objective.modules["model"]
        labels = [] if outputs is None else self.data.test_labels.tolist()
        similarity = []
        if self.objective.teacher is not None:
            images = self.data.normalise(self.data.test_images[:COMPARED])
            similarity = by_stage(model, self.objective.teacher, images)
        record = Record(
            run=self.run.name,
            profile=self.run.replicate.profile.name,
            names=list(self.data.classes),
            identity=self.identity,
            machine=self.machine,
            parameters=models.count_parameters(model),
            multiplications=models.count_multiplications(model, self.data.train_images.shape[1]),
            weights=self.run.save_weights(self.objective.modules),
            train=records.rounded(self.history["train"]),
            test=records.rounded(self.history["test"]),
            tested=list(self.tested),
            similarity=[round(value, 4) for value in similarity],
            steps=records.rounded_steps(self.history["steps"]),
            labels=labels,
            predictions=[] if outputs is None else outputs.argmax(1).tolist(),
            calibration={} if outputs is None else records.rounded(confidence_bins(outputs, self.data.test_labels)),
        )
        files.write_json(self.run.timing_path, records.rounded(self.history["timing"]))
        record.save(self.run.record_path)
        checkpoints.clear(self.run.checkpoints)
        return record

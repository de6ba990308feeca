"""`fit`: one training loop for every stage of every experiment.

It is fast because nothing waits: images are augmented on the device in whole batches, losses and correct
counts stay there and are read once an epoch. It loses nothing: after each epoch a checkpoint is written,
and a run that was killed goes on from the last one to the same bits.
"""

import contextlib
import dataclasses
import json
import math
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from kdlib import models, records, storage
from kdlib.answers import Answers
from kdlib.datasets import Data
from kdlib.objectives import Objective
from kdlib.profiles import Schedule
from kdlib.records import NotTrained, Record, Run
from kdlib.storage import StorageError

WARMUP = 0.2  # share of the steps in which the learning rate rises
MOMENTUM = 0.9
CHECK_EVERY = 50  # steps between looks at the loss: a broken run stops soon, and no step waits for the device
CONFIDENCE_BINS = 15
CHECKPOINT_FORMAT = 1


class TrainingError(RuntimeError):
    """Training cannot start, go on or be reused. The message says why and what to do."""


def fit(
    objective: Objective,
    data: Data,
    schedule: Schedule,
    run: Run,
    *,
    after: Record | None = None,
    precision: str = "auto",
) -> Record:
    """Train ``objective`` on ``data``, or load what an earlier call trained; write and return the record.

    Called again after a kill it goes on from the last epoch's checkpoint; called again after it finished
    it loads the weights and returns the record. The modules of the objective are changed in place. On CPUs, equal
    seeds, settings, machines and thread counts give equal bits.

    Args:
        objective: what to optimise.
        data: the data set, on the device that trains.
        schedule: epochs, learning rate, weight decay, batch size.
        run: whose record and weights are written; its seed decides the order and augmentation of images.
        after: the record of stage one, where the objective's modules are those that it trained.
        precision: of training: "float32", "bfloat16" (autocast) or "auto": bfloat16 where the hardware multiplies
            it natively. Tests are made in float32.

    Raises:
        TrainingError: the loss is not finite, or an earlier record or checkpoint was made with other settings.
        NotTrained: there is a record, but not its weights.
        StorageError: a record or weights file is damaged, or the disk is full.
        BusyError: another process trains this run.
        ValueError: the batch size or the precision is impossible.
    """
    training = _Training(objective, data, schedule, run, after, precision)
    with run.lock():
        try:
            record = run.record()
        except NotTrained:
            return training.finish()
        return training.reuse(record)


def learning_rate(step: int, steps: int, highest: float) -> float:
    """The rate at ``step`` (from 0) of ``steps``: a linear rise to ``highest``, then a linear fall towards 0."""
    rise = max(1, round(WARMUP * steps))
    return highest * min((step + 1) / rise, (steps - step) / max(1, steps - rise))


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto" to "bfloat16" on GPUs and CPUs that multiply it natively, else to "float32".

    Raises:
        ValueError: ``precision`` is none of the three.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision must be auto, float32 or bfloat16, not {precision!r}.")
    if precision != "auto":
        return precision
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    else:
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def describe_machine(device: torch.device, precision: str) -> dict[str, Any]:
    """What a run was made on: device, threads, precision and versions."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "precision": precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


@torch.no_grad()
@torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
def evaluate(
    objective: Objective, data: Data, answers: Answers | None = None
) -> tuple[dict[str, float], Tensor | None]:
    """Losses and accuracy of ``objective`` on the test split, in evaluation mode.

    In float32, however the model was trained, and without TF32, which GPUs take for it unless told: so another
    machine finds the same, but for rounding.

    Args:
        answers: where to read, or else keep, what the teacher says of the test images.

    Returns:
        {loss name: mean; "accuracy": percent, where there are class scores}, and the scores (N, classes).
    """
    for module in objective.modules.values():
        module.eval()
    sums: dict[str, Tensor] = {}
    scores = []
    for images, labels, target in _with_targets(objective.target, data.test_batches(), answers, "test"):
        values, logits = objective.losses(images, labels, target)
        for name, value in values.items():
            sums[name] = sums.get(name, 0) + value * len(labels)
        if logits is not None:
            scores.append(logits.float())
    metrics = {name: float(value) / len(data.test_labels) for name, value in sums.items()}
    if not scores:
        return metrics, None
    logits = torch.cat(scores)
    metrics["accuracy"] = 100 * int((logits.argmax(1) == data.test_labels).sum()) / len(data.test_labels)
    return metrics, logits


def _with_targets(
    ask: Callable[[Tensor], Tensor | None],
    batches: Iterable[tuple[Tensor, Tensor]],
    answers: Answers | None,
    part: str,
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Add to each batch what the teacher says of it: from the kept answers, or by asking, and keeping them."""
    kept = None if answers is None else answers.load(part)
    said = []
    for number, (images, labels) in enumerate(batches):
        target = ask(images) if kept is None else kept[number].to(images.device)
        if answers is not None and kept is None:
            said.append(target)
        yield images, labels, target
    if said:
        answers.save(part, said)


class _Training:
    """One run on its way from its first step, or its last checkpoint, to its record."""

    def __init__(
        self, objective: Objective, data: Data, schedule: Schedule, run: Run, after: Record | None, precision: str
    ):
        self.objective, self.data, self.schedule, self.run = objective, data, schedule, run
        self.settings = {
            **dataclasses.asdict(schedule),
            **objective.settings,
            "train_images": len(data.train_labels),
        }
        self.teacher = None if objective.teacher is None else records.weights_digest({"model": objective.teacher})
        self.after = None if after is None else after.weights
        # Two runs are the same if these are.
        self.identity = {"dataset": data.name, "teacher": self.teacher, "after": self.after, **self.settings}
        self.device = data.device
        self.precision = choose_precision(precision, self.device)
        self.parameters = {
            f"{name}.{key}": parameter
            for name, module in objective.modules.items()
            for key, parameter in module.named_parameters()
            if parameter.requires_grad
        }
        self.optimizer = torch.optim.SGD(
            self.parameters.values(),
            lr=schedule.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=schedule.weight_decay,
            fused=True,
        )
        self.machine = describe_machine(self.device, self.precision)
        self.answers = None
        if objective.keep_targets:
            self.answers = Answers(
                run.answers, teacher=self.teacher, dataset=data.name, train_images=len(data.train_labels),
                seed=run.replicate.seed, batch_size=schedule.batch_size, machine=self.machine,
            )  # fmt: skip
        self.steps = data.steps(schedule.batch_size)
        self.epoch = 0
        self.history: dict[str, dict[str, list[float]]] = {"steps": {}, "train": {}, "test": {}, "timing": {}}

    def reuse(self, record: Record) -> Record:
        """Load what an earlier call trained, if it is the same run."""
        path = self.run.record_path
        found = {"dataset": record.dataset, "teacher": record.teacher, "after": record.after, **record.settings}
        _check_identity(found, self.identity, path, self.run)
        self.run.load_weights(self.objective.modules, record.weights)
        print(f"{self.run}  trained before: loaded from {path.parent.relative_to(records.root())}")
        return record

    def finish(self) -> Record:
        """Train the epochs that are still to do, then write weights and record."""
        self._resume()
        scores = None
        with _Progress(self.run, self.epoch, self.schedule.epochs, self.steps) as progress:
            while self.epoch < self.schedule.epochs:
                started = time.perf_counter()
                train = self._train_epoch(progress)
                seconds = time.perf_counter() - started
                self.epoch += 1
                if self.epoch == self.schedule.epochs:
                    records.round_weights(self.objective.modules)
                test, scores = evaluate(self.objective, self.data, self.answers)
                images = self.steps * self.schedule.batch_size
                timing = {
                    "train_seconds": seconds,
                    "seconds": time.perf_counter() - started,
                    "images_per_second": images / seconds,
                }
                for part, values in (("train", train), ("test", test), ("timing", timing)):
                    _append(self.history[part], values)
                self._save_checkpoint()
                progress.epoch(self.epoch, train, test, self.history["timing"])
        if scores is None and "accuracy" in self.history["test"]:  # killed after the last checkpoint
            scores = evaluate(self.objective, self.data, self.answers)[1]
        return self._write_record(scores)

    def _train_epoch(self, progress: "_Progress") -> dict[str, float]:
        """One pass over the training images; the means of the losses and the accuracy in percent."""
        for module in self.objective.modules.values():
            module.train()
        losses: dict[str, Tensor] = {}
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        batch_size = self.schedule.batch_size
        classified = False
        batches = self.data.batches(self.run.replicate.seed, self.epoch, batch_size)
        batches = _with_targets(self._ask, batches, self.answers, f"epoch{self.epoch + 1:04d}")
        for step, (images, labels, target) in enumerate(batches):
            self._set_learning_rate(step)
            with self._autocast():
                values, logits = self.objective.losses(images, labels, target)
            self.optimizer.zero_grad()
            values["total"].backward()
            self.optimizer.step()
            for name, value in values.items():
                losses.setdefault(name, torch.zeros(self.steps, device=self.device))[step] = value.detach()
            if logits is not None:
                classified = True
                correct += (logits.argmax(1) == labels).sum()
            if (step + 1) % CHECK_EVERY == 0 or step + 1 == self.steps:
                self._check_finite(losses["total"][: step + 1])
            progress.step()
        for name, value in losses.items():
            self.history["steps"].setdefault(name, []).extend(value.tolist())
        means = {name: float(value.mean()) for name, value in losses.items()}
        return means | ({"accuracy": 100 * correct.item() / (self.steps * batch_size)} if classified else {})

    def _set_learning_rate(self, step: int) -> None:
        rate = learning_rate(
            self.epoch * self.steps + step, self.schedule.epochs * self.steps, self.schedule.learning_rate
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def _ask(self, images: Tensor) -> Tensor | None:
        with self._autocast():
            return self.objective.target(images)

    def _autocast(self) -> contextlib.AbstractContextManager:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def _check_finite(self, totals: Tensor) -> None:
        if torch.isfinite(totals).all():
            return
        step = int(torch.nonzero(~torch.isfinite(totals))[0])
        self._set_learning_rate(step)
        rate = self.optimizer.param_groups[0]["lr"]
        last = self._checkpoint_path(self.epoch)
        where = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        raise TrainingError(
            f"{self.run}: the loss is not finite at step {step + 1} of epoch {self.epoch + 1} "
            f"(learning rate {rate:.3g}); {where}. Try a lower learning rate."
        )

    # Checkpoints: one file an epoch, the last two are kept.

    def _checkpoint_path(self, epoch: int) -> Path:
        return self.run.checkpoints / f"epoch{epoch:04d}.safetensors"

    def _save_checkpoint(self) -> None:
        tensors = records.flat_state(self.objective.modules)
        for name, parameter in self.parameters.items():
            buffer = self.optimizer.state[parameter].get("momentum_buffer")
            if buffer is not None:  # parameters that no loss reaches have none
                tensors[f"momentum.{name}"] = buffer
        metadata = {
            "format": str(CHECKPOINT_FORMAT),
            "identity": json.dumps(self.identity),
            "epoch": str(self.epoch),
            "history": json.dumps(self.history),
        }
        storage.write_tensors(self._checkpoint_path(self.epoch), tensors, metadata)
        self._checkpoint_path(self.epoch - 2).unlink(missing_ok=True)

    def _resume(self) -> None:
        """Go back to the newest checkpoint that is whole; without one, start from the beginning."""
        for path in sorted(self.run.checkpoints.glob("epoch*.safetensors"), reverse=True):
            try:
                tensors, metadata = storage.read_tensors(path)
            except StorageError:
                print(f"{self.run}: {path.name} is damaged; trying the checkpoint before it.", file=sys.stderr)
                continue
            if metadata.get("format") != str(CHECKPOINT_FORMAT):
                raise TrainingError(
                    f"{path} has checkpoint format {metadata.get('format')}, this kdlib reads {CHECKPOINT_FORMAT}: "
                    "update kdlib, or delete the file to start again."
                )
            _check_identity(json.loads(metadata["identity"]), self.identity, path, self.run)
            records.load_state(self.objective.modules, tensors, path)
            for name, parameter in self.parameters.items():
                buffer = tensors.get(f"momentum.{name}")
                if buffer is not None:
                    self.optimizer.state[parameter]["momentum_buffer"] = torch.empty_like(parameter).copy_(buffer)
            self.epoch, self.history = int(metadata["epoch"]), json.loads(metadata["history"])
            return

    def _write_record(self, scores: Tensor | None) -> Record:
        model = self.objective.modules["model"]
        tested = {} if scores is None else _describe_scores(scores, self.data)
        record = Record(
            run=self.run.name,
            profile=self.run.replicate.profile.name,
            seed=self.run.replicate.seed,
            dataset=self.data.name,
            classes=list(self.data.classes),
            settings=self.settings,
            machine=self.machine,
            parameters=models.count_parameters(model),
            multiplications=models.count_multiplications(model),
            weights=self.run.save_weights(self.objective.modules),
            teacher=self.teacher,
            after=self.after,
            **{part: _rounded(self.history[part]) for part in ("steps", "train", "test")},
            **tested,
        )
        storage.write_json(self.run.timing_path, _rounded(self.history["timing"]))
        record.save(self.run.record_path)
        shutil.rmtree(self.run.checkpoints, ignore_errors=True)
        return record


class _Progress:
    """Tells how training goes: a bar in JupyterLab, else one line an epoch."""

    def __init__(self, run: Run, done: int, epochs: int, steps: int):
        self.run, self.epochs = run, epochs
        # Jupyter servers set this variable for their kernels; under papermill or nbval there is no one
        # to watch a bar, and its every movement would be kept as a line.
        interactive = "JPY_SESSION_NAME" in os.environ
        self.bar = tqdm(total=epochs * steps, initial=done * steps, desc=str(run), unit="step") if interactive else None

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def epoch(
        self,
        epoch: int,
        train: Mapping[str, float],
        test: Mapping[str, float],
        timing: Mapping[str, list[float]],
    ):
        figures = [f"loss {train['total']:.3f}"]
        if "power" in train:
            figures.append(
                f"R² {1 - train['total'] / train['power']:.3f}, test {1 - test['total'] / test['power']:.3f}"
            )
        if "accuracy" in train:
            figures.append(f"accuracy {train['accuracy']:.1f} %, test {test['accuracy']:.1f} %")
        if self.bar is not None:
            self.bar.set_postfix_str("  ".join(figures))
            return
        left = (self.epochs - epoch) * timing["seconds"][-1]
        figures += [f"{timing['images_per_second'][-1]:,.0f} images/s", f"{left / 60:.1f} min left"]
        print(f"{self.run}  epoch {epoch}/{self.epochs}  " + "  ".join(figures), flush=True)


def _check_identity(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path, run: Run) -> None:
    """Refuse what an earlier run with other settings, another teacher or another stage one left behind."""
    digests = {"teacher": "another teacher", "after": "another stage one"}
    differences = [
        digests[key] if key in digests else f"{key} {found.get(key)}, now {wanted.get(key)}"
        for key in sorted(found.keys() | wanted.keys())
        if found.get(key) != wanted.get(key)
    ]
    if differences:
        raise TrainingError(
            f"{path} was made with other settings ({'; '.join(differences)}): delete it to train {run} again."
        )


def _describe_scores(scores: Tensor, data: Data) -> dict[str, Any]:
    """Labels, predictions and calibration of test scores (N, classes), as a `Record` holds them."""
    confidence, predicted = scores.softmax(1).max(1)
    correct = predicted == data.test_labels
    bins = (confidence * CONFIDENCE_BINS).long().clamp(max=CONFIDENCE_BINS - 1)
    calibration: dict[str, list[float]] = {"count": [], "confidence": [], "correct": []}
    for number in range(CONFIDENCE_BINS):
        inside = bins == number
        count = int(inside.sum())
        calibration["count"].append(count)
        calibration["confidence"].append(_significant(float(confidence[inside].mean())) if count else 0.0)
        calibration["correct"].append(_significant(float(correct[inside].float().mean())) if count else 0.0)
    return {
        "labels": "".join(map(str, data.test_labels.tolist())),
        "predictions": "".join(map(str, predicted.tolist())),
        "calibration": calibration,
    }


def _append(curves: dict[str, list[float]], values: Mapping[str, float]) -> None:
    for name, value in values.items():
        curves.setdefault(name, []).append(value)


def _rounded(curves: Mapping[str, list[float]]) -> dict[str, list[float]]:
    return {name: [_significant(value) for value in values] for name, values in curves.items()}


def _significant(value: float) -> float:
    """Six significant digits: all that a curve shows, at half the size of the file."""
    return float(f"{value:.6g}") if math.isfinite(value) else value

"""torchdistill on our models and images: its speed for `bench.py`, its accuracy over time for `accuracy.py`.

Runs in torchdistill's own environment, started by these two with the project's folder in ``PYTHONPATH``. Distillation
is a ``DistillationBox``; FitNet a ``MultiStagesDistillationBox``, made like torchdistill's own sample configuration: in
stage one both networks are cut behind the hint and guided layers, and a regressor is added to the student.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from pipeline import LEARNING_RATE, WORKERS, per_image, steady_rate
from torch.utils.data import RandomSampler

from kdlib import datasets, models
from kdlib.datasets import Data
from kdlib.evaluation import evaluate
from kdlib.models import ConvNet
from kdlib.objectives import Classify
from kdlib.settings import PUBLISHED
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY

# After pipeline, which imports torchvision in the way that works beside every torch.
from torchdistill.core.distillation import DistillationBox, get_distillation_box  # isort: skip
from torchdistill.misc.log import MetricLogger  # isort: skip

PROFILE = STUDY.profile("full")


def stage(
    loss: dict[str, Any], teacher: dict[str, Any], student: dict[str, Any], weight_decay: float
) -> dict[str, Any]:
    """The configuration of one stage, which lasts an epoch."""
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": RandomSampler},
            "kwargs": {"batch_size": PROFILE.student.batch_size, "num_workers": WORKERS, "drop_last": True},
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, **teacher},
        "student": {"forward_proc": "forward_batch_only", **student},
        "optimizer": {
            "key": "SGD",
            "kwargs": {"lr": LEARNING_RATE, "momentum": 0.9, "nesterov": True, "weight_decay": weight_decay},
        },
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"loss": {**loss, "weight": 1.0}}},
        },
    }


def distillation() -> dict[str, Any]:
    """Soft and hard loss on the logits of both networks. torchdistill's alpha is the weight of the hard loss."""
    logits = {f"{who}_module_{what}": value for who in ("student", "teacher") for what, value in
               (("path", "."), ("io", "output"))}  # fmt: skip
    weights = {"temperature": PROFILE.temperature, "alpha": 1 - PROFILE.alpha}
    return stage(
        {"criterion": {"key": "KDLoss", "kwargs": {**logits, **weights}}}, {}, {}, PROFILE.student.weight_decay
    )


def hint() -> dict[str, Any]:
    """Mean squared error between the teacher's hint and the regressor on the student's guided layer."""
    front = [f"stages.{number}" for number in range(models.GUIDED_STAGE)]
    guided_width, hint_width = (
        widths[models.GUIDED_STAGE - 1][-1] for widths in (models.STUDENT_WIDTHS, models.TEACHER_WIDTHS)
    )
    regressor = {"in_channels": guided_width, "out_channels": hint_width, "kernel_size": 1}
    loss = {
        "criterion": {"key": "MSELoss", "kwargs": {}},
        "criterion_wrapper": {
            "key": "SimpleLossWrapper",
            "kwargs": {
                "input": {"is_from_teacher": False, "module_path": "+regressor", "io": "output"},
                "target": {"is_from_teacher": True, "module_path": front[-1], "io": "output"},
            },
        },
    }
    teacher = {"sequential": front, "forward_hook": {"output": [front[-1]]}}
    student = {
        "sequential": [*front, "+regressor"],
        "adaptations": {"regressor": {"key": "Conv2d", "kwargs": regressor}},
        "forward_hook": {"output": ["+regressor"]},
    }
    return stage(loss, teacher, student, PROFILE.hint.weight_decay)


def epoch(box: DistillationBox, device: torch.device) -> Iterator[int]:
    """An epoch as torchdistill's examples train it; yields the number of images after each step."""
    box.pre_epoch_process(epoch=0)
    metrics = MetricLogger()
    for images, labels, extra in metrics.log_every(box.train_data_loader, log_freq=1000):
        images, labels = images.to(device), labels.to(device)
        loss = box.forward_process(images, labels, extra)
        box.post_forward_process(loss=loss)
        metrics.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
        yield len(images)


def make_box(config: dict[str, Any], data: Data, teacher: ConvNet, student: ConvNet) -> DistillationBox:
    """torchdistill's training of a student from a teacher, both on the device of ``data``."""
    return get_distillation_box(
        teacher, student, {"train": per_image(data)}, config, data.device, device_ids=[], distributed=False, lr_factor=1
    )


def speeds(data: Data, steps: int) -> None:
    """Print one line of JSON: {training: images/s}, each measured over so many steps."""

    def box(config: dict[str, Any]) -> DistillationBox:
        return make_box(config, data, models.teacher().eval().to(data.device), models.student().to(data.device))

    single, two_stages = box(distillation()), box({"stage1": hint(), "stage2": distillation()})
    rates = {}
    for name, trained in {"distill": single, "hint": two_stages, "exp2": two_stages}.items():
        rates[name] = steady_rate(epoch(trained, data.device), steps, data.device)
        trained.post_epoch_process()  # on to the next stage
    print(json.dumps(rates))


def sample_recipe() -> dict[str, Any]:
    """Distillation as torchdistill's sample configuration for a ResNet-20 on CIFAR-10 has it."""
    config = distillation()
    config["num_epochs"] = 182
    config["train_data_loader"]["kwargs"] |= {"batch_size": 128, "drop_last": False}
    config["optimizer"]["kwargs"] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    config["scheduler"] = {"key": "MultiStepLR", "kwargs": {"milestones": [91, 136], "gamma": 0.1}}
    config["criterion"]["kwargs"]["sub_terms"]["loss"]["criterion"]["kwargs"] |= {"temperature": 4.0, "alpha": 0.9}
    return config


def accuracies(data: Data) -> None:
    """Train an epoch for each line of the standard input, and print [minutes of training so far, test accuracy]."""
    teacher = models.load(Replicate(STUDY.profile(PUBLISHED)).run("teacher"), data.device)
    student = models.student().to(data.device)
    trained, minutes = make_box(sample_recipe(), data, teacher, student), 0.0
    for _ in sys.stdin:
        started = time.perf_counter()
        student.train()
        for _ in epoch(trained, data.device):
            pass
        trained.post_epoch_process()
        minutes += (time.perf_counter() - started) / 60
        print(json.dumps([minutes, evaluate(Classify(student), data)[0]["accuracy"]]), flush=True)


def main() -> None:
    """See the module's documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("device", type=torch.device)
    parser.add_argument("what", help="the steps of each training, to measure its speed, or accuracy")
    arguments = parser.parse_args()
    data = datasets.load("cifar10", arguments.device)
    if arguments.what == "accuracy":
        accuracies(data)
    else:
        speeds(data, int(arguments.what))


if __name__ == "__main__":
    main()

"""torchdistill on our models and images, started by `bench.py` in torchdistill's own environment.

To each line of the standard input it answers with a line of JSON. Asked for "accuracy", it trains an epoch a line and
prints [minutes of training so far, test accuracy]; asked for a number of steps, {training: images/s} over so many.
"""

import json
import sys
from collections.abc import Generator, Iterator
from typing import Any

from contenders import DEVICE, FULL, LEARNING_RATE, WORKERS, InMemoryCIFAR10, steady_rate, timed_epochs
from torch.utils.data import RandomSampler

from kdlib import models
from kdlib.data import Data
from kdlib.storage.runs import Replicate
from kdlib.study import STUDY

# After contenders, which imports torchvision in the way that works beside every torch.
from torchdistill.core.distillation import DistillationBox, get_distillation_box  # isort: skip

Config = dict[str, Any]


def stage(loss: Config, teacher: Config, student: Config) -> Config:
    """The configuration of one stage, which lasts an epoch."""
    batches = {"batch_size": FULL.scratch.batch_size, "num_workers": WORKERS, "drop_last": True}
    sgd = {"lr": LEARNING_RATE, "momentum": 0.9, "nesterov": True, "weight_decay": FULL.scratch.weight_decay}
    return {
        "num_epochs": 1,
        "train_data_loader": {"dataset_id": "train", "sampler": {"class_or_func": RandomSampler}, "kwargs": batches},
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, **teacher},
        "student": {"forward_proc": "forward_batch_only", **student},
        "optimizer": {"key": "SGD", "kwargs": sgd},
        "criterion": {"key": "WeightedSumLoss", "kwargs": {"sub_terms": {"loss": {**loss, "weight": 1.0}}}},
    }


def distillation(temperature: float, alpha: float) -> Config:
    """Soft and hard loss on the logits of both networks; torchdistill's alpha is the weight of the hard loss."""
    student = {"student_module_path": ".", "student_module_io": "output"}
    teacher = {"teacher_module_path": ".", "teacher_module_io": "output"}
    settings = {**student, **teacher, "temperature": temperature, "alpha": 1 - alpha}
    return stage({"criterion": {"key": "KDLoss", "kwargs": settings}}, {}, {})


def hint() -> Config:
    """FitNet's stage one as in torchdistill's sample: both networks end at the guided block; a regressor is added."""
    front = [f"blocks.{number}" for number in range(models.GUIDED_BLOCK)]
    guided, hinted = (widths[len(front) - 1][-1] for widths in (models.STUDENT.widths, models.TEACHER.widths))
    regressor = {"key": "Conv2d", "kwargs": {"in_channels": guided, "out_channels": hinted, "kernel_size": 1}}
    student = {"sequential": [*front, "+regressor"], "forward_hook": {"output": ["+regressor"]}}
    student["adaptations"] = {"regressor": regressor}
    output = {"is_from_teacher": False, "module_path": "+regressor", "io": "output"}
    target = {"is_from_teacher": True, "module_path": front[-1], "io": "output"}
    wrapper = {"key": "SimpleLossWrapper", "kwargs": {"input": output, "target": target}}
    loss = {"criterion": {"key": "MSELoss", "kwargs": {}}, "criterion_wrapper": wrapper}
    return stage(loss, {"sequential": front, "forward_hook": {"output": [front[-1]]}}, student)


def make_box(config: Config, data: Data, teacher: models.ConvNet, student: models.ConvNet) -> DistillationBox:
    """torchdistill's training of a student from a teacher."""
    images, networks = {"train": InMemoryCIFAR10(data)}, (teacher.to(DEVICE).eval(), student.to(DEVICE))
    return get_distillation_box(*networks, images, config, DEVICE, device_ids=[], distributed=False, lr_factor=1)


def epoch(box: DistillationBox) -> Generator[int, None, None]:
    """An epoch as torchdistill's examples train it, but for their log; yields the number of images after each step."""
    box.pre_epoch_process(epoch=0)
    for images, labels, extra in box.train_data_loader:
        images, labels = images.to(DEVICE), labels.to(DEVICE)
        loss = box.forward_process(images, labels, extra)
        box.post_forward_process(loss=loss)
        loss.item()
        yield len(images)


def speeds(data: Data, steps: int) -> Iterator[dict[str, float]]:
    """Images/s of distillation, of FitNet's stage one and of its stage two, each over so many steps."""
    while True:
        rates, single = {}, distillation(FULL.temperature, FULL.alpha)
        for config, names in ((single, ["distill"]), ({"stage1": hint(), "stage2": single}, ["hint", "exp2-cached"])):
            box = make_box(config, data, models.teacher(), models.student())
            for name in names:
                rates[name] = steady_rate(epoch(box), steps)
                box.post_epoch_process()  # on to the next stage
        yield rates


def accuracies(data: Data) -> Iterator[tuple[float, float]]:
    """Minutes of training so far and test accuracy in percent, after each epoch of the sample recipe for CIFAR-10."""
    recipe, student = distillation(temperature=4.0, alpha=0.1), models.student()
    recipe["num_epochs"] = 182
    recipe["train_data_loader"]["kwargs"] |= {"batch_size": 128, "drop_last": False}
    recipe["optimizer"]["kwargs"] = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    recipe["scheduler"] = {"key": "MultiStepLR", "kwargs": {"milestones": [91, 136], "gamma": 0.1}}
    box = make_box(recipe, data, Replicate(STUDY.profile("published")).load("teacher", DEVICE), student)

    def train() -> None:
        student.train()
        sum(epoch(box))
        box.post_epoch_process()

    return timed_epochs(train, student, data)


if __name__ == "__main__":
    what, data = sys.argv[1], Replicate(FULL).data(DEVICE)
    answers = accuracies(data) if what == "accuracy" else speeds(data, int(what))
    for _ in sys.stdin:
        print(json.dumps(next(answers)), flush=True)

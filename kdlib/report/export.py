"""A trained network to take away: an ONNX file that classifies images as they are, and a card that describes it.

It needs the packages of requirements-extra.txt, and nothing of this project to be used.
"""

import warnings

import torch
from torch import Tensor, nn

from kdlib import datasets, models
from kdlib.datasets import DATASETS, Data
from kdlib.models import ConvNet
from kdlib.report import measures
from kdlib.settings import PUBLISHED
from kdlib.storage import files, folders
from kdlib.storage.records import Record
from kdlib.storage.runs import Replicate, Run
from kdlib.study import EXTENDED


class Classifier(nn.Module):
    """Class probabilities of images as they are: (N, S, S, C) uint8 → (N, classes) float32."""

    def __init__(self, model: ConvNet, data: Data):
        super().__init__()
        self.model, self.data = model, data

    def forward(self, images: Tensor) -> Tensor:
        """Normalised as in training, then classified."""
        return self.model(self.data.normalise(images)).softmax(1)


def export(arm: str, profile_name: str = PUBLISHED) -> str:
    """Write the network of an arm, of seed 0, as ``<arm>.onnx`` and its card ``<arm>.md``; return where they lie.

    Raises:
        ValueError: there is no such arm or profile, the arm is no classifier, or a package is missing.
        NotTrained: it was not trained, or its weights are not kept.
        StorageError: its record or weights are damaged, or the disk is full.
        DataUnavailable: the data set, whose mean the network needs, cannot be had.
    """
    run = Replicate(EXTENDED.profile(profile_name), 0, EXTENDED).run(arm)
    if not run.arm.classifies:
        raise ValueError(f"{run.arm.title} classifies no images: choose an arm that does, such as distill.")
    record = run.record()
    data = datasets.load(record.identity.data["name"], device="cpu")
    path = folders.build(profile_name) / "export" / f"{arm}.onnx"
    files.write_bytes(path, _onnx(Classifier(models.load(run), data).eval(), data))
    files.write_bytes(path.with_suffix(".md"), _card(run, record, tuple(data.test_images.shape[1:])).encode())
    return f"{path}\n{path.with_suffix('.md')}"


def _onnx(classifier: Classifier, data: Data) -> bytes:
    """The network in the ONNX format, for any number of images; the names of the classes are in its metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about itself
        try:
            program = torch.onnx.export(
                classifier,
                (data.test_images[:2],),
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("N")}},
                verbose=False,
            )
        except ImportError as error:
            raise ValueError(f"{error.name} is missing: run make export, which sets it up.") from None
    program.model.metadata_props["classes"] = " ".join(data.classes)
    return program.model_proto.SerializeToString()


def _card(run: Run, record: Record, shape: tuple[int, ...]) -> str:
    """What a stranger has to know of the network, from its record."""
    made, data = record.identity, record.identity.data
    title = DATASETS[data["name"]].title
    rows = {
        "input `images`": f"uint8, (N, {', '.join(map(str, shape))}), red, green, blue; normalisation is inside",
        "output `probabilities`": f"float32, (N, {made.classes}), in the order above",
        "parameters": f"{record.parameters:,}",
        "multiplications": f"{record.multiplications:,} for an image",
        "test accuracy": f"{measures.accuracy(record):.2f} % on {len(record.labels):,} images",
        "expected calibration error": f"{measures.calibration_error(record):.2f} points",
        "trained on": f"{data['train_images']:,} images of {title}, {made.schedule['epochs']} epochs",
        "objective": ", ".join(f"{name}: {value}" for name, value in made.objective.items()),
        "SHA-256 of its weights": record.weights["model"],
    }
    return "\n".join([
        f"# {run.arm.title}, seed {made.seed}\n",
        f"Tells which of these an image shows: {', '.join(record.names)}.\n",
        "| | |\n|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "\nThe accuracy is that of the final epoch of one training, without checkpoint selection. An image of anything",
        "else is put into one of these classes too, often with a high probability.\n",
    ])  # fmt: skip

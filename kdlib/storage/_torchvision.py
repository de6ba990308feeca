"""`import torchvision` that also works beside a torch which cannot load its compiled operators.

The torchvision wheel on the package index is linked against CUDA. Beside the CPU build of torch its
library of compiled operators does not load. Most of torchvision does without: it only says so when such
an operator is called. But on import it describes two of them, ``nms`` and ``qnms`` (non-maximum
suppression, for object detection), to torch's compiler, and torch refuses to describe an operator that
it has never heard of: ``RuntimeError: operator torchvision::nms does not exist``. Declaring the two,
without any implementation, is enough for the import to go through. The data sets and transforms, which
is all that this project uses, need neither.
"""

import functools
import importlib
import sys
from types import ModuleType

import torch


@functools.cache  # the operators live as long as the library object, which the cache keeps
def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def import_torchvision() -> ModuleType:
    """The torchvision package, imported on the first call.

    Where torchvision imports by itself this is a plain import and nothing is declared.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: the import fails for another reason than missing compiled operators.
    """
    try:
        return importlib.import_module("torchvision")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    _declare_operators()
    # The failed import left submodules behind that would not be tied to the package of the second one.
    for name in [name for name in sys.modules if name.startswith("torchvision.")]:
        del sys.modules[name]
    return importlib.import_module("torchvision")

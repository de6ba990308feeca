"""The weights of networks as they are stored: in float16, with a digest for each module."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from kdlib.errors import StorageError
from kdlib.storage import files

Modules = Mapping[str, nn.Module]


def flat_state(modules: Modules) -> dict[str, Tensor]:
    """Weights and statistics of several modules under one set of names, ``"model.blocks.0…"``."""
    return nn.ModuleDict(modules).state_dict()


def load_state(modules: Modules, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``modules`` from ``tensors`` of the file ``path``. Raises `StorageError` when they do not fit."""
    own = {key: value for key, value in tensors.items() if key.partition(".")[0] in modules}
    try:
        nn.ModuleDict(modules).load_state_dict(own)
    except RuntimeError as error:
        raise StorageError(f"{path} holds the weights of another network: delete it and run again.") from error


def half_state(modules: Modules) -> dict[str, Tensor]:
    """`flat_state` with floating-point numbers in float16: what is stored."""
    state = flat_state(modules)
    return {key: value.half() if value.is_floating_point() else value for key, value in state.items()}


def round_weights(modules: Modules) -> None:
    """Round all weights and statistics to float16, in place: what is tested is then exactly what is stored."""
    state = flat_state(modules)
    for key, value in half_state(modules).items():
        state[key].copy_(value)


def digests(modules: Modules) -> dict[str, str]:
    """SHA-256 (hex) of each module's weights and statistics as they are stored."""
    return {name: files.digest(half_state({name: module})) for name, module in modules.items()}


def stored_digest(tensors: Mapping[str, Tensor], name: str) -> str:
    """Digest of the module called ``name`` among the tensors of a weights file, as `digests` computes it."""
    return files.digest({key: value for key, value in tensors.items() if key.startswith(f"{name}.")})

"""The weights of networks as they are stored: in float16, with a digest for each module."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from kdlib.storage import files
from kdlib.storage.files import StorageError

Modules = Mapping[str, nn.Module]


def flat_state(modules: Modules) -> dict[str, Tensor]:
    """Weights and statistics of several modules under one set of names, ``"model.stages.0…"``."""
    return {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}


def load_state(modules: Modules, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Fill ``modules`` from ``tensors`` of the file ``path``. Raises ``StorageError`` when they do not fit."""
    for name, module in modules.items():
        own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        try:
            module.load_state_dict(own)
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


def parameters_digest(module: nn.Module) -> str:
    """SHA-256 (hex) of a module's parameters as they are stored, its statistics aside."""
    return files.digest({name: value.half() for name, value in module.named_parameters()})


def stored_digest(tensors: Mapping[str, Tensor], name: str) -> str:
    """Digest of the module called ``name`` among the tensors of a weights file, as `digests` computes it."""
    return files.digest({key: value for key, value in tensors.items() if key.startswith(f"{name}.")})

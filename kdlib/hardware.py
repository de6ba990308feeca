"""The machine: which device trains, in which precision, and how a record names it."""

import contextlib
import os
import platform
from typing import Any

import torch


def choose_device() -> torch.device:
    """The device that ``KDLIB_DEVICE`` names ("cuda", "cuda:1", "mps", "cpu"); without it CUDA, else MPS, else the CPU.

    Raises:
        ValueError: it names none that this machine has.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name, found in available.items() if found]
    wanted = os.environ.get("KDLIB_DEVICE") or here[0]
    name, _, number = wanted.partition(":")
    count = torch.cuda.device_count() if name == "cuda" else 1
    if name not in here or (number and not (number.isdecimal() and int(number) < count)):
        raise ValueError(f"KDLIB_DEVICE is {wanted!r}, but this machine has {', '.join(here)}: set it to one of these.")
    return torch.device(wanted)


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto" to "bfloat16" on CUDA GPUs and CPUs that multiply it natively, else to "float32".

    Raises:
        ValueError: ``precision`` is none of the three.
    """
    if precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision must be auto, float32 or bfloat16, not {precision!r}.")
    if precision != "auto":
        return precision
    native = False
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        native = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    elif device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return "bfloat16" if native else "float32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Run convolutions and matrix products in ``precision`` ("float32" or "bfloat16") during a ``with`` block."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def true_float32() -> contextlib.ContextDecorator:
    """A ``with`` block or decorator without TF32, by which GPUs replace float32 in convolutions unless told."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a run was made on: device, threads and versions."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = torch.cpu.get_capabilities().get("cpu_name") or platform.machine()
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }

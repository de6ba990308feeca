"""The machine: which device trains, in which precision, and how a record names it."""

import contextlib
import os
import platform
from typing import Any

import torch

from kdlib.errors import SettingError


def choose_device() -> torch.device:
    """The device that ``KDLIB_DEVICE`` names ("cuda:1", say); without it CUDA, else Apple's MPS, else the CPU."""
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    here = [name for name in found if found[name]]
    wanted = os.environ.get("KDLIB_DEVICE") or here[0]
    try:
        device = torch.empty(0, device=wanted).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: a torch that was built without CUDA
        reason = str(error).partition("\n")[0]
        has = f"This machine has {', '.join(here)}: name one of these by KDLIB_DEVICE."
        raise SettingError(f"The device {wanted!r} cannot be used ({reason}). {has}") from None
    if device.type == "cuda":
        own = "sm_{}{}".format(*torch.cuda.get_device_capability(device))
        served = [int(arch[3:].rstrip("af")) for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
        if served and int(own[3:]) < min(served):
            ways = "call make with TORCH_BACKEND=cu126, or set KDLIB_DEVICE=cpu"
            raise SettingError(f"This GPU ({own}) is too old for this build of torch: {ways}.")
    return device


def choose_precision(precision: str, device: torch.device) -> str:
    """Resolve "auto" to ``KDLIB_PRECISION`` or else to "bfloat16" on CUDA GPUs and CPUs that multiply it faster, and to
    "float32" elsewhere.
    """
    if precision == "auto":
        precision = os.environ.get("KDLIB_PRECISION") or "auto"
    if precision not in ("auto", "float32", "bfloat16"):
        raise SettingError(f"KDLIB_PRECISION must be auto, float32 or bfloat16, not {precision!r}.")
    if precision != "auto":
        return precision
    native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Intel's AVX-512 multiplies both at one speed, and converting costs: only its AMX gains.
        can = torch.cpu.get_capabilities()
        native = can.get("amx_bf16") or (can.get("avx512_bf16") and not can.get("cpu_name", "").startswith("Intel"))
    return "bfloat16" if native else "float32"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Run convolutions and matrix products in ``precision`` ("float32" or "bfloat16") during a ``with`` block."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


@contextlib.contextmanager
def true_float32():
    """A ``with`` block or decorator without TF32, by which GPUs replace float32 in convolutions unless told."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a run was made on: device, threads and versions."""
    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else torch.cpu.get_capabilities().get("cpu_name")
    versions = {"torch": torch.__version__, "python": platform.python_version(), "system": platform.system()}
    return {"device": name or platform.machine(), "threads": torch.get_num_threads()} | versions

"""Which device and precision are chosen, on machines that are pretended."""

import pytest
import torch

from kdlib import hardware


@pytest.fixture
def machine(monkeypatch):
    """Pretend a machine: ``machine(cuda=2, mps=False)``, with KDLIB_DEVICE unset."""

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    monkeypatch.delenv("KDLIB_DEVICE", raising=False)
    return pretend


@pytest.mark.parametrize(
    ("has", "chosen"),
    [({"cuda": 1, "mps": True}, "cuda"), ({"cuda": 1}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")],
)
def test_cuda_comes_before_mps_and_mps_before_the_cpu(machine, has, chosen):
    machine(**has)
    assert hardware.choose_device() == torch.device(chosen)


@pytest.mark.parametrize("named", ["cpu", "cuda", "cuda:1", "mps"])
def test_kdlib_device_decides(machine, monkeypatch, named):
    machine(cuda=2, mps=True)
    monkeypatch.setenv("KDLIB_DEVICE", named)
    assert hardware.choose_device() == torch.device(named)


@pytest.mark.parametrize(
    ("named", "has", "found"),
    [
        ("cuda", {}, "cpu"),
        ("mps", {"cuda": 1}, "cuda, cpu"),
        ("cuda:2", {"cuda": 2}, "cuda, cpu"),
        ("cuda:x", {"cuda": 2}, "cuda, cpu"),
        ("gpu", {"mps": True}, "mps, cpu"),
    ],
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(machine, monkeypatch, named, has, found):
    machine(**has)
    monkeypatch.setenv("KDLIB_DEVICE", named)
    sentence = f"KDLIB_DEVICE is '{named}', but this machine has {found}: set it to one of these."
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        hardware.choose_device()


def test_auto_precision_is_bfloat16_only_where_the_hardware_multiplies_it(monkeypatch):
    cpu = torch.device("cpu")
    for capabilities, expected in [({"avx2": True}, "float32"), ({"avx512_bf16": True}, "bfloat16")]:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda capabilities=capabilities: capabilities)
        assert hardware.choose_precision("auto", cpu) == expected
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert hardware.choose_precision("auto", torch.device("cuda")) == "bfloat16"
    assert hardware.choose_precision("auto", torch.device("mps")) == "float32"


def test_float32_is_not_replaced_by_tf32_and_the_setting_is_restored():
    before = torch.backends.cudnn.allow_tf32

    @hardware.true_float32()
    def inside():
        return torch.backends.cudnn.allow_tf32

    assert inside() is inside() is False
    assert torch.backends.cudnn.allow_tf32 == before

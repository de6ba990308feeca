"""Which device and precision are chosen, on machines that are pretended."""

from types import SimpleNamespace

import pytest
import torch

from kdlib import hardware
from kdlib.errors import SettingError


def test_kdlib_device_decides_else_cuda_comes_before_mps_and_mps_before_the_cpu(monkeypatch):
    monkeypatch.setattr(torch, "empty", lambda _, device: SimpleNamespace(device=torch.device(device)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90", "gfx90a"])
    cases = ("", True, True, "cuda"), ("", False, True, "mps"), ("", False, False, "cpu"), ("mps", True, True, "mps")
    for named, cuda, mps, chosen in cases:
        monkeypatch.setenv("KDLIB_DEVICE", named)
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert hardware.choose_device() == torch.device(chosen)


@pytest.mark.parametrize("named", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(monkeypatch, named):
    monkeypatch.setenv("KDLIB_DEVICE", named)
    with pytest.raises(SettingError, match=rf"^The device '{named}' cannot be used \(.*\)\. .* has .*cpu: name one of"):
        hardware.choose_device()


def test_auto_precision_is_bfloat16_only_where_it_is_faster(monkeypatch):
    monkeypatch.delenv("KDLIB_PRECISION", raising=False)
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    for name, capability, expected in (
        ("AMD EPYC", "avx2", "float32"),
        ("AMD EPYC", "avx512_bf16", "bfloat16"),
        ("Intel Xeon", "avx512_bf16", "float32"),
        ("Intel Xeon", "amx_bf16", "bfloat16"),
    ):
        found = {"cpu_name": name, capability: True}
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found)
        assert hardware.choose_precision("auto", cpu) == expected
    assert hardware.choose_precision("float32", cpu) == "float32"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)
    assert hardware.choose_precision("auto", cuda) == "bfloat16"
    monkeypatch.setenv("KDLIB_PRECISION", "float32")
    assert hardware.choose_precision("auto", cuda) == "float32"
    with pytest.raises(SettingError, match=r"^KDLIB_PRECISION must be auto, float32 or bfloat16, not 'half'\.$"):
        hardware.choose_precision("half", cpu)


@pytest.mark.parametrize("before", [True, False])
def test_float32_is_not_replaced_by_tf32_and_all_is_left_as_the_user_set_it(monkeypatch, before):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    with pytest.raises(ZeroDivisionError), hardware.true_float32():
        assert not torch.backends.cudnn.allow_tf32
        raise ZeroDivisionError
    assert torch.backends.cudnn.allow_tf32 == before

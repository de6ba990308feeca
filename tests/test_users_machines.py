"""What differs from one user's machine to the next, pretended here: containers, GPUs, file systems, set-ups."""

import errno
import fcntl
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kdlib import hardware
from kdlib.errors import SettingError, StorageError
from kdlib.report import run
from kdlib.storage import files

HOME = Path(__file__).parents[1]


def test_a_gpu_that_this_build_of_torch_does_not_serve_is_refused(monkeypatch):
    monkeypatch.setenv("KDLIB_DEVICE", "cuda")
    monkeypatch.setattr(torch, "empty", lambda _, device: SimpleNamespace(device=torch.device(device)))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90a", "compute_120"])
    with pytest.raises(SettingError, match=r"GPU \(sm_70\) is too old .* TORCH_BACKEND=cu126, or set KDLIB_DEVICE=cpu"):
        hardware.choose_device()


def test_a_file_system_without_locks_is_named_with_the_ways_out(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    sentence = r"Cannot lock .*lock \(Function not .*\): .* by KDLIB_ROOT\.$"
    with pytest.raises(StorageError, match=sentence), files.locked(tmp_path / "lock", busy=""):
        pass


def test_the_graph_runs_where_home_cannot_be_written_and_takes_over_no_profile(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(subprocess, "run", lambda *_, **given: seen.update(given) or SimpleNamespace(returncode=1))
    monkeypatch.setattr(run.os, "access", lambda *_: False)
    monkeypatch.setenv("SNAKEMAKE_PROFILE", "mine")
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # so that what `report` sets is taken back
    os.environ.pop("XDG_CACHE_HOME")
    with pytest.raises(run.Failed):
        run.report({"PROFILE": "smoke"})
    assert seen["env"]["XDG_CACHE_HOME"].startswith(str(seen["cwd"])) and "SNAKEMAKE_PROFILE" not in seen["env"]


def test_the_environment_is_made_anew_only_where_it_must_be_and_uv_gets_pips_index(tmp_path):
    """With a uv and a Python that only note how they are called."""
    project = tmp_path / "one"
    (project / "bin").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "requirements.lock", "pyproject.toml"):
        (project / name).write_bytes((HOME / name).read_bytes())
    python = (
        '#!/bin/sh\ncase "$2" in venv) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; pip) exit 1;; *) echo {};; esac'
    )
    fakes = {"python3": python.format(3), "python9": python.format(9)}
    fakes["uv"] = '#!/bin/sh\necho "$UV_DEFAULT_INDEX $@" >> calls\n'
    for name, text in fakes.items():
        (project / "bin" / name).write_text(text)
        (project / "bin" / name).chmod(0o755)

    def calls(folder, *arguments, **environment):
        environment = os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"} | environment
        subprocess.run(["make", "environment", *arguments], cwd=folder, env=environment, check=True, timeout=60)
        log = folder / "calls"
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return text

    mirror = "https://mirror.invalid/simple"
    assert calls(project, PIP_INDEX_URL=mirror).startswith(f"{mirror} pip install")
    os.utime(project / "requirements.txt", (4e9, 4e9))
    assert calls(project) == "", "nothing has changed but a date"
    assert "--torch-backend=cpu" in calls(project, "TORCH_BACKEND=cpu") and calls(project) == ""
    assert calls(project, "PYTHON=python9") and calls(project) == ""
    moved = project.rename(tmp_path / "two")
    assert calls(moved) and calls(moved) == "", "it names the folder that it was made in"

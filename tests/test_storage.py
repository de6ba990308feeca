"""Files: written whole or not at all, checked when they are read, and never able to run code."""

import contextlib
import errno
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from kdlib.storage import files
from kdlib.storage.files import BusyError, StorageError

CONTENT = {"title": "学生", "curves": {"loss": [1.5, 0.25], "accuracy": [10.0, 90.0]}, "empty": {}, "none": []}


def test_json_has_a_list_on_a_line_and_keys_in_order(tmp_path):
    path = tmp_path / "content.json"
    files.write_json(path, CONTENT)
    assert files.read_json(path) == CONTENT
    assert path.read_text(encoding="utf-8").splitlines() == [
        "{",
        ' "curves": {',
        '  "accuracy": [10.0, 90.0],',
        '  "loss": [1.5, 0.25]',
        " },",
        ' "empty": {},',
        ' "none": [],',
        f' "sha256": "{files._json_digest(CONTENT)}",',
        ' "title": "学生"',
        "}",
    ]


def test_tensors_and_metadata_round_trip(tmp_path):
    path = tmp_path / "tensors.safetensors"
    tensors = {
        "image": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "half": torch.randn(5).half(),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 3),
    }
    files.write_tensors(path, tensors, {"run": "teacher"})
    read, metadata = files.read_tensors(path)
    assert metadata == {"run": "teacher"} and read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype and torch.equal(read[name], tensor), name


def test_digest_follows_name_type_shape_bytes_and_metadata():
    tensor = torch.arange(6, dtype=torch.int32)
    others = [
        {"b": tensor},
        {"a": tensor.float()},
        {"a": tensor.view(2, 3)},
        {"a": tensor.flip(0)},
        {"a": tensor, "b": tensor},
    ]
    digests = {files.digest({"a": tensor}), files.digest({"a": tensor}, {"epoch": "1"}), *map(files.digest, others)}
    assert len(digests) == 2 + len(others)


@pytest.fixture
def arrays(tmp_path):
    """A path with two arrays in it, and their digest."""
    path = tmp_path / "arrays.npz"
    return path, files.write_arrays(path, {"loss": np.ones(3, np.float16), "labels": np.arange(4, dtype=np.uint16)})


def test_arrays_round_trip_with_their_types(arrays):
    read = files.read_arrays(*arrays)
    assert {name: array.dtype.name for name, array in read.items()} == {"loss": "float16", "labels": "uint16"}
    assert read["labels"].tolist() == [0, 1, 2, 3] and read["loss"].tolist() == [1.0] * 3


def test_arrays_are_read_by_their_digest_alone(arrays):
    path, digest = arrays
    other = files.write_arrays(path, {"loss": np.zeros(3, np.float16)})
    with pytest.raises(StorageError, match=r"^.*arrays\.npz is damaged \(its content does not match its digest\): .*$"):
        files.read_arrays(path, digest)
    files.read_arrays(path, other)
    path.unlink()
    with pytest.raises(StorageError, match=r"^.*arrays\.npz is missing: delete the record beside it and run .*$"):
        files.read_arrays(path, digest)


@pytest.mark.parametrize("write", ["bytes", "json", "arrays", "tensors"])
def test_full_disk_leaves_the_old_file_alone(tmp_path, monkeypatch, write):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    call = {
        "bytes": lambda: files.write_bytes(path, b"new"),
        "json": lambda: files.write_json(path, CONTENT),
        "arrays": lambda: files.write_arrays(path, {"a": np.ones(3)}),
        "tensors": lambda: files.write_tensors(path, {"a": torch.ones(3)}, {}),
    }
    with pytest.raises(StorageError, match=r"^Cannot write .*file \(No space left on device\): free some space.*$"):
        call[write]()
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path], "no temporary file is left"


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"^Cannot write .*file/new\.json .*make the folder writable"):
        files.write_json(tmp_path / "file" / "new.json", CONTENT)
    lock = files.locked(tmp_path / "file" / "new.lock", busy="")
    with pytest.raises(StorageError, match=r"^Cannot make the lock file .*file/new\.lock .*writable\.$"), lock:
        pass


def test_new_file_is_flushed_before_it_takes_its_name(tmp_path, monkeypatch):
    path, flushed = tmp_path / "file", []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files.os, "fsync", lambda descriptor: (flushed.append(path.exists()), fsync(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda *paths: (flushed.append("renamed"), replace(*paths)))
    files.write_bytes(path, b"new")
    assert flushed == [False, "renamed"] and path.read_bytes() == b"new"


def test_lock_is_held_once_and_free_again_afterwards(tmp_path):
    path = tmp_path / "folder" / "run.lock"
    second = files.locked(path, "come back later")
    with files.locked(path, "busy"), pytest.raises(BusyError, match=r"^come back later$"), second:
        pass
    with contextlib.suppress(KeyError), files.locked(path, "busy"):
        raise KeyError
    with files.locked(path, "busy"):
        pass


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"a": 1}', b"\xff\xfe", b"PK\x03\x04"])
def test_any_other_file_is_refused_in_one_sentence(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (files.read_json, files.read_tensors, lambda path: files.read_arrays(path, "0" * 64)):
        with pytest.raises(StorageError) as error:
            read(path)
        assert len(str(error.value).splitlines()) == 1 and str(path) in str(error.value)


def test_missing_file_is_no_damage(tmp_path):
    for read in (files.read_json, files.read_tensors):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")

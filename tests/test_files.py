"""Files: written whole or not at all, checked when they are read, and never able to run code."""

import errno
import os
import subprocess
import sys
from unittest.mock import Mock

import pytest
import torch

from kdlib.errors import BusyError, StorageError
from kdlib.storage import files

CONTENT = {"title": "学生", "curves": {"loss": [1.5, 0.25], "accuracy": [10.0, 90.0]}, "empty": {}}
IMAGE = torch.arange(24.0).view(1, 2, 3, 4).to(memory_format=torch.channels_last)
TENSORS = {"image": IMAGE, "half": torch.tensor([0.1]).half(), "count": torch.tensor(7), "empty": torch.empty(0, 3)}
KINDS = {  # of file: what writes it, what reads it
    "json": (lambda path: files.write_json(path, CONTENT), files.read_json),
    "tensors": (lambda path: files.write_tensors(path, TENSORS, {"run": "teacher"}), files.read_tensors),
}


def test_tensors_and_metadata_round_trip_and_give_the_same_file_each_time(tmp_path):
    files.write_tensors(tmp_path / "tensors", TENSORS, {"run": "teacher", "epoch": "3"})
    read, metadata = files.read_tensors(tmp_path / "tensors")
    assert metadata == {"run": "teacher", "epoch": "3"} and read.keys() == TENSORS.keys()
    assert all(read[name].dtype == one.dtype and torch.equal(read[name], one) for name, one in TENSORS.items())
    files.write_tensors(tmp_path / "again", read, {"epoch": "3", "run": "teacher"})
    assert (tmp_path / "again").read_bytes() == (tmp_path / "tensors").read_bytes()


def test_digest_follows_name_type_shape_bytes_and_metadata_but_not_the_memory_layout():
    tensor = torch.arange(6, dtype=torch.int32)
    others = [{"b": tensor}, {"a": tensor.float()}, {"a": tensor.view(2, 3)}, {"a": tensor.flip(0)}]
    digests = {*map(files.digest, [{"a": tensor}, *others]), files.digest({"a": tensor}, {"epoch": "1"})}
    assert len(digests) == 6
    assert files.digest({"a": IMAGE.contiguous()}) == files.digest({"a": IMAGE})


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_damaged_anywhere_is_refused_in_one_sentence(tmp_path, kind):
    (write, read), path = KINDS[kind], tmp_path / "file"
    write(path)
    whole = path.read_bytes()
    places = range(0, len(whole), len(whole) // 60)
    flipped = [whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :] for place in places]
    for content in (*flipped, *(whole[:place] for place in places), b"{}", b"[]", b"null", b"\xff\xfe", b"PK\3\4"):
        path.write_bytes(content)
        with pytest.raises(StorageError, match=r"^.*file is damaged.*: delete it and run .*again\.$"):
            read(path)


def test_what_is_missing_or_cannot_be_read_is_not_called_damaged(tmp_path):
    for _, read in KINDS.values():
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")
    with pytest.raises(StorageError, match=r"^Cannot read .* \(Is a directory\): make it readable\.$"):
        files.read_json(tmp_path)


def test_a_file_is_flushed_before_it_takes_its_name_so_a_full_disk_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(files.os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    for write, _ in KINDS.values():
        with pytest.raises(StorageError, match=r"^Cannot write .*file \(No space left on device\): free some space"):
            write(tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 1


def test_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(StorageError, match=r"^Cannot write .*file/new .*make the folder writable"):
        files.write_json(tmp_path / "file" / "new", CONTENT)


def test_lock_is_held_once_and_free_again_after_an_error(tmp_path):
    path = tmp_path / "folder" / "run.lock"
    with files.locked(path, ""), pytest.raises(BusyError, match=r"^come back$"), files.locked(path, "come back"):
        pass
    for _ in range(2):
        with pytest.raises(KeyError), files.locked(path, "busy"):
            raise KeyError


def test_a_relative_root_stays_where_it_was_named_whatever_folder_a_process_works_in(tmp_path):
    code = "import os; from kdlib.storage import files; os.chdir('/'); print(files.root(), os.environ['KDLIB_ROOT'])"
    environment = os.environ | {"KDLIB_ROOT": "out", "PYTHONPATH": str(files.CHECKOUT)}
    told = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert told.stdout.split() == [str(tmp_path / "out")] * 2

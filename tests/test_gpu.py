"""Training on a GPU beside training on the CPU; skipped where there is none."""

import pytest
import torch
from conftest import small_network

from kdlib import arms, hardware
from kdlib.data import Data, digits
from kdlib.objectives import Classify
from kdlib.optimiser import Muon
from kdlib.study import STUDY
from kdlib.training import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")


@pytest.fixture(scope="module")
def gpu_data():
    return Data("digits", digits(), "cuda")


def test_the_batches_are_those_of_the_cpu(small_data, gpu_data):
    pairs = zip(small_data.batches(3, "stage two", 1, 64), gpu_data.batches(3, "stage two", 1, 64), strict=True)
    for (images, labels), (gpu_images, gpu_labels) in pairs:
        assert gpu_images.is_cuda and torch.equal(gpu_labels.cpu(), labels)
        torch.testing.assert_close(gpu_images.cpu(), images, rtol=1e-6, atol=1e-6)


def test_float32_is_computed_without_tf32():
    torch.manual_seed(0)  # TF32 keeps 10 bits of a factor: its products are off by a thousandth
    images, kernel = torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(images.double(), kernel.double(), padding=1)
    with hardware.true_float32():
        found = torch.nn.functional.conv2d(images.cuda(), kernel.cuda(), padding=1).cpu()
    assert (found - exact).norm() / exact.norm() < 1e-5


def test_in_float32_a_training_goes_as_on_the_cpu(small_data, gpu_data, small_profile, replicate):
    losses, identities = [], []
    for data, name in ((small_data, "baseline"), (gpu_data, "baseline-gpu")):
        model = small_network().to(data.device)
        record = fit(Classify(model), data, small_profile.scratch, replicate.run(name), precision="float32")
        losses.append(record.steps["total"])
        identities.append(record.identity)
    assert identities[0] == identities[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-3), "stored with three digits"


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_interrupted_training_goes_on(gpu_data, small_profile, replicate, monkeypatch, capsys, epoch):
    def train(run):
        return fit(Classify(small_network().cuda()), gpu_data, small_profile.scratch, run, precision="float32")

    whole, run, step, steps = train(replicate.run("baseline-whole")), replicate.run("baseline"), Muon.step, []

    def interrupted(self):
        steps.append(step(self))
        if len(steps) == 4 * epoch + 2:  # within the next epoch
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Muon, "step", interrupted)
        train(run)
    record = train(run)
    assert f"goes on after epoch {epoch} of 3" in capsys.readouterr().out
    assert record.train["total"] == pytest.approx(whole.train["total"], rel=0.02), "GPUs do not add in a fixed order"


def test_every_arm_is_trained_in_bfloat16(gpu_data, replicate):
    for arm in STUDY.arms:
        record = arms.train(replicate.run(arm.name), gpu_data)
        assert record.identity.precision == "bfloat16"
        assert record.machine["device"] == torch.cuda.get_device_name()
        assert all(torch.isfinite(torch.tensor(curve)).all() for curve in record.test.values())

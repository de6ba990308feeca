"""Training on a GPU beside training on the CPU; skipped where there is none."""

import pytest
import torch
from conftest import digits, small_network

from kdlib import arms, hardware, training
from kdlib.evaluation import evaluate
from kdlib.objectives import Classify
from kdlib.progress import Progress
from kdlib.storage.runs import Replicate
from kdlib.study import EXTENDED
from kdlib.training import fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA GPU")


@pytest.fixture(scope="module")
def gpu_data():
    """`small_data` on the GPU."""
    return digits("cuda")


def test_the_batches_are_those_of_the_cpu(small_data, gpu_data):
    assert gpu_data.fingerprint == small_data.fingerprint
    pairs = zip(small_data.batches(3, "stage two", 1, 64), gpu_data.batches(3, "stage two", 1, 64), strict=True)
    for (images, labels), (gpu_images, gpu_labels) in pairs:
        assert gpu_images.is_cuda and torch.equal(gpu_labels.cpu(), labels)
        torch.testing.assert_close(gpu_images.cpu(), images, rtol=1e-6, atol=1e-6)


def test_float32_is_computed_without_tf32():
    """TF32 keeps 10 bits of a factor: its products are off by a thousandth."""
    torch.manual_seed(0)
    images, kernel = torch.randn(8, 64, 16, 16), torch.randn(64, 64, 3, 3)
    exact = torch.nn.functional.conv2d(images.double(), kernel.double(), padding=1)
    with hardware.true_float32():
        found = torch.nn.functional.conv2d(images.cuda(), kernel.cuda(), padding=1).cpu()
    assert (found - exact).norm() / exact.norm() < 1e-5


def test_in_float32_a_training_goes_as_on_the_cpu(small_data, gpu_data, small_profile, replicate):
    losses = []
    for data, name in ((small_data, "baseline"), (gpu_data, "baseline-gpu")):
        model = small_network().to(data.device)
        record = fit(Classify(model), data, small_profile.student, replicate.run(name), precision="float32")
        losses.append(record.steps["total"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1][0] == pytest.approx(losses[0][0], rel=2e-3), "stored with three digits"


@pytest.mark.parametrize("last", [1, 2])
def test_an_interrupted_training_goes_on(gpu_data, small_profile, replicate, monkeypatch, capsys, last):
    whole = fit(Classify(small_network().cuda()), gpu_data, small_profile.student, replicate.run("baseline-whole"))

    class Interrupted(Progress):
        def epoch(self, epoch, *rest):
            if epoch == last:
                raise KeyboardInterrupt

    run = replicate.run("baseline")
    with monkeypatch.context() as patch:
        patch.setattr(training, "Progress", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(Classify(small_network().cuda()), gpu_data, small_profile.student, run)
    capsys.readouterr()
    record = fit(Classify(small_network().cuda()), gpu_data, small_profile.student, run)
    assert f"goes on after epoch {last} of 3" in capsys.readouterr().out
    assert record.train["total"] == pytest.approx(whole.train["total"], rel=0.02), "GPUs do not add in a fixed order"


def test_every_arm_is_trained_in_bfloat16_and_loaded_again(gpu_data, small_profile):
    replicate = Replicate(small_profile, 0, EXTENDED)
    for arm in EXTENDED.arms:
        record = arms.train(replicate.run(arm.name), gpu_data)
        assert record.identity.precision == "bfloat16"
        assert record.machine["device"] == torch.cuda.get_device_name()
        assert all(torch.isfinite(torch.tensor(curve)).all() for curve in record.test.values())
    for name in ("teacher", "distill", "exp2"):
        run = replicate.run(name)
        objective = arms.objective(run, gpu_data)
        run.load_weights(objective.modules, run.record())
        found, _ = evaluate(objective, gpu_data)
        assert found["accuracy"] == run.record().test["accuracy"][-1]

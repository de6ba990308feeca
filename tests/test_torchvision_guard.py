"""The torchvision guard, in processes of their own: an import happens only once in one."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def check(code: str, *path: Path) -> None:
    """Run Python code full of assertions, with ``path`` before everything else on the module path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_torchvision_works_and_a_second_call_changes_nothing():
    check("""
import sys
from PIL import Image
from kdlib.storage._torchvision import import_torchvision

torchvision = import_torchvision()
assert import_torchvision() is torchvision
submodules = [name.split(".")[1] for name in sys.modules if name.startswith("torchvision.")]
assert all(hasattr(torchvision, name) for name in submodules)
import torchvision.transforms as transforms
assert transforms is torchvision.transforms

assert torchvision.datasets.CIFAR10.base_folder == "cifar-10-batches-py"
pipeline = transforms.Compose([transforms.RandomCrop(32, padding=4), transforms.ToTensor()])
assert pipeline(Image.new("RGB", (32, 32))).shape == (3, 32, 32)
pixel = transforms.ToTensor()(Image.new("RGB", (32, 32), (255, 0, 51)))[:, 5, 7]
assert (pixel - pixel.new_tensor([1, 0, 0.2])).abs().max() < 1e-6
""")


def test_a_torchvision_that_imports_or_fails_by_itself_is_left_alone(tmp_path):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "import os\nif 'BROKEN' in os.environ: raise RuntimeError('something else')\nname = 'the fake'"
    )
    check(
        """
import os
import torch
from kdlib.storage._torchvision import import_torchvision

os.environ["BROKEN"] = "yes"
try:
    import_torchvision()
except RuntimeError as error:
    assert str(error) == "something else"
else:
    raise AssertionError("the error did not pass through")

del os.environ["BROKEN"]
assert import_torchvision().name == "the fake"
assert not hasattr(torch.ops.torchvision, "nms")
""",
        tmp_path,
    )

"""torchvision and timm can be imported, whatever build of torch is installed."""

import subprocess
import sys


def test_torchvision_and_timm_are_importable_after_the_shim() -> None:
    program = (
        "from rdvfi.compat import import_torchvision\n"
        "first = import_torchvision()\n"
        "assert import_torchvision() is first\n"
        "import timm, torch\n"
        "model = timm.create_model('resnet18', pretrained=False, features_only=True)\n"
        "assert len(model(torch.zeros(1, 3, 64, 64))) == 5\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

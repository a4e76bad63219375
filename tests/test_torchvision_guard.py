import subprocess
import sys

import pytest

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
import lowshot
assert "torchvision" not in sys.modules
from lowshot.torchvision_guard import torchvision_fault
import transformers
print(transformers.utils.is_torchvision_available(), torchvision_fault())
from transformers import CLIPModel
"""


@pytest.mark.long
def test_transformers_loads_beside_a_torchvision_that_does_not(tmp_path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms\\ndoes not exist')")
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=300, check=False
    )
    assert (run.returncode, run.stdout) == (0, "False operator torchvision::nms does not exist\n"), run.stderr

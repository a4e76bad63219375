"""What a process really imports for a head and for serving, whichever file it is that would import it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.long

FIT = """
import sys
import numpy as np
from lowshot import FewShotClassifier
folder, images = sys.argv[1], list(np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8))
FewShotClassifier(method="gda", views=1).fit(images, list("abcabc")).save_pretrained(f"{folder}/gda")
FewShotClassifier.from_pretrained(f"{folder}/gda").predict(images)
print(*sys.modules)
"""
SERVE = """
import sys
import numpy as np
from lowshot.serving import AdapterBank
from lowshot.serving.server import serve
AdapterBank(sys.argv[1]).predict([np.zeros((32, 32, 3), np.uint8)], "gda")
print(*sys.modules)
"""
COMMANDS = """
import contextlib, io, pathlib, sys
import numpy as np
from PIL import Image
from lowshot.cli import main
folder, photos = sys.argv[1], pathlib.Path(sys.argv[1], "photos")
photos.mkdir()
Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(photos / "image.png")
with contextlib.redirect_stdout(io.StringIO()):
    assert main(["predict", f"{folder}/gda", str(photos)]) == 0
    assert main(["sort", f"{folder}/gda", str(photos), "--out", f"{folder}/sorted"]) == 0
print(*sys.modules)
"""
NEVER = (
    *("peft", "bitsandbytes", "transformers", "accelerate", "torch._dynamo", "sympy"),
    *("sklearn", "scipy", "datasets", "pandas", "matplotlib"),
    *("lowshot.report", "lowshot.data.catalogue", "lowshot.bench", "lowshot.conversion"),
    *("lowshot.adapters.peft_adapter", "lowshot.adapters.lean", "lowshot.adapters.joint"),
    *(f"lowshot.training.{name}" for name in ("weights", "step", "loop", "recorded", "passes", "placing")),
)


@pytest.fixture(scope="module")
def imports(tmp_path_factory):
    """Modules of a process that learns a head and predicts with it, of one that serves it, and of one of commands."""
    folder = str(tmp_path_factory.mktemp("adapters"))
    runs = (
        subprocess.run([sys.executable, "-c", program, folder], check=True, capture_output=True, text=True, timeout=300)
        for program in (FIT, SERVE, COMMANDS)
    )
    return [set(run.stdout.split()) for run in runs]


def test_a_head_is_learnt_and_predicted_with_without_what_it_does_not_need(imports):
    assert sorted(imports[0] & set(NEVER)) == []


def test_the_commands_that_answer_with_a_head_load_no_more(imports):
    assert sorted(imports[2] & set(NEVER)) == []


def test_serving_a_head_needs_neither_training_nor_what_trains(imports):
    never = {*NEVER, "lowshot.training", "lowshot.evaluation", "lowshot.fitting"}
    assert sorted(imports[1] & never) == []

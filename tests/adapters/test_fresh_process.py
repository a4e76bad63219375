"""Saved here, loaded in a process that knows nothing of this one: the same answers, for every method and base."""

import subprocess
import textwrap

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.methods import METHODS
from lowshot.settings import obeyed

pytestmark = pytest.mark.long

CASES = [(name, "none") for name, spec in METHODS.items() if spec.kind != "choice"] + [
    ("lora", "nf4"),
    ("lora-xs", "nf4"),
    ("dora", "nf4"),
    ("lora", "int8"),
    ("layernorm", "nf4"),
    ("peft:loha", "none"),
    ("peft:vera", "none"),
]
PROGRAM = """
    import sys
    from pathlib import Path
    import numpy as np
    from lowshot import FewShotClassifier
    folder = Path(sys.argv[1])
    images = np.load(folder / "images.npy")
    tables = {adapter.name: FewShotClassifier.from_pretrained(adapter).predict_proba(list(images))
              for adapter in sorted(folder.glob("adapter-*"))}
    np.savez(folder / "tables.npz", **tables)
"""


@pytest.fixture(scope="module")
def tables(tiny_clip, tmp_path_factory, forked):
    """Probabilities of every case, from this process and from a fresh one."""
    folder = tmp_path_factory.mktemp("fresh")
    images = np.random.default_rng(0).integers(0, 255, (6, 20, 20, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    here = {}
    for method, quantize in CASES:
        settings = obeyed(method, {"rank": 4, "base_steps": 3, "steps_per_shot": 0, "learning_rate": 1e-2})
        classifier = FewShotClassifier(str(tiny_clip), method=method, quantize=quantize, **settings)
        classifier.fit(list(images), [name for name in "abc" for _ in range(2)])
        name = f"adapter-{method}-{quantize}".replace(":", "-")
        classifier.save_pretrained(folder / name)
        here[method, quantize] = name, classifier.predict_proba(list(images))
    subprocess.run([*forked, "-c", textwrap.dedent(PROGRAM), str(folder)], check=True, timeout=150)
    return here, np.load(folder / "tables.npz")


@pytest.mark.parametrize(("method", "quantize"), CASES)
def test_a_fresh_process_gives_the_same_answers(tables, method, quantize):
    here, there = tables
    name, expected = here[method, quantize]
    np.testing.assert_array_equal(there[name], expected)


def test_the_methods_do_not_all_give_the_same(tables):
    here, _ = tables
    assert len({table.tobytes() for _, table in here.values()}) == len(CASES)

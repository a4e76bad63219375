"""Ten thousand images of a hundred classes: listed, and learnt from, within a known amount of memory."""

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.data import store

pytestmark = pytest.mark.long

IMAGES, CLASSES, SIDE = 10_000, 100, 40
MB = 1 << 20
TRACED = """
import json, sys, tracemalloc
from pathlib import Path
from lowshot.data import load_task
warned = []
tracemalloc.start()
task = load_task(Path(sys.argv[1]), warn=warned)
print(json.dumps([len(task.train), len(task.class_names), warned, *tracemalloc.get_traced_memory()]))
"""
"""Prints the bytes that Python and NumPy keep of a folder that was listed, and the most that they had."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """As hard to list as can be: all files have one size, and those of a class one content; so each is read whole."""
    root = tmp_path_factory.mktemp("many")
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(file, "JPEG")
    content = file.getvalue()
    for label in range(CLASSES):
        first = root / f"class {label:02}" / "0000.jpg"
        first.parent.mkdir()
        first.write_bytes(content + f"{label:02}".encode())  # behind the picture's end
        for number in range(1, IMAGES // CLASSES):
            os.link(first, first.with_name(f"{number:04}.jpg"))
    return root


def test_listing_keeps_a_name_and_a_label_for_each_and_no_image(folder):
    """In a process of its own: Python's table of names, of whatever size it is here, may grow just then."""
    done = subprocess.run([sys.executable, "-c", TRACED, folder], capture_output=True, text=True, check=True)
    images, classes, warned, left, peak = json.loads(done.stdout)

    assert (images, classes, warned) == (IMAGES, CLASSES, [])
    assert left / IMAGES < 300
    assert peak / IMAGES < 1000


def test_learning_keeps_no_more_images_decoded_than_it_may(folder, monkeypatch):
    """1,600 shots take 7.7 MB decoded; of 2 MB in memory the rest is decoded anew whenever it is asked for."""
    held = []
    keep = store.DecodedOnce._keep

    def counted(self, *image):
        keep(self, *image)
        held.append(sum(pixels.nbytes for pixels in self._kept.values()))

    monkeypatch.setattr(store.DecodedOnce, "_keep", counted)
    settings = {"steps_per_shot": 1, "base_steps": 0, "batch_size": 8, "threads": 1}
    classifier = FewShotClassifier(method="lora-xs", image_memory="2MB", image_disk="0", **settings)

    classifier.fit(str(folder), shots=16)

    assert (len(classifier.record_.draw), classifier.record_.steps) == (1600, 16)
    assert 1.9 * MB < max(held) <= 2 * MB
    assert len(held) > 1600

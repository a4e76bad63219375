"""Which images are judged, and how often a file is decoded for it."""

import json
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.cli import main
from lowshot.data import images as decoding
from lowshot.data import store
from lowshot.data.task import whole

PHOTO_BYTES = 20 * 20 * 3


@pytest.fixture
def photos(tmp_path):
    """``photos/<class>/*.png``, nine of each of two classes, no two alike."""
    generator = np.random.default_rng(0)
    for label, level in (("dark", 0), ("light", 150)):
        for number in range(9):
            path = tmp_path / "photos" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(level, level + 60, (20, 20, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch):
    """How often each file was decoded."""
    counts = Counter()
    decode = decoding.load_picture

    def counted(source):
        counts[source] += 1
        return decode(source)

    monkeypatch.setattr(decoding, "load_picture", counted)
    return counts


@pytest.fixture
def settings(tiny_clip):
    return {"model": str(tiny_clip), "method": "lora", "steps_per_shot": 5, "learning_rate": 1e-2}


def test_fit_decodes_every_file_once_and_so_does_evaluate(tiny_clip, photos, tmp_path, decoded, capsys):
    out = str(tmp_path / "adapter")
    fast = ("--model", str(tiny_clip), "--method", "lora", "--steps-per-shot", "5")

    assert main(["fit", str(photos), "--out", out, "--shots", "3", *fast, "--json"]) == 0
    learnt = json.loads(capsys.readouterr().out)
    assert (len(learnt["draw"]), learnt["metrics"]["images"]) == (6, 12)
    assert len(decoded) == 18
    assert set(decoded.values()) == {1}

    decoded.clear()
    assert main(["evaluate", out, str(photos), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["acc1"] == learnt["metrics"]["acc1"]
    assert len(decoded) == 18
    assert set(decoded.values()) == {1}


def test_photographs_are_read_on_threads_with_progress(settings, photos):
    classifier = FewShotClassifier(**settings).fit(photos, shots=3)
    steps = Counter()

    def track(items, *, what, total):
        for item in items:
            steps[what, total] += 1
            yield item

    classifier.evaluate(photos, track=track)
    assert steps["reading images", 18] == 18


def test_judging_keeps_no_more_images_decoded_than_it_may(settings, photos, decoded, monkeypatch):
    sizes = []
    keep = store.DecodedOnce._keep

    def measured(self, *image):
        keep(self, *image)
        sizes.append(sum(pixels.nbytes for pixels in self._kept.values()))

    monkeypatch.setattr(store.DecodedOnce, "_keep", measured)
    roomy = FewShotClassifier(**settings).fit(photos, shots=3).evaluate(photos)
    sizes.clear()
    decoded.clear()
    tight = FewShotClassifier(**settings, image_memory="5KB", image_disk="0").fit(photos, shots=3).evaluate(photos)

    assert tight == roomy
    assert max(sizes) == 5000 // PHOTO_BYTES * PHOTO_BYTES
    assert max(decoded.values()) > 1  # what has no room is decoded anew


def test_a_copy_of_a_shot_under_another_name_is_not_judged(settings, photos, decoded):
    classifier = FewShotClassifier(**settings)
    task = classifier.task(photos)
    classifier.fit(task, shots=3)
    shots = [photos / identity for identity in classifier.record_.draw]
    for shot in shots:
        (shot.parent / f"copy of {shot.name}").write_bytes(shot.read_bytes())

    assert classifier.evaluate(task)["images"] == 12  # read before the copies were there
    assert set(decoded.values()) == {1}
    assert classifier.evaluate(photos)["images"] == 12
    assert isinstance(whole(task.train.images), store.DecodedOnce)

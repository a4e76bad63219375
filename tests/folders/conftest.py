"""A folder of images, and a classifier that is sure of itself where they are very dark or very light."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from lowshot.belonging import HeldOutBelonging
from lowshot.data import decode_image
from lowshot.errors import ImageError
from lowshot.evaluation import Judgement
from lowshot.several_labels import Presence


@dataclasses.dataclass
class Record:
    classes: tuple = ("dark", "light")
    metrics: dict = dataclasses.field(default_factory=dict)
    evaluation_seconds: float = 0.0
    seed: int = 1

    def to_dict(self):
        return dataclasses.asdict(self)


class ByBrightness:
    """The share of white in an image is the probability of ``light``; of grey ones it may say that they are neither."""

    presence = None

    def __init__(self, seed=1, *, tells_none=False):
        self.tells_none = tells_none
        self.belonging = SimpleNamespace(held_out=HeldOutBelonging(0.1, 0.5, (1.0, 1.0), (0.0,) * 9))
        self.record_ = Record(seed=seed)
        self.classes_ = np.asarray(self.record_.classes)
        self.asked = []

    def stream_judgements(self, images, sets=None):
        for image in images:
            self.asked.append(image)
            try:
                light = decode_image(image).mean() / 255
            except ImageError as error:
                yield error
            else:
                p_value = (0.05 if abs(light - 0.5) < 0.05 else 0.7) if self.tells_none else None
                probabilities = np.asarray([1 - light, light], dtype=np.float32)
                yield Judgement(probabilities, p_value, probabilities / np.linalg.norm(probabilities))


class OfEach(ByBrightness):
    """Each image may be dark and light: as dark as the share of black in it is, from 0.4 on, and as light."""

    presence = Presence(0, 0, 1.0, (0.0, 0.0), (0.4, 0.4))


@pytest.fixture
def by_brightness():
    return ByBrightness()


LEVELS = {"a.png": 250, "b.png": 10, "deep/a.png": 245, "deep/er/c.png": 130, "deep/d.png": 100}


@pytest.fixture
def folder(tmp_path):
    """Five images, two of them hard to tell, one that is none, and a file of another kind."""
    folder = tmp_path / "photos"
    for number, (name, level) in enumerate(LEVELS.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((8, 8, 3), level, dtype=np.uint8)
        pixels[0, 0] = number  # no two files are the same
        Image.fromarray(pixels).save(path)
    (folder / "text.png").write_text("not an image")
    (folder / "notes.txt").write_text("notes")
    return folder

"""A folder of images, and a classifier that is sure of itself where they are very dark or very light."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from lowshot.data import decode_image
from lowshot.errors import ImageError


@dataclasses.dataclass
class Record:
    classes: tuple = ("dark", "light")
    metrics: dict = dataclasses.field(default_factory=dict)
    evaluation_seconds: float = 0.0
    seed: int = 1

    def to_dict(self):
        return dataclasses.asdict(self)


class ByBrightness:
    """The share of white in an image is the probability of ``light``."""

    def __init__(self, seed=1):
        self.record_ = Record(seed=seed)
        self.classes_ = np.asarray(self.record_.classes)
        self.asked = []

    def stream_proba(self, images):
        for image in images:
            self.asked.append(image)
            try:
                light = decode_image(image).mean() / 255
            except ImageError as error:
                yield error
            else:
                yield np.asarray([1 - light, light], dtype=np.float32)


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

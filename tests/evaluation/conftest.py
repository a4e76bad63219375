"""Learners on the tiny CLIP, and photographs that tell who decoded them."""

import threading
import weakref

import numpy as np
import pytest

from lowshot.methods import method_spec
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner

PROMPTS = ("a photo of a cat.", "a photo of a dog.", "a photo of a very long name.")


@pytest.fixture
def learner_on(tiny_clip):
    """A learner whose adapter has an effect: ``learner_on("lora", "nf4", encoder="text")``."""

    def build(method, quantize="none", prompts=PROMPTS, model=tiny_clip, device="cpu", **settings):
        recipe = preset_recipe("paper", method).replace(model=str(model), quantize=quantize, precision="fp32")
        small = {"rank": 4, "dropout": 0.0} if "rank" in method_spec(method).settings else {}
        recipe = recipe.replace(device=device, **{**small, **settings})
        learner = create_learner(load_backbone(str(model), device), prompts, recipe)
        generator = np.random.default_rng(3)
        for parameter in getattr(learner, "parameters", ()):
            change = generator.normal(size=parameter.shape, scale=0.1).astype(np.float32)
            parameter.data += parameter.new_tensor(change)
        return learner

    return build


class Photographs:
    """Images of many sizes that are made when asked for, and count how many of them there are at once."""

    def __init__(self, count):
        self.count = count
        self.asked = []
        self.alive = self.most_alive = 0
        self._lock = threading.Lock()

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = np.random.default_rng(index)
        shape = (*generator.integers(17, 40, 2), 3)
        image = generator.integers(0, 255, shape, dtype=np.uint8)
        with self._lock:
            self.asked.append(index)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
        weakref.finalize(image, self._gone)
        return image

    def _gone(self):
        with self._lock:
            self.alive -= 1

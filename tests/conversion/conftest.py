"""Small trained adapters, saved, with the classifier they were saved from."""

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.conversion import export
from lowshot.settings import obeyed

CLASSES = ("grey cat", "small_dog", "owl")
PEFT_OPTIONS = {"peft:oft": ("oft_block_size=4",)}


def pictures(count, side=16, seed=3):
    """Random pictures of the size the tiny models take: nobody needs to resize them."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


@pytest.fixture(scope="session")
def saved(tmp_path_factory, tiny_clip):
    """``saved("lora", "nf4")`` is a folder and its classifier; each is trained once."""
    known = {}

    def save(method="lora", quantize="none", model=tiny_clip, **settings):
        key = (method, quantize, str(model), *settings.items())
        if key not in known:
            quick = {"rank": 4, "dropout": 0.0, "learning_rate": 3e-2, "steps_per_shot": 3, "precision": "fp32"}
            given = {**obeyed(method, quick), **settings}
            if method in PEFT_OPTIONS:
                given["peft"] = PEFT_OPTIONS[method]
            classifier = FewShotClassifier(str(model), method=method, quantize=quantize, preset="paper", **given)
            classifier.fit(pictures(6), [*CLASSES, *CLASSES], shots=2)
            folder = tmp_path_factory.mktemp("saved") / "adapter"
            classifier.save_pretrained(folder)
            known[key] = folder, classifier
        return known[key]

    return save


@pytest.fixture(scope="session")
def exported(tmp_path_factory, saved):
    """``exported("onnx", "lora", "nf4")`` is an export and the classifier; each is made once, to be read only."""
    known = {}

    def make(name, method, quantize="none"):
        key = name, method, quantize
        if key not in known:
            folder, classifier = saved(method, quantize)
            known[key] = export(folder, tmp_path_factory.mktemp("exported") / name, format=name), classifier
        return known[key]

    return make

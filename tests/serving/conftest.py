"""Saved adapters of tiny models, of every kind that a bank serves."""

import dataclasses
import functools
import shutil

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.heads import HEADS
from lowshot.methods import method_spec
from lowshot.models.copies import KeptBackbone
from lowshot.serving import bank

CLASSES = ("cat", "cow", "dog")


def pictures(count, seed=1, size=(20, 24)):
    """Images of noise ``(count, height, width, 3)``."""
    return np.random.default_rng(seed).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def taught(model, method, *, seed=1, noise=0.3, classes=CLASSES, calibration=None, **settings):
    """A classifier whose trained numbers are random, and so large that they matter."""
    steps = {"base_steps": 1, "steps_per_shot": 0} if method_spec(method).kind == "weights" else {}
    if method in ("lora", "lora-xs"):
        steps |= {"rank": 4, "dropout": 0.0}
    classifier = FewShotClassifier(str(model), method=method, **{**steps, **settings})
    classifier.fit(list(pictures(len(classes))), list(classes), shots=1)
    generator = torch.Generator().manual_seed(seed)
    learner = classifier._fitted[1]
    for parameter in getattr(learner, "parameters", ()):
        parameter.data.add_(noise * torch.randn(parameter.shape, generator=generator))
    if calibration is not None:
        scores = {"folds": 2, "images": 1, "scores": [0.5], "temperature": calibration, "right": 1}
        classifier.record_ = dataclasses.replace(classifier.record_, calibration=scores)
    return classifier


KINDS = {
    "xs4": {"method": "lora-xs"},
    "xs16": {"method": "lora-xs", "basis_side": "input", "rank": 16, "alpha": 2.0, "scaling": "rank", "noise": 0.1},
    "xs-in-images": {"method": "lora-xs", "encoder": "vision", "position": "0,2", "projections": ("q", "fc1")},
    "xs-in-words": {"method": "lora-xs", "encoder": "text"},
    "lora2": {"method": "lora", "rank": 2, "noise": 0.1},
    "lora4": {"method": "lora", "projections": ("v", "o", "fc2"), "noise": 0.1},
    "lora-by-depth": {"method": "lora", "rank_by_depth": "increasing", "noise": 0.1},
    "zero": {"method": "zero-shot"},
    "calibrated": {"method": "lora-xs", "calibration": 2.5, "classes": ("elm", "oak")},
    "two-templates": {"method": "zero-shot", "template": ("a photo of {}.", "{}!")},
    **{f"head-{method.replace('+', 'p')}": {"method": method} for method in HEADS},
    "head-two-templates": {"method": "task-res", "template": ("a photo of {}.", "{}!"), "calibration": 2.5},
}


@pytest.fixture(scope="session")
def kept_backbone():
    """Reads a model once for many banks."""
    return KeptBackbone()


@pytest.fixture
def banks_open_fast(kept_backbone, monkeypatch):
    """Each bank has a backbone of its own all the same."""
    monkeypatch.setattr(bank, "load_backbone", kept_backbone.load)


@pytest.fixture(scope="session")
def kinds(tiny_clip, tmp_path_factory):
    """Folder with an adapter of each of ``KINDS``; to be read only."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, (name, kind) in enumerate(KINDS.items()):
        taught(tiny_clip, seed=seed, **kind).save_pretrained(folder / name)
    return folder


@pytest.fixture
def copied(kinds, tmp_path):
    """Some of them in a folder of one's own: ``copied("xs4", "zero")``."""

    def copy(*names):
        folder = tmp_path / "own"
        for name in names:
            shutil.copytree(kinds / name, folder / name)
        return folder

    return copy


@pytest.fixture(scope="session")
def alone():
    """(folder of an adapter that stays as it is, images) to what its own classifier says of each image by itself."""

    loaded = functools.cache(FewShotClassifier.from_pretrained)

    def probabilities(folder, images):
        return np.concatenate([loaded(folder).predict_proba([image]) for image in images])

    return probabilities

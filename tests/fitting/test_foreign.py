"""The built-in model says where images mean nothing to it: told by its own recognition, not by their looks."""

import dataclasses

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.data import Examples, Task, builtin_task

NAMES = ("hat", "shirt", "shoes", "dress")


def photographs(shots=4):
    """Smooth colours, as photographs of clothes have: nothing that is a character."""
    generator, labels = np.random.default_rng(0), np.repeat(np.arange(len(NAMES)), shots)
    images = []
    for label in labels:
        corners = generator.integers(0, 256, (2, 2, 3)).astype(np.float64)
        across = np.linspace(0, 1, 40)[:, None]
        rows = corners[0][None] * (1 - across[..., None]) + corners[1][None] * across[..., None]
        picture = rows[:, :1] * (1 - across.T[..., None]) + rows[:, 1:] * across.T[..., None]
        picture[10 : 12 + 4 * label, 15:25] += 20
        images.append(picture.clip(0, 255).astype(np.uint8))
    return Task("photos", NAMES, Examples(images, labels, tuple(map(str, range(len(labels))))))


def of_ones_own(name):
    """A built-in task as it is in a folder of somebody's."""
    return dataclasses.replace(builtin_task(name), name="mine")


def lines(classifier):
    return [line for line in classifier.warnings_ if "knows characters alone" in line]


@pytest.mark.parametrize("method", ["gda", "lora"])
def test_photographs_get_one_line_that_names_the_command_with_a_real_model(method):
    steps = {"base_steps": 1, "steps_per_shot": 0} if method == "lora" else {}
    [line] = lines(FewShotClassifier(method=method, **steps).fit(photographs()))
    assert "of 16 images" in line
    assert "lowshot fit DATA --model openai/clip-vit-base-patch16" in line


@pytest.mark.parametrize("shots", [1, 4])
@pytest.mark.parametrize("name", ["digits", "letters", "cyrillic"])
def test_characters_get_none(name, shots):
    assert not lines(FewShotClassifier(method="zero-shot", shots=shots).fit(of_ones_own(name)))


def test_other_models_are_not_asked(tiny_clip):
    assert not lines(FewShotClassifier(str(tiny_clip), method="zero-shot").fit(photographs()))


def test_where_all_is_recognised_there_is_no_line_however_few_the_images_are(monkeypatch):
    recognised = np.log(np.eye(len(NAMES)) + 1e-9)
    monkeypatch.setattr("lowshot.fitting.foreign.class_scores", lambda *_, **__: recognised[:2])
    task = photographs(1)
    two = dataclasses.replace(task, class_names=NAMES[:2], train=task.train.subset([0, 1]))
    assert not lines(FewShotClassifier(method="zero-shot").fit(two))


def called(task, suffix):
    """A task of which each image is in a file of that suffix."""
    names = tuple(f"{index}.{suffix}" for index in range(len(task.train)))
    return dataclasses.replace(task, train=dataclasses.replace(task.train, identities=names))


@pytest.mark.parametrize(
    ("settings", "suffix", "is_installed", "model"),
    [
        ({}, "jpg", True, "photos"),
        ({}, "jpg", False, "builtin"),
        ({}, "png", True, "builtin"),
        ({"method": "coop"}, "jpg", True, "builtin"),
        ({"template": "my {}."}, "jpg", True, "builtin"),
        ({"quantize": "nf4"}, "jpg", True, "builtin"),
    ],
)
def test_photos_is_taken_where_it_is_there_and_nothing_needs_names(monkeypatch, settings, suffix, is_installed, model):
    monkeypatch.setattr("lowshot.fitting.foreign.is_photos_installed", lambda: is_installed)
    classifier = FewShotClassifier(**{"method": "gda", **settings})
    assert classifier.default_model(called(photographs(), suffix)) == model


def test_a_model_that_is_named_and_one_that_knows_the_images_stay(monkeypatch, tiny_clip):
    monkeypatch.setattr("lowshot.fitting.foreign.is_photos_installed", lambda: True)
    named = FewShotClassifier(str(tiny_clip), method="gda")
    assert named.default_model(called(photographs(), "jpg")) == str(tiny_clip)
    assert FewShotClassifier(method="gda").default_model(called(of_ones_own("digits"), "jpg")) == "builtin"

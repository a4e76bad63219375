"""Small pictures in which only the colour tells the class."""

import numpy as np
import pytest

COLOURS = ("blue", "green", "red")


def coloured(count=12, seed=0):
    """Pictures ``(N, 20, 20, 3)`` and the names of their colours."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 60, (count, 20, 20, 3), dtype=np.uint8)
    labels = np.array([COLOURS[i % 3] for i in range(count)])
    for image, label in zip(images, labels, strict=True):
        image[..., ("red", "green", "blue").index(label)] += 150
    return images, labels


@pytest.fixture
def pictures():
    return coloured


@pytest.fixture
def classifier(tiny_clip):
    """One that learns such pictures in a few milliseconds."""
    from lowshot import FewShotClassifier

    return FewShotClassifier(str(tiny_clip), method="nearest-mean", views=1)

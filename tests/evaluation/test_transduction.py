"""Images judged together."""

import numpy as np
import pytest

from lowshot.evaluation import transduced, transduction
from lowshot.evaluation.transduction import NEIGHBOURS


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def made(classes=4, each=15, width=16, seed=1, noise=0.25):
    """Embeddings in groups, the group of each, and what a poor classifier says of them."""
    generator = np.random.default_rng(seed)
    centres = unit(generator.normal(size=(classes, width)))
    labels = np.repeat(np.arange(classes), each)
    images = unit(centres[labels] + noise * generator.normal(size=(len(labels), width)))
    scores = 1.5 * np.eye(classes)[labels] + generator.normal(size=(len(labels), classes))
    table = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return images.astype(np.float32), labels, table.astype(np.float32)


def plainly(table, images):
    """The equations in the paper's words, with whole matrices and loops."""
    images, table = images.astype(np.float64), table.astype(np.float64)
    count, classes = table.shape
    cosines = images @ images.T
    affinity = np.zeros((count, count))
    for row in range(count):
        others = [other for other in np.argsort(-cosines[row]) if other != row]
        for other in others[:3]:
            affinity[row, other] += cosines[row, other] / 6
            affinity[other, row] += cosines[row, other] / 6
    together = table.copy()
    means = np.zeros((classes, images.shape[1]))
    for each in range(classes):
        for row in np.argsort(-table[:, each])[:8]:
            means[each] += table[row, each] * images[row]
    means = unit(means)
    covariance = np.eye(images.shape[1]) / images.shape[1]
    weight = min(1, count / classes / images.shape[1]) ** 0.5 / 50
    for step in range(11):
        inverse = np.linalg.inv(covariance)
        density = np.array([[-0.5 * (f - m) @ inverse @ (f - m) for m in means] for f in images])
        for _ in range(5):
            together = table * np.exp(weight * density + affinity @ together)
            together /= together.sum(1, keepdims=True)
        if step < 10:
            means = unit(together.T @ images)
            parts = [together[:, each] @ (images - means[each]) ** 2 for each in range(classes)]
            covariance = np.diag(sum(parts)) / count
    return together


@pytest.mark.parametrize("each", [9, 20])
def test_it_is_what_the_equations_say(each):
    images, _, table = made(each=each)
    assert transduced(table, images) == pytest.approx(plainly(table, images), abs=2e-5)


def test_images_that_are_alike_come_to_agree():
    images, labels, table = made(noise=0.1)
    alone, together = ((each.argmax(1) == labels).mean() for each in (table, transduced(table, images)))
    assert together > alone + 0.05


def test_however_few_are_compared_at_once_the_answer_is_the_same(monkeypatch):
    images, _, table = made()
    whole = transduced(table, images)
    monkeypatch.setattr(transduction, "_MOST_COSINES", 200)
    assert transduced(table, images) == pytest.approx(whole, abs=1e-6)
    assert (transduced(table, images) == transduced(table, images)).all()


@pytest.mark.parametrize("count", [0, 1, NEIGHBOURS, NEIGHBOURS + 1, 7])
def test_few_images_will_do(count):
    images, _, table = made()
    together = transduced(table[:count], images[:count])
    assert (together.shape, together.dtype) == ((count, 4), np.float32)
    assert together.sum(1) == pytest.approx(np.ones(count), abs=1e-5)


def test_an_image_that_is_there_many_times_and_a_class_that_is_not_there_will_do():
    images, _, table = made()
    images[:20] = images[0]
    table[:, 3] = 0
    table /= table.sum(1, keepdims=True)
    together = transduced(table, images)
    assert np.isfinite(together).all()
    assert together[:, 3].max() < 1e-6

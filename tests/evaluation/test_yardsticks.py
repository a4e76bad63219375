"""Logistic regression on pixels, learnt in the few dimensions that its images span."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from lowshot.data import Examples
from lowshot.evaluation import pixel_accuracy
from lowshot.evaluation.yardsticks import _pixels, logistic_regression


def noisy(count, seed):
    """Images of three classes, whose colours differ by less than their noise."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % 3
    images = [generator.integers(0, 90, (20, 24, 3)) for _ in labels]
    for image, label in zip(images, labels, strict=True):
        image[:6, :6, label] += 30
    return Examples(
        [image.astype(np.uint8) for image in images], labels, tuple(f"{seed} {row}" for row in range(count))
    )


@pytest.mark.parametrize("shots", [2, 12])
def test_it_is_the_one_of_scikit_learn_on_all_pixels(shots):
    learnt, judged = noisy(3 * shots, 0), noisy(60, 1)
    plain = LogisticRegression(max_iter=2000, tol=1e-8).fit(_pixels(learnt)[:, :-1], learnt.labels)
    layer = logistic_regression(_pixels(learnt), torch.from_numpy(learnt.labels), 3)
    scores = (_pixels(judged) @ layer).softmax(1)
    np.testing.assert_allclose(scores, plain.predict_proba(_pixels(judged)[:, :-1]), atol=1e-4)
    expected = (plain.predict(_pixels(judged)[:, :-1]) == judged.labels).mean()
    assert pixel_accuracy(learnt, judged, 3) == pytest.approx(expected)
    assert 0.2 < expected < 1.0


def test_one_class_and_what_would_take_long_have_none():
    learnt = noisy(6, 0)
    assert pixel_accuracy(learnt.subset([0, 3]), learnt, 1) is None
    assert pixel_accuracy(learnt, learnt, 10_000) is None

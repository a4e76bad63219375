"""The model of wrong labels, on labels that are drawn from it."""

import numpy as np
import pytest

from lowshot.labelling.noise import LARGEST_RATE, label_noise


def drawn(rate, classes, images=4000, temperature=1.0, sureness=3.0, seed=0):
    """Scores of an honest classifier, and labels of which a share is wrong; and which ones are."""
    generator = np.random.default_rng(seed)
    scores = sureness * generator.normal(size=(images, classes))
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    labels = (probabilities.cumsum(1) > generator.random((images, 1))).argmax(1)
    wrong = generator.random(images) < rate
    labels[wrong] = (labels[wrong] + generator.integers(1, classes, wrong.sum())) % classes
    return scores * temperature, labels, wrong


@pytest.mark.parametrize("classes", [2, 5, 40])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 8.0])
def test_the_share_of_wrong_labels_and_the_temperature_are_those_they_were_drawn_with(classes, rate, temperature):
    scores, labels, _ = drawn(rate, classes, temperature=temperature)
    noise = label_noise(scores, labels)
    assert noise.rate == pytest.approx(rate, abs=0.03)
    assert noise.temperature == pytest.approx(temperature, rel=0.25)


def test_of_labels_that_are_wrong_with_a_probability_that_share_is_wrong():
    scores, labels, wrong = drawn(0.2, 6, images=20_000)
    probabilities = label_noise(scores, labels).probabilities
    for least, most in ((0.0, 0.1), (0.3, 0.6), (0.6, 0.9), (0.9, 1.0)):
        rows = (probabilities >= least) & (probabilities <= most)
        assert wrong[rows].mean() == pytest.approx(probabilities[rows].mean(), abs=0.05)


def test_scores_that_know_nothing_doubt_no_label():
    generator = np.random.default_rng(0)
    noise = label_noise(generator.normal(size=(500, 5)), generator.integers(0, 5, 500))
    assert (noise.probabilities <= noise.rate + 0.25).all()
    assert not (noise.probabilities > 0.9).any()


def test_the_extremes_are_numbers():
    sure = np.eye(3)[np.arange(30) % 3] * 1e6
    noise = label_noise(sure, np.arange(30) % 3)
    assert (noise.rate < 0.01, noise.probabilities.max() < 0.01) == (True, True)
    noise = label_noise(sure, (np.arange(30) + 1) % 3)  # each of them wrong
    assert noise.rate <= LARGEST_RATE
    assert np.isfinite(noise.probabilities).all()

"""What ``fit`` says of a classifier that something simpler outdoes, or that is sure without reason."""

import dataclasses

import numpy as np
import pytest

from lowshot import FewShotClassifier
from lowshot.data import Examples, Task, builtin_task
from lowshot.errors import InputError
from refusing import refused


def colours(of_each, seed):
    """Three plain colours with noise: their pixels tell them, the built-in model does not."""
    generator, labels = np.random.default_rng(seed), np.repeat(np.arange(3), of_each)
    images = []
    for label in labels:
        image = generator.integers(0, 90, (20, 20, 3))
        image[..., label] += 60
        images.append(image.astype(np.uint8))
    return Examples(images, labels, tuple(f"{seed} {row}" for row in range(len(labels))))


def measured_as(classifier, accuracy):
    """As if it had been right in this share of the images."""
    metrics = {**classifier.record_.metrics, "acc1": accuracy, "acc1_interval": [accuracy - 0.02, accuracy + 0.02]}
    classifier.record_ = dataclasses.replace(classifier.record_, metrics=metrics)


@pytest.fixture(scope="module")
def judged():
    task = Task("colours", ("hat", "shirt", "shoes"), train=colours(4, 0), test=colours(20, 1))
    classifier = FewShotClassifier(method="gda").fit(task)
    classifier.evaluate(task)
    measured_as(classifier, 0.5)
    return classifier, task


def test_pixels_that_do_better_are_told_with_both_accuracies(judged):
    classifier, task = judged
    [line] = [line for line in classifier.shortfalls(task) if "pixels" in line]
    assert "accuracy 50.0% is below the 100.0% of logistic regression" in line


def test_class_names_that_do_better_are_told():
    task = builtin_task("digits")
    classifier = FewShotClassifier(method="gda", shots=1).fit(task)
    classifier.evaluate(task)
    alone = FewShotClassifier(method="zero-shot").fit(task).evaluate(task)["acc1"]
    measured_as(classifier, alone - 0.2)
    assert any(f"the {alone:.1%} of the class names alone" in line for line in classifier.shortfalls(task))


def test_a_classifier_without_fault_has_none():
    task = builtin_task("digits")
    classifier = FewShotClassifier(method="task-res", shots=8).fit(task)
    classifier.evaluate(task)
    assert classifier.shortfalls(task) == []


def test_confidence_without_reason_is_told_unless_it_is_calibrated(judged, monkeypatch):
    classifier, task = judged
    metrics = {**classifier.record_.metrics, "acc1": 0.3, "reliability": [[60, 0.9, 0.3]]}
    sure = dataclasses.replace(classifier.record_, metrics=metrics)
    for record, told in ((sure, 1), (dataclasses.replace(sure, calibration={"temperature": 3.0}), 0)):
        monkeypatch.setattr(classifier, "record_", record)
        lines = [line for line in classifier.shortfalls(task) if "90.0% sure on average and right in 30.0%" in line]
        assert len(lines) == told


def test_what_took_long_to_judge_is_not_judged_twice(judged, monkeypatch):
    classifier, task = judged
    monkeypatch.setattr(classifier, "record_", dataclasses.replace(classifier.record_, evaluation_seconds=21.0))
    assert not [line for line in classifier.shortfalls(task) if "below" in line]


def test_what_was_not_judged_cannot_be_compared():
    task = builtin_task("digits")
    with refused(InputError, "not judged", "evaluate"):
        FewShotClassifier(method="gda", shots=1).fit(task).shortfalls(task)

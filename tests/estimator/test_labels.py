"""Labels come back as they were given, also from an adapter that was saved."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from lowshot import FewShotClassifier, errors
from refusing import refused

KINDS = {
    "numbers": {"red": 2, "green": 10, "blue": -1},
    "fractions": {"red": 2.0, "green": 10.0, "blue": -1.0},
    "texts": {"red": "b", "green": "a", "blue": "c"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_labels_come_back_in_their_type_and_columns_in_their_order(classifier, pictures, tmp_path, kind):
    images, colours = pictures(24)
    labels = np.array([KINDS[kind][colour] for colour in colours])
    classifier.fit(images, labels).save_pretrained(tmp_path / "adapter")
    for known in (classifier, FewShotClassifier.from_pretrained(tmp_path / "adapter")):
        assert known.classes_.tolist() == sorted(KINDS[kind].values())
        assert known.predict(images).dtype.kind == labels.dtype.kind
        assert accuracy_score(labels, known.predict(images)) == known.score(images, labels) == 1
        assert log_loss(labels, known.predict_proba(images), labels=known.classes_) < 1
    record = json.loads((tmp_path / "adapter" / "lowshot.json").read_text())
    assert record["classes"] == list(map(str, sorted(KINDS[kind].values())))
    assert record.get("labels") == (None if kind == "texts" else sorted(KINDS[kind].values()))


def test_truth_values_come_back_as_such(classifier, pictures):
    images, colours = pictures(12)
    classifier.fit(images, colours == "red")
    assert classifier.classes_.tolist() == [False, True]
    assert (classifier.predict(images) == (colours == "red")).all()


def test_columns_of_a_shuffled_frame_are_scored_row_by_row(classifier, pictures):
    pandas = pytest.importorskip("pandas")
    images, labels = pictures(24)
    frame = pandas.DataFrame({"image": list(images), "label": labels}).sample(frac=1, random_state=0)
    assert classifier.fit(frame["image"], frame["label"]).score(frame["image"], frame["label"]) == 1
    red = frame[frame["label"] == "red"]
    assert (classifier.predict(red["image"]) == "red").all()


def test_an_adapter_that_knows_its_numbers_as_texts_is_judged_in_its_own_order(classifier, pictures):
    """Those of before had 10 before 2."""
    images, colours = pictures(24)
    numbers = np.array([KINDS["numbers"][colour] for colour in colours])
    classifier.fit(images[:12], numbers[:12].astype(str))
    assert classifier.classes_.tolist() == ["-1", "10", "2"]
    assert classifier.score(images[12:], numbers[12:]) == 1
    assert classifier.evaluate(classifier.task(images, numbers))["acc1"] == 1


def test_sets_hold_labels(classifier, pictures):
    images, colours = pictures(24)
    labels = [KINDS["numbers"][colour] for colour in colours]
    classifier.set_params(calibration_folds=2).fit(images, labels)
    assert {label for members in classifier.predict_sets(images[:3], 0.5) for label in members} <= set(labels)


def test_labels_of_what_has_its_own_are_refused(pictures):
    with refused(errors.DataError, "digits", "labels"):
        FewShotClassifier().fit("digits", ["a", "b"])

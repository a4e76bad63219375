import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import log_loss

from lowshot.evaluation import confusion, measures
from lowshot.evaluation.metrics import accuracy_interval

EQUAL = {"rel": 1e-6, "abs": 1e-7}


@st.composite
def tables(draw, fewest=2, most=9):
    """Probabilities with many ties, and labels."""
    images, width, seed = draw(st.integers(1, 40)), draw(st.integers(fewest, most)), draw(st.integers(0, 2**20))
    generator = np.random.default_rng(seed)
    weights = generator.integers(0, 4, (images, width)) + 1e-3
    table = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    return table, generator.integers(0, width, images)


def order(row):
    """Classes from the most probable one on; of equal ones the first comes first."""
    return sorted(range(len(row)), key=lambda label: (-row[label], label))


@given(tables())
def test_acc1_is_the_trace_of_the_confusions_of_the_first_most_probable_classes(found):
    table, labels = found
    counts = confusion(table.argmax(1), labels, table.shape[1])
    assert counts.sum() == len(labels)
    assert measures(table, labels)["acc1"] == pytest.approx(np.trace(counts) / len(labels))


@given(tables(fewest=6))
def test_acc5_is_the_share_of_images_whose_class_is_among_the_first_five(found):
    table, labels = found
    hits = [label in order(row)[:5] for row, label in zip(table, labels, strict=True)]
    assert measures(table, labels)["acc5"] == pytest.approx(np.mean(hits))


@given(tables(most=5))
def test_with_five_classes_or_fewer_there_is_no_acc5(found):
    assert "acc5" not in measures(*found)


@given(tables())
def test_mean_class_recall_counts_every_class_that_occurs_alike(found):
    table, labels = found
    recalls = [np.mean(table.argmax(1)[labels == label] == label) for label in set(labels.tolist())]
    assert measures(table, labels)["mean_class_recall"] == pytest.approx(np.mean(recalls))


@given(tables())
def test_recall_of_each_class_stands_in_label_order_and_is_none_where_it_does_not_occur(found):
    table, labels = found
    recalls = measures(table, labels)["class_recall"]
    assert len(recalls) == table.shape[1]
    for label, recall in enumerate(recalls):
        of_class = labels == label
        assert recall == (np.mean(table.argmax(1)[of_class] == label) if of_class.any() else None)


def test_the_recall_of_a_class_is_the_share_of_its_images():
    table = np.eye(3, dtype=np.float32)[[0, 1, 0, 0]]
    assert measures(table, np.array([0, 0, 0, 1]))["class_recall"] == [pytest.approx(2 / 3), 0.0, None]


@given(tables())
def test_reliability_has_every_image_once_and_ece_is_its_mean_gap(found):
    table, labels = found
    figures = measures(table, labels)
    images = np.array([row[0] for row in figures["reliability"]])
    confidence, accuracy = np.array([row[1:] for row in figures["reliability"]]).T
    assert images.sum() == len(labels)
    assert list(confidence) == sorted(confidence)
    assert (images * accuracy).sum() == pytest.approx(len(labels) * figures["acc1"])
    assert (images * abs(accuracy - confidence)).sum() / len(labels) == pytest.approx(figures["ece"], **EQUAL)


@given(tables())
def test_ece_is_the_mean_gap_between_top_probability_and_accuracy_over_fifteen_bins(found):
    table, labels = found
    top, right = table.max(1).astype(np.float64), table.argmax(1) == labels
    expected = 0.0
    for number in range(15):
        inside = (top > number / 15) & (top <= (number + 1) / 15)
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    assert measures(table, labels)["ece"] == pytest.approx(expected, **EQUAL)


def test_the_first_bin_and_the_last_are_bins_as_the_others():
    over = np.array([[1.0, 0.0], [np.nextafter(np.float32(1), np.float32(2)), 0.0]], dtype=np.float32)
    assert [row[0] for row in measures(over, np.array([0, 0]))["reliability"]] == [2]
    under = np.stack([np.full(20, 0.05), np.r_[0.1, np.full(19, 0.9 / 19)]])
    assert [row[0] for row in measures(under, np.array([0, 0]))["reliability"]] == [1, 1]


@given(tables())
def test_nll_is_scikit_learns_log_loss(found):
    table, labels = found
    exact = table.astype(np.float64)
    expected = log_loss(labels, exact / exact.sum(1, keepdims=True), labels=range(table.shape[1]))
    assert measures(table, labels)["nll"] == pytest.approx(expected, rel=1e-5, abs=1e-6)


@given(tables())
def test_brier_is_the_sum_over_classes_of_squared_differences(found):
    table, labels = found
    truth = np.eye(table.shape[1])[labels]
    expected = ((table.astype(np.float64) - truth) ** 2).sum(1).mean()
    found = measures(table, labels)["brier"]
    assert found == pytest.approx(expected, **EQUAL)
    assert 0 <= found <= 2


def test_certainty_is_best_or_worst_and_never_infinite():
    certain = np.eye(3, dtype=np.float32)
    right, wrong = measures(certain, np.array([0, 1, 2])), measures(certain, np.array([1, 2, 0]))
    assert (right["acc1"], right["ece"], right["nll"], right["brier"]) == (1, 0, 0, 0)
    assert (wrong["acc1"], wrong["ece"], wrong["brier"]) == (0, 1, 2)
    assert wrong["nll"] == pytest.approx(-math.log(np.finfo(np.float32).tiny))


def test_all_measures_are_plain_numbers_for_json():
    found = measures(np.full((4, 6), 1 / 6, dtype=np.float32), np.array([0, 1, 2, 0]))
    lists = ["acc1_interval", "class_recall", "reliability"]
    assert sorted(found) == sorted(["acc1", "acc5", "mean_class_recall", "ece", "nll", "brier", *lists])
    assert {type(value) for name, value in found.items() if name not in lists} == {float}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize(
    ("right", "images"), [(0, 1), (0, 12), (6, 6), (10, 10), (9, 10), (50, 100), (875, 901), (990, 1000)]
)
def test_the_interval_is_wilsons_as_scipy_has_it(right, images):
    expected = binomtest(right, images).proportion_ci(0.95, method="wilson")
    low, high = accuracy_interval(right, images)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (low == 0, high == 1) == (right == 0, right == images)


def test_six_images_of_six_do_not_make_an_accuracy_certain():
    low, high = accuracy_interval(6, 6)
    assert (round(low, 3), high) == (0.610, 1.0)
    figures = measures(np.eye(2, dtype=np.float32)[[0, 1, 1]], np.array([0, 1, 0]))
    assert figures["acc1_interval"] == accuracy_interval(2, 3)


def test_rows_of_the_confusions_are_the_truth():
    assert confusion(np.array([1]), np.array([0]), 2).tolist() == [[0, 1], [0, 0]]


def test_measures_of_nothing_are_refused():
    with pytest.raises(ValueError, match="not defined"):
        measures(np.empty((0, 3), np.float32), np.array([], np.int64))
    with pytest.raises(ValueError, match="2 rows have 1 labels"):
        measures(np.eye(2, dtype=np.float32), np.array([0]))

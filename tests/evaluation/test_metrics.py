import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.evaluation import accuracy, confusion

pairs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60)


@given(pairs)
def test_accuracy_is_the_trace_of_the_confusions(pairs):
    predicted, labels = (np.asarray(column) for column in zip(*pairs, strict=True))
    counts = confusion(predicted, labels, 5)
    assert counts.sum() == len(pairs)
    assert accuracy(predicted, labels) == pytest.approx(np.trace(counts) / len(pairs))
    assert [counts[i].sum() for i in range(5)] == [int((labels == i).sum()) for i in range(5)]


def test_rows_are_the_truth():
    assert confusion(np.array([1]), np.array([0]), 2).tolist() == [[0, 1], [0, 0]]


def test_accuracy_of_nothing_is_refused():
    with pytest.raises(ValueError, match="not defined"):
        accuracy(np.array([]), np.array([]))

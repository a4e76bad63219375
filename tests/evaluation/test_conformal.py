import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lowshot.calibration import threshold
from lowshot.errors import InputError
from lowshot.evaluation import prediction_sets, set_measures
from lowshot.evaluation.conformal import scores_of
from refusing import refused

coverages = st.decimals("0.01", "0.99", places=2).map(float)
scores = st.lists(st.integers(0, 10**6), min_size=2, max_size=60).map(lambda found: [s / 10**6 for s in found])


def probabilities(seed, images=20, classes=6):
    table = np.random.default_rng(seed).dirichlet(np.full(classes, 0.4), images)
    return table.astype(np.float32)


@given(scores, coverages)
def test_of_exchangeable_scores_at_least_the_stated_share_is_covered(found, coverage):
    """Whichever of them is the new one: the average over all choices is the probability, and it is exact."""
    assume(len(found) - 1 >= coverage / (1 - coverage) + 1e-9)
    covered = [found[i] <= threshold(sorted(found[:i] + found[i + 1 :]), coverage) for i in range(len(found))]
    assert Fraction(sum(covered), len(covered)) >= Fraction(str(coverage))


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=60, unique=True), coverages)
def test_of_different_scores_no_more_is_covered_than_one_of_them_over_the_stated_share(found, coverage):
    """A threshold that is too large would cover as well."""
    assume(len(found) - 1 >= coverage / (1 - coverage) + 1e-9)
    exact = [score / 10**6 for score in found]
    covered = [exact[i] <= threshold(sorted(exact[:i] + exact[i + 1 :]), coverage) for i in range(len(exact))]
    assert Fraction(sum(covered), len(covered)) < Fraction(str(coverage)) + Fraction(1, len(covered))


@pytest.mark.parametrize(("coverage", "needed"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19), (0.99, 99), (0.999, 999)])
def test_as_many_scores_as_the_coverage_needs_will_do_and_one_fewer_is_refused(coverage, needed):
    assert threshold([0.25] * (needed - 1) + [0.5], coverage) == 0.5
    possible = math.floor((needed - 1) / needed * 1000) / 1000
    with refused(
        InputError, f"{needed - 1} held-out images", f"at most {possible:g}", f"on {needed} images", "--shots"
    ):
        threshold([0.25] * (needed - 1), coverage)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 90.0, -0.1, math.nan])
def test_what_is_no_share_is_refused(coverage):
    with refused(InputError, "coverage", coverage, "between 0 and 1", 0.9):
        threshold([0.1] * 100, coverage)


@given(st.integers(0, 2**20))
def test_scores_are_those_of_the_true_classes_rounded_up(seed):
    table = probabilities(seed)
    labels = np.random.default_rng(seed).integers(0, 6, len(table))
    exact = np.sort(1 - table[np.arange(len(table)), labels].astype(np.float64))
    found = np.array(scores_of(table, labels))
    assert (found >= exact).all()
    assert (found - exact < 1.000001e-6).all()
    assert all(round(score, 6) == score for score in found)
    assert found.max() <= 1


@pytest.mark.parametrize("probability", [0.0, 1.0, 0.5, 0.1, 0.3, 1e-9, 1 - 1e-9])
def test_rounding_never_falls_below_the_score(probability):
    [score] = scores_of(np.array([[probability, 1 - probability]]), np.array([0]))
    assert 1 - probability <= score <= 1


@given(st.integers(0, 2**20), st.floats(0, 1))
def test_a_set_has_every_class_within_the_threshold_and_always_the_most_probable_one(seed, largest):
    table = probabilities(seed)
    members = prediction_sets(table, largest)
    assert members[np.arange(len(table)), table.argmax(1)].all()
    expected = (1 - table.astype(np.float64)) <= largest
    others = np.arange(table.shape[1]) != table.argmax(1)[:, None]
    assert (members == expected)[others].all()


@given(st.integers(0, 2**20))
def test_the_images_that_gave_the_scores_are_covered_by_the_largest(seed):
    table = probabilities(seed)
    labels = np.random.default_rng(seed).integers(0, 6, len(table))
    found = scores_of(table, labels)
    members = prediction_sets(table, found[-1])
    assert set_measures(members, labels)["covered"] == 1
    fewer = prediction_sets(table, found[len(found) // 2])
    assert (fewer <= members).all()  # a smaller coverage has smaller sets


def test_sets_are_measured_by_the_truth_in_them_and_by_their_size():
    members = np.array([[True, False, False], [True, True, False], [True, True, True], [False, True, False]])
    assert set_measures(members, np.array([0, 2, 1, 1])) == {
        "covered": 0.75,
        "least_covered": 0.0,
        "mean_set_size": 1.75,
    }


def test_a_class_at_the_very_threshold_is_in_the_set():
    assert prediction_sets(np.array([[0.5, 0.25, 0.25, 0.0]]), 0.75).tolist() == [[True, True, True, False]]

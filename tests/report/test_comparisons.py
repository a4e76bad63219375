from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lowshot.errors import UnknownNameError
from lowshot.report.comparisons import LEAST_PAIRS, compare, differences, holm, signed_rank, winner
from refusing import refused

# Few values, so that ties and pairs without a difference are frequent.
COARSE = st.lists(st.sampled_from([-0.03, -0.02, -0.01, 0.0, 0.01, 0.02, 0.03]), min_size=1, max_size=8)


def counted_out(differences):
    """Pratt's signed-rank p over every way in which the signs could have fallen."""
    ranks = stats.rankdata(np.abs(np.round(differences, 12)))[np.array(differences) != 0]
    signs = np.array(list(itertools.product([0, 1], repeat=len(ranks)))).reshape(2 ** len(ranks), len(ranks))
    sums = signs @ ranks
    seen = ranks[np.array(differences)[np.array(differences) != 0] > 0].sum()
    return min(1.0, 2 * min((sums <= seen).mean(), (sums >= seen).mean()))


@given(COARSE)
def test_p_is_what_counting_all_signs_gives_ties_and_zeros_included(differences):
    assert math.isclose(signed_rank(differences), counted_out(differences), rel_tol=1e-12)


@settings(deadline=None)
@given(
    st.lists(
        st.floats(-1, 1).filter(lambda x: abs(x) > 1e-6), min_size=2, max_size=33, unique_by=lambda x: round(abs(x), 7)
    )
)
def test_without_ties_p_is_that_of_scipys_exact_test(differences):
    expected = stats.wilcoxon(differences, method="exact").pvalue

    assert math.isclose(signed_rank(differences), expected, rel_tol=1e-9)


def test_differences_that_are_equal_but_for_rounding_are_ties():
    assert signed_rank([0.4 - 0.3, 0.9 - 0.8, 0.3 - 0.2, -(0.8 - 0.7)]) == signed_rank([1, 1, 1, -1])
    assert signed_rank([0.1 + 0.2 - 0.3] * 8) == 1.0


def test_no_pairs_and_no_differences_say_nothing():
    assert signed_rank([]) == 1.0
    assert signed_rank([0.0] * 20) == 1.0


def test_five_pairs_can_never_be_enough_and_six_can():
    assert signed_rank([1.0] * (LEAST_PAIRS - 1)) > 0.05
    assert signed_rank([1.0] * LEAST_PAIRS) <= 0.05


def test_holm_corrects_as_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
def test_holm_lies_between_no_correction_and_bonferronis(p_values):
    for p, corrected in zip(p_values, holm(p_values), strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)


def sample(accuracy, tasks=8, seeds=3, spread=0.001):
    """A method that is better on every data set, by amounts that differ."""
    return {(f"task {t}", s): accuracy + spread * (t + s / 10) for t in range(tasks) for s in range(seeds)}


def test_the_best_is_compared_with_each_other_method_on_means_of_data_sets():
    worse, best = sample(0.7), sample(0.8, spread=0.002)

    (comparison,) = compare({4: {"worse": worse, "best": best}})

    assert (comparison.shots, comparison.best, comparison.other) == (4, "best", "worse")
    assert (comparison.unit, comparison.pairs) == ("data set", 8)
    assert comparison.p == comparison.p_holm == 2 / 2**8
    assert comparison.is_supported
    assert winner([comparison], 4) == "best"


def test_with_few_data_sets_the_pairs_are_runs():
    (comparison,) = compare({4: {"worse": sample(0.7, 2), "best": sample(0.8, 2, spread=0.002)}})

    assert (comparison.unit, comparison.pairs, comparison.p) == ("run", 6, 2 / 2**6)


def test_the_family_is_every_comparison_at_every_number_of_shots():
    methods = {"a": sample(0.7), "b": sample(0.75, spread=0.002), "c": sample(0.8, spread=0.003)}

    comparisons = compare(dict.fromkeys((1, 4), methods))

    assert len(comparisons) == 4
    assert {comparison.p_holm for comparison in comparisons} == {4 * 2 / 2**8}
    assert all(comparison.least_p == 4 * 2 / 2**8 for comparison in comparisons)


def test_one_method_that_is_as_good_leaves_no_winner():
    best = sample(0.8)
    equal = {key: value + (0.001 if key[0] < "task 4" else -0.0012) for key, value in best.items()}

    comparisons = compare({4: {"best": best, "equal": equal, "worse": sample(0.5)}})

    assert [comparison.is_supported for comparison in comparisons] == [False, True]
    assert winner(comparisons, 4) is None


def test_only_pairs_that_both_methods_have_are_compared():
    best = sample(0.8, tasks=7)
    part = {key: value for key, value in sample(0.7, tasks=7, spread=0.002).items() if key[0] != "task 0"}

    (comparison,) = compare({4: {"best": best, "part": part}})

    assert comparison.pairs == 6


def test_a_method_alone_is_compared_with_nothing():
    assert compare({4: {"only": sample(0.8)}}) == ()
    assert winner((), 4) is None


def test_a_difference_has_the_t_interval_that_scipy_gives():
    first, second = sample(0.8, 2, spread=0.002), sample(0.75, 2, spread=0.005)

    (difference,) = differences({4: {"other": first, "reference": second}}, "reference")

    values = [first[key] - second[key] for key in first]
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert (difference.method, difference.pairs, difference.unit) == ("other", 6, "run")
    assert difference.difference == pytest.approx(np.mean(values))
    assert difference.interval == pytest.approx((expected.low, expected.high))
    assert difference.p == difference.p_holm == signed_rank(values)


def test_what_learns_nothing_is_paired_with_every_seed():
    learnt = sample(0.8, 2)
    once = {(task, 1): 0.7 for task, _ in learnt}

    (difference,) = differences({0: {"zero-shot": once}, 4: {"lora": learnt}}, "zero-shot")

    assert (difference.shots, difference.pairs) == (4, len(learnt))
    assert difference.difference == pytest.approx(np.mean([value - 0.7 for value in learnt.values()]))


def test_differences_are_one_family_and_the_reference_is_not_compared_with_itself():
    methods = {"reference": sample(0.7), "b": sample(0.75, spread=0.002), "c": sample(0.8, spread=0.003)}

    of_both_shots = differences(dict.fromkeys((1, 4), methods), "reference")

    assert [(one.shots, one.method) for one in of_both_shots] == [(1, "b"), (1, "c"), (4, "b"), (4, "c")]
    assert {one.p_holm for one in of_both_shots} == {4 * 2 / 2**8}


def test_a_single_pair_has_no_interval():
    (difference,) = differences({4: {"a": {("digits", 1): 0.8}, "reference": {("digits", 1): 0.7}}}, "reference")

    assert difference.interval is None
    assert difference.difference == pytest.approx(0.1)


def test_a_reference_that_was_not_run_is_named():
    with refused(UnknownNameError, "method of these runs", "'lara'", "did you mean lora"):
        differences({4: {"lora": sample(0.8)}}, "lara")


def test_a_method_as_accurate_as_the_reference_in_every_run_is_told_to_differ_by_nothing():
    same = {("digits", seed): 0.9 + seed / 100 for seed in (1, 2, 3)}

    (difference,) = differences({4: {"lora": same, "qlora": dict(same)}}, "lora")

    assert (difference.method, difference.difference, difference.p) == ("qlora", 0.0, 1.0)

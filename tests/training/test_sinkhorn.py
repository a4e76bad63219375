"""Optimal transport, against a plan found by hand, by linear programming and by plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from lowshot.training.sinkhorn import transport_plan

EXACT = {"iterations": 1000, "tolerance": 1e-9}


def costs(shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cheapest(cost):
    """The least cost of any plan with uniform margins, by linear programming."""
    points, others = cost.shape
    rows = np.kron(np.eye(points), np.ones(others))
    columns = np.kron(np.ones(points), np.eye(others))
    margins = np.concatenate([np.full(points, 1 / points), np.full(others, 1 / others)])
    return linprog(cost.ravel(), A_eq=np.vstack([rows, columns]), b_eq=margins, bounds=(0, None)).fun


def test_two_points_and_two_others_as_found_by_hand():
    """By symmetry r = c = (a, a), so T = [[t, 1/2 - t], [1/2 - t, t]] with t / (1/2 - t) = exp(1 / eps)."""
    cost, regularisation = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64), 0.5
    t = 0.5 / (1 + math.exp(-1 / regularisation))
    expected = torch.tensor([[t, 0.5 - t], [0.5 - t, t]], dtype=torch.float64)
    torch.testing.assert_close(transport_plan(cost, regularisation, **EXACT), expected, rtol=1e-12, atol=0)


def test_one_iteration_is_that_of_the_formula():
    cost = costs((3, 2))
    kernel = [[math.exp(-float(cost[m, n]) / 0.1) for n in range(2)] for m in range(3)]
    r = [(1 / 3) / sum(kernel[m]) for m in range(3)]
    c = [(1 / 2) / sum(kernel[m][n] * r[m] for m in range(3)) for n in range(2)]
    expected = torch.tensor([[r[m] * kernel[m][n] * c[n] for n in range(2)] for m in range(3)], dtype=torch.float64)
    torch.testing.assert_close(transport_plan(cost, 0.1, iterations=1), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("shape", [(2, 2), (3, 4), (4, 4), (5, 2)])
def test_with_little_regularisation_it_is_the_cheapest_plan_of_all(shape):
    """Its cost is above the least by at most the regularisation times the log of how many pairs there are."""
    for seed in range(3):
        cost, regularisation = costs(shape, seed), 0.02
        plan = transport_plan(cost, regularisation, **EXACT)
        assert (plan.sum(1) - 1 / shape[0]).abs().max() < 1e-3
        found = float((plan * cost).sum())
        least = cheapest(cost.numpy())
        assert least - 1e-3 <= found <= least + regularisation * math.log(cost.numel())


@given(
    points=st.integers(1, 6),
    others=st.integers(1, 6),
    regularisation=st.floats(0.2, 5.0),
    seed=st.integers(0, 1000),
)
@settings(max_examples=25, deadline=None)
def test_the_plan_moves_all_the_mass_to_where_it_belongs(points, others, regularisation, seed):
    plan = transport_plan(2 * costs((points, others), seed), regularisation)
    assert (plan >= 0).all()
    columns = torch.full((others,), 1 / others, dtype=torch.float64)
    torch.testing.assert_close(plan.sum(0), columns, rtol=1e-9, atol=0)
    exact = transport_plan(2 * costs((points, others), seed), regularisation, **EXACT)
    rows = torch.full((points,), 1 / points, dtype=torch.float64)
    torch.testing.assert_close(exact.sum(1), rows, rtol=1e-6, atol=0)


def test_it_stops_as_soon_as_r_changes_little_and_at_the_last_iteration_at_the_latest():
    cost = costs((4, 4))
    assert not torch.equal(transport_plan(cost, 0.1), transport_plan(cost, 0.1, **EXACT))
    once = transport_plan(cost, 0.1, iterations=1)
    assert torch.equal(transport_plan(cost, 0.1, tolerance=1e9), once)
    assert not torch.equal(transport_plan(cost, 0.1), once)


def test_a_problem_is_solved_the_same_whatever_it_is_solved_with():
    problems = costs((16, 4, 4)) * torch.linspace(0.1, 1, 16, dtype=torch.float64)[:, None, None]
    together = transport_plan(problems, 0.1)
    for problem, plan in zip(problems, together, strict=True):
        assert torch.equal(transport_plan(problem, 0.1), plan)


def test_the_plan_has_no_gradient():
    assert not transport_plan(costs((3, 3)).requires_grad_(), 0.1).requires_grad

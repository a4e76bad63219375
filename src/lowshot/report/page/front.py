"""The methods that are worth their cost."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]], level: float = 0.0) -> list[int]:
    """Indices of the points that no other one beats, by rising cost.

    A point is beaten by one that costs no more and does no worse, unless both are equal in cost and accuracy.

    Args:
        points: Cost and accuracy of each.
        level: Accuracy at no cost (zero-shot): a point that is not above it is beaten.
    """
    best = level
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        is_equal = bool(front) and points[front[-1]] == points[i]
        if points[i][1] > best or is_equal:
            front.append(i)
            best = points[i][1]
    return front


def front_steps(places: Sequence[tuple[float, float]], right: float) -> list[tuple[float, float]]:
    """Corners of the steps from each place of the front to the next and on to the edge. One place makes no steps."""
    if len(places) < 2:
        return []
    corners = [places[0]]
    for x, y in places[1:]:
        corners += [(x, corners[-1][1]), (x, y)]
    return [*corners, (right, corners[-1][1])]

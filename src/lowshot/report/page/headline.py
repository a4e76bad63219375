"""The main result of one task in words, from its rows alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...wording.quantities import duration, images_per_class, percent, size
from ..summary import ACCURACY, Row

AVERAGE_OF = "average of "
"""Beginning of the tasks of the rows of ``averages``."""


def headline(rows: Sequence[Row]) -> str:
    """One sentence on one task, such as ``16 images per class take digits from 78.0 % zero-shot to 97.1 % ...``."""
    task = rows[0].task
    result, zero_shot = main_result(rows), _zero_shot(rows)
    measure = "" if rows[0].measure == ACCURACY else f" {rows[0].measure}"  # an accuracy goes without saying
    if result:
        verb = "takes" if result.shots == 1 else "take"
        is_average = task.startswith(AVERAGE_OF)
        start = f" from {percent(_accuracy(zero_shot))} zero-shot" if zero_shot else ""
        adapter = "adapters" if is_average else "an adapter"
        cost = f" with {adapter} of {size(result.adapter_bytes)}" if result.adapter_bytes else ""
        subject = f"the {task}" if is_average else task
        return (
            f"{images_per_class(result.shots)} {verb} {subject}{start} to {percent(_accuracy(result))}{measure}{cost}."
        )
    if zero_shot:
        return f"{task}: {percent(_accuracy(zero_shot))}{measure} zero-shot, before a single image is learnt from."
    rival = _best([row for row in rows if row.is_rival])
    if rival:
        return f"{task}: {rival.label} reaches {percent(_accuracy(rival))}."
    return f"{task}: no {rows[0].measure} to report."


def standfirst(rows: Sequence[Row]) -> str:
    """Sentences below the headline: which method, how sure, and the accuracies of a smaller adapter and a rival."""
    result = main_result(rows)
    if not result:
        return ""
    peers = [row for row in rows if row.shots == result.shots]
    trained = _trained(peers)
    method = f"{result.label}, the highest mean of {len(trained)} methods" if len(trained) > 1 else result.label
    if result.seeds == 1:
        sentences = [f"Method: {method}; a single run, so no deviation is known."]
    else:
        deviation = f"±\u00a0{100 * result.accuracy_std:.1f}"
        sentences = [f"Method: {method}, over {result.seeds} runs ({deviation} points)."]
    smaller = [row for row in trained if 0 < row.adapter_bytes < result.adapter_bytes]
    smallest = min(smaller, key=lambda row: row.adapter_bytes, default=None)
    if smallest:
        accuracy, small = percent(_accuracy(smallest)), size(smallest.adapter_bytes)
        sentences.append(f"{smallest.label} reaches {accuracy} with {small}.")
    rival = _best([row for row in peers if row.is_rival])
    if rival:
        sentences.append(f"For comparison, {rival.label} reaches {percent(_accuracy(rival))}.")
    return " ".join(sentences)


class KeyFigure(NamedTuple):
    """A number worth setting in large type."""

    name: str
    value: str
    is_result: bool = False
    """Whether it is what the page is about."""


def key_figures(rows: Sequence[Row]) -> list[KeyFigure]:
    """Zero-shot accuracy, the main result and its cost, as far as they are known; none without a main result."""
    result, zero_shot = main_result(rows), _zero_shot(rows)
    if not result:
        return []
    figures = [KeyFigure("zero-shot", percent(_accuracy(zero_shot)))] if zero_shot else []
    name = f"{result.label}, {result.shots} per class"
    figures.append(KeyFigure(name, percent(_accuracy(result)), is_result=True))
    if result.adapter_bytes:
        figures.append(KeyFigure("adapter", size(result.adapter_bytes)))
    return [*figures, KeyFigure("training", duration(result.train_seconds))]


def main_result(rows: Sequence[Row]) -> Row | None:
    """The best of lowshot's methods at the largest number of shots; of equals, the one with the smallest adapter."""
    trained = _trained(rows)
    most = max((row.shots for row in trained), default=0)
    return _best([row for row in trained if row.shots == most])


def _trained(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.accuracy_mean is not None and not row.is_rival and not row.is_zero_shot]


def _best(rows: Sequence[Row]) -> Row | None:
    measured = [row for row in rows if row.accuracy_mean is not None]
    return max(measured, key=lambda row: (_accuracy(row), -row.adapter_bytes), default=None)


def _zero_shot(rows: Sequence[Row]) -> Row | None:
    """The zero-shot row. None too where there are several: the sentence could name the wrong backbone or prompts."""
    measured = [row for row in rows if row.is_zero_shot and row.accuracy_mean is not None]
    return measured[0] if len(measured) == 1 else None


def _accuracy(row: Row) -> float:
    assert row.accuracy_mean is not None
    return row.accuracy_mean

"""Whether the best method is the best by more than chance: paired tests, corrected for how many there are."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ..errors import UnknownNameError

LEVEL = 0.05
"""A difference counts as supported where its corrected p is at most this."""
LEAST_PAIRS = 6
"""With fewer the smallest two-sided p there can be is above ``LEVEL``: 2 / 2^5 = 0.0625."""

INTERVAL = 0.95
"""Confidence of the interval of a difference."""

Sample = Mapping[tuple[str, int], float]
"""Accuracies of one method by data set and seed."""
_SAME = 12  # decimals: differences of accuracies that are equal as fractions differ by rounding alone


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The best method at one number of shots against another one."""

    shots: int
    best: str
    other: str
    unit: str
    """Kind of the pairs: ``data set`` (the mean over its seeds) or ``run`` (one seed on one data set)."""
    pairs: int
    difference: float
    """Mean over the pairs, best minus other, as a fraction."""
    p: float
    """Two-sided, exact."""
    p_holm: float
    """Corrected for all comparisons of the table."""
    least_p: float
    """The smallest corrected p that so many pairs and comparisons can give."""

    @property
    def is_supported(self) -> bool:
        """Whether the best method is better by more than chance."""
        return self.p_holm <= LEVEL and self.difference > 0


@dataclasses.dataclass(frozen=True)
class Difference:
    """A method at one number of shots against a reference at the same one, or against one that learns nothing."""

    shots: int
    method: str
    reference: str
    unit: str
    """Kind of the pairs, as in ``Comparison``."""
    pairs: int
    difference: float
    """Mean over the pairs, method minus reference, as a fraction."""
    interval: tuple[float, float] | None
    """Student's t interval of the mean, at ``INTERVAL``; None for a single pair."""
    p: float
    """Two-sided, exact."""
    p_holm: float
    """Corrected for all differences of the table."""


def compare(blocks: Mapping[int, Mapping[str, Sample]]) -> tuple[Comparison, ...]:
    """At each number of shots the method with the best mean against each of the others.

    A pair is two accuracies on the same data set with the same seed. Seeds of one data set are not independent of
    each other as evidence on data sets. With ``LEAST_PAIRS`` data sets or more each counts once, by its mean over the
    seeds that both methods have (Demšar, JMLR 7, 2006, section 3.1.3). With fewer the pairs are the runs, and the
    test speaks of less: new draws on these very data sets.

    The p-values of all numbers of shots are one family, corrected by Holm's method.

    Args:
        blocks: By number of shots and method, its accuracies.
    """
    comparisons = []
    for shots, methods in blocks.items():
        # The mean over the data sets of the means over seeds, as the table's average is.
        means = {name: statistics.fmean(_by_data_set(sample).values()) for name, sample in methods.items()}
        best = max(means, key=means.__getitem__)
        for other in (name for name in methods if name != best):
            unit, values = _pairs(methods[best], methods[other])
            comparison = Comparison(
                shots=shots,
                best=best,
                other=other,
                unit=unit,
                pairs=len(values),
                difference=statistics.fmean(values) if values else 0.0,
                p=signed_rank(values),
                p_holm=1.0,
                least_p=min(1.0, 2.0 ** (1 - len(values))),
            )
            comparisons.append(comparison)
    corrected = holm([comparison.p for comparison in comparisons])
    return tuple(
        dataclasses.replace(comparison, p_holm=p, least_p=min(1.0, len(comparisons) * comparison.least_p))
        for comparison, p in zip(comparisons, corrected, strict=True)
    )


def differences(blocks: Mapping[int, Mapping[str, Sample]], reference: str) -> tuple[Difference, ...]:
    """Every method at every number of shots against one of them.

    The pairs are those of ``compare``. A reference that learns nothing has one run for each data set, which is paired
    with every seed.

    Args:
        blocks: As for ``compare``.
        reference: One of its methods.

    Raises:
        UnknownNameError: None of the methods is called so.
    """
    names = dict.fromkeys(name for methods in blocks.values() for name in methods)
    if reference not in names:
        raise UnknownNameError("method of these runs", reference, names)
    compared = []
    for shots, methods in blocks.items():
        against = methods.get(reference)
        if not against:
            once = {task: accuracy for (task, _), accuracy in blocks.get(0, {}).get(reference, {}).items()}
            against = {key: once[key[0]] for other in methods.values() for key in other if key[0] in once}
        for name in (name for name in methods if against and name != reference):
            unit, values = _pairs(methods[name], against)
            mean, count, interval = statistics.fmean(values) if values else 0.0, len(values), None
            if count > 1:
                quantile = float(stats.t.ppf((1 + INTERVAL) / 2, count - 1))
                reach = quantile * statistics.stdev(values) / math.sqrt(count)
                interval = (mean - reach, mean + reach)
            p = signed_rank(values)
            compared.append(Difference(shots, name, reference, unit, count, mean, interval, p, p_holm=1.0))
    corrected = holm([difference.p for difference in compared])
    return tuple(dataclasses.replace(one, p_holm=p) for one, p in zip(compared, corrected, strict=True))


def winner(comparisons: Sequence[Comparison], shots: int) -> str | None:
    """The method that is better than every other one at this number of shots; None where that is not supported."""
    here = [comparison for comparison in comparisons if comparison.shots == shots]
    return here[0].best if here and all(comparison.is_supported for comparison in here) else None


def signed_rank(differences: Sequence[float]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test, exact whatever the ties: no normal approximation at any size.

    Pairs without a difference are ranked and then dropped (Pratt, 1959): leaving them out before (Wilcoxon)
    would ignore that they speak against a difference. Given the ranks, each of the others is positive or negative
    with probability 1/2; the distribution of the sum of positive ranks is counted out.

    Args:
        differences: One for each pair.
    """
    rounded = np.round(np.asarray(differences, dtype=np.float64), _SAME)
    doubled = (2 * stats.rankdata(np.abs(rounded))).astype(np.int64)  # whole numbers: ties share ranks and a half
    ranks, positive = doubled[rounded != 0], doubled[rounded > 0].sum()
    counts = np.ones(1)
    for rank in ranks:
        longer = np.zeros(len(counts) + rank)
        longer[: len(counts)] += counts / 2
        longer[rank:] += counts / 2
        counts = longer
    tails = counts[: positive + 1].sum(), counts[positive:].sum()
    return float(min(1.0, 2 * min(tails)))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected by Holm's step-down method (1979): the chance of any false one in the family is bounded."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for position, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, (len(p_values) - position) * p_values[i]))
        corrected[i] = highest
    return corrected


def _by_data_set(sample: Sample) -> dict[str, float]:
    """Means over the seeds."""
    values: dict[str, list[float]] = {}
    for (task, _), accuracy in sample.items():
        values.setdefault(task, []).append(accuracy)
    return {task: statistics.fmean(accuracies) for task, accuracies in values.items()}


def _pairs(first: Sample, second: Sample) -> tuple[str, list[float]]:
    """Kind of the pairs, and the difference of each: first minus second."""
    runs = {key: first[key] - second[key] for key in first if key in second}
    tasks = _by_data_set(runs)
    return ("data set", list(tasks.values())) if len(tasks) >= LEAST_PAIRS else ("run", list(runs.values()))

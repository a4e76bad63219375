"""Sentences that stand below a table of accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from ...wording.quantities import ends
from ..averages import BASE_TO_NEW, OF_ALL_CLASSES
from ..comparisons import LEVEL, Comparison, winner
from ..sections import Section
from .beside import published_notes


def accuracy_notes(section: Section) -> list[str]:
    """Sentences on the origin of means, averages and bold figures, and on their limits."""
    counts = sorted({len(sample) for entry in section.entries for sample in entry.samples.values()})
    if not counts:
        notes = ["No run was judged."]
    elif counts[-1] == 1:
        notes = ["One run each: no deviation is known."]
    else:
        single = "; a figure without ± is of one run" if counts[0] == 1 else ""
        several = ends([str(count) for count in counts if count > 1])
        notes = [f"Mean ± sample standard deviation over {several} seeds{single}."]
    if len(section.tasks) > 1 and section.protocol in (*OF_ALL_CLASSES, BASE_TO_NEW):
        of_halves = ", its harmonic mean that of both averages" if section.protocol == BASE_TO_NEW else ""
        notes.append(f"The average is over the {len(section.tasks)} data sets for each seed{of_halves}.")
    if section.averages.left_out:
        notes.append(f"No average: {'; '.join(section.averages.left_out)}.")
    if section.comparisons:
        notes.append(_test_note(section.comparisons))
    return [*notes, *published_notes(section)]


def _test_note(comparisons: Sequence[Comparison]) -> str:
    """Where something is bold, where not, and by which test."""
    shots = sorted({comparison.shots for comparison in comparisons})
    undecided = [number for number in shots if winner(comparisons, number) is None]
    where = f"{', '.join(map(str, undecided))} shot{'' if undecided == [1] else 's'}"
    nowhere = f"at {where} no method is better than every other by more than chance"
    least = min(comparison.least_p for comparison in comparisons)
    if least > LEVEL:
        bold = f"Nothing is in bold: so few pairs support no difference (corrected p is {least:.2g} at the least)."
    elif undecided == shots:
        bold = f"Nothing is in bold: {nowhere}."
    else:
        means = "better than every other method at this number of shots by more than chance"
        bold = f"In bold (on a terminal with *): {means}{f'; {nowhere}' if undecided else ''}."
    pairs = ends(list(map(str, sorted({comparison.pairs for comparison in comparisons}))))
    if {comparison.unit for comparison in comparisons} == {"data set"}:
        units = f"{pairs} pairs, the means of each data set: its seeds are not independent of each other"
    else:
        units = f"{pairs} pairs of runs (same data set, same seed): it speaks of new draws on these data, of no others"
    family = f"{len(comparisons)} comparison{'' if len(comparisons) == 1 else 's'} of this table"
    test = f"two-sided Wilcoxon signed-rank test, exact, on {units}; Holm over the {family}; level {LEVEL}"
    return f"{bold} Test: {test}."

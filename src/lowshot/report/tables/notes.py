"""Sentences that stand below a table of accuracies."""

from __future__ import annotations

from collections.abc import Sequence

from ..averages import BASE_TO_NEW, FEW_SHOT
from ..comparative import Comparative
from ..comparisons import LEVEL, Comparison, winner
from ..samples import Section
from .beside import published_notes


def accuracy_notes(comparative: Comparative) -> list[str]:
    """How means, averages and bold figures came about, and what they do not say."""
    section = comparative.section
    notes = [_seeds_note(section)]
    if len(section.tasks) > 1 and section.protocol in (FEW_SHOT, BASE_TO_NEW):
        of_halves = ", its harmonic mean that of both averages" if section.protocol == BASE_TO_NEW else ""
        notes.append(f"The average is over the {len(section.tasks)} data sets for each seed{of_halves}.")
    if section.averages.left_out:
        notes.append(f"No average: {'; '.join(section.averages.left_out)}.")
    if comparative.comparisons:
        notes.append(f"{_bold_note(comparative.comparisons)} {_test_note(comparative.comparisons)}")
    return [*notes, *published_notes(comparative)]


def _seeds_note(section: Section) -> str:
    counts = sorted({len(sample) for entry in section.entries for sample in entry.samples.values()})
    if not counts:
        return "No run was judged."
    if counts[-1] == 1:
        return "One run each: no deviation is known."
    single = "; a figure without ± is of one run" if counts[0] == 1 else ""
    return f"Mean ± sample standard deviation over {_ends([n for n in counts if n > 1])} seeds{single}."


def _bold_note(comparisons: Sequence[Comparison]) -> str:
    """Sentence on where something is bold, and where not, and why."""
    least = min(comparison.least_p for comparison in comparisons)
    if least > LEVEL:
        return f"Nothing is in bold: so few pairs support no difference (corrected p is {least:.2g} at the least)."
    shots = sorted({comparison.shots for comparison in comparisons})
    undecided = [number for number in shots if winner(comparisons, number) is None]
    where = f"{', '.join(map(str, undecided))} shot{'' if undecided == [1] else 's'}"
    nowhere = f"at {where} no method is better than every other by more than chance"
    if undecided == shots:
        return f"Nothing is in bold: {nowhere}."
    bold = "In bold (on a terminal with *): better than every other method at this number of shots by more than chance"
    return f"{bold}; {nowhere}." if undecided else f"{bold}."


def _test_note(comparisons: Sequence[Comparison]) -> str:
    pairs = _ends(sorted({comparison.pairs for comparison in comparisons}))
    if {comparison.unit for comparison in comparisons} == {"data set"}:
        units = f"{pairs} pairs, the means of each data set: its seeds are not independent of each other"
    else:
        units = f"{pairs} pairs of runs (same data set, same seed): it speaks of new draws on these data, of no others"
    family = f"{len(comparisons)} comparison{'' if len(comparisons) == 1 else 's'} of this table"
    test = f"two-sided Wilcoxon signed-rank test, exact, on {units}; Holm over the {family}; level {LEVEL}"
    return f"Test: {test}."


def _ends(counts: Sequence[int]) -> str:
    """``3`` or ``2 to 3``: ascending counts as a range."""
    return " to ".join(dict.fromkeys((str(counts[0]), str(counts[-1]))))

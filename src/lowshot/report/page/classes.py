"""One method on one data set, looked at closely: which classes gain, and whether it is as sure as it is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...markup import Markup, choice, element, figure, section
from ...records import RunRecord
from ...wording.quantities import images_per_class
from ..summary import MEAN_AVERAGE_PRECISION, Row
from .axes import Wording
from .class_changes import changes_chart, changes_text, class_changes
from .curves import Look
from .headline import main_result
from .reliability import Reliability, pooled_bins, reliability_chart, reliability_text
from .series import series_style
from .tips import RowRuns

_OLD = (
    "These runs were recorded without the recall of each class and the bins of confidence, so that neither can be"
    " drawn; a run that is done again records them."
)
_ALONE = "Which classes gain is drawn where zero-shot has been run on the same images of several labels."


def classes_section(tasks: Mapping[str, RowRuns], look: Look, identity: str) -> Markup:
    """The best method of each data set, class by class and bin by bin; one data set at a time."""
    results = {task: result for task, runs in tasks.items() if (result := main_result(list(runs)))}
    if not results:
        return Markup()
    parts = {
        task: part
        for i, (task, result) in enumerate(results.items())
        if (part := _part(result, tasks[task], look, f"{identity}-{i}"))
    }
    why_none = _ALONE if all(result.measure == MEAN_AVERAGE_PRECISION for result in results.values()) else _OLD
    body = choice("Data set", parts, next(iter(parts)), identity) if parts else element("p", why_none, class_="note")
    return section("A closer look", body, identity=identity)


def _part(result: Row, runs: RowRuns, look: Look, identity: str) -> Markup:
    """Figures of one data set, beside the zero-shot row of the same weights.

    Of several such rows, with other prompts, none is more right than another.
    """
    weights = _weights(runs[result])
    zero_shots = [row for row, records in runs.items() if row.is_zero_shot and _weights(records) <= weights]
    zero_shot = zero_shots[0] if len(zero_shots) == 1 else None
    figures = []
    changes = class_changes(runs[result], runs[zero_shot]) if zero_shot else []
    if changes:
        are_precisions = result.measure == MEAN_AVERAGE_PRECISION
        measure = "Average precision" if are_precisions else "Recall"
        title = f"{measure} of classes of {result.task}, zero-shot and with {result.label}."
        chart = changes_chart(changes, result.label, Wording(f"{identity}-classes", title, ""))
        caption = changes_text(changes, result.seeds, are_precisions=are_precisions)
        figures.append(figure("Which classes gain", chart, caption))
    if confidence := _reliability(result, zero_shot, runs, look, identity):
        figures.append(confidence)
    if not figures:
        return Markup()
    intro = (
        f"{result.label} on {result.task} with {images_per_class(result.shots)}: the highest mean at the most images."
    )
    return Markup(element("p", intro, class_="note") + element("div", *figures, class_="pair close"))


def _weights(records: Sequence[RunRecord]) -> set[object]:
    return {record.model.get("weights_sha256") or record.model.get("id") for record in records}


def _reliability(result: Row, zero_shot: Row | None, runs: RowRuns, look: Look, identity: str) -> Markup:
    """Accuracy by confidence; empty where it is not known of the result."""
    styles = {zero_shot: "baseline"} if zero_shot else {}
    styles[result] = series_style(look.numbers[result.series], is_rival=False)
    drawn = [Reliability(row.label, style, bins) for row, style in styles.items() if (bins := pooled_bins(runs[row]))]
    if not drawn or drawn[-1].label != result.label:
        return Markup()
    title = f"Accuracy against confidence on {result.task}: {', '.join(one.label for one in drawn)}."
    chart = reliability_chart(drawn, Wording(f"{identity}-reliability", title, "confidence, %"))
    words = " ".join(map(reliability_text, reversed(drawn)))
    pooled = f"Predictions by confidence{f', those of {result.seeds} runs together' if result.seeds > 1 else ''}. "
    caption = f"{words} {pooled}The area of a dot is its share of them; below the diagonal is too sure."
    return figure("How sure it is", chart, caption)

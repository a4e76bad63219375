"""One self-contained page about a set of runs: no other file, no network, readable without JavaScript."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import importlib.resources
import string
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...errors import InputError
from ...files import write_text
from ...markup import Markup, element, escape, join, section
from ...records import RunRecord
from ...wording.quantities import counted
from ..averages import SEVERAL_LABELS, averages
from ..caveats import provenance_caveats
from ..published import PublishedFigure, published_average, published_beside
from ..summary import ACCURACY, Row, measures_of, runs_by_row
from .classes import classes_section
from .curves import Look, learnt, measured, series_numbers
from .figures import NOTHING, accuracy_figure, cost_figures, has_many, small_multiples
from .gallery import showcase_section
from .headline import headline, key_figures, standfirst
from .results import data_sets_table, labels_table, protocols_table, published_table, results_table, shots_table
from .showcase import Showcase
from .sources import provenance_section
from .tips import Origins, RowRuns


def write_report(
    folder: Path,
    records: Sequence[RunRecord],
    showcase: Showcase | None = None,
    title: str | None = None,
    caveats: Sequence[str] = (),
) -> Path:
    """Write the page of these records to ``index.html`` in ``folder`` and return its path.

    The folder is made if it is not there; an earlier page in it is replaced. The other arguments are those of
    ``render_page``; the title names the tasks if it is not given.

    Raises:
        InputError: There are no records, or two tell of the same run.
        OutputError: The page cannot be written.
    """
    tasks = ", ".join(dict.fromkeys(record.task for record in records))
    page = folder / "index.html"
    write_text(page, render_page(records, showcase, title=title or f"lowshot: {tasks}", caveats=caveats))
    return page


def render_page(
    records: Sequence[RunRecord],
    showcase: Showcase | None = None,
    title: str = "lowshot",
    caveats: Sequence[str] = (),
) -> str:
    """The page as HTML text.

    The result in words; accuracy and its cost for the average, or for the one task; every data set; classes and
    confidence; tables; test images; provenance.

    Args:
        records: What to report on; at least one.
        showcase: Predictions of one classifier; its sections are left out without it.
        title: Words in the browser's tab.
        caveats: Sentences on what is missing, such as runs that failed; they stand in the open, at the provenance.

    Raises:
        InputError: There are no records, or two tell of the same run.
    """
    if not records:
        raise InputError("a report has no records; expected at least one")
    story = _Story(records)
    sections = [
        *story.main(),
        story.other_classes(),
        story.several_labels(),
        story.every_data_set(),
        classes_section(story.tasks, story.look, "classes"),
        story.tables(),
        *([showcase_section(showcase)] if showcase else []),
        provenance_section(records, story.runs, story.look.origins.texts, [*provenance_caveats(records), *caveats]),
    ]
    style, script = _packaged("style.css"), _packaged("page.js")
    return string.Template(_packaged("template.html")).substitute(
        title=escape(title),
        policy=f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}",
        style=style,
        script=script,
        header=story.header(),
        main=join(sections),
    )


class _Story:
    """Records in the forms that the sections want, each made once."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        self.records = records
        runs = runs_by_row(records)
        self.runs: RowRuns = _told_apart(runs)
        self.rows = list(self.runs)
        self.look = Look(series_numbers(self.rows), Origins(records))
        names = list(dict.fromkeys(row.task for row in self.rows))
        self.tasks: dict[str, RowRuns] = {n: {row: self.runs[row] for row in self.rows if row.task == n} for n in names}
        self.has_many = any(map(has_many, self.tasks.values()))
        averaged = averages(records)
        self.not_averaged = averaged.left_out
        self.averages: dict[str, dict[Row, list[RunRecord]]] = {}
        self.averaged: dict[str, list[str]] = {}
        for row, over in zip(averaged.rows, averaged.over, strict=True):
            self.averages.setdefault(row.task, {})[row] = [record for one in over for record in runs[one]]
            self.averaged[row.task] = [one.task for one in over]
        self.published = published_beside([record for record in records if not record.has_several])

    def header(self) -> Markup:
        """The average is what the page is about; without one the first task is, and the others follow in a sentence."""
        first, *others = [list(runs) for runs in (self.averages or self.tasks).values()]
        dates = [record.provenance["date"][:10] for record in self.records if record.provenance.get("date")]
        data_sets = [counted(len(self.tasks), "data set")] if len(self.tasks) > 1 else []
        words = ["lowshot", counted(len(self.records), "run"), *data_sets, *sorted(dates)[-1:]]
        parts = [element("p", " · ".join(words), class_="eyebrow"), element("h1", _prose(headline(first)))]
        if standfirst(first):
            parts.append(element("p", _prose(standfirst(first)), class_="standfirst"))
        figures = [
            element("div", element("dt", name), element("dd", value), class_="result" if is_result else None)
            for name, value, is_result in key_figures(first)
        ]
        if figures:
            parts.append(element("dl", *figures, class_="figures"))
        if others:
            parts.append(element("ul", *(element("li", _prose(headline(rows))) for rows in others), class_="others"))
        return element("header", *parts)

    def main(self) -> list[Markup]:
        """Accuracy and cost of the average, or of the one task; of every task where there is no average."""
        subjects: Mapping[str, RowRuns] = self.averages or self.tasks
        sections = []
        for i, (name, runs) in enumerate(subjects.items()):
            parts: list[Markup] = []
            if not learnt(runs):
                parts.append(element("p", NOTHING, class_="note"))
            elif has_many(runs):
                parts.append(shots_table(measured(runs), self.look, f"task-{i}-table"))
            else:
                parts.append(accuracy_figure(runs, self._published_of(name), self.look, f"task-{i}"))
            if learnt(runs) and name in self.averages and self.not_averaged:
                parts.append(element("p", f"Not in the average: {'; '.join(self.not_averaged)}.", class_="note below"))
            if len({row.series for row in learnt(runs)}) > 1:  # of a single method the table tells the cost
                parts.append(element("h3", "What it costs", class_="part-heading"))
                parts.append(cost_figures(runs, self.look, f"task-{i}-cost"))
            heading = name[0].upper() + name[1:] if name in self.averages else name
            sections.append(section(heading, *parts, identity=f"task-{i}"))
        return sections

    def _published_of(self, name: str) -> list[PublishedFigure]:
        """Figures of a task, or of the papers' own average for ours."""
        if next(iter((self.averages | self.tasks)[name])).measure != ACCURACY:
            return []
        dataset = published_average(self.averaged[name]) if name in self.averages else name
        return [figure for figure in self.published if figure.dataset == dataset]

    def every_data_set(self) -> Markup:
        """Small charts, or one shaded table where there are too many methods; nothing for a single task."""
        if len(self.tasks) < 2 or not any(map(learnt, self.tasks.values())):
            return Markup()
        if self.has_many:
            body = self._data_sets_table()
        elif self.averages:
            published = {name: self._published_of(name) for name in self.tasks}
            body = small_multiples(self.tasks, published, self.look, "multiple")
        else:
            return Markup()  # every task has its large charts already
        return section("Every data set", body, identity="data-sets")

    def _data_sets_table(self) -> Markup:
        subjects = [*self.averages.values(), *self.tasks.values()]
        return data_sets_table([measured(runs) for runs in subjects], self.look, "by-data-set")

    def other_classes(self) -> Markup:
        """Base to new, and other data sets, where the protocol judges them."""
        table = protocols_table(self.runs, self.look)
        return section("Other classes", table, identity="other-classes") if table else table

    def several_labels(self) -> Markup:
        """All measures of runs whose images have several labels."""
        table = labels_table(self.runs, self.look)
        return section("Several labels an image", table, identity="labels") if table else table

    def tables(self) -> Markup:
        """Accuracies by data set, every figure of every row, and what others have published."""
        parts = []
        if len(self.tasks) > 1 and not self.has_many and any(map(measured, self.tasks.values())):
            parts.append(self._data_sets_table())
        for i, (name, runs) in enumerate(self.averages.items()):
            parts.append(element("h3", name, class_="part-heading"))
            parts.append(results_table(list(runs), self.look, f"average-{i}"))
        if parts:
            parts.append(element("h3", "each data set", class_="part-heading"))
        parts.append(results_table(self.rows, self.look))
        if self.published:
            parts += [element("h3", "Published", class_="part-heading"), published_table(self.published)]
        return section("All results", *parts, identity="results")


def _told_apart(runs: RowRuns) -> RowRuns:
    """The same rows; where a task was learnt with one label an image and with several these are two tasks."""
    both = {row.task for row in runs if len(measures_of(one for one in runs if one.task == row.task)) > 1}
    return {
        dataclasses.replace(row, task=f"{row.task} ({SEVERAL_LABELS})")
        if row.task in both and row.measure != ACCURACY
        else row: records
        for row, records in runs.items()
    }


def _hash(text: str) -> str:
    """Source expression of a policy that allows this text, and no other, as a page's script or style."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packaged(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _prose(sentence: str) -> Markup:
    """Text whose short hyphenated words (zero-shot, lora-xs) are not broken at the end of a line."""
    words = sentence.split(" ")
    parts = (element("span", w, class_="nowrap") if "-" in w and len(w) < 16 else escape(w) for w in words)
    return Markup(" ".join(parts))

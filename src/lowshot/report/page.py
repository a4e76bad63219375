"""One self-contained page about a set of runs: no other file, no network, readable without JavaScript."""

from __future__ import annotations

import importlib.resources
import string
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError
from ..files import write_text
from ..records import RunRecord
from .figures import Runs, series_numbers, task_figures
from .gallery import showcase_section
from .headline import KeyFigure, headline, key_figures, standfirst
from .markup import Markup, element, escape, join
from .provenance import provenance_section
from .showcase import Showcase
from .summary import SeriesKey, group_runs, summarize
from .tables import results_table


def write_report(
    folder: Path, records: Sequence[RunRecord], showcase: Showcase | None = None, title: str | None = None
) -> Path:
    """Write the page of these records to ``index.html`` in ``folder`` and return its path.

    Args:
        folder: Made if it is not there; an earlier page in it is replaced.
        records: As for ``render_page``.
        showcase: As for ``render_page``.
        title: Of the browser's tab; names the tasks if not given.

    Raises:
        InputError: There are no records, or two tell of the same run.
        OutputError: The page cannot be written.
    """
    tasks = ", ".join(dict.fromkeys(record.task for record in records))
    page = folder / "index.html"
    write_text(page, render_page(records, showcase, title=title or f"lowshot: {tasks}"))
    return page


def render_page(records: Sequence[RunRecord], showcase: Showcase | None = None, title: str = "lowshot") -> str:
    """The page as HTML text: result in words, charts per task, table, test images, confusions, provenance.

    Args:
        records: What to report on; at least one.
        showcase: Predictions of one classifier; its sections are left out without it.
        title: Of the browser's tab.

    Raises:
        InputError: There are no records, or two tell of the same run.
    """
    if not records:
        raise InputError("a report has no records; expected at least one")
    runs: Runs = dict(zip(summarize(records), group_runs(records).values(), strict=True))
    rows = list(runs)
    numbers = series_numbers(rows)
    tasks = list(dict.fromkeys(row.task for row in rows))
    runs_by_task = {task: {row: runs[row] for row in rows if row.task == task} for task in tasks}
    results = element("section", element("h2", "All results"), results_table(rows, numbers), id="results")
    sections = [
        *(_charts(task, runs_by_task[task], numbers, f"task-{i}") for i, task in enumerate(tasks)),
        results,
        *([showcase_section(showcase)] if showcase else []),
        provenance_section(records, rows),
    ]
    return string.Template(_packaged("template.html")).substitute(
        title=escape(title),
        style=_packaged("style.css"),
        script=_packaged("page.js"),
        header=_header(records, list(runs_by_task.values())),
        main=join(sections),
    )


def _packaged(name: str) -> str:
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


def _header(records: Sequence[RunRecord], tasks: Sequence[Runs]) -> Markup:
    """The first task is the page's main one; the others follow in a sentence each."""
    first, *others = (list(runs) for runs in tasks)
    dates = [record.provenance["date"][:10] for record in records if record.provenance.get("date")]
    eyebrow = " · ".join(["lowshot", f"{len(records)} run{'' if len(records) == 1 else 's'}", *sorted(dates)[-1:]])
    parts = [element("p", eyebrow, class_="eyebrow"), element("h1", _prose(headline(first)))]
    if standfirst(first):
        parts.append(element("p", _prose(standfirst(first)), class_="standfirst"))
    figures = [_key_figure(figure) for figure in key_figures(first)]
    if figures:
        parts.append(element("dl", *figures, class_="figures"))
    if others:
        parts.append(element("ul", *(element("li", _prose(headline(rows))) for rows in others), class_="others"))
    return element("header", *parts)


def _key_figure(figure: KeyFigure) -> Markup:
    return element(
        "div", element("dt", figure.name), element("dd", figure.value), class_="result" if figure.is_result else None
    )


def _prose(sentence: str) -> Markup:
    """Text whose short hyphenated words (zero-shot, lora-xs) are not broken at the end of a line."""
    words = sentence.split(" ")
    kept = (element("span", w, class_="nowrap") if "-" in w and len(w) < 16 else escape(w) for w in words)
    return Markup(" ".join(kept))


def _charts(task: str, runs: Runs, numbers: dict[SeriesKey, int], identity: str) -> Markup:
    return element("section", element("h2", task), task_figures(runs, numbers, identity), id=identity)

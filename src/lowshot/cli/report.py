"""The command ``lowshot report``."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ..errors import InputError
from ..files import write_text
from .parsing import parse
from .printing import print_json, warn

if TYPE_CHECKING:
    from ..records import RunRecord
    from ..report.tables.table import Table
    from ..runs_folder import Runs

_FILES = {"markdown": "results.md", "csv": "results.csv", "latex": "results.tex"}


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Tables and a page from the records of a grid: accuracies beside published ones, paired tests, costs."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUNS...")]
    """Folders that `lowshot bench --out` wrote; several are joined."""
    out: Path | None = None
    """Folder for `index.html`, `results.md`, `results.csv` and `results.tex`; earlier ones in it are replaced."""
    format: Literal["terminal", "markdown", "csv", "latex"] = "terminal"
    """How the tables are printed. `csv` has every figure unrounded, a line each."""
    against: tuple[str, ...] = ()
    """Methods as the tables call them, such as `lora` or `"lora, rank 8"`: adds a table of differences from each."""
    json: bool = False
    """Print one JSON object with `figures`, `comparisons`, `differences` and `notes` instead of tables."""


def run(arguments: Sequence[str]) -> int:
    """Read, tabulate, print, write."""
    parsed = parse(Arguments, "report", arguments)
    if not parsed.runs:
        raise InputError("report has no RUNS; expected one or more folders that lowshot bench --out wrote")
    from ..report.caveats import completeness_caveats
    from ..report.reading_order import in_reading_order
    from ..report.tables.comparison import comparison_tables
    from ..report.tables.differences import difference_tables
    from ..runs_folder import read_runs

    runs = read_runs(parsed.runs)
    runs = dataclasses.replace(runs, records=in_reading_order(runs.records))
    tables = comparison_tables(runs.records)
    tables += [table for method in parsed.against for table in difference_tables(runs.records, method)]
    incomplete = completeness_caveats(runs)
    tables[-1] = dataclasses.replace(tables[-1], notes=(*tables[-1].notes, *incomplete))
    written = []
    if parsed.out:
        from ..report.page import write_report

        texts = {parsed.out / name: _in_style(style, tables, runs.records) for style, name in _FILES.items()}
        for path, text in texts.items():
            write_text(path, text)
        written = [write_report(parsed.out, runs.records, caveats=incomplete), *texts]
    if parsed.json:
        print_json(_as_json(runs, tables, written, parsed.against))
        return 0
    print(_in_style(parsed.format, tables, runs.records), end="")
    if parsed.format in ("csv", "latex"):
        warn(incomplete)
    if written and parsed.format == "terminal":
        print(f"\nwritten: {', '.join(map(str, written))}")
    return 0


def _in_style(style: str, tables: Sequence[Table], records: Sequence[RunRecord]) -> str:
    from ..report.tables import formats, long_format

    if style == "terminal":
        return formats.in_terminal(tables, shutil.get_terminal_size(fallback=(100, 24)).columns)
    if style == "csv":
        return long_format.in_csv(records)
    return formats.in_markdown(tables) if style == "markdown" else formats.in_latex(tables)


def _as_json(runs: Runs, tables: Sequence[Table], written: Sequence[Path], against: Sequence[str]) -> dict[str, object]:
    from ..report.sections import sections
    from ..report.tables.differences import differences_from
    from ..report.tables.long_format import long_rows

    return {
        "records": len(runs.records),
        "failed": runs.failed,
        "under_way": runs.under_way,
        "figures": [row.to_dict() for row in long_rows(runs.records)],
        "comparisons": [
            {"backbone": section.model, "protocol": section.protocol, **dataclasses.asdict(comparison)}
            for section in sections(runs.records)
            for comparison in section.comparisons
        ],
        "differences": [
            {"backbone": section.model, "protocol": section.protocol, **dataclasses.asdict(difference)}
            for reference in against
            for section, differences in differences_from(runs.records, reference)
            for difference in differences
        ],
        "notes": [note for table in tables for note in table.notes],
        "written": list(map(str, written)),
    }

"""Write from the code: docs/reference/settings.md, and the tables of docs/how-to/datasets.md.

    .venv/bin/python tools/write_reference.py

Tests fail when a page and the code differ.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from pathlib import Path

from lowshot.data.catalogue import CATALOGUE, Download
from lowshot.methods import ALIASES, METHODS
from lowshot.settings import PRESETS, SETTINGS, Decides, Recipe

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
DATASETS_PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "datasets.md"


def field_docs(section: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body = ast.parse(inspect.getsource(section)).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for field, doc in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
            docs[field.target.id] = " ".join(ast.literal_eval(doc.value).split())
    return docs


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(value)
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `src/lowshot/settings/sections.py`; do not edit.",
        "",
        "Each is a flag (`--learning-rate 1e-3`), a key of a recipe file's section (`learning_rate = 1e-3`) and an",
        "argument of `FewShotClassifier` (`learning_rate=1e-3`). Defaults are those of the preset `paper`.",
        "",
        "Runs of a grid, rows of a report and averages are told apart by what decides",
        f"{', '.join(kind.value for kind in Decides if kind.changes_answers)}; by cost, machine and telling only where",
        "one grid has several values of them.",
    ]
    for name, section in vars(Recipe()).items():
        docs = field_docs(type(section))
        lines += ["", f"## [{name}]", "", str(inspect.getdoc(type(section))).splitlines()[0], ""]
        lines += ["| setting | default | decides | |", "|:--|:--|:--|:--|"]
        lines += [
            f"| `{f.name}` | `{shown(getattr(section, f.name))}` | {SETTINGS[f.name].decides.value} | {docs[f.name]} |"
            for f in dataclasses.fields(section)
        ]
    lines += ["", "## Methods", "", "| method | kind | |", "|:--|:--|:--|"]
    lines += [f"| `{spec.name}` | {spec.kind} | {spec.summary} |" for spec in METHODS.values()]
    lines += [
        f"| `{alias}` | alias | `{method}` with `quantize = {quantize}` |"
        for alias, (method, quantize) in ALIASES.items()
    ]
    lines += ["", "## Presets", "", "What a preset sets other than the defaults above.", ""]
    lines += ["| preset | method | settings |", "|:--|:--|:--|"]
    for preset, methods in PRESETS.items():
        for method, settings in methods.items():
            said = ", ".join(f"`{key} = {shown(value)}`" for key, value in settings.items()) or "the defaults"
            lines.append(f"| `{preset}` | `{method}` | {said} |")
    return "\n".join(lines) + "\n"


def gigabytes(file: Download) -> str:
    """The size of an archive, or that nobody says it."""
    size = file.size or file.rounded_size
    return f"{size / 1e9:.2f} GB" if size else "size not published"


def data_sets() -> list[str]:
    """A table of the data sets: what they are, and what their authors allow."""
    head = ("name", "what", "classes", "train", "validation", "test", "CoOp's template", "licence")
    lines = [f"| {' | '.join(head)} |", "|:--|:--|--:|--:|--:|--:|:--|:--|"]
    for row in CATALOGUE.values():
        sizes = (f"{size:,}" if size else "-" for size in dataclasses.astuple(row.sizes))
        licence = f"[{row.licence}]({row.licence_from})" if row.licence_from else row.licence
        what = f"[{row.title}]({row.homepage})"
        cells = (f"`{row.name}`", what, f"{row.classes:,}", *sizes, f"`{row.template}`", licence)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def said_of(file: Download) -> str:
    """One file: linked if it can be fetched, bold if not."""
    name = f"[{file.file}]({file.urls[0]})" if file.urls else f"**{file.file}**"
    return name if file.kind == "file" else f"{name} ({gigabytes(file)})"


def files() -> list[str]:
    """A table of the files of each data set, and of where it lies."""
    lines = ["| name | files | images below the root, or in |", "|:--|:--|:--|"]
    for row in CATALOGUE.values():
        needs = "<br>".join(" or ".join(map(said_of, need)) for need in row.needs)
        lines.append(f"| `{row.name}` | {needs} | {'<br>'.join(f'`{folder}`' for folder in row.folders)} |")
    return lines


def datasets_page(page: str) -> str:
    """The page on data sets with what it says of each written anew."""
    for name, lines in (("data sets", data_sets()), ("files", files())):
        start, end = f"<!-- {name}: written by make docs -->", f"<!-- end of {name} -->"
        before, found, rest = page.partition(start)
        _, ended, after = rest.partition(end)
        if not (found and ended):
            raise SystemExit(f"{DATASETS_PAGE} lacks {start} or {end}")
        page = "\n".join([f"{before}{start}", "", *lines, "", f"{end}{after}"])
    return page


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    DATASETS_PAGE.write_text(datasets_page(DATASETS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")

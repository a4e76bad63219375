"""Write docs/reference/settings.md from the code: every setting, its default, every preset.

    .venv/bin/python tools/write_reference.py

A test fails when the page and the code differ.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
from pathlib import Path

from lowshot import config
from lowshot.methods import ALIASES, METHODS

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"


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
        "Written by `make docs` from `src/lowshot/config.py`; do not edit.",
        "",
        "Each is a flag (`--learning-rate 1e-3`), a key of a recipe file's section (`learning_rate = 1e-3`) and an",
        "argument of `FewShotClassifier` (`learning_rate=1e-3`). Defaults are those of the preset `paper`.",
    ]
    for name, section in vars(config.Recipe()).items():
        docs = field_docs(type(section))
        lines += ["", f"## [{name}]", "", str(inspect.getdoc(type(section))).splitlines()[0], ""]
        lines += ["| setting | default | |", "|:--|:--|:--|"]
        lines += [
            f"| `{f.name}` | `{shown(getattr(section, f.name))}` | {docs[f.name]} |"
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
    for preset, methods in config.PRESETS.items():
        for method, settings in methods.items():
            said = ", ".join(f"`{key} = {shown(value)}`" for key, value in settings.items()) or "the defaults"
            lines.append(f"| `{preset}` | `{method}` | {said} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""The command ``lowshot export``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .arguments import parse, print_json, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a saved adapter in another form, and check that it computes the same."""

    adapter: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="ADAPTER")]
    """Folder written by `lowshot fit`."""
    format: Literal["peft", "merged", "onnx", "space"]
    """Without lowshot: `peft` (an adapter for PEFT), `merged` (a model for transformers) or `onnx` (an image
    classifier). With it: `space`, a Hugging Face Space with a page and an API that anybody may ask."""
    out: Path
    """Folder for the export; must not exist yet."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id; for a Space no folder."""
    json: bool = False
    """Print `format`, `out`, `files`, `largest_difference` and `notes` as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Export and say how far it is from the classifier."""
    parsed = parse(Arguments, "export", arguments)
    from ..conversion import export, export_space

    if parsed.format == "space":
        exported = export_space(parsed.adapter, parsed.out, model=parsed.model)
    else:
        exported = export(parsed.adapter, parsed.out, format=parsed.format, model=parsed.model)
    if parsed.json:
        facts = dataclasses.asdict(exported)
        print_json({"adapter": str(parsed.adapter), "out": str(facts.pop("folder")), **facts})
        return 0
    warn(exported.notes)
    print(f"exported {parsed.adapter} to {exported.folder}: {', '.join(exported.files)}")
    if exported.largest_difference is not None:
        print(f"largest difference of a probability from the classifier's: {exported.largest_difference:.1e}")
    print(f"how to use it: {exported.folder / 'README.md'}")
    return 0

"""The command ``lowshot export``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..errors import InputError
from ..progress import shown
from .arguments import AdapterFolder
from .parsing import parse
from .printing import print_json, warn


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Write a saved adapter in another form, and check that it computes the same."""

    adapter: AdapterFolder
    format: Literal["peft", "merged", "onnx", "page", "space"]
    """Without lowshot: `peft` (an adapter for PEFT), `merged` (a model for transformers), `onnx` (an image classifier)
    or `page` (one that runs in a browser). With it: `space`, a Hugging Face Space with a page and an API that anybody
    may ask."""
    out: Path
    """Folder for the export; must not exist yet."""
    model: Annotated[str | None, tyro.conf.arg(metavar="MODEL")] = None
    """Where the adapter's backbone is now, if not where it was: a folder or a Hub id; for a Space no folder."""
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    """Of an ONNX file's image tower: 16 bits make it half as large, 8 bits a quarter. Both round."""
    data: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """Judge the ONNX file and the classifier on these images: a built-in task, a data set of the catalogue, a folder or
    a table. Without it what is rounded is judged on the built-in task that the adapter has learnt, if it has."""
    onnxruntime_web: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """What runs a page, as `npm pack onnxruntime-web` writes it; else it is fetched from npm's registry once."""
    json: bool = False
    """Print `format`, `out`, `files`, `largest_difference`, `precision`, `accuracy` and `notes` as JSON."""


def run(arguments: Sequence[str]) -> int:
    """Export and say how far it is from the classifier."""
    parsed = parse(Arguments, "export", arguments)
    from ..conversion import export, export_space

    if parsed.format == "space":
        if parsed.precision != "fp32" or parsed.data is not None or parsed.onnxruntime_web is not None:
            raise InputError(
                "precision, data and onnxruntime-web are of ONNX files, and a Space has none; leave them out"
            )
        exported = export_space(parsed.adapter, parsed.out, model=parsed.model)
    else:
        exported = export(
            parsed.adapter,
            parsed.out,
            format=parsed.format,
            model=parsed.model,
            precision=parsed.precision,
            data=parsed.data,
            onnxruntime_web=parsed.onnxruntime_web,
            track=shown,
        )
    if parsed.json:
        facts = dataclasses.asdict(exported)
        print_json({"adapter": str(parsed.adapter), "out": str(facts.pop("folder")), **facts})
        return 0
    warn(exported.notes)
    print(f"exported {parsed.adapter} to {exported.folder}: {', '.join(exported.files)}")
    if exported.largest_difference is not None:
        print(f"largest difference of a probability from the classifier's: {exported.largest_difference:.1e}")
    if exported.accuracy is not None:
        from ..conversion.readme import accuracy_words

        print(accuracy_words(exported.accuracy))
    print(f"how to use it: {exported.folder / 'README.md'}")
    return 0

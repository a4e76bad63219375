"""Format ``page``: an HTML page that runs the ONNX file in a browser, from a disk or any server, and asks nobody.

Browsers let a page from a disk fetch nothing and start no worker, but run the scripts that it has in it or beside it.
So everything is text in such scripts: onnxruntime-web packed (5 MB), and the model, up to ``LARGEST_IN_PAGE`` within
the page, so that it is one file, and beyond that in scripts beside it.
"""

from __future__ import annotations

import base64
import gzip
import html
import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import InputError
from ..files import read_json_object, write_text
from . import onnx_graph
from .preprocessing import BESIDE, PREPROCESSING_FILE, SCRIPT_FILE

PAGE_FILE = "index.html"
LARGEST_IN_PAGE = 48 << 20
"""Bytes of a model that is within the page; a larger one is in scripts beside it."""
PART_BYTES = 96 << 20
"""Bytes of a model in one of those; a multiple of 3, so that no part but the last is padded. Browsers refuse texts of
half a gigabyte."""


def bundle(
    folder: Path,
    runtime: tuple[bytes, bytes],
    *,
    title: str,
    classes: list[str],
    facts: Mapping[str, str],
    has_several: bool = False,
) -> None:
    """Replace the files of an ONNX export in a folder by the page.

    Args:
        folder: What ``write`` wrote, perhaps rounded since.
        runtime: The script and the binary of onnxruntime-web.
        title: What it is called.
        classes: Their names in the order of the probabilities.
        facts: What else a visitor should know, by what it is called.
        has_several: Whether an image may have several labels.

    Raises:
        InputError: The model is too large for any browser.
    """
    if (folder / f"{onnx_graph.MODEL_FILE}.data").exists():
        raise InputError(
            "this model is larger than 2 GB, which no browser holds: try --precision int8, or --format onnx"
        )
    model = (folder / onnx_graph.MODEL_FILE).read_bytes()
    script, wasm = (_base64(gzip.compress(part, mtime=0)) for part in runtime)
    inside, parts = [_data("runtime", script), _data("wasm", wasm)], [model]
    if len(model) <= LARGEST_IN_PAGE:
        inside.append(_data("model", _base64(model)))
    else:
        parts = [model[start : start + PART_BYTES] for start in range(0, len(model), PART_BYTES)]
        for number, part in enumerate(parts):
            name = f"model-{number}.js"
            write_text(folder / name, f'(self.lowshotModel ??= []).push("{_base64(part)}");\n')
            inside.append(f'<script src="{name}"></script>')
    about = {"classes": classes, "parts": len(parts), "steps": read_json_object(folder / PREPROCESSING_FILE)}
    shown = f"{', '.join(classes[:6])}{' and others' if len(classes) > 6 else ''}"
    does = f"Finds which of {len(classes)} an image shows" if has_several else f"Tells {len(classes)} classes apart"
    page = (BESIDE / "page.html").read_text(encoding="utf-8") % {
        "title": html.escape(title),
        "standfirst": html.escape(f"{does}: {shown}."),
        "sources": "" if len(model) <= LARGEST_IN_PAGE else " 'self' file:",
        "style": (BESIDE / "page.css").read_text(encoding="utf-8"),
        "facts": "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(fact)}</dd>\n" for name, fact in facts.items()),
        # No browser takes it for the end of the script that it stands in.
        "about": json.dumps(about, ensure_ascii=False).replace("<", "\\u003c"),
        "data": "\n".join(inside),
        "script": (BESIDE / "page.js").read_text(encoding="utf-8"),
    }
    write_text(folder / PAGE_FILE, page)
    for name in (onnx_graph.MODEL_FILE, PREPROCESSING_FILE, SCRIPT_FILE):
        (folder / name).unlink()


def _data(name: str, text: str) -> str:
    return f'<script id="{name}" type="text/plain">{text}</script>'


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")

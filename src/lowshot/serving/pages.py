"""The pages in the browser: each its own body in the frame that all have."""

from __future__ import annotations

import functools
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
PAGES = {
    "/": {"body": "index.html", "script": "main.js", "title": "lowshot", "home": ""},
    "/docs": {"body": "interface.html", "script": "interface.js", "title": "HTTP interface · lowshot", "home": "./"},
}
"""Path of a page -> the file of its body, its script, its title, and how its links lead to the first page."""


@functools.cache
def page(path: str) -> str:
    """The whole page at one of the paths of ``PAGES``."""
    frame, parts = (FOLDER / "frame.html").read_text(encoding="utf-8"), PAGES[path]
    body = (FOLDER / parts["body"]).read_text(encoding="utf-8")
    return frame.format(**{**parts, "body": body})

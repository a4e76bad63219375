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
_PLACES = """
  <nav aria-label="Places">
    <a href="{home}#ask">Ask</a>
    <a href="{home}#teach">Teach</a>
  </nav>"""


@functools.cache
def page(path: str) -> str:
    """The whole page at one of the paths of ``PAGES``."""
    parts = PAGES[path]
    body = (FOLDER / parts["body"]).read_text(encoding="utf-8")
    places = _PLACES.format(home=parts["home"])
    return framed(body, script=f"static/{parts['script']}", title=parts["title"], places=places)


def framed(body: str, *, script: str, title: str, places: str = "") -> str:
    """A body in the frame that all pages have.

    Args:
        body: The HTML.
        script: Address of its module.
        title: Of the document.
        places: The HTML of the links between its places.
    """
    frame = (FOLDER / "frame.html").read_text(encoding="utf-8")
    return frame.format(body=body, script=script, title=title, places=places)

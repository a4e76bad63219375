"""HTML and SVG in which text cannot be forgotten to be escaped: only ``Markup`` passes as it is."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping

_VOID = {"img", "input"}


class Markup(str):
    """A string that is HTML or SVG already."""


def escape(value: object) -> Markup:
    """Text as markup; markup as it is. Lone surrogates (folder names with broken bytes) become question marks."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(str(value).encode("utf-8", "replace").decode("utf-8")))


def join(parts: Iterable[object]) -> Markup:
    """All parts, escaped where they are text."""
    return Markup("".join(map(escape, parts)))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """One element; children that are text are escaped.

    Args:
        tag: Name of the element.
        children: Text or markup.
        attributes: ``class_`` and ``aria_label`` stand for ``class`` and ``aria-label``; None leaves one out.
            Fractional numbers keep one digit, which is enough for a drawing.
    """
    opening = tag
    for name, value in attributes.items():
        if value is not None:
            text = escape(f"{value:.1f}" if isinstance(value, float) else value)
            opening += f' {name.rstrip("_").replace("_", "-")}="{text}"'
    closing = "" if tag in _VOID else f"</{tag}>"
    return Markup(f"<{opening}>{join(children)}{closing}")


def data_address(content: bytes, media_type: str) -> str:
    """The content of a file as an address, for pages that are one file."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"


def section(heading: str, *parts: Markup, identity: str) -> Markup:
    """A part of the page under a heading, which links can point at."""
    return element("section", element("h2", heading), *parts, id=identity)


def figure(heading: str, drawing: Markup, caption: str = "") -> Markup:
    """A drawing between its heading and what is to be known of it."""
    return element("figure", element("h3", heading), drawing, *([element("figcaption", caption)] if caption else []))


def table(header: Iterable[Markup], rows: Iterable[Markup], style: str) -> Markup:
    """A table from the cells of its header and its rows."""
    return element("table", element("thead", element("tr", *header)), element("tbody", *rows), class_=style)


def scrollable(table: Markup, note: str, identity: str) -> Markup:
    """A table that scrolls inside its own bounds, also by keyboard, below the note that names it.

    ``identity`` is the note's id, unique on the page.
    """
    region = element("div", table, class_="scroll", tabindex=0, role="region", aria_labelledby=identity)
    return join([element("p", note, class_="note", id=identity), region])


def marked(mark: Markup, words: str) -> Markup:
    """A mark before words, never at the end of a line without the first of them."""
    first, _, rest = words.partition(" ")
    return join([element("span", mark, first, class_="nowrap"), f" {rest}" if rest else ""])


def choice(legend: str, options: Mapping[str, Markup], chosen: str, identity: str) -> Markup:
    """One of several parts at a time, by buttons that need no script. A single part needs no button either.

    Args:
        legend: Name of the choice.
        options: Parts by the words of their buttons.
        chosen: The one that is there at first.
        identity: Prefix of the ids, unique on the page.
    """
    if len(options) == 1:
        return next(iter(options.values()))
    parts = [element("legend", legend)]
    for i, (words, part) in enumerate(options.items()):
        checked = "checked" if words == chosen else None
        own = f"{identity}-{i}"
        parts.append(element("input", type="radio", name=identity, id=own, checked=checked))
        parts += [element("label", words, for_=own), element("div", part, class_="part")]
    return element("fieldset", *parts, class_="choice")

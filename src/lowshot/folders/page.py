"""One page of thumbnails to look a sorted folder over, those that the classifier is least sure of first."""

from __future__ import annotations

import heapq
import io
import itertools
import urllib.parse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..data import decode_image
from ..errors import ImageError
from ..files import write_text
from ..markup import Markup, data_address, element, join
from .placing import places_of

MOST_IMAGES = 600
"""Thumbnails on a page: some five megabytes. Each folder has the same share, the least sure of its images."""
_SIDE = 112
_STYLE = """
:root { color-scheme: light dark; --quiet: #666; --line: #ccc }
@media (prefers-color-scheme: dark) { :root { --quiet: #aaa; --line: #444 } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; padding: 0 1rem; max-width: 72rem }
h2 { border-top: 1px solid var(--line); padding-top: 1rem }
.quiet { color: var(--quiet); font-size: .875rem }
ul { list-style: none; padding: 0; display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, 112px) }
li { font-size: .875rem; line-height: 1.3; overflow-wrap: anywhere }
img { width: 112px; height: 112px; object-fit: contain; background: #8882 }
@media print { li { break-inside: avoid } }
"""


def write_page(
    out: Path, name: str, rows: Iterable[dict[str, Any]], first: Sequence[str]
) -> tuple[int, dict[str, int]]:
    """Write the page of a sorted folder; return how many images there are, and how many in each folder as on the page.

    Args:
        out: The folder that images were sorted to.
        name: The page's file name.
        rows: Of each image its place ``to`` below ``out``, and the most probable classes with their probabilities. Of
            several places, in the order of these classes.
        first: The folders that the page begins with; after them the fullest ones come first.

    Raises:
        OutputError: It cannot be written.
    """
    total, counts = 0, dict[str, int]()
    least: dict[str, list[tuple[float, int, str, dict[str, Any]]]] = {}  # heaps, of the surest image first
    for place, row in enumerate(rows):
        total += 1
        for to, probability in zip(places_of(row), row["best"].values(), strict=False):
            folder = to.partition("/")[0]
            counts[folder] = counts.get(folder, 0) + 1
            heap = least.setdefault(folder, [])
            heapq.heappush(heap, (-probability, -place, to, row))
            if len(heap) > max(1, MOST_IMAGES // len(least)):
                heapq.heappop(heap)
    counts = dict(sorted(counts.items(), key=lambda item: (item[0] not in first, -item[1])))
    share = max(1, MOST_IMAGES // max(1, len(counts)))
    sections = [
        _section(out, folder, count, [(to, row) for _, _, to, row in sorted(least[folder], reverse=True)[:share]])
        for folder, count in counts.items()
    ]
    title = f"{total:,} images, sorted into {len(counts):,} folders"
    write_text(out / name, _PAGE.format(title=title, style=_STYLE, main=join([element("h1", title), *sections])))
    return total, counts


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{main}
</body>
</html>
"""


def _section(out: Path, folder: str, count: int, rows: list[tuple[str, dict[str, Any]]]) -> Markup:
    """Thumbnails of a folder's images, each with its place there, in this order."""
    shown = "least sure first" if len(rows) == count else f"the {len(rows):,} least sure of them, least sure first"
    cards = []
    for to, row in rows:
        best = itertools.islice(row["best"].items(), max(2, len(places_of(row))))
        words = [f"{name} {value:.0%}" for name, value in best]
        source = _thumbnail(out / to)
        picture = (
            element("img", src=source, alt=f"{row['image']}: {words[0]}", title=row["image"]) if source else "gone"
        )
        lines = [element("div", line, class_="quiet" if place else None) for place, line in enumerate(words)]
        cards.append(element("li", element("a", picture, href=urllib.parse.quote(to)), *lines))
    heading = element("h2", f"{folder} ", element("span", f"{count:,}, {shown}", class_="quiet"))
    return element("section", heading, element("ul", *cards))


def _thumbnail(path: Path) -> str | None:
    """A small JPEG of an image as an address; None if it cannot be read any more."""
    from PIL import Image

    try:
        image = Image.fromarray(decode_image(path))
    except ImageError:
        return None
    image.thumbnail((2 * _SIDE, 2 * _SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=70)
    return data_address(file.getvalue(), "image/jpeg")

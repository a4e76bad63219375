"""Images known by the files that they are in."""

from __future__ import annotations

from pathlib import Path

from ..data import Images, source_of


def file_of(images: Images, row: int) -> Path | None:
    """An image's file; None where it is in none of its own."""
    source = source_of(images, row)
    return source if isinstance(source, Path) else None

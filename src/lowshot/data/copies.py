"""Images that lie in two splits or in two classes at once, found without decoding any."""

from __future__ import annotations

import collections
import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

_COMPARED_BYTES = 1 << 16  # two files of one size that end in the same 64 KB are taken for copies


def warn_of_copies(where: Path, files: Iterable[tuple[str, str, Path]], warn: list[str]) -> None:
    """One line each if images are in two splits, or in two classes, at once: the same file by size and last bytes.

    Only files whose size another one shares are read, and of those only the end.

    Args:
        where: What the lines begin with.
        files: Split, class name and path of each.
        warn: Receives the lines.
    """
    by_size: dict[int, list[tuple[str, str, Path]]] = collections.defaultdict(list)
    by_content: dict[tuple[int, bytes], list[tuple[str, str, Path]]] = collections.defaultdict(list)
    for file in files:
        with contextlib.suppress(OSError):  # decoding it will say so
            by_size[file[2].stat().st_size].append(file)
    for size, places in by_size.items():
        for place in places if len(places) > 1 and size else ():
            with contextlib.suppress(OSError):
                by_content[size, _ending(place[2], size)].append(place)
    for kind, position in (("splits", 0), ("classes", 1)):
        copied = [places for places in by_content.values() if len({place[position] for place in places}) > 1]
        if copied:
            first = copied[0][0]
            second = next(place for place in copied[0] if place[position] != first[position])
            warn.append(
                f"{where}: {len(copied)} image(s) are in two {kind} at once, such as {first[2]} and {second[2]}"
            )


def _ending(path: Path, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, size - _COMPARED_BYTES))
        return hashlib.sha256(file.read()).digest()

"""Pictures of what an adapter was taught with, kept in its folder, so that an answer can be shown beside its nearest.

They are whole pictures, made smaller. The backbone's own image embeddings, which belong to no adapter, tell which are
nearest.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from ..data.images import as_pixels
from ..errors import InputError
from ..files import canonical_json, folder_written_aside, read_json_object

FOLDER = "examples"
"""Inside an adapter's folder."""
_INDEX = "examples.json"
_SHORTER_SIDE = 256
_SMALL_SIDE = 64  # pictures up to this size are kept to the last bit
_MOST_INDEX_BYTES = 4 << 20
_FILE = re.compile(r"[0-9]{1,6}\.(png|jpg)")


@dataclasses.dataclass(frozen=True)
class Example:
    """One picture of an adapter."""

    id: str
    """Its number in the adapter, as text."""
    class_name: str
    path: Path

    @property
    def media_type(self) -> str:
        """Its media type, for HTTP."""
        return "image/png" if self.path.suffix == ".png" else "image/jpeg"

    def read(self) -> bytes:
        """The bytes of its file; none where that was removed meanwhile, which makes it no image."""
        try:
            return self.path.read_bytes()
        except OSError:
            return b""


def write_examples(adapter: Path, images: Iterable[object], labels: Sequence[str]) -> None:
    """Keep pictures in the folder of an adapter.

    Args:
        adapter: The folder; it has none yet.
        images: Images that were learnt from: paths, PIL images or arrays.
        labels: The class of each.

    Raises:
        DataError: An image cannot be read.
        OutputError: The folder cannot be written.
    """
    _write(adapter, [], zip(images, labels, strict=True))


def carry_examples(adapter: Path, to: Path, names: Mapping[str, str], more: Iterable[tuple[object, str]] = ()) -> None:
    """Copy pictures of an adapter into the folder of another, which has none.

    Args:
        adapter: Whose they are; where it has none, nothing is written: those of new images alone would look like all.
        to: The other's folder.
        names: Class -> its name in the other; pictures of other classes are left out.
        more: Images that the other has learnt besides, each with its class.

    Raises:
        DataError: An image cannot be read.
        OutputError: They cannot be written.
    """
    pictures = {each: names[each.class_name] for each in read_examples(adapter) if each.class_name in names}
    if pictures:
        _write(to, pictures.items(), more)


def _write(adapter: Path, pictures: Iterable[tuple[Example, str]], images: Iterable[tuple[object, str]]) -> None:
    """Write the folder of an adapter's pictures: some of another, as they are, and those of images, smaller.

    Args:
        adapter: The folder of the adapter.
        pictures: Those of another, each with its class here.
        images: Images that were learnt from, each with its class.
    """
    with folder_written_aside(adapter / FOLDER) as aside:
        rows, number = [], 0
        for picture, label in pictures:
            shutil.copyfile(picture.path, aside / picture.path.name)
            rows.append({"file": picture.path.name, "class": label})
            number = max(number, 1 + int(picture.id))
        for image, label in images:
            shown = Image.fromarray(as_pixels(image))
            name = f"{number}.png" if max(shown.size) <= _SMALL_SIDE else f"{number}.jpg"
            scale = _SHORTER_SIDE / min(shown.size)
            if name.endswith("jpg") and scale < 1:
                shown = shown.resize([max(1, round(side * scale)) for side in shown.size])
            shown.save(aside / name, quality=90)
            rows.append({"file": name, "class": label})
            number += 1
        (aside / _INDEX).write_text(canonical_json({"examples": rows}), encoding="utf-8")


def read_examples(adapter: Path) -> list[Example]:
    """The pictures of an adapter; none where it has none, or where they are not what ``write_examples`` writes."""
    folder = adapter / FOLDER
    if folder.is_symlink():  # it would be served, whatever it leads to; ours are plain
        return []
    try:
        rows = read_json_object(folder / _INDEX, _MOST_INDEX_BYTES)["examples"]
        files = [str(row["file"]) for row in rows]
        classes = [str(row["class"]) for row in rows]
    except (OSError, InputError, KeyError, TypeError):
        return []
    if not all(_FILE.fullmatch(file) for file in files):
        return []
    examples = [Example(file.partition(".")[0], name, folder / file) for file, name in zip(files, classes, strict=True)]
    return [] if any(example.path.is_symlink() for example in examples) else examples

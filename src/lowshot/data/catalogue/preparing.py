"""Installing a data set: fetched or taken from archives that are there, checked, unpacked, put where CoOp has it.

Every part appears whole in its place or not at all, and a part that is in its place is not touched again. So a run that
was interrupted is simply run again.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...errors import DataError, InputError, OutputError, RunError
from ...files import read_json_object, write_bytes
from ...progress import Track, silent
from ..images import FileImages
from ..task import Task
from .class_names import FILE as CLASS_NAMES
from .download import fetch, verify
from .facts import DataSet, Download
from .ilsvrc import sort_validation
from .places import SYNSET, data_root
from .reading import data_set, read_data_set
from .unpack import unpack

DOWNLOADS = ".downloads"
"""Folder below the root for what is being fetched."""

Say = Callable[[str], None]


def prepare(
    name: str,
    root: str | os.PathLike[str] | None = None,
    archives: Path | None = None,
    *,
    say: Say = lambda _: None,
    warn: list[str] | None = None,
    track: Track = silent,
) -> Task:
    """Install a data set of the catalogue, and read it.

    Args:
        name: As in the catalogue.
        root: The folder that holds the data sets, made if need be; else what ``LOWSHOT_DATA`` says.
        archives: A folder with files of the data set that are there already, under the names they are published by.
        say: Receives a line for each part that is in its place.
        warn: Receives a line for everything that was left out.
        track: Shows progress.

    Raises:
        UnknownNameError: The catalogue has no such data set.
        DataError: A file has to be got by hand, or what was given is not what is published.
        RunError: A file cannot be fetched, or the data set is not whole afterwards.
        OutputError: The root cannot be written, or its disk is too small.
    """
    row, warn = data_set(name), warn if warn is not None else []
    folder = data_root(root, create=True)
    if archives is not None and not archives.is_dir():
        raise DataError(f"--from {archives} is no folder; expected one with archives of {row.title}")
    _refuse_what_nobody_has(row, folder, archives)
    say(f"{row.title}, {row.homepage}; licence: {row.licence}")
    for need in row.needs:
        if not _is_there(need, folder):
            _install(row, need, folder, archives, say, warn, track)
        say(f"in place: {', '.join(str(folder / place) for place in _places(need))}")
    task = read_data_set(name, folder, warn=warn)
    _refuse_gaps(task)
    return task


def _refuse_what_nobody_has(row: DataSet, root: Path, archives: Path | None) -> None:
    """Say at once which files a person has to get, before hours are spent on the others."""
    absent = [
        " or ".join(file.file for file in need)
        for need in row.needs
        if not _is_there(need, root) and _given(need, archives) is None and not any(file.urls for file in need)
    ]
    if absent:
        raise DataError(
            f"{row.title} cannot be fetched from here (licence: {row.licence}). Get {', '.join(absent)} from "
            f"{row.homepage}, put them into one folder, and run this again with --from FOLDER"
        )


def _places(need: Sequence[Download]) -> list[str]:
    return list(need[0].places.values())


def _is_there(need: Sequence[Download], root: Path) -> bool:
    return all((root / place).exists() for place in _places(need))


def _given(need: Sequence[Download], archives: Path | None) -> tuple[Download, Path] | None:
    """Which of the files that would do the user has."""
    for file in need if archives else ():
        path = archives / file.file if archives else Path()
        if path.is_file():
            return file, path
    return None


def _install(
    row: DataSet,
    need: Sequence[Download],
    root: Path,
    archives: Path | None,
    say: Say,
    warn: list[str],
    track: Track,
) -> None:
    given = _given(need, archives)
    if given is not None:
        file, path = given
        _check_space(root, path.stat().st_size)
        try:
            verify(file, path, track)
        except RunError as error:
            raise DataError(f"{path} is damaged, or another file of that name: {error}") from None
    else:
        file = next(file for file in need if file.urls)
        _check_space(root, 2 * (file.size or 0))
        path = _fetched(file, root, track)
    checked = "checksum as published" if file.sha256 or file.md5 else "no checksum is published"
    say(f"{file.file}: {checked}")
    try:
        if file.kind == "file":
            _put_file(row, file, path, root)
        else:
            _put_archive(row, file, path, root, warn, track)
    except DataError:
        if given is None:
            _remove(path, root)  # the next run fetches it anew
        raise
    if given is None:
        _remove(path, root)


def _remove(path: Path, root: Path) -> None:
    """Remove what was fetched or unpacked, and the folders below the root that are empty then."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    folder = path.parent
    with contextlib.suppress(OSError):  # not empty
        while folder != root:
            folder.rmdir()
            folder = folder.parent


def _fetched(file: Download, root: Path, track: Track) -> Path:
    downloads = root / DOWNLOADS
    there = downloads / file.file  # checked before it got this name
    if there.is_file():
        return there
    try:
        return fetch(file, downloads, track)
    except RunError as error:
        raise RunError(
            f"{error}. If you can get it elsewhere, put it into a folder and give that: --from FOLDER"
        ) from None


def _check_space(root: Path, needed: int) -> None:
    free = shutil.disk_usage(root).free
    if free < needed:
        raise OutputError(f"{root} has {free / 1e9:.1f} GB free; expected {needed / 1e9:.1f} GB, to fetch and unpack")


def _put_file(row: DataSet, file: Download, path: Path, root: Path) -> None:
    """Put a small file in its place, if it is what its name says."""
    content = path.read_bytes()
    try:
        if file.file == row.split_file:
            read_json_object(path)
        elif file.file == CLASS_NAMES and not SYNSET.match(content[:20].decode("utf-8", "replace")):
            raise InputError(f"it begins with {content[:20]!r}; expected a synset and a name")
    except InputError as error:
        raise DataError(f"{path} is not {file.file}: {error}") from None
    for place in file.places.values():
        write_bytes(root / place, content)


def _put_archive(row: DataSet, file: Download, path: Path, root: Path, warn: list[str], track: Track) -> None:
    beside = (root / next(iter(file.places.values()))).parent  # where links may lead to another disk
    with _folder_aside(beside / f".{row.name}.unpacking", root) as aside:
        inner = path
        if file.inside:
            unpack(path, aside, track, warn, wanted=[file.inside])
            inner = _existing(aside / file.inside, path)
        content = aside / "content"
        content.mkdir()
        wanted = [member for member in file.places if member]
        unpack(inner, content, track, warn, wanted=wanted, nested=file.kind == "imagenet-train")
        if file.kind == "imagenet-val":
            sort_validation(content, root / "imagenet" / "devkit")
        if hasattr(os, "sync"):
            os.sync()  # what is in its place counts as whole, also after a power cut
        for member, place in file.places.items():
            source, target = _existing(content / member, path), root / place
            if not target.exists():  # an earlier run may have been interrupted between two of them
                source.rename(target)


def _existing(path: Path, archive: Path) -> Path:
    if not path.exists():
        raise DataError(f"archive {archive} does not hold {path.name}; expected the one that its authors publish")
    return path


@contextlib.contextmanager
def _folder_aside(aside: Path, root: Path) -> Iterator[Path]:
    """An empty folder, without what a killed run left in it, and gone afterwards."""
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        yield aside
    except OSError as error:
        raise OutputError(f"{aside.parent} cannot be written: {error.strerror or error}") from error
    finally:
        _remove(aside, root)


def _refuse_gaps(task: Task) -> None:
    """Every file of the lists must be there; decoding them is ``lowshot data check``'s work."""
    for split, examples in (("train", task.train), ("validation", task.validation), ("test", task.test)):
        paths = examples.images.paths if examples is not None and isinstance(examples.images, FileImages) else ()
        missing = [path for path in paths if not path.exists()]
        if missing:
            raise RunError(
                f"{task.name}: {len(missing):,} of {len(paths):,} images in {split} are not there, such as "
                f"{missing[0]}; lowshot data check {task.name} lists them"
            )

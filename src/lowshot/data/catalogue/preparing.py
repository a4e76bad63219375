"""Installing a data set: fetched or taken from archives that are there, checked, unpacked, put where CoOp has it.

Every part appears whole in its place or not at all, and a part that is in its place is not touched again. So a run that
was interrupted is simply run again. A data set that is in one of the other places that are known is completed there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from ...errors import DataError, OutputError, RunError
from ...files import os_errors_about, write_bytes
from ...progress import Track, silent
from ..assembling import Reading
from ..task import Task
from .class_names import FILE as CLASS_NAMES
from .class_names import class_names_file
from .contents import check_content
from .download import fetch, verify
from .facts import DataSet, Download
from .ilsvrc import is_sorted, sort_validation
from .lock import locked
from .places import Place, data_root, find, holds_image
from .reading import data_set, read_data_set
from .state import missing_images
from .unpack import unpack

DOWNLOADS = ".downloads"
"""Folder below the root for what is being fetched."""
_RANDOM = "?" * 8  # the end of the name under which a file is written aside

Say = Callable[[str], None]
Need = Sequence[Download]
"""Files of which one is enough."""


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

    Only one process at a time works in a root; another waits for it.

    Args:
        name: As in the catalogue.
        root: The folder that holds the data sets, made if need be; else what ``LOWSHOT_DATA`` says.
        archives: A folder with files of the data set that are there already, under the names they are published by.
        say: Receives a line for each part that is in its place, and if there is another process to wait for.
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
    if archives is not None and archives.resolve() == (folder / DOWNLOADS).resolve():
        raise DataError(f"--from {archives} is where downloads are kept until they are unpacked; move yours elsewhere")

    def as_it_is() -> _Installation:
        place = find(row, folder) or Place(folder, folder / row.folders[0])
        return _Installation(row, place, archives, say, warn, track)

    before = as_it_is()
    before.refuse_what_nobody_has()
    say(f"{row.title}, {row.homepage}; licence: {row.licence}")
    if before.needs() or any(path.exists() for path in before.leftovers()):
        with locked(folder, f"lowshot data prepare {name}", say):
            as_it_is().complete()  # looks anew: somebody may just have done it
    return as_it_is().task()


@dataclasses.dataclass(frozen=True)
class _Installation:
    """A data set, and what there is of it.

    Args:
        row: The data set.
        place: Its place, there or to be made.
        archives: A folder with files that are there already.
        say: As for ``prepare``.
        warn: As for ``prepare``.
        track: As for ``prepare``.
    """

    row: DataSet
    place: Place
    archives: Path | None
    say: Say
    warn: list[str]
    track: Track

    @property
    def downloads(self) -> Path:
        return self.place.root / DOWNLOADS

    # -- what is there -------------------------------------------------------------------------------------------------

    def needs(self) -> list[Need]:
        """Return the needs that nothing in its place fulfils."""
        needs: list[Need] = []
        for need in self.row.needs:
            file = need[0]
            if file.kind in ("imagenet-val", "imagenet-devkit") and is_sorted(self.place.images / "val"):
                continue
            if file.kind == "imagenet-val" or not all(self.part(file, place) for place in file.places.values()):
                needs.append(need)
        return needs

    def part(self, file: Download, published: str) -> Path | None:
        """Return where a part is, if it is there; ``published`` is where CoOp has it below the root."""
        path = self.place.of(self.row, published)
        if file.kind == "file":
            is_names = file.file == CLASS_NAMES  # a shift may use ImageNet's
            return class_names_file(self.place) if is_names else self.place.file(file.file)
        if Path(published).is_relative_to(self.row.folders[0]):
            return path if holds_image(path) else None
        if path.is_file():
            return path
        return self.place.file(path.name) if file.kind == "archive" else None

    def given(self, need: Need) -> tuple[Download, Path] | None:
        """Return the first of the files that would do and that the user has."""
        if self.archives is None:
            return None
        paths = ((file, self.archives / file.file) for file in need)
        return next(((file, path) for file, path in paths if path.is_file()), None)

    def is_heap(self, file: Download) -> bool:
        """Tell whether ImageNet's validation images are there, but not sorted."""
        return file.kind == "imagenet-val" and holds_image(self.place.images / "val", 0)

    def leftovers(self) -> list[Path]:
        """Return the paths that a killed run may have left of this data set, beside its parts."""
        left: list[Path] = []
        for file in (file for need in self.row.needs for file in need):
            fetched = self.downloads / file.file
            left += [fetched.with_name(f"{fetched.name}{suffix}") for suffix in ("", ".partial", ".partial.json")]
            left += self.downloads.glob(f".{file.file}.partial.json.{_RANDOM}")
            if file.kind == "file":
                left += self.place.of(self.row, file.places[""]).parent.glob(f".{file.file}.{_RANDOM}")
            else:
                left.append(self.aside(file))
        return left

    def aside(self, file: Download) -> Path:
        """Return a folder on the disk where a file's parts come to lie, which may not be that of the root."""
        return self.place.of(self.row, next(iter(file.places.values()))).parent / f".{self.row.name}.unpacking"

    def refuse_what_nobody_has(self) -> None:
        """Say at once which files a person has to get, before hours are spent on the others."""
        absent = [
            " or ".join(file.file for file in need)
            for need in self.needs()
            if self.given(need) is None and not any(file.urls for file in need) and not self.is_heap(need[0])
        ]
        if absent:
            lacks = f"{self.archives} has not all of it. " if self.archives else ""
            raise DataError(
                f"{self.row.title} cannot be fetched from here (licence: {self.row.licence}). {lacks}Get "
                f"{', '.join(absent)} from {self.row.homepage}, put them into one folder, and run this again with "
                "--from FOLDER"
            )

    # -- installing ----------------------------------------------------------------------------------------------------

    def complete(self) -> None:
        """Install what is not in its place, and remove what a killed run has left."""
        for need in self.needs():
            with os_errors_about(self.place.beside):
                self.install(need)
        for path in self.leftovers():
            _remove(path, self.place.root)

    def install(self, need: Need) -> None:
        """Put the parts of one file into their places."""
        if self.is_heap(need[0]):
            sort_validation(self.place.images / "val", self.place.beside / "devkit")
            return
        given = self.given(need)
        if given is not None:
            file, path = given
            self.check_space(file, path)
            try:
                verify(file, path, self.track)
                check_content(self.row, file, path)
            except (RunError, DataError) as error:
                raise DataError(f"{path} is damaged, or another file of that name: {error}") from None
            except OSError as error:
                raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        else:
            file = next(file for file in need if file.urls)
            self.check_space(file, None)
            path = self.fetched(file)
        checked = "checksum as published" if file.sha256 or file.md5 else "no checksum is published"
        self.say(f"{file.file}: {checked}")
        try:
            if file.kind == "file":
                write_bytes(self.place.of(self.row, file.places[""]), path.read_bytes())
            else:
                self.put_archive(file, path)
        except DataError as error:
            if given is not None:
                raise
            _remove(path, self.place.root)
            raise DataError(f"{error}. It is removed: run this again to fetch it anew") from error
        if given is None:
            _remove(path, self.place.root)

    def fetched(self, file: Download) -> Path:
        """Return the file below the root; it is fetched unless a former run has."""
        arrived = self.downloads / file.file  # checked before it got this name
        if arrived.is_file():
            return arrived
        try:
            return fetch(file, self.downloads, self.track, lambda path: check_content(self.row, file, path))
        except RunError as error:
            with contextlib.suppress(OSError):
                self.downloads.rmdir()  # unless something has arrived
            raise RunError(
                f"{error}. Try the address in a browser; save the file as {file.file}, and give its folder: "
                "--from FOLDER"
            ) from None

    def check_space(self, file: Download, given: Path | None) -> None:
        """Refuse a disk that is too small for what is still to be written."""
        size = given.stat().st_size if given else file.size or file.rounded_size or 0
        arrived = [self.downloads / f"{file.file}{suffix}" for suffix in ("", ".partial")]
        fetched = 0 if given else max(0, size - sum(path.stat().st_size for path in arrived if path.is_file()))
        unpacked = 0 if file.kind == "file" else size * (2 if file.inside else 1)  # and what is inside it
        onto = next(path for path in (self.place.beside, *self.place.beside.parents) if path.exists())
        needed = {self.place.root: fetched, onto: unpacked}
        if onto.stat().st_dev == self.place.root.stat().st_dev:
            needed = {onto: fetched + unpacked}
        for folder, size in needed.items():
            free = shutil.disk_usage(folder).free
            if free < size:
                expected = f"expected {size / 1e9:.1f} GB, to fetch and unpack {file.file}"
                raise OutputError(f"{folder} has {free / 1e9:.1f} GB free; {expected}")

    def put_archive(self, file: Download, path: Path) -> None:
        """Unpack an archive aside, in an empty folder that is gone afterwards, and move its parts to their places."""
        aside = self.aside(file)
        shutil.rmtree(aside, ignore_errors=True)  # a killed run may have left something in it
        try:
            aside.mkdir(parents=True)
            inner = path
            if file.inside:
                unpack(path, aside, self.track, self.warn, wanted=[file.inside])
                inner = _existing(aside / file.inside, path)
            content = aside / "content"
            content.mkdir()
            wanted = [member for member in file.places if member]
            unpack(inner, content, self.track, self.warn, wanted=wanted, nested=file.kind == "imagenet-train")
            if file.kind == "imagenet-val":
                sort_validation(content, self.place.beside / "devkit")
            if hasattr(os, "sync"):
                os.sync()  # what is in its place counts as whole, also after a power cut; too many files for one each
            for member, published in file.places.items():
                source = _existing(content / member, path)
                if self.part(file, published) is None:  # else an earlier run was interrupted between two of them
                    _move(source, self.place.of(self.row, published))
        except OSError as error:
            raise OutputError(f"{aside.parent} cannot be written: {error.strerror or error}") from error
        finally:
            _remove(aside, self.place.root)

    def task(self) -> Task:
        """Check and name what is in its place, and return the task, every file of its lists there.

        Decoding them is ``lowshot data check``'s work.
        """
        for file in (need[0] for need in self.row.needs):
            paths = [self.part(file, published) for published in file.places.values()]
            if file.kind == "file" and paths[0] is not None:
                try:
                    check_content(self.row, file, paths[0])
                except DataError as error:
                    raise DataError(
                        f"{paths[0]}: {error}. Remove it and run this again: it is then fetched anew"
                    ) from None
            if all(paths):
                self.say(f"in place: {', '.join(map(str, paths))}")
        anew = f"Move {self.place.images} away and run this again: it is then installed anew"
        try:
            task = read_data_set(self.row.name, Reading(root=self.place.root, warn=self.warn))
        except DataError as error:
            raise DataError(f"{error}. {anew}") from error
        missing = missing_images(task)
        if missing:
            raise RunError(f"{task.name}: {'; '.join(missing)}. {anew}")
        return task


def _existing(path: Path, archive: Path) -> Path:
    if not path.exists():
        raise DataError(f"archive {archive} does not hold {path.name}; expected the one that its authors publish")
    return path


def _move(source: Path, target: Path) -> None:
    """Move a part to its place, where nothing but folders without a file may be."""
    if target.is_dir() and not target.is_symlink() and not any(path.is_file() for path in target.rglob("*")):
        shutil.rmtree(target)
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target} is in the way, and not what belongs there; move it away and run this again")
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


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

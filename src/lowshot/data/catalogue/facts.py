"""The facts of a data set of the catalogue, and of the files that make it up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Literal

UNKNOWN = "unknown"
"""A licence that no page of the data set states; what copies of it claim does not count."""

Layout = Literal["split", "aircraft", "imagenet", "synsets", "numbers"]
"""The layouts of data sets, by which splits and labels are found.

split: CoOp's JSON file ``{"train" | "val" | "test": [[path, label, class name], ...]}``.
aircraft: FGVC's text files ``variants.txt`` and ``images_variant_{train,val,test}.txt``.
imagenet: ``train`` and ``val``, each with a folder per synset; ``val`` is the test split.
synsets: a folder per synset, all of it the test split.
numbers: folders 0 to 999 in the order of ImageNet's synsets, all of it the test split.
"""


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Images in each split; None where there is no such split."""

    train: int | None = None
    validation: int | None = None
    test: int | None = None


@dataclasses.dataclass(frozen=True)
class Download:
    """A file that has to be fetched, or handed over, to install a data set.

    Args:
        file: Its name.
        places: Path within the archive -> path below the root where that comes to lie. For a file that is no archive
            the key is empty.
        urls: Addresses to fetch it from, in this order; none where the licence or a dead server leaves that to users.
        inside: Path within the archive of the archive that ``places`` speaks of.
        kind: ``file`` is put in place as it is, ``archive`` is unpacked, ImageNet's two are sorted into synsets, the
            validation images by its development kit, which is needed until that is done.
        size: Bytes, where published.
        rounded_size: Bytes, where they are only published as so many GB.
        sha256: Checksum, where published.
        md5: Checksum, where no SHA-256 is published.
    """

    file: str
    places: Mapping[str, str]
    urls: tuple[str, ...] = ()
    inside: str = ""
    kind: Literal["file", "archive", "imagenet-train", "imagenet-devkit", "imagenet-val"] = "archive"
    size: int | None = None
    rounded_size: int | None = None
    sha256: str | None = None
    md5: str | None = None


@dataclasses.dataclass(frozen=True)
class DataSet:
    """One row of the table.

    Args:
        name: As on the command line and in tables of published results.
        title: As its authors write it.
        summary: One line on what the images are.
        layout: The way splits and labels are found.
        folders: Where its images lie below the root: CoOp's place, then other common ones.
        classes: Number of classes.
        sizes: Images in each split.
        licence: The use that its authors allow, in few words, or ``unknown``.
        licence_page: The page that says so, where it is another one than ``homepage``.
        homepage: The page that describes it.
        template: CoOp's, which the papers' zero-shot figures use.
        renamed: Class names that CoOp replaces, and by what; names are replaced wherever they are still the old ones.
        needs: Files that make up the data set; of each entry one is enough, the first by preference.
    """

    name: str
    title: str
    summary: str
    layout: Layout
    folders: tuple[str, ...]
    classes: int
    sizes: Sizes
    licence: str
    homepage: str
    licence_page: str = ""
    template: str = "a photo of a {}."
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    needs: tuple[tuple[Download, ...], ...] = ()

    @property
    def licence_from(self) -> str:
        """The page that states the licence; empty where that is unknown."""
        return "" if self.licence == UNKNOWN else self.licence_page or self.homepage

    @property
    def split_file(self) -> str:
        """CoOp's JSON file, in the folder above the images; empty where there is none."""
        return next((need[0].file for need in self.needs if need[0].file.startswith("split_zhou_")), "")

    @property
    def beside(self) -> str:
        """The folder where CoOp has the small files, below the root: above the images, or with them in the root."""
        images = PurePosixPath(self.folders[0])
        return str(images.parent if images.parent.name else images)

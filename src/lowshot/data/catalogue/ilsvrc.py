"""ImageNet's validation images, which come in one heap, sorted into a folder for each synset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DataError
from .places import SYNSET, holds_image, synset_folders

META, LABELS = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
"""Files of the development kit: synset of each number, and number of each validation image in turn."""
_IMAGE = "ILSVRC2012_val_{:08}.JPEG"
_ANEW = "Remove it and run this again: it is then unpacked anew"


def is_sorted(images: Path) -> bool:
    """Tell whether a folder of validation images has them in folders of synsets, and none beside those."""
    return images.is_dir() and bool(synset_folders(images)) and not holds_image(images, 0)


def sort_validation(images: Path, devkit: Path) -> None:
    """Move every image in a folder into a subfolder that is called by its synset; what was moved already stays.

    Args:
        images: ``ILSVRC2012_val_00000001.JPEG`` and so on.
        devkit: A folder with ``meta.mat`` and ``ILSVRC2012_validation_ground_truth.txt``.

    Raises:
        DataError: The development kit is damaged, or it speaks of an image that is not there.
    """
    from scipy.io import loadmat

    try:
        rows: Any = loadmat(devkit / META, squeeze_me=True)["synsets"]
        synset_of = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    except Exception as error:  # scipy raises whatever a damaged file leads it into
        raise DataError(f"{devkit / META} cannot be read: {error}. {_ANEW}") from error
    if not synset_of or not all(SYNSET.fullmatch(synset) for synset in synset_of.values()):
        raise DataError(f"{devkit / META} lists no synsets; expected ImageNet's development kit. {_ANEW}")
    try:
        labels = [int(line) for line in (devkit / LABELS).read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise DataError(f"{devkit / LABELS} cannot be read: {error}. {_ANEW}") from error
    for number, label in enumerate(labels, 1):
        if label not in synset_of:
            raise DataError(f"{devkit / LABELS}, line {number}, is {label}; expected a number of {META}. {_ANEW}")
        image = images / _IMAGE.format(number)
        folder = images / synset_of[label]
        if (folder / image.name).is_file():
            continue
        if not image.is_file():
            raise DataError(f"the validation images lack {image.name}; expected one for each line of {devkit / LABELS}")
        folder.mkdir(exist_ok=True)
        image.rename(folder / image.name)
    if not is_sorted(images):
        raise DataError(f"{devkit / LABELS} has not a line for each of the validation images. {_ANEW}")

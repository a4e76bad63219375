"""ImageNet's validation images, which come in one heap, sorted into a folder for each synset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DataError
from .places import SYNSET

META, LABELS = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"
"""Files of the development kit: synset of each number, and number of each validation image in turn."""
_IMAGE = "ILSVRC2012_val_{:08}.JPEG"


def sort_validation(images: Path, devkit: Path) -> None:
    """Move every image in a folder into a subfolder that is called by its synset.

    Args:
        images: ``ILSVRC2012_val_00000001.JPEG`` and so on.
        devkit: A folder with ``meta.mat`` and ``ILSVRC2012_validation_ground_truth.txt``.

    Raises:
        DataError: The development kit is damaged, or it speaks of an image that is not there.
    """
    synset_of = _synsets(devkit / META)
    for number, label in enumerate(_labels(devkit / LABELS), 1):
        if label not in synset_of:
            raise DataError(f"{devkit / LABELS}, line {number}, is {label}; expected a number of {META}")
        image = images / _IMAGE.format(number)
        if not image.is_file():
            raise DataError(
                f"the archive of validation images lacks {image.name}; expected one for each line of {LABELS}"
            )
        folder = images / synset_of[label]
        folder.mkdir(exist_ok=True)
        image.rename(folder / image.name)


def _synsets(path: Path) -> dict[int, str]:
    """Number of each class -> its synset."""
    from scipy.io import loadmat

    try:
        rows: Any = loadmat(path, squeeze_me=True)["synsets"]
        synsets = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in rows}
    except Exception as error:  # scipy raises whatever a damaged file leads it into
        raise DataError(f"{path} cannot be read: {error}") from error
    if not synsets or not all(SYNSET.fullmatch(synset) for synset in synsets.values()):
        raise DataError(f"{path} lists no synsets; expected ImageNet's development kit")
    return synsets


def _labels(path: Path) -> list[int]:
    try:
        return [int(line) for line in path.read_text(encoding="utf-8").split()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

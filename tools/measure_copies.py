"""The near copies that `lowshot doubt --copies` finds, and the pairs that it takes for such: docs/how-to/labels.md.

`python tools/measure_copies.py FOLDER [--model photos]`: of 300 images drawn from a folder, 100 get a near copy of each
kind in turn. A wrong pair is one of two images of the folder that are no copies of each other.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from lowshot.data import MemoryImages, images_below
from lowshot.evaluation import embeddings_of
from lowshot.labelling import copies
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner

IMAGES, COPIED = 300, 100


def saved_anew(image: Image.Image) -> Image.Image:
    """The image as a JPEG of quality 40."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(buffer).convert("RGB")


KINDS = {
    "JPEG of quality 40": saved_anew,
    "half the side": lambda image: image.resize((image.width // 2, image.height // 2)),
    "4 % cut from every side": lambda image: image.crop(
        (image.width // 25, image.height // 25, image.width - image.width // 25, image.height - image.height // 25)
    ),
    "a quarter lighter": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
}


def main() -> None:
    """Print a line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--model", default="photos")
    given = parser.parse_args()
    files = images_below(Path(given.folder), [])
    drawn = np.random.default_rng(1).permutation(len(files))[:IMAGES]
    images = [Image.open(files[row]).convert("RGB") for row in drawn]
    backbone = load_backbone(given.model, "cpu")
    recipe = preset_recipe("paper", "gda").replace(model=given.model, views=None)
    learner = create_learner(backbone, (("one",), ("other",)), recipe)

    def embedded(some: list[Image.Image]) -> NDArray[np.float32]:
        return embeddings_of(learner, MemoryImages([np.asarray(each) for each in some]))

    known = embedded(images)
    pairs = [
        (one, other)
        for one, other in copies.near_pairs(known)
        if copies.correlation_of(np.asarray(images[one]), np.asarray(images[other])) >= copies.ALIKE
    ]
    print(f"wrong pairs, or copies in the folder: {len(pairs)} among {len(images)} images")
    for one, other in pairs:
        print(f"  {files[drawn[one]]} {files[drawn[other]]}")
    for kind, changed in KINDS.items():
        altered = [changed(image) for image in images[:COPIED]]
        together = np.concatenate([known, embedded(altered)])
        near = set(copies.near_pairs(together))
        hits = sum(
            (row, len(images) + row) in near
            and copies.correlation_of(np.asarray(images[row]), np.asarray(altered[row])) >= copies.ALIKE
            for row in range(len(altered))
        )
        print(f"{kind}: {hits} of {len(altered)} found", flush=True)


if __name__ == "__main__":
    main()

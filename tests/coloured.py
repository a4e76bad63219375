"""Small noisy pictures of a class that is named after the colour that is bright in them."""

import numpy as np
from PIL import Image

COLOURS = {"blue": 2, "green": 1, "red": 0}
"""Class -> channel that is bright; ``white`` has all."""


def pictures(name, count, seed=0):
    images = np.random.default_rng([seed, len(name)]).integers(0, 60, (count, 20, 20, 3), dtype=np.uint8)
    images[..., COLOURS.get(name, slice(None))] += 150
    return list(images)


def labelled(*names, count=3, seed=0):
    """Pictures of classes, and the name of the class of each."""
    images = [image for name in names for image in pictures(name, count, seed)]
    return images, [name for name in names for _ in range(count)]


def as_folder(folder, images, labels):
    """Write pictures as ``folder/<class>/<number>.png``, and return the folder."""
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / label / f"{number}.png")
    return folder

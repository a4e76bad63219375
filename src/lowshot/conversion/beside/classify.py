"""Classify images with the model in this folder: python classify.py IMAGE...

It needs onnxruntime, pillow and numpy, and does with an image what preprocessing.json says.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent


def prepared(file: str | Path, steps: dict[str, Any]) -> NDArray[np.float32]:
    """One image as the model takes it: ``(3, size, size)``, red, green and blue, from 0 to 1."""
    with Image.open(file) as image:
        shorter, least = min(image.size), steps["reduce"]["keep_at_least"]
        factor = next((factor for factor in (8, 4, 2) if shorter >= factor * least), 1)
        if factor > 1:
            width = image.size[0]
            image.draft(None, (image.size[0] // factor, image.size[1] // factor))  # does nothing unless it is a JPEG
            factor //= round(width / image.size[0])
        pixels = in_rgb(ImageOps.exif_transpose(image), tuple(steps["background"]))
    pixels = pixels.reduce(factor) if factor > 1 else pixels
    size, (width, height) = steps["size"], pixels.size
    shorter = min(width, height)
    squashed = steps["mode"] == "squash"
    width, height = (size, size) if squashed else (size * width // shorter, size * height // shorter)
    left, top = (width - size) // 2, (height - size) // 2
    channels = [  # as numbers that are not rounded to bytes on the way
        np.asarray(Image.fromarray(channel).resize((width, height), Image.Resampling[steps["filter"].upper()]))
        for channel in np.asarray(pixels, dtype=np.float32).transpose(2, 0, 1)
    ]
    cropped = np.stack(channels)[:, top : top + size, left : left + size]
    return (cropped.clip(0, 255) / 255).astype(np.float32)


def in_rgb(image: Image.Image, background: tuple[int, ...]) -> Image.Image:
    """An image in 8 bits of red, green and blue, what is transparent laid on a colour."""
    if image.mode.startswith("I"):  # 16 bits of grey
        levels = np.round(np.asarray(image, dtype=np.float64) / 257).clip(0, 255)
        return Image.fromarray(levels.astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
    return image.convert("RGB")


def probabilities(files: list[str]) -> tuple[list[str], NDArray[np.float32]]:
    """The class names, and the probabilities of the classes for each file, ``(files, classes)``."""
    names, outputs = answers(files)
    return names, outputs["probabilities"]


def answers(files: list[str]) -> tuple[list[str], dict[str, NDArray[Any]]]:
    """The class names, and all that the model says of each file, by its name.

    That is ``probabilities``; of a model that tells images of none of its classes also ``none_of_these``, ``p_values``;
    where images have several labels also ``has_label``, ``(files, classes)``.
    """
    steps = json.loads((HERE / "preprocessing.json").read_text(encoding="utf-8"))
    session = onnxruntime.InferenceSession(str(HERE / "model.onnx"), providers=onnxruntime.get_available_providers())
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    images = np.stack([prepared(file, steps) for file in files])
    outputs = [output.name for output in session.get_outputs()]
    return names, dict(zip(outputs, session.run(outputs, {"images": images})))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python classify.py IMAGE...")
    classes, told = answers(sys.argv[1:])
    none_of_these = told.get("none_of_these", np.zeros(len(sys.argv) - 1, dtype=np.bool_))
    for place, (name, row, none) in enumerate(zip(sys.argv[1:], told["probabilities"], none_of_these)):
        best = sorted(zip(row.tolist(), classes), reverse=True)
        words = ["none of these; nearest:"] if none else []
        if "has_label" in told:  # all labels that the image has
            shown = {label for label, has in zip(classes, told["has_label"][place]) if has}
            words = [] if shown else ["no label; nearest:"]
            best = [each for each in best if each[1] in shown] or best[:1]
        shares = [f"{share:.4f} {label}" for share, label in (best if "has_label" in told else best[:3])]
        print(name, *words, *shares, sep="\t")

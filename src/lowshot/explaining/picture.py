"""An explanation as a picture: what the model saw, and the same with what spoke for the class in colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from .relevance import Explanation

_SIDE, _GAP, _LINE = 320, 16, 26
_SMALL = 96
_TEXT = (32, 32, 32)


def picture_of(explanation: Explanation, shots: Sequence[tuple[Image.Image, str]] = ()) -> Image.Image:
    """Draw an explanation.

    Args:
        explanation: What to draw.
        shots: Training images with a line for each, which stand below, the first on the left.

    Returns:
        An RGB image, some 700 pixels wide.
    """
    import matplotlib

    width = 3 * _GAP + 2 * _SIDE
    height = 2 * _GAP + _SIDE + _LINE + (_SMALL + _GAP + _LINE if shots else 0)
    sheet = Image.new("RGB", (width, height), "white")
    # The font of matplotlib has the letters of most languages.
    font = ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", 15)
    write = ImageDraw.Draw(sheet)
    sheet.paste(_seen(explanation), (_GAP, _GAP))
    sheet.paste(coloured(explanation), (2 * _GAP + _SIDE, _GAP))
    title = f"{explanation.class_name}  {explanation.probability:.1%}"
    write.text((_GAP, _GAP + _SIDE + 6), _fitting(title, font, width - 2 * _GAP), _TEXT, font)
    top = 2 * _GAP + _SIDE + _LINE
    for number, (image, line) in enumerate(shots[: (width - _GAP) // (_SMALL + _GAP)]):
        left = _GAP + number * (_SMALL + _GAP)
        small = ImageOps.contain(image.convert("RGB"), (_SMALL, _SMALL))
        sheet.paste(small, (left, top))
        write.text((left, top + _SMALL + 2), _fitting(line, font, _SMALL + _GAP - 4), _TEXT, font)
    return sheet


def coloured(explanation: Explanation) -> Image.Image:
    """The crop that the model saw in grey, with the places in colour by their relevance: the strongest are yellow."""
    from matplotlib import colormaps

    seen = _seen(explanation)
    strengths = explanation.relevance / max(float(explanation.relevance.max()), 1e-12)
    smooth = Image.fromarray(strengths.astype(np.float32)).resize(seen.size, Image.Resampling.BICUBIC)
    strength = np.clip(np.asarray(smooth), 0, 1)[..., None]
    grey = np.asarray(seen.convert("L").convert("RGB"), dtype=np.float32)
    heat = 255 * colormaps["inferno"](strength[..., 0])[..., :3]
    share = 0.35 + 0.4 * strength
    return Image.fromarray(np.clip((1 - share) * grey + share * heat, 0, 255).astype(np.uint8))


def _seen(explanation: Explanation) -> Image.Image:
    return Image.fromarray(explanation.crop).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)


def _fitting(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The text, cut to this width in pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"

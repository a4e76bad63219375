"""Glyphs: single characters rendered from the fonts that matplotlib ships, named as Unicode names them.

Two font families, never mixed: the built-in model is pre-trained (``tools/pretrain_builtin.py``) on
``PRETRAINING_FONTS`` (DejaVu), the glyph tasks of the offline benchmark are drawn from ``HELD_OUT_FONTS``
(STIX and Computer Modern), which pre-training never sees.
"""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import ImageFont

PRETRAINING_FONTS = tuple(
    f"DejaVu{family}{style}"
    for family, slant in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slant}", f"-Bold{slant}")
)
STIX_FONTS = ("STIXGeneral", "STIXGeneralItalic", "STIXGeneralBol", "STIXGeneralBolIta")
# Matplotlib's Computer Modern fonts keep TeX's encoding: only letters and digits sit where Unicode has them.
_TEX_ENCODED = ("cmr10", "cmss10", "cmtt10", "cmb10")
HELD_OUT_FONTS = (*STIX_FONTS, *_TEX_ENCODED)
# These two STIX faces contain no arrows, operators or geometric shapes of their own.
_WITHOUT_SYMBOLS = ("STIXGeneralItalic", "STIXGeneralBolIta")


def glyph_name(character: str) -> str:
    """Return the official Unicode name in lower case: ``"7"`` is ``"digit seven"``."""
    return unicodedata.name(character).lower()


def font_path(font: str) -> Path:
    """Return matplotlib's font file of this name."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@functools.cache
def _loaded_font(font: str, size: int) -> ImageFont.FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(str(font_path(font)), size, layout_engine=ImageFont.Layout.BASIC)


@functools.cache
def characters_of(font: str) -> frozenset[str]:
    """Return the characters that this font draws under their own Unicode code points."""
    from matplotlib.ft2font import FT2Font

    mapped = {chr(code) for code in FT2Font(str(font_path(font))).get_charmap()}
    if font in _TEX_ENCODED:
        return frozenset(c for c in mapped if c.isascii() and c.isalnum())
    if font in _WITHOUT_SYMBOLS:
        return frozenset(c for c in mapped if c.isalpha() or c.isdigit())
    return frozenset(mapped)


def render_glyph(font: str, character: str, size: int = 64, margin: int = 6) -> NDArray[np.uint8]:
    """Draw one character white on black, its bounding box scaled to fill the frame but for ``margin``.

    Returns:
        Grey levels ``(size, size)``, ``uint8``. The larger side of the glyph's box measures
        ``size - 2 * margin`` pixels; its aspect ratio is kept and it is centred.
    """
    from PIL import Image, ImageDraw

    drawn_at = 2 * size
    canvas = Image.new("L", (4 * size, 4 * size), 0)
    ImageDraw.Draw(canvas).text((size, size), character, fill=255, font=_loaded_font(font, drawn_at))
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"font {font} draws nothing for {character!r}")
    glyph = canvas.crop(box)
    scale = (size - 2 * margin) / max(glyph.size)
    width, height = (max(1, round(side * scale)) for side in glyph.size)
    frame = Image.new("L", (size, size), 0)
    frame.paste(glyph.resize((width, height), Image.Resampling.BOX), ((size - width) // 2, (size - height) // 2))
    return np.asarray(frame)

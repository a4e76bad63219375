import numpy as np
import pytest

from lowshot.data import builtin_task
from lowshot.data.builtin import _GLYPH_TASKS
from lowshot.data.glyphs import (
    HELD_OUT_FONTS,
    PRETRAINING_FONTS,
    characters_of,
    font_path,
    glyph_name,
    render_glyph,
)
from refusing import refused


@pytest.mark.parametrize("font", PRETRAINING_FONTS + HELD_OUT_FONTS)
def test_matplotlib_ships_the_font_and_it_draws_letters_and_digits(font):
    assert font_path(font).is_file()
    assert {*"AZaz09"} <= characters_of(font)


def test_names_are_official_and_in_lower_case():
    assert [glyph_name(c) for c in "7Aж→"] == [
        "digit seven",
        "latin capital letter a",
        "cyrillic small letter zhe",
        "rightwards arrow",
    ]


@pytest.mark.parametrize(("font", "character"), [("STIXGeneral", "W"), ("DejaVuSans", "|"), ("cmr10", "q")])
@pytest.mark.parametrize(("size", "margin"), [(64, 6), (32, 0), (48, 12)])
def test_a_glyph_fills_its_frame_but_for_the_margin(font, character, size, margin):
    glyph = render_glyph(font, character, size, margin)

    rows, columns = np.flatnonzero(glyph.any(1)), np.flatnonzero(glyph.any(0))
    height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
    assert (glyph.shape, glyph.dtype) == ((size, size), np.uint8)
    assert abs(max(height, width) - (size - 2 * margin)) <= 1
    for first, last in ((rows[0], rows[-1]), (columns[0], columns[-1])):
        assert abs(first - (size - 1 - last)) <= 1  # centred


def test_a_character_without_ink_is_refused():
    with refused(ValueError, "DejaVuSans", "' '"):
        render_glyph("DejaVuSans", " ")


def test_tex_fonts_give_only_what_lies_where_unicode_has_it():
    assert all(c.isascii() and c.isalnum() for c in characters_of("cmr10"))


@pytest.mark.parametrize("name", _GLYPH_TASKS)
def test_no_class_of_a_task_is_drawn_as_the_box_for_missing_characters(name):
    """Each character is in the fonts it is drawn from, and no two of a font's characters look alike to the pixel."""
    task = _GLYPH_TASKS[name]
    assert len(builtin_task(name).class_names) == len(task.characters)
    for font in task.fonts:
        drawn = [c for c in task.characters if c in characters_of(font)]
        glyphs = {render_glyph(font, c).tobytes() for c in drawn}
        assert len(glyphs) == len(drawn)
    for character in task.characters:
        assert any(character in characters_of(font) for font in task.fonts)

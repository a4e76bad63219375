"""The picture of an explanation."""

import numpy as np
import pytest
from matplotlib import colormaps
from PIL import Image

from lowshot.explaining import Explanation, coloured, picture_of


def explained(relevance, name="cat"):
    return Explanation(name, 0.875, np.full((32, 32, 3), 128, np.uint8), np.asarray(relevance, np.float32))


def test_the_place_that_spoke_most_is_the_brightest_of_the_right_half():
    picture = np.asarray(picture_of(explained([[0, 0], [0.9, 0.1]]))).astype(float)
    right = picture[16:336, 352:672]
    parts = [half.mean() for row in np.split(right, 2) for half in np.split(row, 2, axis=1)]
    assert np.argmax(parts) == 2
    assert parts[0] < parts[3]
    assert (picture[16:336, 16:336] == 128).all()


@pytest.mark.parametrize(("relevance", "strength"), [([[0.25]], 1.0), ([[0]], 0.0)])
def test_a_place_is_the_mixture_of_grey_and_the_colour_of_its_share_of_the_strongest(relevance, strength):
    share = 0.35 + 0.4 * strength
    expected = (1 - share) * 128 + share * 255 * np.array(colormaps["inferno"](strength)[:3])
    assert np.abs(np.asarray(coloured(explained(relevance)), float) - expected).max() <= 1


def test_shots_stand_below_as_many_as_there_is_room_for():
    shots = [(Image.new("L", (8, 8), 255 * (number % 2)), f"class {number}") for number in range(9)]
    alone, beside = picture_of(explained([[1]])), picture_of(explained([[1]]), shots)
    assert beside.width == alone.width
    assert beside.height > alone.height + 96
    assert beside.getpixel((20, 16 + 320 + 26 + 20)) == (0, 0, 0)


def test_names_of_any_length_and_alphabet_and_no_relevance_at_all():
    picture = picture_of(explained([[0, 0], [0, 0]], "буква Ж " * 40))
    assert picture.mode == "RGB"
    line = np.asarray(picture)[342:368]
    assert line[:, :672].min() < 100
    assert (line[:, 680:] == 255).all()

"""Pixels of what Pillow has decoded: grey levels, transparency, large photographs."""

import io
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from data.image_files import noise, photograph, png, saved
from lowshot.data import FileImages, ahead, as_pixels, content_hash, decode_image, images, opening
from lowshot.data import picture as pictures
from lowshot.data.crops import central_crops
from lowshot.data.decoding import load_picture
from lowshot.data.store import DecodedOnce
from lowshot.data.task import ImageSubset


def resident_bytes(*, reset=False):
    """The most memory that this process has held, since it was last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


# -- grey levels and transparency that Pillow does not know ------------------------------------------------------------


@pytest.mark.parametrize(
    ("bits", "colour", "row", "transparent", "expected"),
    [
        (1, 0, b"\0\x40", b"\0\x01", [0, 255]),  # 0, 1
        (1, 0, b"\0\x40", b"\0\x00", [255, 255]),
        (2, 0, b"\0\x60", b"\0\x01", [255, 170]),  # 1, 2
        (4, 0, b"\0\x37", b"\0\x03", [255, 119]),  # 3, 7
        (8, 0, b"\0\x03\x07", b"\0\x03", [255, 7]),
        (16, 0, struct.pack(">xHH", 500, 40_000), struct.pack(">H", 500), [255, 156]),
        (16, 2, struct.pack(">x6H", *[500] * 3, *[40_000] * 3), struct.pack(">3H", *[500] * 3), [255, 156]),
    ],
)
def test_the_transparent_level_of_a_png_is_white_whatever_its_bits(bits, colour, row, transparent, expected):
    pixels = decode_image(png(2, 1, bits, colour, row, (b"tRNS", transparent)))

    assert pixels.tolist() == [[[level] * 3 for level in expected]]


def tiff(bits, sample_format, levels, *, width=2):
    """A grey TIFF of any kind of levels, one row, not compressed."""
    tags = {256: width, 257: 1, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: len(levels), 339: sample_format}
    padded = levels + b"\0" * (len(levels) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(padded)) + padded + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "sample_format", "levels", "expected"),
    [
        (12, 1, bytes([0x80, 0x0F, 0xFF]), [128, 255]),  # 0x800, 0xfff
        (16, 1, struct.pack("<HH", 32_768, 65_535), [128, 255]),
        (16, 2, struct.pack("<hh", 16_384, 32_767), [128, 255]),
        (32, 1, struct.pack("<II", 32_768, 65_535), [128, 255]),
        (32, 2, struct.pack("<ii", 32_768, 65_535), [128, 255]),
        (32, 3, struct.pack("<ff", 0.5, 1.0), [128, 255]),
    ],
)
def test_the_greatest_grey_level_of_a_tiff_is_white_whatever_its_bits(bits, sample_format, levels, expected):
    with opening.complaints() as faults:
        pixels = decode_image(tiff(bits, sample_format, levels))

    assert (pixels[0, :, 0].tolist(), faults) == (expected, [])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (saved(Image.fromarray(np.array([[7, 4095]], np.uint16))), "has grey levels from 7 to 4095, of 0 to 65535"),
        (tiff(32, 2, struct.pack("<ii", 0, 255)), "has grey levels from 0 to 255, of 0 to 65535"),
        (tiff(32, 3, struct.pack("<ff", 0, 0.05)), "has grey levels from 0 to 0.05, of 0 to 1"),
        (tiff(8, 2, struct.pack("bb", -3, 3)), "has signed grey levels"),
        (saved(Image.new("RGBA", (3, 3), (1, 2, 3, 0))), "is transparent everywhere: it comes out white"),
        (saved(Image.new("LA", (3, 3), (1, 0))), "is transparent everywhere: it comes out white"),
    ],
)
def test_what_comes_out_black_or_white_is_complained_of_with_its_range(content, sentence):
    with opening.complaints() as faults:
        decode_image(content)
        decode_image(saved(Image.fromarray(noise())))

    assert len(faults) == 1 and faults[0].startswith(sentence)


def test_what_is_black_by_right_is_not_complained_of():
    with opening.complaints() as faults:
        decode_image(saved(Image.new("I;16", (2, 2))))
        decode_image(saved(Image.fromarray(np.array([[0, 5000]], np.uint16))))
        decode_image(saved(Image.new("RGBA", (2, 2), (1, 2, 3, 1))))

    assert faults == []


def test_complaints_are_those_of_this_thread_alone():
    dark = saved(Image.fromarray(np.array([[7, 4095]], np.uint16)))
    with opening.complaints() as faults, ThreadPoolExecutor(1) as pool:
        pool.submit(decode_image, dark).result()
        with opening.complaints() as inner:
            decode_image(dark)

    assert (len(faults), len(inner)) == (0, 1)


# -- large photographs -------------------------------------------------------------------------------------------------


PHOTOGRAPH = photograph(2700, 2800)
"""A little more than twice ``LEAST_SIDE``."""


@pytest.mark.parametrize("kind", ["JPEG", "BMP"])
def test_a_large_photograph_is_halved_and_its_crop_is_the_same_to_three_grey_levels(kind):
    content = saved(PHOTOGRAPH, kind, quality=95)
    whole = load_picture(content, whole=True)
    assert whole.shape == (2700, 2800, 3)

    half = load_picture(content)

    assert half.shape == (1350, 1400, 3)
    difference = (central_crops([half], 336) - central_crops([whole], 336)).abs()
    assert 255 * difference.max() <= 3 and 255 * difference.mean() <= 0.5
    assert np.array_equal(as_pixels(Image.open(io.BytesIO(content))), half.pixels()) or kind == "JPEG"


@pytest.mark.parametrize(
    ("width", "height", "size"),
    [
        (2687, 9000, (2687, 9000)),
        (2688, 9000, (1344, 4500)),
        (4000, 3001, (2000, 1501)),
        (8064, 6048, (2016, 1512)),
        (16_320, 12_240, (2040, 1530)),
    ],
)
def test_a_photograph_is_reduced_as_far_as_four_times_the_largest_crop_is_left(width, height, size):
    factor = pictures.reduction(width, height)
    assert (-(-width // factor), -(-height // factor)) == size


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_content_of_a_large_photograph_is_that_of_its_full_size(kind, tmp_path, monkeypatch):
    """Records and draws made before photographs were reduced name images by it."""
    path, options = tmp_path / "image", {} if kind == "JPEG" else {"compress_level": 1}
    picture = PHOTOGRAPH.crop((0, 0, 70, 50))
    picture.save(path, kind, **options)
    whole = content_hash(np.asarray(Image.open(path)))
    monkeypatch.setattr(pictures, "LEAST_SIDE", 25)
    monkeypatch.setattr(images, "LEAST_SIDE", 25)
    monkeypatch.setattr(ahead, "LEAST_SIDE", 25)
    files = FileImages([path])

    assert files[0].shape == (25, 35, 3)
    for known in (files, DecodedOnce(files, 1 << 20, 0), ImageSubset(DecodedOnce(files, 0, 0), [0])):
        assert ahead.image_content(known, 0) == whole
    for image in (path, Image.open(path)):
        assert images.ImagesOnDemand([image]).decoded(0)[1].content == whole


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="the system does not tell the most memory")
def test_a_large_photograph_takes_four_bytes_a_pixel_at_most():
    content = {kind: saved(PHOTOGRAPH, kind, quality=90) for kind in ("BMP", "JPEG")}
    for kind, most in (("BMP", 4.0), ("JPEG", 2.0)):
        central_crops([load_picture(content[kind])], 224)
        before = resident_bytes(reset=True)
        central_crops([load_picture(content[kind])], 224)
        used = resident_bytes() - before
        assert used <= most * 2700 * 2800 + (40 << 20)  # what does not grow with it


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "LA", "RGBA", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rows_of_a_turned_image_are_those_of_the_whole(mode, orientation, monkeypatch):
    """Whatever is done to an image is done to a few rows at a time, and comes to the same."""
    picture = Image.fromarray(noise(23, 31)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        picture = Image.fromarray(257 * np.asarray(picture).astype(np.uint16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(picture, "PNG", exif=exif)
    expected = decode_image(saved(ImageOps.exif_transpose(Image.open(io.BytesIO(content)))))

    monkeypatch.setattr(pictures, "_ROWS_PIXELS", 100)
    rows = load_picture(content)

    assert np.array_equal(rows.pixels(), expected)
    assert np.array_equal(rows[3:8], expected[3:8])
    assert rows.content() == content_hash(expected)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 8))
def test_reducing_rows_is_reducing_the_whole(height, width, factor):
    picture = Image.fromarray(noise(height, width))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pictures, "_ROWS_PIXELS", 200)
        reduced = pictures.Picture(picture, "image", factor=factor).pixels()
    assert np.array_equal(reduced, np.asarray(picture.reduce(factor)))


@pytest.mark.parametrize("factor", [1, 2, 4, 8])
def test_of_any_rows_a_few_are_made_at_once(factor, monkeypatch):
    """A crop asks for as many rows of a reduced image as it takes in floats, which in the file are up to 64 times."""
    picture, converted = Image.fromarray(noise(61, 43)), []
    convert = pictures.Picture._rgb

    def seen(self, part):
        converted.append(part.size[0] * part.size[1])
        return convert(self, part)

    monkeypatch.setattr(pictures, "_ROWS_PIXELS", 200)
    monkeypatch.setattr(pictures.Picture, "_rgb", seen)
    rows = pictures.Picture(picture, "image", factor=factor)[2:7]

    assert np.array_equal(rows, np.asarray(picture.reduce(factor))[2:7])
    assert max(converted) <= max(200, factor * 43)

"""Images that Pillow refuses for their metadata alone."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.image_files import noise, png_chunk, saved
from lowshot.data import decode_image, decoding, opening
from lowshot.errors import DataError

PICTURE = Image.fromarray(noise(16, 16))
BOMB = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 << 20)))
BEHIND_HEADER = 8 + 25


@pytest.mark.parametrize(
    "content",
    [
        saved(PICTURE)[:BEHIND_HEADER] + BOMB + saved(PICTURE)[BEHIND_HEADER:],
        saved(PICTURE)[:BEHIND_HEADER] + png_chunk(b"tIME", b"1234567", 5) + saved(PICTURE)[BEHIND_HEADER:],
        saved(PICTURE)[:BEHIND_HEADER] + png_chunk(b"acTL", bytes(3)) + saved(PICTURE)[BEHIND_HEADER:],
    ],
    ids=["text too long", "another checksum", "animation"],
)
def test_pixels_that_are_whole_are_read_whatever_befell_the_metadata(content):
    with pytest.raises((OSError, ValueError, SyntaxError)):
        Image.open(io.BytesIO(content)).load()

    with opening.complaints() as faults:
        assert np.array_equal(decode_image(content), np.asarray(PICTURE))
    assert faults == ["has damaged metadata, which is passed over"]
    assert decoding.decoded_size(content)[0] == 256


def test_a_jpeg_is_read_without_metadata_that_fail_and_keeps_its_orientation(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(Image.fromarray(noise(16, 24)), "JPEG", exif=exif, comment=b"words")
    content = content[:2] + b"\xff\xed\0\x07Photo" + content[2:]
    upright, opened = decode_image(content), opening.open_image

    def refusing(file):
        if b"Photo" in file.getvalue() or b"words" in file.getvalue():
            raise struct.error("unpack requires more")
        return opened(file)

    monkeypatch.setattr(opening, "open_image", refusing)
    assert upright.shape == (24, 16, 3)
    assert np.array_equal(decode_image(content), upright)


def test_a_jpeg_with_a_marker_by_itself_before_its_pixels_is_read():
    content = saved(Image.fromarray(noise(16, 24)), "JPEG")
    stray = content[:2] + b"\xff\x01" + content[2:]
    with pytest.raises((OSError, SyntaxError)):
        Image.open(io.BytesIO(stray)).load()
    with opening.complaints() as faults:
        assert np.array_equal(decode_image(stray), decode_image(content))
    assert faults == ["has damaged metadata, which is passed over"]


def test_pixels_that_are_not_whole_are_refused_as_before():
    content = saved(PICTURE)[:BEHIND_HEADER] + BOMB + saved(PICTURE)[BEHIND_HEADER:]
    with pytest.raises(DataError, match="Decompressed data too large"):
        decode_image(content[:-200])

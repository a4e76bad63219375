import io
import os
import socket
import struct
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from data.image_files import noise, png_header, saved
from lowshot.data import as_pixels, decode_image, decoding, opening
from lowshot.data import picture as pictures
from lowshot.errors import DataError, ImageError
from refusing import refused


@pytest.fixture
def no_decoding(monkeypatch):
    """Whoever decodes a pixel fails."""

    def load(self):
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


# -- files as they should be -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP"])
def test_lossless_formats_come_back_exactly(kind, tmp_path):
    pixels, path = noise(), tmp_path / "image"
    path.write_bytes(saved(Image.fromarray(pixels), kind, **({"lossless": True} if kind == "WEBP" else {})))

    decoded = decode_image(path)

    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, pixels)
    assert np.array_equal(decode_image(path.read_bytes()), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr", "RGBA", "I;16", "F"])
def test_every_mode_gives_rgb_bytes(mode):
    picture = Image.new(mode, (5, 4))

    pixels = as_pixels(picture)

    assert (pixels.shape, pixels.dtype) == ((4, 5, 3), np.uint8)


def test_grey_is_the_same_in_all_channels():
    grey = noise()[..., 0]

    assert np.array_equal(decode_image(saved(Image.fromarray(grey))), np.stack([grey] * 3, axis=-1))


def test_sixteen_bits_of_grey_are_scaled_not_clipped():
    levels = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    assert (levels > 255).mean() > 0.99  # what convert("RGB") would turn white

    pixels = decode_image(saved(Image.fromarray(levels)))

    assert np.array_equal(pixels[..., 0], np.round(levels / 257.0).astype(np.uint8))
    assert len(np.unique(pixels)) == 256


@pytest.mark.parametrize(("white", "kind"), [(65535, np.int32), (1, np.float32)])
def test_levels_in_other_types_are_scaled_too(white, kind):
    levels = (np.linspace(0, 1, 16).reshape(4, 4) * white).astype(kind)

    pixels = decode_image(saved(Image.fromarray(levels), "TIFF"))

    assert np.abs(pixels[..., 1] / 255 - levels / white).max() < 1 / 500


@pytest.mark.parametrize(
    ("levels", "facts"),
    [
        (np.array([[0, 70000]], np.int32), ("0 to 70000", "0 to 65535")),
        (np.array([[-3, 5]], np.int32), ("-3 to 5", "0 to 65535")),
        (np.array([[0, 1.5]], np.float32), ("0 to 1.5", "0 to 1")),
        (np.array([[0, np.nan]], np.float32), ("nan to nan", "0 to 1")),
    ],
)
def test_levels_beyond_white_are_refused_by_name(levels, facts, tmp_path):
    path = tmp_path / "scan.tiff"
    path.write_bytes(saved(Image.fromarray(levels), "TIFF"))

    with refused(ImageError, "scan.tiff", "grey levels", *facts):
        decode_image(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = np.zeros((4, 6, 3), np.uint8)
    upright[0, 0], upright[0, -1] = (255, 0, 0), (0, 255, 0)
    # How a camera stores it: the inverse of what each orientation asks a viewer to do (EXIF 2.3, tag 0x0112).
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(Image.fromarray(np.ascontiguousarray(stored)), exif=exif)

    assert np.array_equal(decode_image(content), upright)
    assert np.array_equal(as_pixels(Image.open(io.BytesIO(content))), upright)


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"garbage",
        b"MM\0*\0\0\0\x08\xff\xff",
        b"II*\0\xff\xff\xff\x7f",
        b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0" + b"\xff" * 8,
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_damaged_exif_data_harms_no_pixel_and_warns_nobody(junk, kind):
    picture = Image.fromarray(noise(16, 16))

    damaged = saved(picture, kind, exif=b"Exif\0\0" + junk)

    assert np.array_equal(decode_image(damaged), decode_image(saved(picture, kind)))


def test_what_is_transparent_is_white_whatever_its_hidden_colour():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0] = [(200, 10, 30, 0), (200, 10, 30, 255), (0, 0, 0, 51)]  # 51 is a fifth

    decoded = decode_image(saved(Image.fromarray(pixels)))

    assert decoded[0].tolist() == [[255, 255, 255], [200, 10, 30], [204, 204, 204]]


def test_transparent_palette_entries_are_white():
    picture = Image.new("P", (3, 1))
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    picture.putdata([0, 1, 2])

    assert decode_image(saved(picture, transparency=1))[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    assert decode_image(saved(picture, transparency=bytes([255, 0, 255])))[0, 1].tolist() == [255, 255, 255]


def test_a_transparent_colour_is_white():
    picture = Image.fromarray(np.array([[[9, 8, 7], [1, 2, 3]]], np.uint8))

    assert decode_image(saved(picture, transparency=(9, 8, 7)))[0].tolist() == [[255, 255, 255], [1, 2, 3]]


def test_cmyk_jpeg_keeps_its_colours():
    picture = Image.new("CMYK", (16, 16), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red

    decoded = decode_image(saved(picture, "JPEG", quality=100)).astype(int)

    assert np.abs(decoded - [255, 0, 0]).max() <= 4


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]

    for kind in ("GIF", "TIFF", "PNG"):
        content = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        assert (decode_image(content) == [255, 0, 0]).all()


# -- files as they should not be ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height", "facts"),
    [
        (4000, 1, ("4000 x 1", "1:50")),
        (1, 4000, ("1 x 4000", "1:50")),
        (51, 1, ("51 x 1", "1:50")),
        (30_000, 30_000, ("decoded", "Image size")),  # Pillow's own cap comes before ours
    ],
)
def test_absurd_sizes_are_refused_from_the_header(width, height, facts, no_decoding):
    with refused(ImageError, *facts):
        decode_image(png_header(width, height))


def test_a_bomb_is_refused_from_the_header_of_a_pil_image_too(no_decoding, monkeypatch):
    picture = Image.open(io.BytesIO(png_header(200, 200)))
    monkeypatch.setattr(opening, "MAXIMUM_PIXELS", 39_999)

    with refused(ImageError, "200 x 200", "39,999"):
        as_pixels(picture)


def of_size(jpeg, width, height):
    """A JPEG whose header says another size."""
    place = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:place] + struct.pack(">HH", height, width) + jpeg[place + 4 :]


def test_a_jpeg_may_have_more_pixels_than_pillow_takes_but_not_any_number(no_decoding):
    jpeg = saved(Image.fromarray(noise()), "JPEG")

    pixels, size = decoding.decoded_size(of_size(jpeg, 16_320, 12_240))  # a telephone's

    assert (pixels, size) == (16_320 * 12_240, (4 + 3) * 16_320 * 12_240 // 64)
    with refused(ImageError, "16320 x 16320", "250,000,000"):
        decode_image(of_size(jpeg, 16_320, 16_320))


def test_the_largest_sizes_allowed_are_decoded(monkeypatch):
    monkeypatch.setattr(opening, "MAXIMUM_PIXELS", 50)

    assert decode_image(saved(Image.new("RGB", (50, 1)))).shape == (1, 50, 3)
    with refused(ImageError, "17 x 3", 50):
        decode_image(saved(Image.new("RGB", (17, 3))))


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"", ("not an image", "AVIF, BMP, GIF")),
        (b"just text\n", ("not an image",)),
        (b"\xff\xd8\xff", ("not an image",)),
        (saved(Image.fromarray(noise(64, 64)), "JPEG")[:900], ("decoded", "truncated")),
        (saved(Image.fromarray(noise(64, 64)))[:900], ("decoded", "truncated")),
        (saved(Image.fromarray(noise(64, 64)), "GIF")[:900], ("decoded",)),
        (saved(Image.fromarray(noise(64, 64)), "WEBP")[:900], ()),
    ],
    ids=["empty", "text", "marker", "jpeg", "png", "gif", "webp"],
)
def test_damaged_files_are_refused_by_name(content, facts, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)

    for ask in (decode_image, as_pixels):
        with refused(ImageError, "photo.jpg", *facts):
            ask(path)


def test_postscript_is_not_run():
    with refused(ImageError, "image", "AVIF"):
        decode_image(saved(Image.fromarray(noise()), "EPS"))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with refused(ImageError, "none.png", "does not exist"):
        decode_image(tmp_path / "none.png")
    (tmp_path / "file").write_bytes(b"x")
    with refused(ImageError, "below.png", "does not exist"):
        decode_image(tmp_path / "file" / "below.png")
    with refused(ImageError, tmp_path, "a folder"):
        decode_image(tmp_path)
    with pytest.raises(DataError, match="cannot be decoded"):
        as_pixels("nul\0byte.png")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.timeout(20)
def test_pipes_sockets_and_devices_are_not_opened(tmp_path):
    """Who opens a pipe waits for whoever writes it, and /dev/zero never ends."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "socket.png"))
    for path in (tmp_path / "pipe.png", tmp_path / "link.png", tmp_path / "socket.png", Path("/dev/zero")):
        with refused(ImageError, path, "pipe, socket"):
            decode_image(path)


def test_a_name_that_no_file_can_have_is_no_image(tmp_path):
    (tmp_path / "ring.png").symlink_to(tmp_path / "ring.png")
    for path in (tmp_path / ("x" * 300), tmp_path / "ring.png", Path("\ud800.png")):
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_image(path)


def test_a_file_of_absurd_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "MAXIMUM_FILE_BYTES", 1000)
    path = tmp_path / "image.png"
    Image.new("RGB", (2, 2)).save(path)
    os.truncate(path, 1000)
    assert decode_image(path).shape == decode_image(path.read_bytes()).shape == (2, 2, 3)
    os.truncate(path, 1001)
    for source, name in ((path, "image.png"), (path.read_bytes(), "image")):
        with refused(ImageError, name, "1,001 bytes", "1,000"):
            decode_image(source)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refusing(self, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refusing)
    with refused(ImageError, "1.png", "Permission denied"):
        decode_image(tmp_path / "1.png")


@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from(["PNG", "GIF", "BMP", "PPM", "TIFF", "JPEG"]))
def test_whatever_the_bytes_only_data_errors_are_raised(junk, position, kind):
    content = bytearray(saved(Image.fromarray(noise()), kind))
    content[position : position + len(junk)] = junk
    try:
        pixels = decode_image(bytes(content))
    except DataError as error:
        assert str(error).startswith("image ")
    else:
        assert (pixels.ndim, pixels.shape[2], pixels.dtype) == (3, 3, np.uint8)


# -- Pillow's warnings -------------------------------------------------------------------------------------------------


@pytest.fixture
def warns():
    """A JPEG whose EXIF data is damaged, so that Pillow warns of it whenever it is decoded."""
    content = saved(Image.fromarray(noise(16, 16)), "JPEG")
    junk = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff"
    content = content[:2] + b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk + content[2:]
    with pytest.warns(UserWarning, match="Corrupt EXIF data"):
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    return content


def test_pillows_warnings_are_passed_over_in_all_threads_at_once(warns):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        together = threading.Barrier(4)

        def decode(_):
            together.wait()
            return [decode_image(warns).shape for _ in range(50)]

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(decode, range(4))) == [[(16, 16, 3)] * 50] * 4


def test_others_hear_pillows_warnings_while_we_decode(warns, monkeypatch):
    inside, heard = threading.Event(), threading.Event()

    def wait(image, name, **options):
        inside.set()
        assert heard.wait(10)
        return pictures.Picture(Image.new("L", (1, 1)), name)

    monkeypatch.setattr(pictures.Picture, "of", wait)
    with ThreadPoolExecutor(1) as pool:
        decoding = pool.submit(decode_image, warns)
        assert inside.wait(10)
        with pytest.warns(UserWarning, match="Corrupt EXIF data"):
            ImageOps.exif_transpose(Image.open(io.BytesIO(warns)))
        heard.set()
        decoding.result()


def test_decoding_leaves_everyone_elses_warnings_as_they_are(warns):
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        for _ in range(3):
            warnings.simplefilter("error")  # comes before all others again
            decode_image(warns)

        assert len(warnings.filters) == 2
        for category in (UserWarning, DeprecationWarning, Image.DecompressionBombWarning):
            with pytest.raises(category):
                warnings.warn_explicit("message", category, "PIL/Image.py", 1, module="PIL.Image")


def test_what_others_warn_of_while_we_decode_is_heard(monkeypatch):
    def warn(image, name, **options):
        warnings.warn("not Pillow's", UserWarning, stacklevel=1)
        return pictures.Picture(Image.new("L", (1, 1)), name)

    monkeypatch.setattr(pictures.Picture, "of", warn)
    with pytest.warns(UserWarning, match="not Pillow's"):
        decode_image(saved(Image.fromarray(noise())))

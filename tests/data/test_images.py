import io
import os
import socket
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, ImageOps

from lowshot.data import FileImages, ImagesOnDemand, MemoryImages, as_pixels, decode_image
from lowshot.data import images as module
from lowshot.data.images import is_decoded
from lowshot.data.task import ImageSubset
from lowshot.errors import DataError


def saved(picture, kind="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_header(width, height, bits=1, colour=0):
    """A PNG that ends where its pixels should begin: its size is known, and decoding it would fail."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


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
    ("levels", "message"),
    [
        (np.array([[0, 70000]], np.int32), r"scan\.tiff has grey levels from 0 to 70000; expected 0 to 65535"),
        (np.array([[-3, 5]], np.int32), r"scan\.tiff has grey levels from -3 to 5; expected 0 to 65535"),
        (np.array([[0, 1.5]], np.float32), r"scan\.tiff has grey levels from 0 to 1.5; expected 0 to 1"),
        (np.array([[0, np.nan]], np.float32), r"scan\.tiff has grey levels from nan to nan; expected 0 to 1"),
    ],
)
def test_levels_beyond_white_are_refused_by_name(levels, message, tmp_path):
    path = tmp_path / "scan.tiff"
    path.write_bytes(saved(Image.fromarray(levels), "TIFF"))

    with pytest.raises(DataError, match=message):
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
def test_damaged_exif_data_harms_no_pixel_and_warns_nobody(junk):
    content = saved(Image.fromarray(noise(16, 16)), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(junk) + 8) + b"Exif\0\0" + junk

    assert np.array_equal(decode_image(content[:2] + segment + content[2:]), decode_image(content))


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
    ("width", "height", "message"),
    [
        (12_000, 12_000, "image has 12000 x 12000 pixels; expected at most 50,000,000 in all"),
        (4000, 1, "image has 4000 x 1 pixels; expected sides within 1:50"),
        (1, 4000, "image has 1 x 4000 pixels; expected sides within 1:50"),
        (51, 1, "expected sides within 1:50"),
        (30_000, 30_000, "image cannot be decoded: Image size"),  # Pillow's own cap comes before ours
    ],
)
def test_absurd_sizes_are_refused_from_the_header(width, height, message, no_decoding):
    with pytest.raises(DataError, match=message):
        decode_image(png_header(width, height))


def test_a_bomb_is_refused_from_the_header_of_a_pil_image_too(no_decoding):
    with pytest.warns(Image.DecompressionBombWarning):
        picture = Image.open(io.BytesIO(png_header(12_000, 12_000)))

    with pytest.raises(DataError, match="12000 x 12000 pixels"):
        as_pixels(picture)


def test_the_largest_sizes_allowed_are_decoded(monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_PIXELS", 50)

    assert decode_image(saved(Image.new("RGB", (50, 1)))).shape == (1, 50, 3)
    with pytest.raises(DataError, match="expected at most 50 in all"):
        decode_image(saved(Image.new("RGB", (17, 3))))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"photo\.jpg is not an image; expected one of AVIF, BMP, GIF, JPEG, PNG"),
        (b"just text\n", r"photo\.jpg is not an image"),
        (b"\xff\xd8\xff", r"photo\.jpg is not an image"),
        (saved(Image.fromarray(noise(64, 64)), "JPEG")[:900], r"photo\.jpg cannot be decoded: .*runcated"),
        (saved(Image.fromarray(noise(64, 64)))[:900], r"photo\.jpg cannot be decoded: .*truncated"),
        (saved(Image.fromarray(noise(64, 64)), "GIF")[:900], r"photo\.jpg cannot be decoded: "),
        (saved(Image.fromarray(noise(64, 64)), "WEBP")[:900], r"photo\.jpg "),
    ],
    ids=["empty", "text", "marker", "jpeg", "png", "gif", "webp"],
)
def test_damaged_files_are_refused_by_name(content, message, tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)

    for ask in (decode_image, as_pixels):
        with pytest.raises(DataError, match=message):
            ask(path)


def test_postscript_is_not_run():
    with pytest.raises(DataError, match="image is not an image"):
        decode_image(saved(Image.fromarray(noise()), "EPS"))


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        decode_image(tmp_path / "none.png")
    with pytest.raises(DataError, match="is a folder; expected an image file"):
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
        with pytest.raises(DataError, match=rf"{path} is a pipe, socket or device; expected an image file"):
            decode_image(path)


def test_a_name_that_no_file_can_have_is_no_image(tmp_path):
    (tmp_path / "ring.png").symlink_to(tmp_path / "ring.png")
    for path in (tmp_path / ("x" * 300), tmp_path / "ring.png", Path("\ud800.png")):
        with pytest.raises(DataError, match="cannot be decoded"):
            decode_image(path)


def test_a_file_of_absurd_size_is_refused_unread(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAXIMUM_FILE_BYTES", 1000)
    path = tmp_path / "image.png"
    Image.new("RGB", (2, 2)).save(path)
    os.truncate(path, 1000)
    assert decode_image(path).shape == decode_image(path.read_bytes()).shape == (2, 2, 3)
    os.truncate(path, 1001)
    for source, name in ((path, "image.png"), (path.read_bytes(), "image")):
        with pytest.raises(DataError, match=f"{name} has 1,001 bytes; expected at most 1,000"):
            decode_image(source)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    def refusing(self, **options):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refusing)
    with pytest.raises(DataError, match=r"1\.png cannot be read: Permission denied"):
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


# -- what Python callers pass ------------------------------------------------------------------------------------------


def test_paths_strings_pil_images_and_arrays_are_the_same_image(tmp_path):
    pixels, path = noise(), tmp_path / "image.png"
    Image.fromarray(pixels).save(path)

    for image in (path, str(path), Image.open(path), Image.fromarray(pixels), pixels, pixels / 255.0):
        assert np.array_equal(as_pixels(image), pixels)


def test_grey_arrays_become_rgb():
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)

    assert np.array_equal(as_pixels(grey), np.stack([grey] * 3, axis=-1))
    assert as_pixels(np.full((3, 4), 0.5, np.float32))[0, 0].tolist() == [128, 128, 128]


def test_a_pil_image_that_turns_out_truncated_is_refused():
    with pytest.raises(DataError, match="image cannot be decoded"):
        as_pixels(Image.open(io.BytesIO(saved(Image.fromarray(noise(64, 64)), "JPEG")[:900])))


def test_a_pil_image_of_a_mode_that_cannot_be_converted_is_refused():
    with pytest.raises(DataError, match="image cannot be decoded: conversion from La"):
        as_pixels(Image.new("LA", (4, 4)).convert("La"))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 4), np.uint8), r"shape \(4, 4, 4\); expected \(height, width\) or \(height, width, 3\)"),
        (np.zeros((3, 4, 5), np.uint8), r"shape \(3, 4, 5\)"),
        (np.zeros((4, 4, 1), np.uint8), r"shape \(4, 4, 1\)"),
        (np.zeros((1, 4, 4, 3), np.uint8), r"shape \(1, 4, 4, 3\)"),
        (np.zeros(4, np.uint8), r"shape \(4,\)"),
        (np.zeros((), np.uint8), r"shape \(\)"),
        (np.zeros((0, 4), np.uint8), r"shape \(0, 4, 3\)"),
        (np.zeros((4, 0, 3)), r"shape \(4, 0, 3\)"),
        (np.full((4, 4), 1.01), "values of float64 from 1.01 to 1.01; expected uint8"),
        (np.full((4, 4), -0.01), "values of float64 from -0.01"),
        (np.full((4, 4), 255.0, np.float32), "values of float32 from 255.0 to 255.0"),
        (np.array([[0.5, np.nan]]), "values of float64 from nan to nan"),
        (np.array([[0.5, np.inf]]), "values of float64 from 0.5 to inf"),
        (np.zeros((4, 4), np.int64), "values of int64 from 0 to 0"),
        (np.zeros((4, 4), bool), "values of bool; expected"),
        (np.array([["a"]]), "values of <U1; expected"),
        (np.array([[None]]), "values of object; expected"),
        (np.zeros((1, 4000, 3), np.uint8), "an image array has 4000 x 1 pixels; expected sides within 1:50"),
        (Image.new("RGB", (1, 4000)), "image has 1 x 4000 pixels"),
        (Image.new("RGB", (0, 0)), "image has 0 x 0 pixels"),
        (None, "an image is a NoneType; expected a path, a PIL image or a NumPy array"),
        ([[1, 2]], "an image is a list"),
        (b"bytes", "an image is a bytes"),
    ],
)
def test_what_is_no_image_is_refused(image, message):
    with pytest.raises(DataError, match=message):
        as_pixels(image)


def test_what_is_no_image_in_a_list_is_named_by_its_index_and_a_file_by_its_path(tmp_path):
    images = ImagesOnDemand([noise(), None, tmp_path / "none.png"])

    with pytest.raises(DataError, match=r"^images\[1\]: an image is a NoneType; expected a path"):
        images[1]
    with pytest.raises(DataError, match=rf"^{tmp_path}/none\.png does not exist"):
        images[2]


# -- sequences of images -----------------------------------------------------------------------------------------------


def test_files_are_decoded_when_asked_for(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    images = FileImages(paths)
    for i, path in enumerate(paths):
        Image.fromarray(noise(seed=i)).save(path)

    assert len(images) == 3
    assert [np.array_equal(images[i], noise(seed=i)) for i in range(3)] == [True] * 3
    paths[0].unlink()
    with pytest.raises(DataError, match=r"0\.png does not exist"):
        images[0]


def test_images_in_memory_may_differ_in_size():
    pictures = [noise(4, 5), noise(6, 3)]

    images = MemoryImages(pictures)

    assert len(images) == 2
    assert [image.shape for image in (images[0], images[1])] == [(4, 5, 3), (6, 3, 3)]


def test_only_arrays_in_memory_and_parts_of_them_are_decoded_already(tmp_path):
    memory, files = MemoryImages(np.zeros((3, 2, 2, 3), np.uint8)), FileImages([tmp_path / "a.png"])

    assert is_decoded(memory)
    assert is_decoded(ImageSubset(ImageSubset(memory, [2, 1]), [0]))
    assert not is_decoded(files)
    assert not is_decoded(ImageSubset(files, [0]))
    assert not is_decoded(ImagesOnDemand([noise()]))


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

    def wait(image, name):
        inside.set()
        assert heard.wait(10)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(module, "_decoded", wait)
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
    def warn(image, name):
        warnings.warn("not Pillow's", UserWarning, stacklevel=1)
        return np.zeros((1, 1, 3), np.uint8)

    monkeypatch.setattr(module, "_decoded", warn)
    with pytest.warns(UserWarning, match="not Pillow's"):
        decode_image(saved(Image.fromarray(noise())))


def test_a_picture_that_several_threads_ask_for_is_whole_for_each():
    pixels = noise(200, 200)
    for _ in range(20):
        picture = Image.open(io.BytesIO(saved(Image.fromarray(pixels))))
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(as_pixels, [picture] * 4):
                assert np.array_equal(found, pixels)

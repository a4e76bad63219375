"""Which files are images, and what is said of those that cannot be read."""

import io
import sys
import types

import numpy as np
import pytest
from PIL import AvifImagePlugin, BmpImagePlugin, Image

from lowshot.data import decode_image, formats, load_task
from lowshot.errors import ImageError
from refusing import refused


def encoded(kind, **options):
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 30)).save(file, kind, **options)
    return file.getvalue()


def iso(brand):
    """The beginning of a file in ISO's base format, as HEIC and AVIF are."""
    return b"\0\0\0\x18ftyp" + brand + bytes(200)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".avif", encoded("AVIF")),
        (".AVIF", encoded("AVIF")),
        (".jfif", encoded("JPEG")),
        (".jpe", encoded("JPEG")),
        (".mpo", encoded("MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])),
    ],
)
def test_files_of_phones_cameras_and_browsers_are_read(tmp_path, suffix, content):
    """A folder of them had no images, and an AVIF was none."""
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"1{suffix}").write_bytes(content)

    images = load_task(tmp_path).train.images

    assert [np.abs(images[i].astype(int) - (200, 30, 30)).max() < 12 for i in range(2)] == [True, True]


@pytest.fixture
def without_heif(monkeypatch):
    monkeypatch.setattr(formats, "_heif_is_read", lambda: False)


@pytest.mark.parametrize("brand", [b"heic", b"mif1", b"hevx"])
@pytest.mark.parametrize("name", ["1.heic", "1.jpg"])
def test_a_heic_says_what_reads_it(tmp_path, without_heif, brand, name):
    path = tmp_path / name
    path.write_bytes(iso(brand))
    for source, shown in ((path, name), (iso(brand), "image")):
        with refused(ImageError, shown, "HEIC image", "pillow-heif", "JPEG"):
            decode_image(source)


def test_an_avif_that_pillow_cannot_read_says_so(without_heif, monkeypatch):
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    with refused(ImageError, "AVIF", "Pillow", "JPEG"):
        decode_image(iso(b"avif"))


def test_a_class_of_heic_alone_is_a_class(tmp_path, without_heif):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "IMG_1.HEIC").write_bytes(iso(b"heic"))
    with refused(ImageError, "IMG_1.HEIC", "HEIC image", "pip install"):
        load_task(tmp_path).train.images[0]


def test_heic_is_read_where_the_extra_is_installed(monkeypatch):
    """By a stand-in: a plugin that takes what is behind the brand for a BMP."""

    def opened(file, name):
        file.seek(12)
        return BmpImagePlugin.BmpImageFile(io.BytesIO(file.read()))

    def register():
        monkeypatch.setitem(Image.OPEN, "HEIF", (opened, lambda head: head[4:12] == b"ftypheic"))

    monkeypatch.setitem(sys.modules, "pillow_heif", types.SimpleNamespace(register_heif_opener=register))
    monkeypatch.setattr(formats, "_heif_is_read", formats._heif_is_read.__wrapped__)
    assert decode_image(iso(b"heic")[:12] + encoded("BMP"))[0, 0].tolist() == [200, 30, 30]


def test_heic_is_read_by_pillow_heif():
    pillow_heif = pytest.importorskip("pillow_heif")
    pillow_heif.register_heif_opener()
    assert np.abs(decode_image(encoded("HEIF", quality=90))[8, 8].astype(int) - (200, 30, 30)).max() < 12

"""Image files as tests need them, whole or with something wrong."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def saved(picture, kind="PNG", **options):
    """The bytes of an image file."""
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def noise(height=6, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png_chunk(kind, content, checksum=None):
    checksum = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_header(width, height, bits=1, colour=0):
    """A PNG that ends where its pixels should begin: its size is known, and decoding it would fail."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")


def png(width, height, bits, colour, rows, *chunks):
    """A PNG of any bits and kind of colour, which Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    body = [png_chunk(b"IHDR", header), *(png_chunk(*each) for each in chunks), png_chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body) + png_chunk(b"IEND", b"")


def photograph(height, width, seed=0):
    """Something like a photograph: large shapes with sharp edges, and fine grain."""
    generator = np.random.default_rng(seed)
    shapes = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    coarse = np.asarray(shapes.resize((width, height), Image.Resampling.NEAREST), np.int16)
    fine = np.asarray(shapes.resize((width, height), Image.Resampling.BICUBIC), np.int16)
    grain = generator.integers(-8, 9, (height, width, 1), dtype=np.int16)
    return Image.fromarray(((coarse + fine) // 2 + grain).clip(0, 255).astype(np.uint8))

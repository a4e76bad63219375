"""The built-in tasks: together they are the offline benchmark ``builtin``.

``digits`` are real scans of handwriting. ``digits-wild`` are the same scans in colour and clutter. The others are
glyphs in fonts, and mostly in styles, that pre-training of the built-in model never saw. ``shapes``, which is no part
of the benchmark, has several glyphs in an image, and so several labels. Every image is fixed by its
identity, and so are the splits: no global random state, no call order.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UnknownNameError
from .glyphs import HELD_OUT_FONTS, STIX_FONTS, characters_of, glyph_name, render_glyph
from .images import MemoryImages
from .task import Examples, Pixels, Task, numbered

SIDE = 32
"""Height and width of a drawn picture, pixels. The scans of ``digits`` are 8 x 8."""
Ink = NDArray[np.float64]
"""Share of each pixel that is covered, ``(height, width)`` in [0, 1]."""


def _generator(identity: str) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big"))


# -- scanned digits ----------------------------------------------------------------------------------------------------


def _digits(name: str) -> tuple[list[str], Examples]:
    """Return classes and examples of the scans ``(1797, 8, 8)``; ``digits-wild`` has them on textured ground.

    There they are in any place, in two colours that may differ more in hue than in brightness.
    """
    from sklearn.datasets import load_digits

    scans = load_digits()
    grey = np.round(scans.images * (255 / 16)).astype(np.uint8)
    labels = scans.target.astype(np.int64)
    hashes = [hashlib.sha256(image.tobytes()).hexdigest()[:16] for image in grey]
    identities = numbered(f"digits/{label}/{image}" for label, image in zip(labels, hashes, strict=True))
    pictures = list(np.repeat(grey[..., None], 3, axis=3))
    for number, identity in enumerate(identities if name == "digits-wild" else ()):
        generator = _generator("wild/" + identity)
        side = int(generator.integers(16, 29))
        ink = np.zeros((SIDE, SIDE))
        top, left = generator.integers(0, SIDE - side + 1, 2)
        ink[top : top + side, left : left + side] = _resized(grey[number] / 255.0, (side, side))
        pictures[number] = _painted(ink, generator, texture=0.22, grain=0.04)
    class_names = [glyph_name(digit) for digit in "0123456789"]
    return class_names, Examples(MemoryImages(np.stack(pictures)), labels, identities)


# -- glyphs ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _GlyphTask:
    characters: str
    fonts: tuple[str, ...]
    style: Callable[[Ink, np.random.Generator], Pixels]
    images_per_class: int = 60


@dataclasses.dataclass(frozen=True)
class _DrawnImages:
    """Pictures that a function, which keeps them, draws from their facts when they are asked for."""

    draw: Callable[..., Pixels]
    items: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Pixels:
        return self.draw(*self.items[index])


@functools.lru_cache(maxsize=20_000)  # 60 MB when full
def _drawn(name: str, character: str, font: str, identity: str) -> Pixels:
    return _GLYPH_TASKS[name].style(render_glyph(font, character) / 255.0, _generator(identity))


def _glyphs(name: str) -> tuple[list[str], Examples]:
    """Return classes and examples of characters drawn in the style of a task."""
    task = _GLYPH_TASKS[name]
    items, labels = [], []
    for label, character in enumerate(task.characters):
        fonts = [font for font in task.fonts if character in characters_of(font)]
        for number in range(task.images_per_class):
            font = fonts[number % len(fonts)]
            items.append((name, character, font, f"{name}/{glyph_name(character)}/{font}/{number}"))
            labels.append(label)
    identities = tuple(identity for *_, identity in items)
    examples = Examples(_DrawnImages(_drawn, tuple(items)), np.asarray(labels, dtype=np.int64), identities)
    return [glyph_name(character) for character in task.characters], examples


def _resized(ink: Ink, shape: tuple[int, int]) -> Ink:
    from PIL import Image

    resized = Image.fromarray(ink.astype(np.float32)).resize(shape[::-1], Image.Resampling.BICUBIC)
    clipped: Ink = np.clip(np.asarray(resized, dtype=np.float64), 0.0, 1.0)
    return clipped


def _placed(ink: Ink, generator: np.random.Generator, *, turn: float, extent: tuple[float, float]) -> Ink:
    """Turn the glyph by up to ``turn`` radians, slant, scale to a share of the frame and move it, ``(SIDE, SIDE)``."""
    from PIL import Image

    angle, slant = generator.uniform(-turn, turn), generator.uniform(-turn, turn)
    share = generator.uniform(*extent)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = matrix @ np.array([[1.0, slant], [0.0, 1.0]]) * (len(ink) / (SIDE * 2)) / share
    middle = SIDE + generator.uniform(-1, 1, 2) * (1.0 - min(share, 1.0)) * SIDE
    offset = len(ink) / 2 - matrix @ middle
    coefficients = (*matrix[0], offset[0], *matrix[1], offset[1])
    drawn = Image.fromarray(ink.astype(np.float32)).transform(
        (2 * SIDE, 2 * SIDE), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    halved: Ink = np.asarray(drawn, dtype=np.float64).reshape(SIDE, 2, SIDE, 2).mean((1, 3))
    return np.clip(halved, 0.0, 1.0)


def _painted(ink: Ink, generator: np.random.Generator, *, texture: float, grain: float) -> Pixels:
    """Paint ink in one colour on textured ground of another, with grain, as bytes ``(H, W, 3)``."""
    height, width = ink.shape
    ground, pen = generator.uniform(0, 1, 3), generator.uniform(0, 1, 3)
    while np.abs(ground - pen).max() < 0.45:  # legible, if only by hue
        pen = generator.uniform(0, 1, 3)
    pattern = np.stack([_resized(generator.uniform(0, 1, (7, 7)), (height, width)) for _ in range(3)], axis=-1)
    picture = ground + texture * 2 * (pattern - 0.5)
    picture = picture + (pen - picture) * ink[..., None]
    picture = picture + generator.normal(0, grain, picture.shape)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _photographed(ink: Ink, generator: np.random.Generator) -> Pixels:
    """Turn, slant and colour the glyph, as in a snapshot."""
    return _painted(_placed(ink, generator, turn=0.35, extent=(0.6, 1.1)), generator, texture=0.15, grain=0.05)


def _outlined(ink: Ink, generator: np.random.Generator) -> Pixels:
    """Draw only the contour of the glyph."""
    from scipy.ndimage import gaussian_filter

    soft = gaussian_filter(ink, 1.2)
    contour = np.clip(1.0 - np.abs(soft - 0.5) / 0.42, 0, 1)
    return _painted(_placed(contour, generator, turn=0.2, extent=(0.75, 1.1)), generator, texture=0.1, grain=0.03)


def _worn(ink: Ink, generator: np.random.Generator) -> Pixels:
    """Draw the glyph ten pixels high, with two bars torn off and strong grain."""
    placed = _placed(ink, generator, turn=0.15, extent=(0.75, 1.05))
    for _ in range(2):
        top, left = generator.integers(0, SIDE - 9, 2)
        height, width = generator.integers(3, 10, 2)
        placed[top : top + height, left : left + width] = 0.0
    lost = int(generator.integers(10, 15))
    coarse = _resized(_resized(placed, (lost, lost)), (SIDE, SIDE))
    return _painted(coarse, generator, texture=0.1, grain=0.12)


def _screened(ink: Ink, generator: np.random.Generator) -> Pixels:
    """Print the glyph as stripes of a screen, some of it missing between them."""
    placed = _placed(ink, generator, turn=0.2, extent=(0.8, 1.1))
    period, angle, phase = generator.uniform(3.0, 5.0), generator.uniform(0, np.pi), generator.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    wave = np.sin((rows * np.sin(angle) + columns * np.cos(angle)) * 2 * np.pi / period + phase)
    return _painted(placed * (wave > -0.35), generator, texture=0.12, grain=0.05)


_GLYPH_TASKS = {
    "letters": _GlyphTask("ABCDEFGHIJKLMNOPQRSTUVWXYZ", HELD_OUT_FONTS, _worn, 80),
    "greek": _GlyphTask("ΓΔΘΛΞΠΣΦΨΩαβγδεζηθικλμνξπρστυφχψω", STIX_FONTS, _photographed),
    "cyrillic": _GlyphTask("БВГДЖЗИЙКЛПУФЦЧШЩЪЫЭЮЯЂЄЉЊЋЏѢѲ", STIX_FONTS, _outlined),
    "accents": _GlyphTask("àáâãäåāăçćĉċčèéêëēĕėęěĝğġģñńņňòóôõöōŏőøśŝşšùúûüũūŭůűųýÿŷžźż", STIX_FONTS, _photographed),
    "symbols": _GlyphTask(
        "!#$%&*+=?@§¶©®£€¥¢<>[]{}()/†‡←↑→↓↔↕↖↗↘↙⇐⇑⇒⇓⇔∀∂∃∇∈∉∋∏∑√∝∞∟∠∧∨∩∪∫∬∮∴∵≃≅≈≠≡≤≥≪≫⊂⊃⊄⊆⊇⊕⊖⊗⊙⊢⊣⊤⊥■□▲△▼▽◆◇○●★☆♀♂♠♣♥♦♩♪",
        STIX_FONTS,
        _screened,
    ),
}

BUILTIN_TASKS = {
    "digits": "scans of handwritten digits, 8 x 8 pixels (scikit-learn)",
    "digits-wild": "the scans in random colours, places and sizes on textured ground",
    "letters": "Latin capitals, worn and torn, at 10 to 14 pixels",
    "greek": "Greek letters turned, slanted and coloured",
    "cyrillic": "Cyrillic capitals as contours",
    "accents": "Latin letters that differ in their accents alone",
    "symbols": "signs, arrows and operators printed through a screen",
}
"""Name -> one line on its images."""


TASKS_OF_SEVERAL = {"shapes": "two or three shapes in a picture, or none: images of several labels"}
"""The same of tasks whose images have several labels."""
EVERY_TASK = {**BUILTIN_TASKS, **TASKS_OF_SEVERAL}

# -- several glyphs ----------------------------------------------------------------------------------------------------

_SHAPES = "■▲▼●◆★☆♥♠♣"
_PICTURES = 1200
_WITHOUT_GLYPHS = 12
"""One image of so many shows none."""
_CELL = 32
"""Side of a quarter of such a picture, pixels; each glyph lies in one."""


@functools.lru_cache(maxsize=4_000)  # 50 MB when full
def _several_shapes(identity: str) -> Pixels:
    """Each shape in a quarter of the picture, turned and slanted a little, all in one colour."""
    generator = _generator(identity)
    _, shown, _ = identity.split("/")
    canvas = np.zeros((2 * _CELL, 2 * _CELL))
    for character, quarter in zip(shown, generator.permutation(4), strict=False):
        ink = render_glyph(STIX_FONTS[0], character) / 255.0
        top, left = _CELL * (quarter // 2), _CELL * (quarter % 2)
        cell = _placed(ink, generator, turn=0.2, extent=(0.75, 1.0))
        canvas[top : top + _CELL, left : left + _CELL] = cell
    return _painted(canvas, generator, texture=0.1, grain=0.04)


def _shapes() -> tuple[list[str], Examples]:
    """Return classes and examples of pictures with several shapes or none."""
    shown = []
    for number in range(_PICTURES):
        generator = _generator(f"shapes/{number}")
        count = 0 if generator.integers(_WITHOUT_GLYPHS) == 0 else int(generator.integers(2, 4))
        shown.append("".join(generator.choice(list(_SHAPES), count, replace=False)) if count else "")
    identities = tuple(f"shapes/{glyphs}/{number}" for number, glyphs in enumerate(shown))
    labels = np.array([[character in glyphs for character in _SHAPES] for glyphs in shown], dtype=np.int64)
    images = _DrawnImages(_several_shapes, tuple((identity,) for identity in identities))
    return [glyph_name(character) for character in _SHAPES], Examples(images, labels, identities)


@functools.cache
def builtin_task(name: str) -> Task:
    """Return a built-in task by name.

    Raises:
        UnknownNameError: There is none of this name.
    """
    if name not in EVERY_TASK:
        raise UnknownNameError("task", name, EVERY_TASK)
    if name in TASKS_OF_SEVERAL:
        class_names, examples = _shapes()
    else:
        class_names, examples = _glyphs(name) if name in _GLYPH_TASKS else _digits(name)
    # Three tenths of each class, or of images of several labels, to train on, two to validate, half to test.
    order = sorted(range(len(examples)), key=lambda i: hashlib.sha256(examples.identities[i].encode()).digest())
    group = np.zeros(len(examples), dtype=np.int64) if examples.has_several else examples.labels
    parts: tuple[list[int], list[int], list[int]] = ([], [], [])
    for number in np.unique(group):
        members = [i for i in order if group[i] == number]
        test, validation = len(members) - len(members) // 2, len(members) // 5
        parts[2].extend(members[:test])
        parts[1].extend(members[test : test + validation])
        parts[0].extend(members[test + validation :])
    train, validation_part, test_part = (examples.subset(sorted(part)) for part in parts)
    return Task(name, tuple(class_names), train, validation_part, test_part, EVERY_TASK[name])

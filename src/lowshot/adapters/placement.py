"""Where adapters sit: which layers of which tower, which projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

Tower = Literal["vision", "text"]


class Site(NamedTuple):
    """One projection of one layer."""

    tower: Tower
    layer: int
    projection: str


def layers_at(position: str, depth: int) -> range:
    """The layers of a position in a tower of ``depth`` layers.

    CLIP-LoRA's positions, for any depth: thirds (``bottom``, ``mid``, ``up``), halves, the last three, or all. For
    12 layers these are the published ones; other depths are cut at the nearest whole layer.
    """
    third, half = round(depth / 3), round(depth / 2)
    return {
        "all": range(depth),
        "bottom": range(third),
        "mid": range(third, depth - third),
        "up": range(depth - third, depth),
        "half-bottom": range(half),
        "half-up": range(half, depth),
        "top3": range(max(0, depth - 3), depth),
    }[position]


def sites(*, encoder: str, position: str, projections: Sequence[str], depths: Mapping[Tower, int]) -> list[Site]:
    """Every site that gets an adapter, text tower first, by layer.

    Args:
        encoder: ``both``, ``vision`` or ``text``.
        position: See ``layers_at``; applied to each tower by its own depth.
        projections: Of q, k, v, o.
        depths: Number of layers of each tower.
    """
    towers: tuple[Tower, ...] = ("text", "vision")
    return [
        Site(tower, layer, projection)
        for tower in towers
        if encoder in ("both", tower)
        for layer in layers_at(position, depths[tower])
        for projection in projections
    ]

"""Where a method works: which towers, which layers, which linear layers inside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

from ..errors import InputError
from ..settings import POSITIONS, TOWERS, MethodConfig, Tower


class Structure(Protocol):
    """The part of a backbone by which its layers are found."""

    @property
    def depths(self) -> Mapping[Tower, int]:
        """Number of layers of each tower that there is."""

    @property
    def token_embedding(self) -> str:
        """Name of the text tower's embedding of token ids."""

    def tower_modules(self, tower: Tower, /) -> Sequence[str]:
        """Names of the modules that make a tower up."""

    def layer_name(self, tower: Tower, index: int, /) -> str:
        """Name of a transformer block."""

    def module_name(self, tower: Tower, index: int, projection: str, /) -> str:
        """Name of a linear layer."""


@dataclasses.dataclass(frozen=True)
class Place:
    """The part of a backbone that a recipe names; dotted names of its modules, text tower first, by layer."""

    blocks: Mapping[Tower, tuple[str, ...]]
    """Tower -> its transformer blocks at the recipe's position."""
    modules: tuple[str, ...]
    """Everything that belongs to those towers."""
    linears: tuple[str, ...]
    """The recipe's projections inside those blocks."""
    token_embedding: str
    """The text tower's embedding of token ids, which trained tokens stand in."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The blocks of all of its towers."""
        return tuple(name for blocks in self.blocks.values() for name in blocks)


def place(method: MethodConfig, structure: Structure) -> Place:
    """Where a method works in a backbone.

    Args:
        method: Its ``encoder``, ``position`` and ``projections`` count.
        structure: The backbone, such as ``models.Towers``; with its layers wrapped or not.

    Raises:
        InputError: There is no such tower, or the position names a layer that a tower does not have, or none of it.
    """
    towers = tuple(tower for tower in TOWERS if method.encoder in ("both", tower) and tower in structure.depths)
    if not towers:
        raise InputError(
            f"encoder is {method.encoder!r}, and this model has no such tower; expected vision, or both for all of it"
        )
    blocks = [
        (tower, layer) for tower in towers for layer in layers_at(method.position, structure.depths[tower], tower)
    ]
    for tower in towers:
        if all(owner != tower for owner, _ in blocks):
            raise InputError(
                f"position {method.position} is no layer of the {tower} tower, which has {structure.depths[tower]}; "
                "expected another position, or encoder without this tower"
            )
    return Place(
        blocks={
            tower: tuple(structure.layer_name(*block) for block in blocks if block[0] == tower) for tower in towers
        },
        modules=tuple(name for tower in towers for name in structure.tower_modules(tower)),
        linears=tuple(structure.module_name(*block, part) for block in blocks for part in method.projections),
        token_embedding=structure.token_embedding,
    )


def layers_at(position: str, depth: int, tower: str = "backbone") -> tuple[int, ...]:
    """The layers of a position in a tower of ``depth`` layers.

    CLIP-LoRA's positions, for any depth: thirds (``bottom``, ``mid``, ``up``), halves, the last three, or all. For
    12 layers these are the published ones; other depths are cut at the nearest whole layer. Anything else is a list
    of layers, counted from 0: ``0,1,11``.

    Raises:
        InputError: A listed layer is beyond the depth.
    """
    if position not in POSITIONS:
        layers = sorted({int(layer) for layer in position.split(",")})
        if layers[-1] >= depth:
            raise InputError(
                f"position names layer {layers[-1]}, but the {tower} tower has {depth} layers, 0 to {depth - 1}; "
                "leave it out, or choose one tower with encoder"
            )
        return tuple(layers)
    third, half = round(depth / 3), round(depth / 2)
    first, last = {
        "all": (0, depth),
        "bottom": (0, third),
        "mid": (third, depth - third),
        "up": (depth - third, depth),
        "half-bottom": (0, half),
        "half-up": (half, depth),
        "top3": (max(0, depth - 3), depth),
    }[position]
    return tuple(range(first, last))

"""The command ``lowshot models``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from .parsing import parse
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Models to name with --model: size, licence, published accuracy without training, memory of their weights."""

    json: bool = False
    """Print a list of `{model, parameters, image_side, licence, imagenet, mean_of_38, weights_bytes, ...}`."""


def run(arguments: Sequence[str]) -> int:
    """List the models."""
    parsed = parse(Arguments, "models", arguments)
    from ..models.catalogue import FIGURES_FROM, models_to_begin_with

    models = models_to_begin_with()
    if parsed.json:
        rows = [{**dataclasses.asdict(each), "weights_bytes": each.weights_bytes} for each in models]
        print_json([{**row, "figures_from": FIGURES_FROM} for row in rows])
        return 0
    print(f"{'model':<43}{'parameters':>10}{'side':>6}{'ImageNet':>10}{'of 38':>7}{'fp32':>9}{'half':>9}  licence")
    for each in models:
        memory = "".join(f"{size / 1e9:>6.2f} GB" for size in each.weights_bytes.values())
        size = f"{each.parameters / 1e6:>8.0f} M{each.image_side:>6}"
        print(
            f"{each.model:<43}{size}{each.imagenet:>10.1f}{each.mean_of_38:>7.1f}{memory}  {each.licence or 'see it'}"
        )
    print(
        "\nImageNet and the mean of 38 data sets: percent without training, as open_clip published them\n"
        f"({FIGURES_FROM}).\n"
        "fp32 and half: what the weights take on a CPU and on a GPU; training needs more: lowshot plan --model MODEL.\n"
        "The structure of each kind is tested with random weights; none was tried on its trained weights here.\n"
        "Also: builtin (1.4 M, characters, no network), a folder, and every other model of a kind in\n"
        "docs/reference/models.md."
    )
    return 0

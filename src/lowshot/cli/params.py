"""The command ``lowshot params``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import tyro

from ..errors import InputError
from ..methods import METHODS, display_name, method_spec
from ..settings import Recipe, default_preset, preset_recipe
from .arguments import PresetName, RecipeFile, refuse_below
from .parsing import parse_with_recipe, with_first_as
from .printing import print_json, warn

if TYPE_CHECKING:
    from ..training.placing import ParameterCount


@dataclasses.dataclass(frozen=True)
class Arguments:
    """How many parameters a method trains on a model, and how large its adapter is. No weights are read.

    `lowshot params MODEL` is `lowshot params --model MODEL`.
    """

    classes: int = 100
    """Number of classes: the size of a head on frozen features depends on it, and on `--shots` (1 if not given)."""
    table: bool = False
    """Count the methods of CLIP-LoRA-XS's table 1 and all others, each with its published settings, on `--model`."""
    preset: PresetName = None
    recipe: RecipeFile = None
    json: bool = False
    """Print `trainable_parameters`, `total_parameters` and `adapter_bytes` as JSON; with `--table` a list."""
    settings: Annotated[Recipe, tyro.conf.arg(name="")] = dataclasses.field(default_factory=Recipe)

    def check(self) -> None:
        """See ``Checked``."""
        refuse_below(2, classes=self.classes)


def run(arguments: Sequence[str]) -> int:
    """Count and print."""
    parsed = parse_with_recipe(Arguments, "params", with_first_as("--model", arguments))
    model = parsed.settings.model.model
    if parsed.table and parsed.settings != preset_recipe(default_preset(model), "lora").replace(model=model):
        raise InputError("params --table counts every method with its published settings; expected only --model")
    recipes = [parsed.settings]
    if parsed.table:  # CLIP-LoRA-XS's table 1 has LoRA at rank 2 and itself at ranks 32 and 45; then the other methods
        others = [name for name, spec in METHODS.items() if spec.kind in ("weights", "prompts")]
        ranks = [("lora", 2), ("lora-xs", 32), ("lora-xs", 45)]
        published = [preset_recipe("paper", method).replace(rank=rank) for method, rank in ranks]
        published += [preset_recipe("paper", method) for method in others if method not in ("lora", "lora-xs")]
        recipes = [recipe.replace(model=model) for recipe in published]
    rows = _counted(recipes, parsed.classes)
    if parsed.json:
        values = [
            {
                "model": recipe.model.model,
                "method": recipe.method.method,
                "settings": {name: value for name, value in recipe.to_dict()["method"].items() if name != "method"},
                **dataclasses.asdict(count),
            }
            for recipe, count in rows
        ]
        print_json(values if parsed.table else values[0])
        return 0
    print(f"{'method':<12} {'rank':>4}  {'trainable':>11}  {'% of total':>10}  {'adapter KB':>10}")
    for recipe, count in rows:
        share = 100 * count.trainable_parameters / count.total_parameters
        rank = recipe.method.rank if "rank" in method_spec(recipe.method.method).settings else "-"
        size = count.adapter_bytes / 1000
        name = display_name(recipe.method.method, recipe.model.quantize)
        print(f"{name:<12} {rank:>4}  {count.trainable_parameters:>11,}  {share:>10.2f}  {size:>10,.1f}")
    return 0


def _counted(recipes: Sequence[Recipe], classes: int) -> list[tuple[Recipe, ParameterCount]]:
    """Count for each recipe that fits the model, and warn of the others; where none fits, the first one is refused."""
    from ..training.placing import count_parameters

    rows, refusals = [], []
    for recipe in recipes:
        try:
            rows.append((recipe, count_parameters(recipe, classes)))
        except InputError as error:
            refusals.append(error)
    if not rows:
        raise refusals[0]
    warn([str(error) for error in refusals])
    return rows

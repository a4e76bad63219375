"""Every recipe file stands for the runs that its header says."""

import collections
from pathlib import Path

import pytest

from lowshot.bench.grid import read_grid
from lowshot.data import BUILTIN_TASKS
from lowshot.data.catalogue import CATALOGUE

RECIPES = Path(__file__).parents[1] / "recipes"
RUNS = {
    "base-to-new": 11 * (1 + 2 * 3),
    "batch-and-accumulation": 2 * 3 * (4 + 2),
    "builtin-ablations": 2 * 5 * (3 + 6 + 4),  # the preset's own settings are the encoder "both" alone
    "builtin-base-to-new": 3 * (1 + 2 * 5),
    "builtin-main": 4 * (1 + 4 * 3 * 5),
    "builtin-quantized": 3 * (1 + 5 * (2 + 2 + 1)),
    "builtin-ranks": 3 * (1 + 2 * 5 * (3 + 4)),
    "builtin-methods": 4 * (1 + 17 * 5 * 5),
    "builtin-auto": 3 * (1 + 5 * 3 * 5),
    "builtin-best": 4 * 5 * 5,
    "rivals": 11 * (1 + 14 * 5 * 3),
    "builtin-scaling": 2 * 5 * (3 * 2 + 3 * 2 + 2),
    "builtin-transfer": 1 + 2 * 5,
    "clip-lora": 11 * 3 * 5 * 3,
    "clip-lora-ablations": 3 * 3 * (2 + 6 + 6 + 5 + 1),  # CLIP-LoRA's own settings are in each, and run once
    "clip-lora-xs": 11 * 5 * 3 * 3,
    "qlora-vlm-4-shot": 8 * 2 * 3,
    "qlora-vlm-caltech101": 4 * 3 * 3,
    "run-dora": 11 * 5,
    "run-lora": 11 * 5,
    "run-qlora": 11 * 5,
    "transfer": 2 * (1 + 2 * 3),
}


def test_every_recipe_is_known():
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(RUNS)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_recipe_stands_for_its_runs(name):
    cells = read_grid(RECIPES / f"{name}.toml")
    assert len(cells) == len({cell.key for cell in cells}) == RUNS[name]
    assert {cell.data for cell in cells} <= {*CATALOGUE, *BUILTIN_TASKS}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipes_header_has_its_command_and_says_if_it_was_not_run(path):
    header = path.read_text(encoding="utf-8").partition("\n[")[0]
    assert f"lowshot bench recipes/{path.name} --out runs/{path.stem}" in header
    assert path.stem.startswith("builtin") or "It has not been run here" in header


def test_clip_loras_table_is_clip_loras_protocol():
    recipes = [cell.recipe for cell in read_grid(RECIPES / "clip-lora.toml")]
    assert {(r.method.rank, r.method.alpha, r.training.learning_rate, r.data.template) for r in recipes} == {
        (2, 1.0, 2e-4, ("a photo of a {}.",))
    }
    assert collections.Counter(r.data.shots for r in recipes) == dict.fromkeys((1, 2, 4, 8, 16), 99)

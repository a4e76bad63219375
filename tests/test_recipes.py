"""Every recipe file stands for the runs that its header says."""

import collections
import json
from pathlib import Path

import pytest

import lowshot
from lowshot.bench.grid import read_grid
from lowshot.cli import main
from lowshot.data import BUILTIN_TASKS, TASKS_OF_SEVERAL
from lowshot.data.catalogue import CATALOGUE
from lowshot.report.published import published_figures, same_method
from lowshot.report.summary import summarize

from .report.factory import record

RECIPES = Path(lowshot.__file__).parent / "recipes"
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
    "builtin-several-labels": 1 + 3 * 3 * 2,
    "builtin-transfer": 1 + 2 * 5,
    "clip-lora": 11 * 3 * 5 * 3,
    "clip-lora-ablations": 3 * 3 * (2 + 6 + 6 + 5 + 1),  # CLIP-LoRA's own settings are in each, and run once
    "clip-lora-xs": 11 * 5 * 3 * 3,
    "photos": 4 * 3 * 5,
    "photos-calibrated": 3 * 2 * 5,
    "qlora-vlm-4-shot": 8,
    "qlora-vlm-4-shot-done-right": 8 * 2 * 3,
    "qlora-vlm-caltech101": 2 * 3 * 3,
    "qlora-vlm-caltech101-done-right": 4 * 3 * 3,
    "run-dora": 2,
    "run-dora-done-right": 11 * 5,
    "run-lora": 1,
    "run-lora-done-right": 11 * 5,
    "run-qlora": 1,
    "run-qlora-done-right": 11 * 5,
    "transfer": 2 * (1 + 2 * 3),
}


def test_every_recipe_is_known():
    assert {path.stem for path in RECIPES.glob("*.toml")} == set(RUNS)


@pytest.mark.parametrize("name", sorted(RUNS))
def test_a_recipe_stands_for_its_runs(name):
    cells = read_grid(RECIPES / f"{name}.toml")
    assert len(cells) == len({cell.key for cell in cells}) == RUNS[name]
    assert {cell.data for cell in cells} <= {*CATALOGUE, *BUILTIN_TASKS, *TASKS_OF_SEVERAL, "clothing"}


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_recipes_header_has_its_command_and_says_if_it_was_not_run(path):
    header = path.read_text(encoding="utf-8").partition("\n[")[0]
    assert f"lowshot bench {path.stem} --out runs/{path.stem}" in header
    assert path.stem.startswith(("builtin", "photos")) or "It has not been run here" in header


def gain(recipe):
    method = recipe.method
    return method.alpha / (method.rank if method.scaling == "rank" else method.rank**0.5)


QLORA_VLM = {
    "run-lora": (8.0, 2e-4, {"none"}, 32, 500),
    "run-qlora": (0.5, 2e-4, {"nf4"}, 4, 500),
    "run-dora": (2.0, 1e-4, {"nf4"}, 4, 500),
    "qlora-vlm-4-shot": (0.5, 2e-4, {"nf4"}, 32, 2000),
    "qlora-vlm-caltech101": (0.5, 2e-4, {"none", "nf4"}, None, None),
}
"""Scale of the update, learning rate, base, images at once and steps, by its scripts (68865cc) and logs."""


@pytest.mark.parametrize("name", QLORA_VLM)
def test_recipes_of_qlora_vlm_do_what_its_scripts_do(name):
    recipes = [cell.recipe for cell in read_grid(RECIPES / f"{name}.toml")]
    scale, rate, bases, at_once, steps = QLORA_VLM[name]
    assert {gain(r) for r in recipes} == {scale}
    assert {r.model.quantize for r in recipes} == bases
    assert all(r.model.quantize_projection == (r.model.quantize == "nf4") for r in recipes)
    of_all = {(r.method.encoder, r.training.optimizer, r.training.adam_epsilon, r.training.seed) for r in recipes}
    assert of_all == {("vision", "paged-adamw-8bit", 1e-5, 1)}
    assert {r.training.learning_rate for r in recipes} == {rate}
    assert {r.training.batch_size * r.training.gradient_accumulation_steps for r in recipes} == {32}
    if at_once is not None:
        assert {r.training.batch_size for r in recipes} == {at_once}
        assert {r.steps(r.data.shots) for r in recipes} == {steps}


def test_prompts_of_qlora_vlm_are_its_data_sets_own():
    words = {cell.data: cell.recipe.data.template for cell in read_grid(RECIPES / "qlora-vlm-4-shot.toml")}
    assert words.pop("dtd") == ("a photo of a {} texture.",)
    assert set(words.values()) == {("coop",)}


@pytest.mark.parametrize("name", ["qlora-vlm-4-shot", "qlora-vlm-caltech101"])
def test_what_qlora_vlm_published_stands_beside_its_recipes_runs(name):
    for cell in read_grid(RECIPES / f"{name}.toml"):
        recipe = cell.recipe
        of_run = record("lora", recipe.data.shots, quantize=recipe.model.quantize, recipe=recipe.to_dict())
        (row,) = summarize([of_run])
        mode = "QLoRA" if recipe.model.quantize == "nf4" else "LoRA"
        assert any(same_method(figure, row) for figure in published_figures() if figure.method.startswith(f"{mode} in"))


def test_clip_loras_table_is_clip_loras_protocol():
    recipes = [cell.recipe for cell in read_grid(RECIPES / "clip-lora.toml")]
    assert {(r.method.rank, r.method.alpha, r.training.learning_rate, r.data.template) for r in recipes} == {
        (2, 1.0, 2e-4, ("a photo of a {}.",))
    }
    assert collections.Counter(r.data.shots for r in recipes) == dict.fromkeys((1, 2, 4, 8, 16), 99)


def test_recipes_are_listed_with_what_they_reproduce_and_what_they_take(capsys):
    assert main(["recipes", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert {name: row["runs"] for name, row in listed.items()} == RUNS
    main_table = listed["builtin-main"]
    assert main_table["title"].startswith("CLIP-LoRA's main table on the built-in tasks")
    assert main_table["cost"] == "Takes about 22 minutes on two cores, offline."
    assert main_table["data"] == ["digits", "letters", "greek", "cyrillic"]
    assert all(row["cost"].endswith(".") for row in listed.values())
    assert main(["recipes"]) == 0
    assert "builtin-main                       244 runs  Takes about 22 minutes" in capsys.readouterr().out


def test_a_recipe_is_known_by_its_name_wherever_the_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "builtin-main", "--out", "runs", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["cells"] == RUNS["builtin-main"]
    assert main(["recipes", "builtin-main"]) == 0
    (tmp_path / "builtin-main").write_text(capsys.readouterr().out.replace("[1, 4, 16]", "[1]"), encoding="utf-8")
    assert len(read_grid(Path("builtin-main"))) == 4 * (1 + 4 * 5)  # a file of that name comes first


def test_what_is_no_recipe_says_where_there_are_some(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for given, way_out in {
        "recipes/builtin-main.toml": "the one that comes with lowshot is builtin-main",
        "my.toml": "a name that lowshot recipes lists",
    }.items():
        assert main(["bench", given, "--out", "runs"]) == 2
        assert f"recipe {given} does not exist; " in (said := capsys.readouterr().err)
        assert way_out in said
    assert main(["recipes", "builtin-man"]) == 2
    assert "did you mean builtin-main" in capsys.readouterr().err

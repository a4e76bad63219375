import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.bench.grid import Cell, expand, read_grid
from lowshot.errors import InputError, UnknownNameError
from lowshot.settings import Recipe, preset_recipe
from refusing import refused


def test_every_combination_is_a_run_once_and_the_last_axis_changes_fastest():
    cells = expand({"data": ["letters", "greek"], "shots": [1, 4], "seed": [1, 2, 2]}, {})
    runs = [(c.data, c.recipe.data.shots, c.recipe.training.seed) for c in cells]
    assert runs == list(itertools.product(["letters", "greek"], [1, 4], [1, 2]))


def test_a_run_is_the_recipe_that_fit_would_have():
    grid = {"data": "letters", "method": "qlora", "rank": 4, "shots": 2, "preset": "paper"}
    (cell,) = expand(grid, {"training": {"steps_per_shot": 7}})
    assert cell == Cell("letters", preset_recipe("paper", "qlora").replace(rank=4, shots=2, steps_per_shot=7))


def test_the_preset_follows_the_model_and_the_method():
    cells = expand({"data": "letters", "method": ["lora", "lora-xs"]}, {})
    assert [c.recipe for c in cells] == [preset_recipe("builtin", m) for m in ("lora", "lora-xs")]
    (cell,) = expand({"data": "letters", "model": "somewhere"}, {})
    assert cell.recipe == preset_recipe("paper", "lora").replace(model="somewhere")


def test_variants_are_settings_that_go_together():
    variants = [{"method": "lora", "rank": 2}, {"method": "lora-xs", "rank": [16, 32]}]
    cells = expand({"data": "letters", "seed": [1, 2], "variants": variants}, {})
    runs = {(c.recipe.method.method, c.recipe.method.rank, c.recipe.training.seed) for c in cells}
    methods = [("lora", 2), ("lora-xs", 16), ("lora-xs", 32)]
    assert runs == {(*method, seed) for method in methods for seed in (1, 2)}
    assert len(cells) == 6


def test_what_learns_nothing_is_one_run():
    cells = expand({"data": "letters", "method": ["zero-shot", "lora"], "shots": [1, 4], "seed": [1, 2]}, {})
    assert [c.recipe.method.method for c in cells].count("zero-shot") == 1
    assert len(cells) == 1 + 4


def test_what_is_calibrated_learns_from_its_shots():
    grid = {"data": "letters", "method": "zero-shot", "shots": [1, 4], "seed": [1, 2], "calibration_folds": 2}
    assert len(expand(grid, {})) == 4


def test_a_method_goes_without_the_settings_it_does_not_have():
    cells = expand({"data": "letters", "method": ["bitfit", "lora"], "rank": [1, 2]}, {})
    assert [(c.recipe.method.method, c.recipe.method.rank) for c in cells] == [("bitfit", 2), ("lora", 1), ("lora", 2)]


def test_a_setting_that_no_method_has_is_refused():
    with refused(InputError, "rank", "none of the methods"):
        expand({"data": "letters", "method": ["bitfit", "zero-shot"], "rank": [1, 2]}, {})


def test_a_setting_that_is_a_list_has_lists_for_several():
    grid = {"data": "letters", "projections": [["q", "v"], ["q", "k", "v"]]}
    assert [c.recipe.method.projections for c in expand(grid, {})] == [("q", "v"), ("q", "k", "v")]
    (one,) = expand({"data": "letters", "projections": ["q", "v"]}, {})
    assert one.recipe.method.projections == ("q", "v")


@pytest.mark.parametrize(
    ("grid", "facts"),
    [
        ({}, ("data of [grid]", None, "list of data")),
        ({"data": []}, ("data of [grid]", [], "list of data")),
        ({"data": [3]}, ("data of [grid]", [3], "list of data")),
        ({"data": "letters", "preset": 3}, ("preset of [grid]", 3)),
        ({"data": "letters", "shots": []}, ("shots of [grid]", "empty list")),
        ({"data": "letters", "shots": ["one"]}, ("shots", "'one'", "int")),
        ({"data": "letters", "variants": []}, ("[[grid.variants]]",)),
        ({"data": "letters", "rank": 2, "variants": [{"rank": 4}]}, ("rank", "[grid]", "its variants")),
        ({"data": "letters", "method": "qlora", "quantize": "none"}, ("method qlora", "quantize nf4")),
    ],
)
def test_what_does_not_fit_is_named(grid, facts):
    with refused(InputError, *facts):
        expand(grid, {})


def test_a_variant_may_be_of_data_of_its_own():
    variants = [{"data": ["letters", "greek"], "template": "coop"}, {"data": "kana", "template": "a {}."}]
    cells = expand({"seed": [1, 2], "variants": variants}, {})
    words = {"letters": "coop", "greek": "coop", "kana": "a {}."}
    assert [(c.data, c.recipe.data.template, c.recipe.training.seed) for c in cells] == [
        (name, (words[name],), seed) for name in words for seed in (1, 2)
    ]


@pytest.mark.parametrize(
    ("grid", "facts"),
    [
        ({"data": "letters", "variants": [{"data": "greek"}]}, ("data", "[grid]", "its variants")),
        ({"variants": [{"data": "greek"}, {"rank": 2}]}, ("data of a variant", None, "list of data")),
        ({"variants": [{"data": []}]}, ("data of a variant", [], "list of data")),
    ],
)
def test_data_stand_in_the_grid_or_in_each_of_its_variants(grid, facts):
    with refused(InputError, *facts):
        expand(grid, {})


@pytest.mark.parametrize(
    ("grid", "name"),
    [({"data": "letters", "shot": 1}, "'shot'"), ({"data": "letters", "variants": [{"rnk": 2}]}, "'rnk'")],
)
def test_an_unknown_setting_is_named(grid, name):
    with refused(UnknownNameError, "[grid]", name):
        expand(grid, {})


def test_a_file_names_itself_in_errors(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text("[training]\nseed = 1\n")
    with refused(InputError, path, "no section [grid]"):
        read_grid(path)
    path.write_text('[grid]\ndata = "letters"\nshots = 0\n')
    with refused(InputError, path, "shots is 0"):
        read_grid(path)
    path.write_text('[grid]\ndata = "letters"\nshots = [1, 2]\n[training]\nsteps_per_shot = 3\n')
    assert [c.recipe.steps(1) - c.recipe.training.base_steps for c in read_grid(path)] == [3, 3]


def test_the_key_is_the_same_everywhere_and_says_nothing_of_the_machine():
    cell = Cell("letters", Recipe())
    assert cell.key == Cell("letters", Recipe().replace(root="/data")).key
    assert len({cell.key, Cell("greek", Recipe()).key, Cell("letters", Recipe().replace(seed=2)).key}) == 3


@given(st.lists(st.integers(1, 64), min_size=1, max_size=4), st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_there_are_as_many_runs_as_combinations(shots, seeds):
    cells = expand({"data": ["a", "b"], "shots": shots, "seed": seeds}, {})
    assert len(cells) == 2 * len(set(shots)) * len(set(seeds)) == len({c.key for c in cells})


def test_a_run_of_before_there_were_these_settings_is_the_same_run():
    recipe = preset_recipe("builtin", "lora")
    key = "74906c47ddc6e88e"  # at commit 1dd6396
    assert Cell("digits", recipe).key == key
    assert Cell("digits", recipe.replace(cuda_graph=False)).key == key
    assert Cell("digits", recipe.replace(adapter_precision="base")).key != key

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.errors import InputError, UnknownNameError
from lowshot.methods import METHODS
from lowshot.settings import (
    PRESETS,
    SETTINGS,
    EngineConfig,
    MethodConfig,
    Recipe,
    changes_of,
    default_preset,
    parse_bytes,
    preset_recipe,
    read_recipe,
)
from refusing import refused


def test_defaults_are_clip_lora_to_the_letter():
    recipe = preset_recipe("paper", "lora")
    assert recipe == Recipe()
    assert (recipe.method.rank, recipe.method.alpha, recipe.method.scaling, recipe.method.dropout) == (
        2,
        1,
        "sqrt-rank",
        0.25,
    )
    assert (recipe.method.encoder, recipe.method.projections, recipe.method.position) == (
        "both",
        ("q", "k", "v"),
        "all",
    )
    assert (recipe.training.learning_rate, recipe.training.minimum_learning_rate) == (2e-4, 1e-6)
    assert (recipe.training.weight_decay, recipe.training.batch_size) == (1e-2, 32)
    assert (recipe.training.crop_minimum, recipe.training.flip) == (0.08, True)
    assert recipe.steps(16) == 500 * 16
    assert recipe.data.template == ("a photo of a {}.",)


@pytest.mark.parametrize("preset", ["paper", "builtin"])
@pytest.mark.parametrize("method", [*METHODS, "peft:oft", "qlora"])
def test_these_presets_have_every_method(preset, method):
    assert preset_recipe(preset, method).method.method == method.removeprefix("q")


def test_every_preset_names_methods_and_is_valid():
    for preset, methods in PRESETS.items():
        for method in set(methods) - {"peft:"}:
            assert preset_recipe(preset, method).method.method == method


def test_a_preset_for_other_methods_is_refused():
    with refused(InputError, "lora-xs-official", "lora-xs", "method lora"):
        preset_recipe("lora-xs-official", "lora")


def test_a_preset_tells_what_it_changes():
    fast = preset_recipe("fast", "lora")
    assert changes_of("fast", fast) == {"steps_per_shot": (50, 500), "learning_rate": (2e-3, 2e-4)}
    assert changes_of("paper", preset_recipe("paper", "lora-xs")) == {}


def test_what_a_flag_sets_back_is_no_change():
    recipe = preset_recipe("fast", "lora").replace(steps_per_shot=500, learning_rate=1e-3, rank=4)
    assert changes_of("fast", recipe) == {"learning_rate": (1e-3, 2e-4)}


def test_rank_one_is_a_rank_where_all_layers_have_the_same():
    assert preset_recipe("paper", "lora").replace(rank=1).method.rank == 1
    with refused(InputError, "rank is 1", "2 or more", "rank-by-depth increasing"):
        preset_recipe("paper", "lora").replace(rank=1, rank_by_depth="increasing")


def test_the_two_conventions_of_lora_xs_are_presets():
    seed, official = (preset_recipe(name, "lora-xs").method for name in ("paper", "lora-xs-official"))
    assert (seed.rank, seed.alpha, seed.scaling) == (32, 1, "sqrt-rank")
    assert (official.alpha, official.scaling) == (16, "rank")


@pytest.mark.parametrize(
    ("method", "settings", "facts"),
    [
        ("zero-shot", {"rank": 3}, ("rank is 3", "zero-shot")),
        ("layernorm", {"projections": ("q",)}, ("layernorm", "projections")),
        ("full", {"position": "up"}, ("full", "position")),
        ("peft:oft", {"dropout": 0.0}, ("peft:oft", "dropout", "peft:oft: encoder")),
        ("lora", {"peft": ("r=3",)}, ("lora", "peft")),
    ],
)
def test_settings_that_a_method_does_not_obey_are_refused(method, settings, facts):
    with refused(InputError, *facts):
        preset_recipe("paper", method).replace(**settings)


def test_options_of_peft_are_words_or_a_mapping():
    recipe = Recipe().replace(method="peft:oft")
    wanted = ("oft_block_size=4", "coft=true", 'bias="none"')
    assert recipe.replace(peft={"oft_block_size": 4, "coft": True, "bias": "none"}).method.peft == wanted
    assert recipe.replace(peft=list(wanted)).method.peft == wanted
    assert Recipe.from_dict(recipe.replace(peft=wanted).to_dict()) == recipe.replace(peft=wanted)
    for bad in ("oft_block_size", "=4", 4):
        with refused(InputError, bad, "key=value"):
            recipe.replace(peft=(bad,))


def test_aliases_set_method_and_precision():
    recipe = preset_recipe("paper", "qlora")
    assert (recipe.method.method, recipe.model.quantize) == ("lora", "nf4")
    assert Recipe().replace(method="qdora").settings()["quantize"] == "nf4"
    assert Recipe(method=MethodConfig(method="qlora-xs")).method.method == "lora-xs"


def test_the_builtin_model_has_its_own_preset():
    assert (default_preset("builtin"), default_preset("openai/clip-vit-base-patch16")) == ("builtin", "paper")


def test_setting_names_are_unique_over_sections():
    names = [f.name for section in vars(Recipe()).values() for f in dataclasses.fields(section)]
    assert len(names) == len(set(names)) == len(SETTINGS)


@pytest.mark.parametrize(
    ("setting", "value", "facts"),
    [
        ("shots", 0, ("shots is 0", "1 or more")),
        ("rank", 0, ("rank is 0", "1 or more")),
        ("rank", 2.5, ("rank is 2.5", "int")),
        ("rank", True, ("rank is True", "int")),
        ("alpha", float("nan"), ("alpha is nan", "above 0")),
        ("dropout", 1.0, ("dropout is 1.0", "below 1")),
        ("projections", ("q", "x"), ("projections", "q, k, v, o, fc1, fc2")),
        ("projections", (), ("projections", "q, k, v, o, fc1, fc2")),
        ("position", "middle", ("position is 'middle'", "all, bottom")),
        ("encoder", "audio", ("encoder is 'audio'", "both, vision or text")),
        ("scaling", "none", ("scaling is 'none'", "sqrt-rank or rank")),
        ("quantize", "int3", ("quantize is 'int3'", "none, nf4 or int8")),
        ("precision", "fp8", ("precision is 'fp8'", "auto, fp32, bf16 or fp16")),
        ("position", "0,-1", ("position is '0,-1'", "0,1,11")),
        ("gradient_accumulation_steps", 0, ("gradient-accumulation-steps is 0", "1 or more")),
        ("gradient_checkpointing", 1, ("gradient-checkpointing is 1", "bool")),
        ("optimizer", "adam", ("optimizer is 'adam'", "adamw, paged-adamw-8bit or sgd")),
        ("learning_rate", -1.0, ("learning-rate is -1.0",)),
        ("adam_epsilon", 0.0, ("adam-epsilon is 0.0", "above 0")),
        ("crop_minimum", 0.0, ("crop-minimum is 0.0",)),
        ("seed", -1, ("seed is -1",)),
        ("batch_size", 0, ("batch-size is 0",)),
        ("steps_per_shot", 0, ("steps-per-shot", "at least one step")),
        ("template", "a photo", ("template", "exactly one {}")),
        ("on_bad_image", "ignore", ("on-bad-image is 'ignore'", "error, skip, error-damaged or skip-damaged")),
        ("protocol", "any-shot", ("protocol is 'any-shot'", "few-shot, base-to-new, cross-dataset")),
        ("targets", ("letters", ""), ("targets", "names or paths")),
        ("targets", ("letters", "letters"), ("targets", "once")),
        ("targets", ("letters",), ("targets", "protocol few-shot")),
        ("flip", "no", ("flip is 'no'", "bool")),
        ("rank", [4], ("rank is [4]", "int")),
        ("alpha", True, ("alpha is True", "float")),
        ("rank", {"r": 4}, ("rank is {'r': 4}", "int")),
        ("alpha", 1 << 64, ("alpha is 18446744073709551616", "float")),
    ],
)
def test_bad_values_are_named_with_what_was_expected(setting, value, facts):
    with refused(InputError, *facts):
        Recipe().replace(**{setting: value})


def test_whole_numbers_that_a_float_holds_are_taken_for_one():
    assert Recipe().replace(alpha=(1 << 64) - 1).method.alpha == float(1 << 64)


def test_values_of_other_types_are_taken_for_what_they_say(tmp_path):
    recipe = Recipe().replace(
        rank=np.int64(3), alpha=np.float32(0.5), model=tmp_path, projections=np.array(["q", "v"]), template="a {}."
    )
    assert (recipe.method.rank, recipe.method.alpha, recipe.model.model) == (3, 0.5, str(tmp_path))
    assert (recipe.method.projections, recipe.data.template) == (("q", "v"), ("a {}.",))
    assert recipe == Recipe.from_dict(json.loads(json.dumps(recipe.to_dict())))
    options = {"layers_pattern": tmp_path}  # JSON has no path
    assert Recipe().replace(method="peft:oft", peft=options).method.peft == (f'layers_pattern="{tmp_path}"',)


def test_a_projection_is_quantised_as_the_rest_is_or_not_at_all():
    with refused(InputError, "quantize-projection", True, False, "quantize none"):
        Recipe().replace(quantize_projection=True)
    assert Recipe().replace(method="qlora", quantize_projection=True).model.quantize == "nf4"


def test_sgd_has_no_epsilon():
    with refused(InputError, "adam-epsilon", "1e-05", "1e-08", "optimizer sgd"):
        Recipe().replace(optimizer="sgd", adam_epsilon=1e-5)


def test_unknown_names_offer_the_nearest():
    asking = {
        ("setting", "rnk", "rank"): lambda: Recipe().replace(rnk=3),
        ("method", "lorra", "lora"): lambda: Recipe().replace(method="lorra"),
        ("preset", "papr", "paper"): lambda: preset_recipe("papr", "lora"),
    }
    for facts, ask in asking.items():
        with pytest.raises(UnknownNameError) as caught:
            ask()
        assert (caught.value.kind, caught.value.name, caught.value.nearest[0]) == facts


@given(
    rank=st.integers(1, 64),
    alpha=st.floats(0.001, 64),
    shots=st.none() | st.integers(1, 64),
    projections=st.lists(st.sampled_from("qkvo"), min_size=1, unique=True),
    flip=st.booleans(),
)
def test_a_recipe_survives_being_written_and_read(rank, alpha, shots, projections, flip):
    recipe = Recipe().replace(rank=rank, alpha=alpha, shots=shots, projections=tuple(projections), flip=flip)
    assert Recipe.from_dict(recipe.to_dict()) == recipe


def test_recipe_files_win_over_what_is_below(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text('[method]\nmethod = "lora"\nrank = 4\nalpha = 2\nprojections = ["q", "v"]\n[data]\nshots = 8\n')
    recipe = read_recipe(path, Recipe().replace(rank=16, dropout=0.1))
    assert (recipe.method.rank, recipe.method.dropout, recipe.data.shots) == (4, 0.1, 8)
    assert recipe.method.alpha == 2.0
    assert recipe.method.projections == ("q", "v")


@pytest.mark.parametrize(
    ("text", "kind", "facts"),
    [
        ("[method\n", InputError, ("recipe.toml", "cannot be read")),
        ("[methods]\nrank = 2\n", UnknownNameError, ("section 'methods'", "method")),
        ("[method]\nrnk = 2\n", UnknownNameError, ("[method] 'rnk'", "rank")),
        ("[training]\nrank = 2\n", UnknownNameError, ("[training] 'rank'",)),
        ("method = 3\n", InputError, ("method", "a table")),
        ('[method]\nrank = "two"\n', InputError, ("rank is 'two'", "int")),
    ],
)
def test_bad_recipe_files_are_refused(tmp_path, text, kind, facts):
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with refused(kind, *facts):
        read_recipe(path)


def test_a_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml"):
        read_recipe(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("text", "amount"),
    [("2GB", 2 * 10**9), ("1.5 GiB", 3 << 29), ("800mb", 8 * 10**8), ("512", 512), ("64KiB", 65536), ("0", 0)],
)
def test_amounts_of_memory_are_read(text, amount):
    assert parse_bytes("image_disk", text) == amount


@pytest.mark.parametrize("text", ["", "lots", "2 G B", "-1GB", "1e9", "2TB", "٣GB"])
@pytest.mark.parametrize("field", ["memory_budget", "image_memory", "image_disk"])
def test_other_texts_are_refused_as_soon_as_they_are_given(field, text):
    with refused(InputError, field.replace("_", "-"), repr(text), "2GB"):
        EngineConfig(**{field: text})


def test_a_budget_of_nothing_is_refused():
    with refused(InputError, "memory-budget", "'0 KB'", "2GB"):
        EngineConfig(memory_budget="0 KB")


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path):
    """Editors on Windows write one; the first section was refused."""
    (tmp_path / "recipe.toml").write_bytes(b"\xef\xbb\xbf[method]\r\nrank = 3\r\n")
    assert read_recipe(tmp_path / "recipe.toml").method.rank == 3

import json
import shutil

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from lowshot.errors import AdapterError
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.tensor_file import read_classifier
from lowshot.training import create_learner
from refusing import refused

TENSORS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def saved(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    fresh(tiny_clip).save(folder)
    return folder


@pytest.fixture(scope="module")
def unchanged(tiny_clip):
    """One that reads files which change nothing in it."""
    return fresh(tiny_clip)


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "adapter")


def fresh(tiny_clip, **settings):
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip), **settings)
    return create_learner(load_backbone(str(tiny_clip)), ("a cat", "a dog"), recipe)


def change_tensors(folder, change):
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)


def first(tensors):
    return sorted(tensors)[0]


def with_nan(tensors):
    tensors[first(tensors)][0, 0] = float("nan")


def with_an_extra(tensors):
    tensors["base_model.model.extra"] = torch.zeros(1)


def without_one(tensors):
    del tensors[first(tensors)]


def of_another_shape(tensors):
    tensors[first(tensors)] = tensors[first(tensors)][:1].clone()


def of_another_type(tensors):
    tensors[first(tensors)] = tensors[first(tensors)].half()


def far_too_large(tensors):
    tensors["base_model.model.extra"] = torch.zeros(600_000)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (with_nan, ("not finite",)),
        (with_an_extra, ("1 unknown", "base_model.model.extra")),
        (without_one, ("lacks 1", "lora_A.weight")),
        (of_another_shape, ("lora_A.weight", "(1, 16)", "(2, 16)")),
        (of_another_type, ("lora_A.weight", "torch.float16", "torch.float32")),
        (far_too_large, ("bytes", "expected about")),
    ],
)
def test_tensors_that_do_not_fit_exactly_are_refused(tiny_clip, folder, change, facts):
    change_tensors(folder, change)
    with refused(AdapterError, folder / TENSORS, *facts):
        fresh(tiny_clip).load(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, -10])
def test_a_truncated_file_is_refused(tiny_clip, folder, keep):
    whole = (folder / TENSORS).read_bytes()
    (folder / TENSORS).write_bytes(whole[:keep])
    with refused(AdapterError, folder / TENSORS, "damaged"):
        fresh(tiny_clip).load(folder)


def test_there_are_no_tensors_below_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with refused(AdapterError, tmp_path / "file", "classifier.safetensors is missing"):
        read_classifier(tmp_path / "file", 2, 3)


@pytest.mark.parametrize("missing", [TENSORS, "adapter_config.json"])
def test_an_incomplete_folder_is_refused(tiny_clip, folder, missing):
    (folder / missing).unlink()
    with refused(AdapterError, folder, f"{missing} is missing"):
        fresh(tiny_clip).load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00\xff"])
def test_a_damaged_config_is_refused(tiny_clip, folder, text):
    (folder / "adapter_config.json").write_text(text, encoding="latin-1")
    with refused(AdapterError, folder, "adapter_config.json is damaged"):
        fresh(tiny_clip).load(folder)


@pytest.mark.parametrize(
    ("key", "value"),
    [("r", 3), ("use_rslora", False), ("peft_type", "LORA_XS"), ("use_dora", True), ("future_option", True)],
)
def test_a_config_that_contradicts_the_recipe_is_refused(tiny_clip, folder, key, value):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with refused(AdapterError, folder, f"{key} = {value!r}"):
        fresh(tiny_clip).load(folder)


KEYS = sorted(LoraConfig().to_dict())
DECISIVE = {"peft_type", "r", "lora_alpha", "use_rslora", "lora_dropout", "target_modules"}
"""Keys whose values are not PEFT's defaults in ``folder``."""


@pytest.mark.parametrize("key", KEYS)
def test_a_key_that_the_version_of_peft_that_saved_it_lacked_has_its_default(unchanged, folder, key):
    path = folder / "adapter_config.json"
    saved = json.loads(path.read_text())
    del saved[key]
    path.write_text(json.dumps(saved))
    if key in DECISIVE:
        with refused(AdapterError, folder, key if key != "target_modules" else "other modules"):
            unchanged.load(folder)
    else:
        unchanged.load(folder)


@pytest.mark.parametrize("version", ["0.22.0", "0.17.1", None])
def test_a_key_of_another_version_of_peft_has_that_ones_default(unchanged, folder, version):
    path = folder / "adapter_config.json"
    saved = {**json.loads(path.read_text()), "future_option": True, "peft_version": version}
    path.write_text(json.dumps(saved))
    unchanged.load(folder)
    path.write_text(json.dumps({**saved, "use_dora": True}))
    with refused(AdapterError, folder, "use_dora = True"):
        unchanged.load(folder)


@pytest.mark.parametrize(
    ("key", "value"), [("init_lora_weights", "gaussian"), ("megatron_core", "x"), ("revision", "1")]
)
def test_what_decides_nothing_once_the_tensors_are_read_may_differ(unchanged, folder, key, value):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    unchanged.load(folder)


@pytest.mark.parametrize("targets", [["foo"], [], 5, None])
def test_other_modules_are_refused(tiny_clip, folder, targets):
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "target_modules": targets}))
    with refused(AdapterError, folder, "other modules"):
        fresh(tiny_clip).load(folder)


def test_another_rank_is_refused(tiny_clip, folder):
    with refused(AdapterError, folder, "r = 2", "lowshot.json says 4"):
        fresh(tiny_clip, rank=4).load(folder)

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.models.loading import pick_device


@pytest.fixture
def folder(tiny_clip, tmp_path):
    return shutil.copytree(tiny_clip, tmp_path / "clip")


def test_the_same_weights_have_the_same_hash_in_any_precision_that_holds_them(folder):
    tensors = load_file(folder / "model.safetensors")
    halves = {name: t.half() for name, t in tensors.items()}
    save_file({name: t.float() for name, t in halves.items()}, folder / "model.safetensors", {"format": "pt"})
    full = load_backbone(str(folder)).identity.weights_sha256
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    assert load_backbone(str(folder)).identity.weights_sha256 == full


def test_one_changed_number_changes_the_hash(folder):
    before = load_backbone(str(folder)).identity.weights_sha256
    tensors = load_file(folder / "model.safetensors")
    tensors["visual_projection.weight"][0, 0] += 1e-3
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert load_backbone(str(folder)).identity.weights_sha256 != before


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("nonsense", "unknown model 'nonsense'; expected builtin, a Hub id"),
        ("./nowhere", r"model './nowhere': there is no such folder"),
        ("/a/b/c", "there is no such folder"),
        ("owner/name", "cannot be had from the Hub"),
    ],
)
def test_models_that_are_not_there_are_named(model, said):
    with pytest.raises(InputError, match=said):
        load_backbone(model)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no config.json"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_damaged_config_is_refused(folder, text):
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config.json cannot be read"):
        load_backbone(str(folder))


def test_another_kind_of_model_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(InputError, match="is of type 'bert'; expected clip"):
        load_backbone(str(folder))


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_backbone(str(folder))


def test_missing_tensors_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match=r"lacks 1 of its tensors, such as visual_projection.weight"):
        load_backbone(str(folder))


def test_devices_are_checked():
    assert pick_device("cpu") == torch.device("cpu")
    for bad in ("gpu", "mps", "cuda:x"):
        with pytest.raises(InputError, match="expected auto, cpu, cuda or cuda:N"):
            pick_device(bad)
    with pytest.raises(InputError, match="this machine has"):
        pick_device("cuda:99")

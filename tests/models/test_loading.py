import importlib.util
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from lowshot.models.devices import pick_device
from refusing import refused

pytestmark = pytest.mark.usefixtures("models_are_read_anew")
BOTH = pytest.mark.parametrize("load", [load_backbone, load_structure])


@pytest.fixture
def folder(tiny_clip, tmp_path):
    return shutil.copytree(tiny_clip, tmp_path / "clip")


def change_config(folder, part=None, **settings):
    config = json.loads((folder / "config.json").read_text())
    (config[part] if part else config).update(settings)
    (folder / "config.json").write_text(json.dumps(config))


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


@BOTH
@pytest.mark.parametrize(
    ("model", "facts"),
    [
        ("nonsense", ("unknown", "builtin, photos", "a folder", "Hub id")),
        ("./nowhere", ("no such folder",)),
        ("/a/b/c", ("no such folder",)),
        ("owner/name", ("the Hub",)),
        ("ViT-B/16", ("open_clip's", "no weights", "11 more")),
        ("ViT-bigG-14", ("no weights", "ViT-bigG-14:laion2b_s39b_b160k", "ViT-bigG-14-quickgelu:metaclip_fullcc")),
        ("hf-hub:nonsense", ("unknown", "builtin, photos")),
        ("hf-hub:owner/name", ("the Hub",)),
        ("local-dir:./nowhere", ("no such folder",)),
    ],
)
def test_models_that_are_not_there_are_named(load, model, facts):
    with refused(InputError, f"model {model!r}", *facts):
        load(model)


@BOTH
def test_a_folder_without_config_is_refused(load, tmp_path):
    with refused(InputError, tmp_path, "no config.json", "open_clip_config.json"):
        load(str(tmp_path))


@BOTH
@pytest.mark.parametrize("text", ["", "[]", "{", "\udcff"])
def test_a_damaged_config_is_refused(load, folder, text):
    (folder / "config.json").write_bytes(text.encode(errors="surrogateescape"))
    with refused(InputError, folder, "config.json"):
        load(str(folder))


@BOTH
@pytest.mark.parametrize("kind", ["bert", "clip_vision_model", ["clip"], None])
def test_another_kind_of_model_is_refused(load, folder, kind):
    change_config(folder, model_type=kind)
    with refused(InputError, folder, f"type {kind!r}", "clip, siglip", "altclip, vit"):
        load(str(folder))


@BOTH
@pytest.mark.parametrize(
    ("part", "settings"),
    [
        ("text_config", {"hidden_size": "wide"}),
        ("vision_config", {"num_attention_heads": 5}),
        (None, {"text_config": 1}),
    ],
)
def test_a_config_that_makes_no_model_is_refused_in_one_line(load, folder, part, settings):
    change_config(folder, part, **settings)
    with refused(InputError, f"model {str(folder)!r}", "cannot be loaded") as refusal:
        load(str(folder))
    assert str(refusal.value).partition("cannot be loaded: ")[2]
    assert "\n" not in str(refusal.value)


@BOTH
def test_a_vision_tower_without_a_pooling_head_is_refused(load, tiny_siglip, tmp_path):
    folder = shutil.copytree(tiny_siglip, tmp_path / "siglip")
    change_config(folder, "vision_config", vision_use_head=False)
    with refused(InputError, folder, "no pooling head"):
        load(str(folder))


def test_patches_that_make_no_square_are_refused(tiny_naflex, tmp_path):
    folder = shutil.copytree(tiny_naflex, tmp_path / "naflex")
    change_config(folder, "vision_config", num_patches=15)
    with refused(InputError, folder, "num_patches 15", "square number"):
        load_structure(str(folder))


def test_images_of_other_than_three_channels_are_refused(folder):
    change_config(folder, "vision_config", num_channels=1)
    with refused(InputError, folder, "1 channels", "expected 3"):
        load_structure(str(folder))


@pytest.mark.skipif(bool(importlib.util.find_spec("sentencepiece")), reason="sentencepiece is installed")
def test_a_tokenizer_that_needs_sentencepiece_says_what_to_install(tiny_siglip, tmp_path):
    folder = shutil.copytree(tiny_siglip, tmp_path / "siglip")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "SiglipTokenizer"}))
    with refused(InputError, folder, "pip install", "sentencepiece protobuf"):
        load_backbone(str(folder))


def test_openais_first_configuration_reads_at_the_end_of_text(folder, tiny_clip):
    """There eos_token_id is 2 and means the largest id of the prompt; prompts are padded with the end-of-text token."""
    prompts = ["a cat", "a photo of a dog", "x"]
    change_config(folder, "text_config", eos_token_id=2)
    backbone, modern = load_backbone(str(folder)), load_backbone(str(tiny_clip))
    assert backbone.tokenizer.pad_token_id == backbone.tokenizer.eos_token_id == len(backbone.tokenizer) - 1
    padded = dict(backbone.tokenizer(prompts, padding="max_length", max_length=48, return_tensors="pt"))
    with torch.no_grad():
        trimmed = backbone.encode_prompts(backbone.tokenize(prompts))
        torch.testing.assert_close(trimmed, backbone.encode_prompts(padded), atol=1e-6, rtol=0)
        torch.testing.assert_close(trimmed, modern.encode_prompts(modern.tokenize(prompts)), atol=1e-6, rtol=0)
    assert torch.pdist(trimmed).min() > 1e-3


def test_a_larger_id_than_the_end_of_text_is_refused_with_openais_first_configuration(folder):
    """transformers would read at the padding, whose id is larger, or at a word of the prompt."""
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "<pad>"})
    tokenizer.save_pretrained(folder)
    load_backbone(str(folder))
    change_config(folder, "text_config", eos_token_id=2)
    with refused(InputError, folder, "eos_token_id 2", "largest: 514", "token 513", "text_config"):
        load_backbone(str(folder))


def test_a_configuration_that_reads_elsewhere_than_prompts_end_is_refused(folder):
    change_config(folder, "text_config", eos_token_id=7)
    with refused(InputError, folder, "token 7", "token 513", "text_config"):
        load_backbone(str(folder))


def test_the_id_2_is_meant_as_it_stands_where_it_is_the_end_of_text(tiny_metaclip2, tmp_path):
    backbone = load_backbone(str(tiny_metaclip2))
    assert backbone.tokenizer("a")["input_ids"][-1] == backbone.model.config.text_config.eos_token_id == 2
    moved = shutil.copytree(tiny_metaclip2, tmp_path / "moved")
    change_config(moved, "text_config", eos_token_id=3)
    with refused(InputError, moved, "token 3", "token 2", "text_config"):
        load_backbone(str(moved))


def test_truncated_weights_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with refused(InputError, folder, "cannot be loaded"):
        load_backbone(str(folder))


def test_missing_tensors_are_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["visual_projection.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with refused(InputError, folder, "lacks 1", "visual_projection.weight"):
        load_backbone(str(folder))


def test_devices_are_checked():
    assert pick_device("cpu") == torch.device("cpu")
    for bad in ("gpu", "cuda:x"):
        with refused(InputError, repr(bad), "auto, cpu, cuda"):
            pick_device(bad)
    with refused(InputError, "'cuda:99'", f"{torch.cuda.device_count()} CUDA device(s)", "cpu"):
        pick_device("cuda:99")


@BOTH
def test_a_configuration_of_a_billion_layers_is_refused(folder, load):
    change_config(folder, "vision_config", num_hidden_layers=10**9)
    with refused(InputError, folder, "num_hidden_layers", "1,000,000,000", "at most 1,000"):
        load(str(folder))

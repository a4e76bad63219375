"""True shapes, without weights: the published configurations on torch's meta device."""

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from torch import nn

from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from lowshot.models.opening import opened
from open_clip_layout import write_checkpoint
from refusing import refused

QUICK, EXACT, TANH = {"hidden_act": "quick_gelu"}, {"hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}


def sizes(hidden, intermediate, layers, heads, **more):
    return {
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **more,
    }


def clip(vision, text, embedding, activation):
    own = {"projection_dim": embedding, **activation}
    context = {"vocab_size": 49408, "max_position_embeddings": 77, "eos_token_id": 2, "pad_token_id": 1}
    return {
        "model_type": "clip",
        "projection_dim": embedding,
        "vision_config": {**vision, **own},
        "text_config": {**text, **context, **own},
    }


def siglip(vision, text, vocabulary, context=64, kind="siglip"):
    return {
        "model_type": kind,
        "vision_config": {**vision, **TANH},
        "text_config": {**text, **TANH, "vocab_size": vocabulary, "max_position_embeddings": context},
    }


BASE, SO400M = (768, 3072, 12, 12), (1152, 4304, 27, 16)
CONFIGS = {
    "openai/clip-vit-base-patch32": clip(sizes(*BASE, patch_size=32), sizes(512, 2048, 12, 8), 512, QUICK),
    "openai/clip-vit-base-patch16": clip(sizes(*BASE, patch_size=16), sizes(512, 2048, 12, 8), 512, QUICK),
    "openai/clip-vit-large-patch14": clip(
        sizes(1024, 4096, 24, 16, patch_size=14), sizes(768, 3072, 12, 12), 768, QUICK
    ),
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": clip(
        sizes(1664, 8192, 48, 16, patch_size=14), sizes(1280, 5120, 32, 20), 1280, EXACT
    ),
    "google/siglip-base-patch16-224": siglip(sizes(*BASE, patch_size=16, image_size=224), sizes(*BASE), 32000),
    "google/siglip-so400m-patch14-224": siglip(
        sizes(*SO400M, patch_size=14, image_size=224), sizes(*SO400M), 32000, context=16
    ),
    "google/siglip-so400m-patch14-384": siglip(sizes(*SO400M, patch_size=14, image_size=384), sizes(*SO400M), 32000),
    "google/siglip2-base-patch16-224": siglip(sizes(*BASE, patch_size=16, image_size=224), sizes(*BASE), 256000),
    "google/siglip2-base-patch16-naflex": siglip(
        sizes(*BASE, patch_size=16, num_patches=256), sizes(*BASE), 256000, kind="siglip2"
    ),
}
MILLIONS = {
    "openai/clip-vit-base-patch32": (87.85, 63.43, 151.28),
    "openai/clip-vit-base-patch16": (86.19, 63.43, 149.62),
    "openai/clip-vit-large-patch14": (303.97, 123.65, 427.62),
    "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": (1844.91, 694.66, 2539.57),
    "google/siglip-base-patch16-224": (92.88, 110.27, 203.16),
    "google/siglip-so400m-patch14-224": (427.68, 449.68, 877.36),
    "google/siglip-so400m-patch14-384": (428.23, 449.73, 877.96),
}
"""Parameters of the vision tower, the text tower and in all: open_clip, docs/model_profile.csv."""
IMAGE_SIZES = {"google/siglip-so400m-patch14-384": 384, "google/siglip2-base-patch16-naflex": 256}
CONTEXTS = {"clip": 77, "siglip": 64, "siglip2": 64}


@pytest.fixture(scope="module")
def structures(tmp_path_factory):
    """Each structure once, from a folder that holds its config.json and nothing else."""
    structures = {}

    def structure(name):
        if name not in structures:
            folder = tmp_path_factory.mktemp("config")
            (folder / "config.json").write_text(json.dumps(CONFIGS[name]))
            structures[name] = load_structure(str(folder))
        return structures[name]

    return structure


@pytest.mark.parametrize("name", CONFIGS)
def test_six_projections_of_every_layer_are_linear_layers_of_the_right_shape(structures, name):
    towers = structures(name)
    named = set()
    for tower in ("vision", "text"):
        config = CONFIGS[name][f"{tower}_config"]
        width, inner = config["hidden_size"], config["intermediate_size"]
        shapes = dict.fromkeys("qkvo", (width, width)) | {"fc1": (inner, width), "fc2": (width, inner)}
        assert towers.depths[tower] == config["num_hidden_layers"]
        for layer in range(towers.depths[tower]):
            for projection, shape in shapes.items():
                path = towers.module_name(tower, layer, projection)
                module = towers.model.get_submodule(path)
                assert isinstance(module, nn.Linear)
                assert tuple(module.weight.shape) == shape
                assert path.startswith(towers.layer_name(tower, layer) + ".")
                named.add(path)
    assert named == set(towers.encoder_linears())


@pytest.mark.parametrize("name", MILLIONS)
def test_towers_have_the_published_numbers_of_parameters(structures, name):
    towers = structures(name)
    counts = [
        sum(
            p.numel() for module in towers.tower_modules(tower) for p in towers.model.get_submodule(module).parameters()
        )
        for tower in ("vision", "text")
    ]
    millions = [count / 1e6 for count in (*counts, towers.parameters)]
    assert millions == pytest.approx(MILLIONS[name], abs=0.00501)


def test_the_vit_b_16_of_the_papers_has_its_exact_number_of_parameters(structures):
    assert structures("openai/clip-vit-base-patch16").parameters == 149_620_737


def test_siglip_2_is_siglip_with_a_larger_vocabulary(structures):
    first, second = (structures(f"google/{name}-base-patch16-224").parameters for name in ("siglip", "siglip2"))
    assert second - first == (256_000 - 32_000) * 768


def test_naflex_is_siglip_2_with_more_positions(structures):
    fixed, naflex = (structures(f"google/siglip2-base-patch16-{kind}").parameters for kind in ("224", "naflex"))
    assert naflex - fixed == (256 - 14 * 14) * 768


@pytest.mark.parametrize("name", CONFIGS)
def test_image_side_and_context_are_the_configured_ones(structures, name):
    towers = structures(name)
    assert towers.image_size == IMAGE_SIZES.get(name, 224)
    assert towers.context_length == CONFIGS[name]["text_config"]["max_position_embeddings"]


@pytest.mark.parametrize("name", CONFIGS)
def test_no_weight_takes_memory(structures, name):
    towers = structures(name)
    tensors = [*towers.model.parameters(), *towers.model.buffers()]
    assert {tensor.device.type for tensor in tensors} == {towers.device.type} == {"meta"}
    assert {p.dtype for p in towers.model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in towers.model.parameters())


def test_tower_modules_are_named_in_the_order_they_run(structures):
    clip_towers = structures("openai/clip-vit-base-patch16")
    assert clip_towers.tower_modules("vision") == ("vision_model", "visual_projection")
    assert clip_towers.tower_modules("text") == ("text_model", "text_projection")
    siglip_towers = structures("google/siglip2-base-patch16-naflex")
    assert siglip_towers.tower_modules("vision") == ("vision_model",)
    assert siglip_towers.tower_modules("text") == ("text_model",)
    assert siglip_towers.layer_name("text", 3) == "text_model.encoder.layers.3"


def test_the_structure_is_that_of_the_loaded_model(any_tiny_model):
    structure, backbone = load_structure(str(any_tiny_model)), load_backbone(str(any_tiny_model))
    shapes = [{n: (p.shape, p.dtype) for n, p in t.model.named_parameters()} for t in (structure, backbone)]
    assert shapes[0] == shapes[1]
    for name in ("depths", "parameters", "image_size", "context_length", "dtype"):
        assert getattr(structure, name) == getattr(backbone, name)
    assert structure.encoder_linears() == backbone.encoder_linears()


def test_the_builtin_model_has_a_structure():
    assert load_structure("builtin").parameters == load_backbone("builtin").parameters


def test_a_checkpoint_in_half_precision_has_the_structure_of_what_is_loaded(tmp_path):
    config = CONFIGS["openai/clip-vit-base-patch32"]
    halves = {part: {**config[part], "torch_dtype": "float16"} for part in ("vision_config", "text_config")}
    (tmp_path / "config.json").write_text(json.dumps({**config, **halves, "torch_dtype": "float16"}))
    assert {p.dtype for p in load_structure(str(tmp_path)).model.parameters()} == {torch.float32}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A Hub of the files in a folder; asking it returns the names that were asked for."""
    asked = []

    def download(repository, name, **_):
        asked.append(name)
        if not (tmp_path / name).is_file():
            raise RemoteEntryNotFoundError(f"404: {repository} has no {name}", response=Response())
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url: None)
    return tmp_path, asked


class Response:
    """As much of an HTTP response as huggingface_hub's errors look at."""

    headers: dict[str, str] = {}  # noqa: RUF012 - never written
    request = None
    status_code = 404


def test_of_a_hub_model_only_the_configuration_is_fetched(hub):
    folder, asked = hub
    (folder / "config.json").write_text(json.dumps(CONFIGS["openai/clip-vit-base-patch16"]))
    assert load_structure("owner/name").parameters == 149_620_737
    assert asked == ["config.json"]


def test_a_model_of_the_hub_has_the_commit_that_its_files_are_of(tiny_clip, tmp_path, monkeypatch):
    commit, asked = "0123456789abcdef" * 2 + "01234567", []
    snapshot = shutil.copytree(tiny_clip, tmp_path / commit)
    monkeypatch.setattr(
        "lowshot.models.checkpoint_files.repository_file", lambda _, name: asked.append(name) or snapshot / name
    )
    assert opened("owner/name").revision == commit
    assert asked == ["config.json"]
    assert opened(str(snapshot)).revision is None


@pytest.mark.parametrize("config", [None, {"architecture": "vit_base_patch16_clip_224"}])
@pytest.mark.parametrize("load", [load_structure, load_backbone])
def test_a_hub_repository_of_open_clip_alone_is_read(hub, load, config):
    folder, asked = hub
    write_checkpoint(folder)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    assert load("owner/name").depths == {"vision": 3, "text": 2}
    weights = {"open_clip_model.safetensors"} if load is load_backbone else set()
    assert set(asked) == {"config.json", "open_clip_config.json"} | weights


@pytest.mark.parametrize("load", [load_structure, load_backbone])
def test_a_hub_repository_without_configuration_is_refused(hub, load):
    with refused(InputError, "'owner/name'", "no config.json", "open_clip_config.json"):
        load("owner/name")

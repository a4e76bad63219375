"""timm's ViTs and DINOv2s, against timm's own forward pass."""

import contextlib
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from open_clip_oracle import open_clip
from refusing import refused

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2}
CASES = {
    "vit_base_patch16_224": {"img_size": 32},
    "deit_small_patch16_224": {"img_size": 48, "mlp_ratio": 2},
    "vit_base_patch8_224": {"img_size": 16, "qkv_bias": False},
    "vit_small_patch14_dinov2": {"img_size": 28},
    "vit_base_patch14_reg4_dinov2": {"img_size": 28},
}
PRETRAINED = {
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.3, 0.25],
    "interpolation": "bilinear",
    "input_size": [3, 224, 224],
}


def write(folder, architecture, suffix="safetensors", **arguments):
    """Write the files of a random model as timm's ``save_for_hf`` does; returns that model."""
    open_clip()  # sees to it that timm can be imported
    import timm

    arguments = {**SMALL, **arguments}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(architecture, num_classes=3, **arguments).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, mean=float(parameter.ndim == 1), std=0.3)
    folder.mkdir(exist_ok=True)
    config = {"architecture": architecture, "num_classes": 3, "global_pool": "token", "pretrained_cfg": PRETRAINED}
    (folder / "config.json").write_text(json.dumps({**config, "model_args": arguments}))
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if suffix == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")
    return model


@pytest.mark.parametrize(("architecture", "arguments"), CASES.items(), ids=CASES)
def test_embeddings_are_those_of_timm(tmp_path, architecture, arguments):
    theirs, side = write(tmp_path, architecture, **arguments), arguments["img_size"]
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    backbone = load_backbone(str(tmp_path))
    mean, std = (torch.tensor(PRETRAINED[name]).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        embeddings = backbone.encode_images(images)
        expected = theirs.forward_head(theirs.forward_features((images - mean) / std), pre_logits=True)
    torch.testing.assert_close(embeddings, functional.normalize(expected, dim=-1), atol=1e-5, rtol=0)
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-3
    assert backbone.resizing == ("shortest", "bilinear")
    shapes = [{n: p.shape for n, p in t.model.named_parameters()} for t in (load_structure(str(tmp_path)), backbone)]
    assert shapes[0] == shapes[1]


def test_a_pickle_is_read_as_tensors_alone_and_is_the_same_model(tmp_path):
    write(tmp_path / "one", "vit_base_patch16_224", img_size=32)
    write(tmp_path / "other", "vit_base_patch16_224", "bin", img_size=32)
    one, other = (load_backbone(str(tmp_path / name)).identity for name in ("one", "other"))
    assert (one.weights_sha256, one.settings_sha256) == (other.weights_sha256, other.settings_sha256)


def test_the_structure_of_a_published_name_follows_from_the_name(tmp_path):
    (tmp_path / "config.json").write_text('{"architecture": "vit_large_patch14_dinov2"}')
    towers = load_structure(str(tmp_path))
    assert (towers.depths, towers.embedding_size, towers.image_size) == ({"vision": 24}, 1024, 224)
    assert towers.parameters == pytest.approx(304e6, rel=0.01)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (
            {"architecture": "vit_base_patch16_siglip_224"},
            ("architecture 'vit_base_patch16_siglip_224'", "another", "vit_{small,base,large}_patch14[_reg4]_dinov2"),
        ),
        ({"global_pool": "avg"}, ("architecture 'vit_base_patch16_224'", "by 'avg'")),
        ({"model_args": {"qk_norm": True}}, ("architecture 'vit_base_patch16_224'", "qk_norm")),
        ({"model_args": 3}, ("config.json", "model_args 3")),
        ({"model_args": {"depth": "many"}}, ("config.json", "depth 'many'", "whole number")),
        ({"model_args": {"mlp_ratio": 2.5}}, ("config.json", "mlp_ratio 2.5", "whole number")),
        ({"model_args": {}, "pretrained_cfg": {"input_size": [3, 2]}}, ("input_size", "[3, 2]", "[3, S, S]")),
        ({"model_args": {**SMALL, "depth": 3, "img_size": 32}}, ("lack 16", "layers.2.attention.k_proj.bias")),
        ({"model_args": {**SMALL, "depth": 1, "img_size": 32}}, ("16 tensor(s)", "layers.1.attention.k_proj.bias")),
        ({"model_args": {**SMALL, "img_size": 48}}, ("position_embeddings", "(1, 5, 24)", "(1, 10, 24)")),
    ],
)
def test_what_is_no_plain_vit_or_has_other_weights_is_refused(tmp_path, change, facts):
    write(tmp_path, "vit_base_patch16_224", img_size=32)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with refused(InputError, tmp_path, *facts):
        load_backbone(str(tmp_path))


def test_weights_that_have_more_are_refused_and_those_of_the_classifier_are_left_aside(tmp_path):
    write(tmp_path, "vit_base_patch16_224", img_size=32)
    path = tmp_path / "model.safetensors"
    save_file({**load_file(path), "fc_norm.weight": torch.ones(24)}, path)
    with refused(InputError, tmp_path, "1 tensor(s)", "fc_norm.weight"):
        load_backbone(str(tmp_path))
    path.unlink()
    with refused(InputError, tmp_path, "model.safetensors", "pytorch_model.bin"):
        load_backbone(str(tmp_path))


def test_a_name_of_timm_is_a_repository(monkeypatch):
    asked = []

    def answer(repository, name, *rest):
        asked.append((repository, name))
        raise OSError("offline")

    monkeypatch.setattr("lowshot.models.checkpoint_files.repository_file", answer)
    with contextlib.suppress(InputError):
        load_backbone("timm:vit_base_patch16_224.dino")
    assert asked[0] == ("timm/vit_base_patch16_224.dino", "config.json")

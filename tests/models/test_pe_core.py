"""PE-Core: what its image tower turns, what its checkpoints must be, and open_clip's own forward pass."""

import json
import shutil

import pytest
import torch

from lowshot.conversion import write_backbone
from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from lowshot.models.blocks import Rotary
from lowshot.models.pe_core import turns
from open_clip_layout import write_checkpoint
from open_clip_oracle import open_clip
from refusing import refused


def test_a_product_of_turned_queries_and_keys_depends_on_the_way_between_two_patches():
    rotary = turns(side=4, width=8)
    assert rotary.shape == (2, 1 + 16, 8)
    rotary = Rotary(rotary.double())
    query, key = torch.randn(2, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    products = rotary.turned(query.expand(1, 1, 17, 8)) @ rotary.turned(key.expand(1, 1, 17, 8)).mT
    of_patches = products[0, 0, 1:, 1:].view(4, 4, 4, 4)  # row, column of the query; row, column of the key
    torch.testing.assert_close(of_patches[0, 0, 1, 2], of_patches[2, 1, 3, 3])
    assert abs(of_patches[0, 0, 1, 2] - of_patches[0, 0, 2, 1]) > 1e-3
    torch.testing.assert_close(products[0, 0, 0, 0], query @ key, atol=1e-12, rtol=0)


def test_tokens_behind_the_patches_are_not_turned():
    rotary = Rotary(turns(side=2, width=4))
    tokens = torch.randn(1, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    turned = rotary.turned(tokens)
    assert torch.equal(turned[:, :, [0, 5, 6]], tokens[:, :, [0, 5, 6]])
    assert not torch.isclose(turned[:, :, 1:5], tokens[:, :, 1:5]).all(-1).any()


def test_its_structure_is_that_of_the_published_model():
    towers = load_structure("PE-Core-B-16:meta")
    assert towers.depths == {"vision": 12, "text": 24}
    assert (towers.image_size, towers.context_length, towers.embedding_size) == (224, 32, 1024)
    assert towers.parameters == 447_660_545  # as many as open_clip's has


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("PE-Core-T-16-384", 69_546_113), ("PE-Core-S-16-384", 87_188_225), ("PE-Core-L-14-336", 671_138_817)],
)
def test_its_sisters_have_as_many_parameters_as_open_clips(name, parameters):
    assert load_structure(f"{name}:meta").parameters == parameters


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"image_size": 32}, ("32 pixels", "own size")),
        ({"timm_pool": "avg"}, ("by 'avg'", "by 'map'")),
        ({"timm_proj": "linear"}, ("projection", "type 'linear'")),
        ({"timm_model_name": "vit_pe_core_gigantic_patch14_448"}, ("image tower vit_pe_core_gigantic_patch14_448",)),
    ],
)
def test_what_is_not_read_is_refused_by_name(tiny_pe_core, tmp_path, change, facts):
    folder = shutil.copytree(tiny_pe_core, tmp_path / "copy")
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"]["vision_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with refused(InputError, folder, *facts):
        load_backbone(str(folder))


def test_nobody_else_could_load_its_weights(tiny_pe_core, tmp_path):
    with refused(InputError, tiny_pe_core, "(pe_core)", "--format onnx"):
        write_backbone(str(tiny_pe_core), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_open_clip_itself_computes_the_same(tmp_path):
    config = {
        "embed_dim": 32,
        "vision_cfg": {
            "image_size": 384,
            "timm_model_name": "vit_pe_core_tiny_patch16_384",
            "timm_pool": "map",
            "timm_proj": None,
        },
        "text_cfg": {"context_length": 32, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip().CustomTextCLIP(**config).eval()
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.08)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        images = torch.rand(2, 3, 384, 384)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    pixels = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bilinear", "resize_mode": "squash"}
    backbone = load_backbone(str(write_checkpoint(tmp_path / "pe", {**config, "custom_text": True}, tensors, pixels)))
    prompts = ["a photo of a cat.", "Łódź, 7 猫s", "x"]
    tokens = open_clip().tokenize(prompts, context_length=32)
    with torch.no_grad():
        expected = model.get_logits((images - 0.5) / 0.5, tokens)[0]
        logits = backbone.logits(backbone.encode_images(images), backbone.encode_prompts(backbone.tokenize(prompts)))
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)

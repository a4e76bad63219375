"""MobileCLIP: what its image tower folds, where adapters find layers in it, and open_clip's own forward pass."""

import json
import shutil

import pytest
import torch

from lowshot.conversion import write_backbone
from lowshot.errors import InputError
from lowshot.models import load_backbone, load_structure
from lowshot.models.mobileclip import Nearby
from open_clip_layout import write_checkpoint
from open_clip_oracle import open_clip
from refusing import refused
from tiny_models import mobileclip_tensors

LINEARS = ["self_attn.k_proj", "self_attn.v_proj", "self_attn.q_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2"]


@pytest.mark.parametrize(
    ("name", "blocks", "parameters"),
    [
        ("MobileCLIP2-S0:dfndr2b", 2, 74_777_665),
        ("MobileCLIP-S1:datacompdr", 4, 84_873_281),
        ("MobileCLIP2-S2:dfndr2b", 4, 99_108_689),
    ],
)
def test_its_structure_is_that_of_the_published_model(name, blocks, parameters):
    """As many parameters as open_clip's model has once timm has folded its branches."""
    towers = load_structure(name)
    assert towers.depths == {"vision": blocks, "text": 12}
    assert (towers.image_size, towers.context_length, towers.embedding_size) == (256, 77, 512)
    assert towers.image_tokens == 64
    assert towers.parameters == parameters
    in_images = [name for name in towers.encoder_linears() if name.startswith("vision_model")]
    assert in_images == [f"vision_model.encoder.layers.{block}.{each}" for block in range(blocks) for each in LINEARS]


def test_tokens_behind_the_image_are_convolved_by_themselves():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        near, tokens = Nearby(4, side=3), torch.randn(2, 9 + 2, 4)
    seen = near(tokens)
    assert torch.equal(seen[:, :9], near(tokens[:, :9]))
    alone = near.convolution(tokens[:, 10, :, None, None])[..., 0, 0]
    torch.testing.assert_close(seen[:, 10], alone)


def test_padding_is_open_clips_since_it_is_seen(tiny_mobileclip):
    backbone = load_backbone(str(tiny_mobileclip))
    tokens = backbone.tokenize(["cat", "hello! a dog !!"])
    assert tokens["input_ids"].shape == (2, 48)
    assert tokens["input_ids"][0].tolist() == [49406, 2368, 49407, *[0] * 45]
    assert tokens["input_ids"][1, 2] == 256  # an exclamation mark that ends a word is none of padding
    alone, longer = (backbone.encode_prompts(backbone.tokenize(prompts)) for prompts in (["cat"], ["cat", "a dog"]))
    torch.testing.assert_close(alone[0], longer[0])


def test_a_causal_text_tower_beside_it_is_refused(tiny_mobileclip, tmp_path):
    refuses(tiny_mobileclip, tmp_path, "text_cfg", {"no_causal_mask": False}, "text tower", "only those before")


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"image_size": 20}, ("20 pixels", "multiple of 8")),
        ({"timm_pool": "max"}, ("by 'max'", "by 'avg'")),
        ({"timm_proj": "mlp"}, ("projection", "type 'mlp'")),
        ({"timm_model_name": "fastvit_mci4"}, ("image tower fastvit_mci4",)),
    ],
)
def test_what_is_not_read_is_refused_by_name(tiny_mobileclip, tmp_path, change, facts):
    refuses(tiny_mobileclip, tmp_path, "vision_cfg", change, *facts)


def refuses(given, tmp_path, part, change, *facts):
    folder = shutil.copytree(given, tmp_path / "copy")
    content = json.loads((folder / "open_clip_config.json").read_text())
    content["model_cfg"][part] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    with refused(InputError, folder, *facts):
        load_backbone(str(folder))


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (
            lambda tensors: tensors.pop("visual.trunk.stem.2.identity.running_var"),
            ("lack", "visual.trunk.stem.2.identity.running_var"),
        ),
        (lambda tensors: tensors.update({"visual.trunk.x": torch.ones(1)}), ("1 tensor(s)", "visual.trunk.x")),
        (
            lambda tensors: tensors.update({"visual.trunk.stages.3.blocks.1.mlp.fc1.weight": torch.ones(96, 31, 1, 1)}),
            ("layers.1.mlp.fc1.weight", "(96, 31)", "(96, 32)"),
        ),
        (
            lambda tensors: tensors.update({"visual.trunk.stem.0.conv_scale.conv.weight": torch.ones(7, 3, 1, 1)}),
            ("image tower's tensors", "(7)", "(8)"),
        ),
    ],
)
def test_tensors_that_are_missing_more_or_of_another_shape_are_named(tiny_mobileclip, tmp_path, change, facts):
    tensors = mobileclip_tensors()
    change(tensors)
    content = json.loads((tiny_mobileclip / "open_clip_config.json").read_text())
    with refused(InputError, tmp_path, *facts):
        load_backbone(str(write_checkpoint(tmp_path, content["model_cfg"], tensors)))


def test_nobody_else_could_load_its_weights(tiny_mobileclip, tmp_path):
    with refused(InputError, tiny_mobileclip, "(mobileclip)", "--format onnx"):
        write_backbone(str(tiny_mobileclip), tmp_path / "out")
    assert not (tmp_path / "out").exists()


PIXELS = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0], "interpolation": "bilinear", "resize_mode": "shortest"}


@pytest.mark.long
@pytest.mark.parametrize("tower", ["fastvit_mci0", "fastvit_mci1", "fastvit_mci2"])
def test_open_clip_itself_computes_the_same(tmp_path, tower):
    """Each image tower at its true size; batch norms have the statistics of what they see, so that images differ."""
    towers = {
        "vision_cfg": {"timm_model_name": tower, "timm_pool": "avg", "timm_proj": None, "image_size": 256},
        "text_cfg": {"context_length": 77, "width": 32, "heads": 2, "layers": 2, "no_causal_mask": True},
    }
    config = {"embed_dim": 32, **towers}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip().CustomTextCLIP(**config)
        for name, parameter in model.named_parameters():
            if name.startswith("text") and parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
            elif name.endswith("gamma"):
                torch.nn.init.uniform_(parameter, 0.2, 0.6)
            elif name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
        images = torch.rand(3, 3, 256, 256) * torch.rand(3, 3, 1, 1) * torch.linspace(0, 1, 256)
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            model.train().encode_image(images.flip(-1))
    model.eval()
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    backbone = load_backbone(
        str(write_checkpoint(tmp_path / "model", {**config, "custom_text": True}, tensors, PIXELS))
    )
    prompts = ["a photo of a cat.", "Łódź, 7 猫s", "hello! wow !", "x"]
    tokens = open_clip().tokenize(prompts, context_length=77)
    assert torch.equal(backbone.tokenize(prompts)["input_ids"], tokens)
    with torch.no_grad():
        expected = model.get_logits(images, tokens)[0]
        computed = backbone.logits(backbone.encode_images(images), backbone.encode_prompts(backbone.tokenize(prompts)))
    assert expected.std(0).min() > 0.1
    assert expected.std(1).min() > 0.1
    torch.testing.assert_close(computed, expected, atol=1e-4, rtol=0)

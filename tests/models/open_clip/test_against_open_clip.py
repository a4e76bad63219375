"""open_clip itself computes the same: every structure that lowshot reads, at true structure scaled down."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lowshot.data.crops import central_crops
from lowshot.models import load_backbone, load_structure
from lowshot.models.open_clip import published, version
from open_clip_layout import PIXELS, TINY, configured, tiny_tensors, write_checkpoint
from open_clip_oracle import open_clip
from tiny_models import roberta_like_tokenizer

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("random_weights")]
PROMPTS = [
    "a photo of a cat.",
    "Łódź, 7 猫s",
    "don't  STOP\n at 1999!!",
    "naïve 'Café' — 🙂👍🏽",
    "",
    "hello_world-foo/bar e\u0301",
    "日本語 ß İ",
]
STRUCTURES = {
    "plain": {},
    "quickgelu": {"quick_gelu": True},
    "tanh": {"vision_cfg": {"act_kwargs": {"approximate": "tanh"}}},
    "eps": {"vision_cfg": {"norm_kwargs": {"eps": 1e-3}}, "text_cfg": {"norm_kwargs": {"eps": 1e-2}}},
    "heads of 8 and odd mlp": {"vision_cfg": {"head_width": 8, "mlp_ratio": 4.3637}},
    "layer scale": {"vision_cfg": {"ls_init_value": 0.1}, "text_cfg": {"ls_init_value": 0.2}},
    "custom text": {"custom_text": True},
    "text reads at its end": {"text_cfg": {"pool_type": "eos", "eos_id": 49407}},
    "no text projection": {"text_cfg": {"width": 16, "proj_type": "none"}},
    "fixed positions": {"vision_cfg": {"pos_embed_type": "sin_cos_2d"}},
    "norm after pooling": {"vision_cfg": {"final_ln_after_pool": True}},
    "patch dropout": {"vision_cfg": {"patch_dropout": 0.5}},
    "custom blocks": {"vision_cfg": {"block_type": "custom"}},
    "scale of shape 1": {"nonscalar_logit_scale": True},
    "other sides": {"vision_cfg": {"image_size": [24, 24], "patch_size": [4, 4]}},
    "short context": {"text_cfg": {"context_length": 9}},
}


@pytest.fixture
def random_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def built(config, pixels=PIXELS):
    """open_clip's model, its weights so large that every part matters."""
    package = open_clip()
    kind = package.CustomTextCLIP if config.get("custom_text") else package.CLIP
    model = kind(**{name: value for name, value in config.items() if name != "custom_text"}).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and name != "visual.positional_embedding":
            torch.nn.init.normal_(parameter, std=0.3)
        elif name.endswith(("bias", "gamma")):
            torch.nn.init.normal_(parameter, std=0.1)
    package.model.set_model_preprocess_cfg(model, {"size": model.visual.image_size, **pixels})
    return model


def written(folder, config, pixels=PIXELS):
    """A model, and the folder that open_clip's save_for_hf wrote of it; no tokenizer, which it would fetch."""

    class NoTokenizer:
        def save_pretrained(self, folder):
            pass

    model = built(config, pixels)
    open_clip().push_to_hf_hub.__globals__["save_for_hf"](model, NoTokenizer(), config, str(folder))
    return model


def refuse_difference(model, backbone, tokenizer=None):
    """Compare logits of prompts and of images in [0, 1], each package with its own tokenizer and pixels."""
    images = torch.rand(3, 3, backbone.image_size, backbone.image_size)
    prompts = [
        prompt
        for prompt in PROMPTS
        if len(backbone.tokenizer(prompt, verbose=False)["input_ids"]) <= backbone.context_length
    ]
    tokens = (tokenizer or open_clip().tokenize)(prompts, context_length=backbone.context_length)
    mean, std = (torch.tensor(getattr(model.visual, f"image_{name}")).view(3, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        expected = model.get_logits((images - mean) / std, tokens)[0]
        computed = backbone.logits(backbone.encode_images(images), backbone.encode_prompts(backbone.tokenize(prompts)))
    assert len(prompts) > 1
    assert expected.std() > 0.1
    torch.testing.assert_close(computed, expected.reshape(computed.shape), atol=1e-4, rtol=0)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_logits_are_those_of_open_clip(tmp_path, structure):
    model = written(tmp_path, configured(STRUCTURES[structure]))
    refuse_difference(model, load_backbone(str(tmp_path)))


@pytest.mark.parametrize("quick_gelu", [False, True])
def test_metaclip_2_with_its_tokenizer(tmp_path, quick_gelu):
    tokenizer = roberta_like_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    text = {"hf_tokenizer_name": str(tmp_path), "pool_type": "eos", "eos_id": 2, "vocab_size": len(tokenizer)}
    model = written(tmp_path, configured({"quick_gelu": quick_gelu, "text_cfg": text}))
    backbone = load_backbone(str(tmp_path))
    assert backbone.model.config.model_type == "metaclip_2"
    refuse_difference(model, backbone, open_clip().tokenizer.HFTokenizer(str(tmp_path)))


def test_each_published_structure_that_is_read_is_one_of_those_compared():
    """Scaled down, nothing but sizes is left of it; PE-Core, MobileCLIP and MetaCLIP 2 have tests of their own."""
    sizes = {"image_size", "patch_size", "width", "head_width", "layers", "mlp_ratio", "heads", "context_length"}
    for each in published():
        if not each.shortfalls and not each.name.startswith(("PE-Core", "MobileCLIP")) and "worldwide" not in each.name:
            left = {name: value for name, value in each.config.items() if name not in ("embed_dim", "quick_gelu")}
            assert set(left) == {"vision_cfg", "text_cfg"}, each.name
            assert set(left["vision_cfg"]) | set(left["text_cfg"]) <= sizes | {"vocab_size"}, each.name
            assert left["text_cfg"]["vocab_size"] == 49408, each.name


def test_the_writer_of_tests_writes_what_open_clip_reads(tmp_path):
    write_checkpoint(tmp_path)
    model = open_clip().create_model(f"local-dir:{tmp_path}")
    refuse_difference(model.eval(), load_backbone(str(tmp_path)))
    assert list(model.state_dict()) != []
    assert {name: tuple(t.shape) for name, t in model.state_dict().items()} == {
        name: tuple(t.shape) for name, t in tiny_tensors().items()
    }


def test_both_files_that_open_clip_writes_are_read(tmp_path):
    written(tmp_path, TINY)
    both = load_backbone(str(tmp_path)).identity
    (tmp_path / "open_clip_model.safetensors").unlink()
    assert load_backbone(str(tmp_path)).identity == both


def test_a_checkpoint_of_training_by_several_processes_is_read(tmp_path):
    model = written(tmp_path, TINY)
    (tmp_path / "open_clip_model.safetensors").unlink()
    tensors = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"epoch": 3, "name": "x", "state_dict": tensors}, tmp_path / "open_clip_pytorch_model.bin")
    refuse_difference(model, load_backbone(str(tmp_path)))


@pytest.mark.filterwarnings("ignore")  # tracing warns of much, of itself too
@pytest.mark.parametrize("archive", [False, True])
def test_openais_files_are_read(tmp_path, archive):
    """Half precision, heads of 64, QuickGELU; as a TorchScript archive, or as its state dict."""
    config = configured({"quick_gelu": True, "vision_cfg": {"width": 128, "head_width": 64}})
    config["text_cfg"] |= {"width": 64, "heads": 1}
    model = built(config, {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)})
    model.half().float()  # rounded, as OpenAI's are
    path = tmp_path / "ViT-B-32.pt"
    if archive:
        inputs = torch.ones(2, 3, 16, 16), torch.zeros(2, 24, dtype=torch.int)
        torch.jit.save(torch.jit.trace(model, inputs, check_trace=False).half(), path)
        model.float()  # they share their tensors
    else:
        torch.save({name: tensor.half() for name, tensor in model.state_dict().items()}, path)
    refuse_difference(model, load_backbone(str(path)))
    assert load_structure(str(path)).parameters == sum(p.numel() for p in model.parameters())


def test_prompts_are_tokenised_as_open_clip_does(tiny_open_clip):
    backbone, tokenizer = load_backbone(str(tiny_open_clip)), open_clip().get_tokenizer("ViT-B-16")
    for prompt in PROMPTS:
        ids = backbone.tokenizer(prompt)["input_ids"]
        assert tokenizer([prompt])[0, : len(ids)].tolist() == ids
        assert tokenizer([prompt])[0, len(ids) :].sum() == 0


def test_the_table_is_the_packages():
    package = open_clip()
    assert version() == package.__version__
    assert [each.name for each in published()] == package.list_pretrained(as_str=True)
    for each in published():
        row = package.get_pretrained_cfg(each.model, each.tag)
        assert row["hf_hub"].rstrip("/") == "/".join(filter(None, (each.repository, each.file)))
        assert row.get("quick_gelu", False) == each.quick_gelu
        assert each.config == package.get_model_config(each.model)
        usual = package.transform.PreprocessCfg()
        for name in ("mean", "std", "interpolation", "resize_mode"):
            expected = row[name]
            value = each.pixels.get(name, getattr(usual, name))
            assert json.dumps(value) == json.dumps(expected), (each.name, name)


def photograph(height, width):
    """Smooth, so that a byte's rounding is all by which two ways of resizing differ."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    waves = [np.cos(9 * rows * k + 5 * columns / k) for k in (1, 2, 3)]
    return (127.5 + 120 * np.stack(waves, -1)).astype(np.uint8)


@pytest.mark.parametrize("resize_mode", ["shortest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(300, 200), (97, 180), (40, 40), (5, 9)])
def test_pixels_are_prepared_as_open_clip_does(tmp_path, resize_mode, interpolation, shape):
    from PIL import Image

    pixels = PIXELS | {"resize_mode": resize_mode, "interpolation": interpolation}
    backbone = load_backbone(str(write_checkpoint(tmp_path, pixels=pixels)))
    config = open_clip().transform.PreprocessCfg(**{"size": 16, **pixels})
    expected = open_clip().transform.image_transform_v2(config, is_train=False)(Image.fromarray(photograph(*shape)))
    crop = central_crops([photograph(*shape)], backbone.image_size, backbone.resizing)[0]
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (backbone.mean, backbone.std))
    torch.testing.assert_close((crop - mean) / std, expected, atol=2 / 255 / min(PIXELS["std"]), rtol=0)


def test_the_safetensors_file_is_open_clips_own(tmp_path):
    model = written(tmp_path, TINY)
    assert set(load_file(tmp_path / "open_clip_model.safetensors")) == set(model.state_dict())

"""The differences between families, against transformers' own models and processors."""

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoProcessor
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from lowshot.errors import InputError, LongPromptError
from lowshot.models import load_backbone
from refusing import refused

from ..tiny_models import EVERY

PROMPTS = ["a cat", "A photo of a Dog.", "x"]


def images(count=4):
    """Images ``(B, 16, 16, 3)``, 8 bits."""
    return np.random.default_rng(0).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def as_tensor(pixels):
    return torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255


def reference_inputs(folder):
    """The inputs that transformers' own processor makes of the images and prompts."""
    processor = AutoProcessor.from_pretrained(folder)
    context = processor.tokenizer.model_max_length
    own = {"patch_size": 4, "max_num_patches": 16} if "naflex" in folder.name else {}
    return processor(
        text=PROMPTS, images=list(images()), padding="max_length", max_length=context, return_tensors="pt", **own
    )


def our_logits(backbone):
    with torch.no_grad():
        classes = backbone.encode_prompts(backbone.tokenize(PROMPTS))
        return backbone.logits(backbone.encode_images(as_tensor(images())), classes)


def test_logits_are_those_of_transformers_with_its_own_processor(tiny_model):
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tiny_model).eval()(**reference_inputs(tiny_model)).logits_per_image
    logits = our_logits(load_backbone(str(tiny_model)))
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected, atol=2e-5, rtol=1e-5)


def test_in_float64_logits_are_those_of_transformers_to_the_last_places(tiny_model):
    backbone = load_backbone(str(tiny_model))
    backbone.model.double()
    exact = torch.from_numpy(images()).permute(0, 3, 1, 2).double() / 255
    inputs = reference_inputs(tiny_model)
    inputs["pixel_values"] = in_float64(inputs["pixel_values"], exact, backbone)
    with torch.no_grad():
        expected = AutoModel.from_pretrained(tiny_model).eval().double()(**inputs).logits_per_image
        classes = backbone.encode_prompts(backbone.tokenize(PROMPTS))
        logits = backbone.logits(backbone.encode_images(exact), classes)
    assert logits.dtype == torch.float64
    torch.testing.assert_close(logits, expected, atol=1e-11, rtol=0)


def in_float64(processed, exact, backbone):
    """The processor works in float32: the same pixel values to all places."""
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (backbone.mean, backbone.std))
    values = (exact - mean) / std
    if processed.ndim == 3:
        values = torch.stack([torch.from_numpy(convert_image_to_patches(v.numpy(), 4)) for v in values])
    torch.testing.assert_close(values.float(), processed, atol=1e-6, rtol=0)
    return values


def test_patches_lie_as_transformers_lays_them(tiny_naflex):
    backbone = load_backbone(str(tiny_naflex))
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    given = []
    backbone.model.vision_model.embeddings.register_forward_pre_hook(lambda module, inputs: given.append(inputs))
    backbone.family.embed_images(backbone.model, pixels)
    [(patches, shapes)] = given
    expected = np.stack([convert_image_to_patches(image.numpy(), 4) for image in pixels])
    np.testing.assert_array_equal(patches.numpy(), expected)
    assert shapes.tolist() == [[4, 4], [4, 4]]


def test_sigmoid_models_see_prompts_padded_to_the_full_context_without_a_mask(tiny_sigmoid_model):
    backbone = load_backbone(str(tiny_sigmoid_model))
    tokens = backbone.tokenize(["a cat"])
    assert set(tokens) == {"input_ids"}
    assert tokens["input_ids"].shape == (1, backbone.context_length) == (1, 24)
    used = len(backbone.tokenizer("a cat")["input_ids"])
    with torch.no_grad():
        whole = backbone.encode_prompts(tokens)
        trimmed = backbone.encode_prompts({"input_ids": tokens["input_ids"][:, :used]})
    assert (whole @ trimmed.T).item() < 0.99, "trimming must not be harmless here, or this test proves nothing"


def test_clip_prompts_are_trimmed_and_masked(tiny_clip):
    tokens = load_backbone(str(tiny_clip)).tokenize(["a cat", "a"])
    assert tokens["input_ids"].shape == tokens["attention_mask"].shape == (2, 6)
    assert tokens["attention_mask"].sum(1).tolist() == [6, 3]


@pytest.mark.parametrize("kind", ["tiny_chinese_clip", "tiny_altclip"])
def test_a_bert_sees_the_tokens_of_a_prompt_and_no_padding(kind, request):
    backbone = load_backbone(str(request.getfixturevalue(kind)))
    short, long = "a cat", "a photo of a large cat"
    tokens = backbone.tokenize([short, long])
    lengths = [len(backbone.tokenizer(text)["input_ids"]) for text in (short, long)]
    assert tokens["input_ids"].shape == (2, lengths[1])
    assert tokens["attention_mask"].sum(1).tolist() == lengths
    with torch.no_grad():
        together, alone = backbone.encode_prompts(tokens), backbone.encode_prompts(backbone.tokenize([short]))
        unmasked = {**tokens, "attention_mask": torch.ones_like(tokens["attention_mask"])}
        seen = backbone.encode_prompts(unmasked)
    torch.testing.assert_close(together[:1], alone, atol=1e-6, rtol=0)
    assert (seen[0] @ alone[0]).item() < 0.99, "padding must not be harmless, or this test proves nothing"


@pytest.mark.parametrize("kind", ["tiny_chinese_clip", "tiny_altclip"])
def test_the_dropout_that_a_bert_is_configured_with_is_not_drawn_in_training(kind, request):
    backbone = load_backbone(str(request.getfixturevalue(kind)))
    assert backbone.model.config.text_config.hidden_dropout_prob > 0
    tokens = backbone.tokenize(PROMPTS)
    with torch.no_grad():
        expected = backbone.encode_prompts(tokens)
        with backbone.training():
            assert torch.equal(backbone.encode_prompts(tokens), expected)


def test_a_prompt_that_is_too_long_is_quoted_with_its_length(tiny_model):
    backbone = load_backbone(str(tiny_model))
    fitting, long = "z" * 4, "z" * (backbone.context_length + 5)
    with refused(LongPromptError, f"prompt {long!r}", "tokens", f"at most {backbone.context_length}"):
        backbone.tokenize([fitting, long])


def test_a_prompt_may_fill_the_context(tiny_model):
    backbone = load_backbone(str(tiny_model))
    spare = backbone.context_length - len(backbone.tokenizer("z")["input_ids"])
    assert backbone.tokenize(["z" * (1 + spare)])["input_ids"].shape == (1, backbone.context_length)
    with refused(LongPromptError, f"at most {backbone.context_length}"):
        backbone.tokenize(["z" * (2 + spare)])


def test_the_bias_is_added_and_cancels_in_the_softmax(tiny_sigmoid_model):
    backbone = load_backbone(str(tiny_sigmoid_model))
    generator = torch.Generator().manual_seed(0)
    a, b = (nn.functional.normalize(torch.randn(n, 24, generator=generator), dim=-1) for n in (5, 3))
    scores = backbone.logits(a, b)
    torch.testing.assert_close(scores, 10 * a @ b.T - 3)
    torch.testing.assert_close(scores.softmax(-1), (10 * a @ b.T).softmax(-1))


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_another_activation_changes_the_settings_hash_and_not_that_of_the_weights(tiny_model, tmp_path, part):
    folder = shutil.copytree(tiny_model, tmp_path / "copy")
    before = load_backbone(str(tiny_model)).identity
    config = json.loads((folder / "config.json").read_text())
    config[part]["hidden_act"] = "relu"
    (folder / "config.json").write_text(json.dumps(config))
    after = load_backbone(str(folder)).identity
    assert after.weights_sha256 == before.weights_sha256
    assert after.settings_sha256 != before.settings_sha256


def test_padding_on_the_other_side_changes_the_settings_hash_of_sigmoid_models(tiny_sigmoid_model, tmp_path):
    folder = shutil.copytree(tiny_sigmoid_model, tmp_path / "copy")
    before = load_backbone(str(tiny_sigmoid_model)).identity.settings_sha256
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "padding_side": "left"}))
    assert load_backbone(str(folder)).identity.settings_sha256 != before


def test_families_are_told_apart_by_their_hashes(request):
    identities = [load_backbone(str(request.getfixturevalue(name))).identity for name in EVERY]
    of_weights, of_settings = {i.weights_sha256 for i in identities}, {i.settings_sha256 for i in identities}
    assert len(of_weights) == len(of_settings) == len(EVERY)


def test_names_point_at_the_linear_layers_of_the_towers(tiny_model):
    backbone = load_backbone(str(tiny_model))
    assert backbone.depths == {"vision": 3, "text": 2}
    named = {
        backbone.module_name(tower, layer, projection)
        for tower, depth in backbone.depths.items()
        for layer in range(depth)
        for projection in ("q", "k", "v", "o", "fc1", "fc2")
    }
    assert named == set(backbone.encoder_linears())
    assert len(named) == 6 * (3 + 2)


def test_the_projection_is_named_where_there_is_one(tiny_model):
    backbone = load_backbone(str(tiny_model))
    assert backbone.quantized_linears(projection=False) == backbone.encoder_linears()
    if hasattr(backbone.model, "visual_projection"):
        assert backbone.quantized_linears(projection=True) == [*backbone.encoder_linears(), "visual_projection"]
    else:
        with refused(InputError, "quantize-projection", backbone.model.config.model_type, "no projection"):
            backbone.quantized_linears(projection=True)


def test_every_parameter_but_the_scale_and_bias_is_in_one_tower(tiny_model):
    model, towers = load_backbone(str(tiny_model)).model, load_backbone(str(tiny_model))
    inside = [f"{module}." for tower in ("vision", "text") for module in towers.tower_modules(tower)]
    assert len(set(inside)) == len(inside)
    outside = {n for n, _ in model.named_parameters() if not n.startswith(tuple(inside))}
    assert outside == {"logit_scale", "logit_bias"} & {n for n, _ in model.named_parameters()}


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float32, torch.float64])
def test_embeddings_are_unit_vectors_of_float32_at_least_in_any_precision(tiny_model, precision):
    backbone = load_backbone(str(tiny_model))
    backbone.model.to(precision)
    assert backbone.dtype == precision
    with torch.no_grad():
        both = backbone.encode_images(as_tensor(images())), backbone.encode_prompts(backbone.tokenize(PROMPTS))
    expected = torch.promote_types(precision, torch.float32)
    for embeddings in both:
        assert embeddings.dtype == expected
        torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(len(embeddings), dtype=expected))
    assert backbone.logits(*both).dtype == expected


def test_bfloat16_embeddings_are_near_those_of_float32(tiny_model):
    backbone = load_backbone(str(tiny_model))
    with torch.no_grad():
        exact = backbone.encode_images(as_tensor(images()))
        backbone.model.bfloat16()
        rounded = backbone.encode_images(as_tensor(images()))
    assert 0 < (exact - rounded).norm(dim=-1).max() < 0.1


def test_the_floating_type_is_found_among_weights_stored_as_integers(tiny_model):
    backbone = load_backbone(str(tiny_model))
    backbone.model.bfloat16()
    for name in backbone.encoder_linears():
        stored = torch.zeros(8, 1, dtype=torch.uint8)
        backbone.model.get_submodule(name).weight = nn.Parameter(stored, requires_grad=False)
    assert backbone.dtype == torch.bfloat16


def test_scale_and_bias_keep_full_precision_when_the_model_is_cast(tiny_model):
    backbone = load_backbone(str(tiny_model))
    generator = torch.Generator().manual_seed(0)
    a, b = (nn.functional.normalize(torch.randn(n, 24, generator=generator), dim=-1) for n in (5, 3))
    before = backbone.logits(a, b)
    backbone.model.bfloat16()
    assert torch.equal(backbone.logits(a, b), before)


def test_checkpointing_gives_the_same_gradients(tiny_model):
    backbone = load_backbone(str(tiny_model))
    weights = [backbone.model.get_submodule(backbone.module_name(t, 0, "q")).weight for t in ("vision", "text")]
    for weight in weights:
        weight.requires_grad_(True)
    gradients = []
    for checkpointing in (False, True):
        with backbone.training(checkpointing=checkpointing):
            classes = backbone.encode_prompts(backbone.tokenize(PROMPTS))
            scores = backbone.logits(backbone.encode_images(as_tensor(images())), classes)
            loss = nn.functional.cross_entropy(scores, torch.tensor([0, 1, 2, 0]))
            gradients.append(torch.autograd.grad(loss, weights))
        assert not backbone.model.training
    for plain, again in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, again)


def test_what_comes_before_the_blocks_reads_nothing_back_from_a_device(tiny_model):
    backbone = load_backbone(str(tiny_model))
    backbone.model.to("meta")
    side = backbone.image_size
    with torch.no_grad():
        entering = backbone.embed_images(torch.empty(2, 3, side, side, device="meta"))
    assert entering.hidden.is_meta
    assert len(entering.hidden) == 2

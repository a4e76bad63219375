import pytest
import torch
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor, CLIPTokenizer

from lowshot.errors import LongPromptError
from lowshot.models import load_backbone
from lowshot.models.classes import embedded
from refusing import refused


@pytest.fixture(scope="module")
def backbone(tiny_clip):
    return load_backbone(str(tiny_clip))


def test_trimmed_prompts_have_the_embeddings_of_padded_ones(backbone, tiny_clip):
    prompts = ["a cat", "a photo of a dog", "x"]
    tokenizer = CLIPTokenizer.from_pretrained(tiny_clip)
    padded = dict(tokenizer(prompts, padding="max_length", max_length=48, return_tensors="pt"))
    trimmed = backbone.tokenize(prompts)
    assert trimmed["input_ids"].shape[1] < padded["input_ids"].shape[1] == 48
    with torch.no_grad():
        torch.testing.assert_close(backbone.encode_prompts(trimmed), backbone.encode_prompts(padded), atol=1e-6, rtol=0)


def test_logits_are_those_of_transformers(backbone, tiny_clip):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["a cat", "a photo of a dog"]
    reference = CLIPModel.from_pretrained(tiny_clip).eval()
    processor = CLIPProcessor.from_pretrained(tiny_clip)
    pixels = (images - torch.tensor(processor.image_processor.image_mean).view(3, 1, 1)) / torch.tensor(
        processor.image_processor.image_std
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = reference(pixel_values=pixels, **processor.tokenizer(prompts, padding=True, return_tensors="pt"))
        logits = backbone.logits(backbone.encode_images(images), backbone.encode_prompts(backbone.tokenize(prompts)))
    torch.testing.assert_close(logits, expected.logits_per_image, atol=1e-4, rtol=1e-5)


def test_a_class_of_several_prompts_has_the_mean_of_their_directions_and_of_their_lengths(backbone):
    prompts = ["a photo of a cat", "a cat", "a drawing of a dog"]
    raw = backbone.raw_prompts(backbone.tokenize(prompts))
    lengths = raw.norm(dim=-1)
    assert (lengths[0] - lengths[1]).abs() > 1e-4
    classes, told = embedded(backbone, [prompts[:2], prompts[2]])
    units = functional.normalize(raw, dim=-1)
    torch.testing.assert_close(told, torch.stack([lengths[:2].mean(), lengths[2]]))
    torch.testing.assert_close(classes, functional.normalize(torch.stack([units[:2].mean(0), units[2]]), dim=-1))


def test_a_prompt_that_is_too_long_is_quoted(backbone):
    with refused(LongPromptError, f"'a {'z' * 60}'", "63 tokens", "at most 48"):
        backbone.tokenize(["a cat", "a " + "z" * 60])


def test_nothing_is_trainable_and_dropout_is_off(backbone):
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training
    with backbone.training():
        assert backbone.model.training
    assert not backbone.model.training


def test_names_point_at_the_projections(backbone):
    linears = set(backbone.encoder_linears())
    assert len(linears) == 6 * (3 + 2)
    named = {
        backbone.module_name(t, i, p) for t, depth in backbone.depths.items() for i in range(depth) for p in "qkvo"
    }
    assert named <= linears
    assert len(named) == 4 * (3 + 2)

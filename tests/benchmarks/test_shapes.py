"""The arithmetic that shares of the matrix rate are computed from, against torch's own count."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@pytest.fixture
def shapes(program):
    return program("shapes")


@pytest.fixture
def model(shapes):
    with torch.random.fork_rng():
        return shapes.smoke().random_model().requires_grad_(False)


def operations(work, *, within=None):
    """Floating-point operations of a block of work, or of one module in it, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the CPU's fused kernel is not counted
        work()
    return sum(counter.get_flop_counts()[within].values()) if within else counter.get_total_flops()


def test_the_published_procedure_puts_all_tokens_of_77_through_all_blocks(shapes, model):
    shape, classes, batch_size = shapes.smoke(), 3, 2
    tokens, pixels = shape.prompts(classes), torch.zeros(batch_size, 3, 32, 32)
    images = operations(lambda: model.get_image_features(pixel_values=pixels), within="CLIPVisionModel.encoder")
    texts = operations(lambda: model.get_text_features(input_ids=tokens), within="CLIPTextModel.encoder")
    # Forward and back through the activations; twice that is added for the gradients of the weights.
    assert shape.arithmetic(classes, batch_size, as_published=True) == 2 * (images + texts)
    assert shape.arithmetic(classes, batch_size, as_published=True, weights_trained=True) == 3 * (images + texts)


def test_lowshot_needs_the_prompts_own_tokens_and_one_of_each_in_the_last_block(shapes, model):
    from lowshot.models import Backbone, Identity

    shape, classes, batch_size = shapes.smoke(), 3, 2
    tokenizer = shapes.PromptTokens(shape, classes)
    backbone = Backbone(model, tokenizer, (0.5,) * 3, (0.5,) * 3, Identity("random", None, "", "", {}))
    tokens = backbone.tokenize(["a", "b", "c"])
    assert tokens["input_ids"].shape == (classes, shapes.PROMPT_TOKENS)
    images = operations(lambda: backbone.encode_images(torch.zeros(batch_size, 3, 32, 32)))
    texts = operations(lambda: backbone.encode_prompts(tokens))
    patches = 2 * batch_size * (shape.image_tokens - 1) * 3 * shape.patch_size**2 * shape.vision.width
    projections = 2 * shape.embedding * (batch_size * shape.vision.width + classes * shape.text.width)
    assert shape.arithmetic(classes, batch_size, as_published=False) == 2 * (images + texts - patches - projections)
    assert shape.arithmetic(0, batch_size, as_published=False) < shape.arithmetic(
        classes, batch_size, as_published=False
    )


def test_the_published_model_has_149_6_million_weights_and_its_prompts_end_where_clip_looks(shapes):
    shape = shapes.vit_b16()
    with torch.device("meta"):
        model = shape.random_model()
    assert sum(parameter.numel() for parameter in model.parameters()) == 149_620_737
    tokens = shape.prompts(5)
    assert tokens.shape == (5, 77)
    assert (tokens.argmax(-1) == shapes.PROMPT_TOKENS - 1).all()
    assert model.config.text_config.eos_token_id == tokens.max()
    assert len(tokens.unique(dim=0)) == 5

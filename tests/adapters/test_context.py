"""Prompt learners' trained tokens; CoOp is what its paper says, written again with transformers' own modules."""

import pytest
import torch
from torch.nn import functional

from lowshot.adapters import ContextAdapter
from lowshot.errors import InputError, LongPromptError
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.step import ExactStep, Passes
from refusing import refused

from .conftest import images, take_steps

NAMES = ("cat.", "dog.", "a very long name.")
LABELS = torch.tensor([0, 1, 2, 0, 1])


def learner_on(model, method="coop", names=NAMES, **settings):
    recipe = preset_recipe("paper", method).replace(model=str(model), **{"precision": "fp32", **settings})
    return create_learner(load_backbone(str(model)), names, recipe)


# --- CoOp by hand -----------------------------------------------------------------------------------------------------


def plain_class(model, tokenizer, vectors, name):
    """Unit embedding (D,) of [start][vectors][name][end], arXiv 2109.01134, equation 2; one prompt, nothing padded."""
    ids = torch.tensor(tokenizer(name)["input_ids"])
    words = model.text_model.embeddings.token_embedding(ids)
    inputs = torch.cat([words[:1], vectors, words[1:]])[None]
    hidden = model.text_model.embeddings(inputs_embeds=inputs)
    length = hidden.shape[1]
    unseen = torch.full((length, length), -torch.inf, dtype=hidden.dtype).triu(1)
    out = model.text_model.encoder(inputs_embeds=hidden, attention_mask=unseen[None, None]).last_hidden_state
    embedded = model.text_projection(model.text_model.final_layer_norm(out[0, -1]))
    return embedded / embedded.norm()


def plain_loss(backbone, vectors, pixels):
    model = backbone.model
    classes = torch.stack([plain_class(model, backbone.tokenizer, vectors, name) for name in NAMES])
    mean, std = (torch.tensor(values, dtype=pixels.dtype).view(3, 1, 1) for values in (backbone.mean, backbone.std))
    seen = model.get_image_features(pixel_values=(pixels - mean) / std).pooler_output
    seen = seen / seen.norm(dim=-1, keepdim=True)
    return functional.cross_entropy(model.logit_scale.exp() * seen @ classes.T, LABELS)


@pytest.mark.parametrize("passes", [Passes(5, 3), Passes(2, 2), Passes(1, 1)], ids=str)
def test_the_loss_and_the_gradient_are_those_of_coop_written_by_hand(tiny_clip, passes):
    learner = learner_on(tiny_clip, context=4)
    learner.backbone.model.double()
    pixels = images().double()
    exact = ExactStep(learner.backbone, learner.class_vectors.in_steps(), learner.keys, passes, True)
    total = exact.accumulate(0, range(5), LABELS, lambda rows: pixels[list(rows)])

    plain = load_backbone(str(tiny_clip))
    plain.model.double()
    vectors = learner.parameters[0].detach()[0].clone().requires_grad_()
    loss = plain_loss(plain, vectors, pixels)
    (gradient,) = torch.autograd.grad(loss, vectors)
    assert total == pytest.approx(loss.item(), rel=1e-10)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(learner.parameters[0].grad[0], gradient, rtol=1e-9, atol=1e-12)


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_it_trains_so_many_vectors_of_the_text_towers_width_and_nothing_else(tiny_clip):
    learner = learner_on(tiny_clip, context=5)
    assert learner.trainable_parameters == 5 * 16
    assert learner.frozen_images
    assert [name for name, p in learner.backbone.model.named_parameters() if p.requires_grad] == [
        "text_model.embeddings.token_embedding.vectors"
    ]


def test_random_vectors_start_with_the_papers_deviation_and_by_the_seed(tiny_clip):
    vectors = learner_on(tiny_clip, context=20).parameters[0].detach()
    assert float(vectors.std()) == pytest.approx(0.02, rel=0.2)
    assert torch.equal(learner_on(tiny_clip, context=20).parameters[0], vectors)
    assert not torch.equal(learner_on(tiny_clip, context=20, seed=2).parameters[0], vectors)


def test_tokens_that_start_as_words_give_the_scores_of_those_words(any_tiny_model):
    """On every family: before training the prompt with its opening is the plain prompt."""
    words = "a photo of"
    backbone = load_backbone(str(any_tiny_model))
    count = len(backbone.first_tokens(words, 99))
    learner = learner_on(any_tiny_model, context=count, openings=(words,), names=("cat", "dog"))
    plain = learner_on(any_tiny_model, "zero-shot", names=(f"{words} cat", f"{words} dog"))
    torch.testing.assert_close(learner.logits(images()), plain.logits(images()), atol=2e-5, rtol=0)


def test_words_are_cut_off_and_vectors_beyond_them_stay_random(tiny_clip):
    table = load_backbone(str(tiny_clip)).model.text_model.embeddings.token_embedding.weight
    short, long = (learner_on(tiny_clip, context=3, openings=(words,)).parameters[0][0] for words in ("a", "abcdef"))
    ids = load_backbone(str(tiny_clip)).first_tokens("abcdef", 3)
    assert torch.equal(long, table[ids])
    assert short[1:].abs().max() < 0.1 < table[ids].abs().mean()


def test_several_openings_make_as_many_prompts_whose_embeddings_are_averaged(tiny_clip):
    openings = ("red", "oak")
    both = learner_on(tiny_clip, context=3, openings=openings)
    each = [learner_on(tiny_clip, context=3, openings=(words,)).encode_classes() for words in openings]
    expected = functional.normalize(each[0] + each[1], dim=-1)
    torch.testing.assert_close(both.encode_classes(), expected, atol=1e-6, rtol=0)


def test_all_prompts_share_the_start_and_the_trained_tokens(tiny_clip):
    learner = learner_on(tiny_clip, context=4)
    assert learner.backbone.shared_tokens(learner.class_vectors.tokens) == 1 + 4


def test_the_attention_mask_fits_the_ids(tiny_clip):
    tokens = learner_on(tiny_clip, context=4).class_vectors.tokens
    plain = load_backbone(str(tiny_clip)).tokenize(NAMES)
    assert tokens["attention_mask"].shape == tokens["input_ids"].shape
    assert torch.equal(tokens["attention_mask"].sum(1), plain["attention_mask"].sum(1) + 4)


@pytest.mark.parametrize(("context", "fits"), [(24 - 5, True), (24 - 4, False)])
def test_a_prompt_that_is_too_long_with_the_trained_tokens_is_refused(tiny_siglip, context, fits):
    """SigLIP pads to the full context: only padding may be cut off. "cat" is a start, three letters and an end."""
    if fits:
        ids = learner_on(tiny_siglip, context=context, names=("cat", "dog")).class_vectors.tokens["input_ids"]
        assert ids.shape == (2, 24)
        assert len(set(ids[0, context:].tolist())) > 1
        return
    with refused(LongPromptError, "'cat'", "25 tokens", "at most 24"):
        learner_on(tiny_siglip, context=context, names=("cat", "dog"))


# --- As an adapter ----------------------------------------------------------------------------------------------------


def test_other_classes_are_judged_behind_the_same_tokens(tiny_clip):
    learner = learner_on(tiny_clip, context=4)
    take_steps(learner)
    others = learner.with_prompts(("cat.", "horse."))
    torch.testing.assert_close(others.logits(images())[:, 0], learner.logits(images())[:, 0], atol=1e-5, rtol=0)


def test_it_cannot_be_merged(tiny_clip):
    adapter = learner_on(tiny_clip).adapter
    assert isinstance(adapter, ContextAdapter)
    with refused(InputError, "trained tokens", "merged"):
        adapter.merge()


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_it_stands_before_a_quantised_base(tiny_clip, quantize):
    learner = learner_on(tiny_clip, quantize=quantize, precision="bf16")
    before = learner.parameters[0].detach().clone()
    take_steps(learner)
    assert learner.parameters[0].dtype == torch.float32
    assert not torch.equal(learner.parameters[0], before)
    assert learner.logits(images()).isfinite().all()


@pytest.mark.parametrize(
    ("setting", "value", "facts"),
    [("context", 0, ("context is 0", "1 or more")), ("openings", ("",), ("openings is ''", "words"))],
)
def test_bad_settings_are_refused(setting, value, facts):
    with refused(InputError, *facts):
        preset_recipe("paper", "coop").replace(**{setting: value})

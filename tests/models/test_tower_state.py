"""A tower can be left and entered between any two of its stages, and what prompts begin with computed once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot.models import load_backbone
from lowshot.models.tower_state import TowerState, shared_tokens

PROMPTS = ["a photo of a cat.", "a photo of a crow.", "a photo of me.", "a photo of ants."]
IN_COMMON = len("<a photo of ".replace(" ", ""))  # the tokenizer spells, and a start token comes first


def exact(folder):
    backbone = load_backbone(str(folder))
    backbone.model.double()
    return backbone


def begun(backbone, tower, rows=slice(None)):
    if tower == "text":
        return backbone.embed_prompts({name: ids[rows] for name, ids in backbone.tokenize(PROMPTS).items()})
    return backbone.embed_images(images()[rows])


def images():
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def encoded(backbone, tower):
    return backbone.encode_prompts(backbone.tokenize(PROMPTS)) if tower == "text" else backbone.encode_images(images())


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_a_stop_at_any_stage_changes_nothing(any_tiny_model, tower):
    backbone = exact(any_tiny_model)
    with torch.no_grad():
        expected = encoded(backbone, tower)
        for stage in range(backbone.depths[tower] + 2):
            stopped = backbone.advance(begun(backbone, tower), stage)
            assert (stopped.tower, stopped.stage, len(stopped)) == (tower, stage, 4)
            torch.testing.assert_close(backbone.finish(stopped), expected, atol=1e-12, rtol=0)
    assert torch.equal(stopped.hidden, expected)


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_rows_can_be_taken_out_and_joined_at_any_stage(any_tiny_model, tower):
    backbone = exact(any_tiny_model)
    with torch.no_grad():
        expected = encoded(backbone, tower)
        for stage in range(backbone.depths[tower] + 2):
            whole = backbone.advance(begun(backbone, tower), stage)
            torch.testing.assert_close(backbone.finish(whole.rows(1, 3)), expected[1:3], atol=1e-12, rtol=0)
            turned = TowerState.joined([whole.rows(2, 4), whole.rows(0, 2)])
            torch.testing.assert_close(backbone.finish(turned), expected[[2, 3, 0, 1]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("stop", [None, 1])
def test_what_prompts_begin_with_is_computed_once_with_the_same_embeddings_and_gradients(
    tiny_clip, stop, checkpointing
):
    backbone = exact(tiny_clip)
    backbone.model.requires_grad_(True)
    tokens = backbone.tokenize(PROMPTS)
    trained = [p for p in backbone.model.text_model.parameters() if p.requires_grad]
    weights = torch.randn(4, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert backbone.shared_tokens(tokens) == IN_COMMON
    results = []
    for shared in (0, 1, 5, IN_COMMON):
        with backbone.training(checkpointing=checkpointing):
            partway = backbone.embed_prompts(tokens, shared)
            if stop is not None:
                partway = backbone.advance(partway, stop)
            assert (0 if partway.shared is None else partway.shared.shape[1]) == shared
            embeddings = backbone.finish(partway)
            results.append([embeddings, *torch.autograd.grad((embeddings * weights).sum(), trained)])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            torch.testing.assert_close(two, one, atol=1e-11, rtol=0)


def test_what_prompts_share_goes_along_with_any_of_them(tiny_clip):
    backbone = exact(tiny_clip)
    tokens = backbone.tokenize(PROMPTS)
    with torch.no_grad():
        partway = backbone.advance(backbone.embed_prompts(tokens, IN_COMMON), 1)
        expected = backbone.encode_prompts(tokens)
        torch.testing.assert_close(backbone.finish(partway.rows(1, 3)), expected[1:3], atol=1e-12, rtol=0)
    assert partway.nbytes == partway.hidden.nbytes + IN_COMMON * 16 * 8


def test_more_than_prompts_share_is_refused(tiny_clip):
    backbone = exact(tiny_clip)
    with pytest.raises(AssertionError):
        backbone.embed_prompts(backbone.tokenize(PROMPTS), IN_COMMON + 1)


def test_a_tower_that_sees_both_ways_shares_nothing(tiny_sigmoid_model):
    backbone = load_backbone(str(tiny_sigmoid_model))
    assert backbone.shared_tokens(backbone.tokenize(PROMPTS)) == 0


@given(
    rows=st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=4),
    token=st.lists(st.integers(0, 5), min_size=4, max_size=4),
)
def test_shared_tokens_are_alike_and_before_each_token_that_is_read(rows, token):
    read = token[: len(rows)]
    count = shared_tokens(torch.tensor(rows), torch.tensor(read))
    alike = [all(row[:n] == rows[0][:n] for row in rows) and n <= min(read) for n in range(7)]
    assert count == max(n for n in range(7) if alike[n])


@pytest.mark.parametrize(
    ("names", "text", "vision"),
    [
        ((), 3, 4),
        (("text_model.encoder.layers.1.self_attn.q_proj.weight",), 1, 4),
        (("vision_model.encoder.layers.2.mlp.fc1.bias", "vision_model.encoder.layers.1.mlp.fc1.bias"), 3, 1),
        (("text_model.embeddings.token_embedding.weight", "text_model.final_layer_norm.bias"), 0, 4),
        (("text_model.final_layer_norm.weight", "vision_model.post_layernorm.bias"), 2, 3),
        (("text_projection.weight", "visual_projection.weight"), 2, 3),
        (("vision_model.pre_layrnorm.weight",), 3, 0),
        (("logit_scale",), 3, 4),
    ],
)
def test_the_first_trained_stage_is_read_off_the_parameters(tiny_clip, names, text, vision):
    backbone = load_backbone(str(tiny_clip))
    for name in names:
        backbone.model.get_parameter(name).requires_grad = True
    assert (backbone.first_trained_stage("text"), backbone.first_trained_stage("vision")) == (text, vision)


def test_a_parameter_that_both_towers_hold_counts_in_both(tiny_clip):
    backbone = load_backbone(str(tiny_clip))
    bank = torch.nn.Parameter(torch.zeros(3))  # as VB-LoRA's vector bank
    backbone.model.text_model.encoder.layers[1].mlp.bank = backbone.model.vision_model.encoder.layers[2].mlp.bank = bank
    assert (backbone.first_trained_stage("text"), backbone.first_trained_stage("vision")) == (1, 2)


def test_every_parameter_has_its_stage_what_comes_before_is_not_changed_by_it(any_tiny_model):
    """Whatever a family calls it: a parameter changes what leaves its stage, and nothing that comes before."""
    backbone = exact(any_tiny_model)
    for tower, depth in backbone.depths.items():
        for name, parameter in backbone.model.named_parameters():
            parameter.requires_grad = True
            stage = backbone.first_trained_stage(tower)
            parameter.requires_grad = False
            if stage > depth:
                continue
            before = [at(backbone, tower, s) for s in (stage, depth + 1)]
            original = parameter.data.clone()
            generator = torch.Generator().manual_seed(0)
            parameter.data = original + torch.randn(original.shape, generator=generator, dtype=original.dtype)
            after = [at(backbone, tower, s) for s in (stage, depth + 1)]
            parameter.data = original
            assert stage == 0 or torch.equal(before[0], after[0]), name
            # A bias of all keys adds the same to all scores of a query, which a softmax does not see.
            assert not torch.allclose(before[1], after[1], atol=1e-9) or name.endswith(("k_proj.bias", "key.bias")), (
                name
            )


def at(backbone, tower, stage):
    with torch.no_grad():
        return backbone.advance(begun(backbone, tower), stage).hidden

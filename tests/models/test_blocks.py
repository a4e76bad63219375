"""The blocks' own forward pass, lever by lever, against the plain way."""

import pytest
import torch
from torch.nn import functional
from transformers.activations import QuickGELUActivation

from lowshot.models import blocks, load_backbone
from lowshot.models.blocks import Attention, Packing, _mix_by_products, _mix_fused
from lowshot.models.layout import CLIP_BLOCK
from lowshot.models.quick_gelu import QuickGelu


def run_blocks(layers, hidden, *, causal, layout=CLIP_BLOCK, **more):
    return blocks.run_blocks(layers, hidden, layout=layout, attention=Attention(causal), **more)


def heads(seed, tokens=7):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 2, tokens, 8, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("causal", "with_mask"), [(False, False), (True, False), (False, True)])
def test_attention_written_out_is_the_fused_one(causal, with_mask):
    visible = (torch.arange(7) <= torch.tensor([[2], [6], [4]]))[:, None, None] if with_mask else None
    inputs = [[heads(seed).requires_grad_() for seed in range(3)] for _ in range(2)]
    results = []
    for mix, tensors in zip((_mix_by_products, _mix_fused), inputs, strict=True):
        out = mix(*tensors, visible, causal, 0.3)
        out.square().sum().backward()
        results.append([out.detach(), *(t.grad for t in tensors)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)


def test_quick_gelu_has_the_gradient_of_the_plain_one():
    x = torch.linspace(-6, 6, 101, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(QuickGelu.apply, x)
    torch.testing.assert_close(QuickGelu.apply(x), QuickGELUActivation()(x), atol=1e-12, rtol=0)


@pytest.mark.parametrize("layout_of", ["text", "vision"])
def test_blocks_are_transformers_own(tiny_chinese_clip, layout_of):
    """BERT's in the text tower, with padding; CLIP's in the vision tower."""
    backbone = load_backbone(str(tiny_chinese_clip))
    model = backbone.model.double()
    drawn = torch.Generator().manual_seed(0)
    hidden = torch.randn(3, 6, {"text": 16, "vision": 24}[layout_of], generator=drawn, dtype=torch.float64)
    words = torch.arange(6) < torch.tensor([[6], [2], [4]]) if layout_of == "text" else None
    mask = None if words is None else words[:, None, None]
    expected = model.get_submodule(f"{layout_of}_model.encoder")(hidden, attention_mask=mask).last_hidden_state
    attention = Attention(causal=False, words=words)
    layers, layout = backbone.blocks(layout_of), backbone.layout(layout_of).block
    states = blocks.run_blocks(layers, hidden, layout=layout, attention=attention, token=None)
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)
    first = torch.zeros(3, dtype=torch.int64)
    states = blocks.run_blocks(layers, hidden, layout=layout, attention=attention, token=first)
    torch.testing.assert_close(states[:, 0], expected[:, 0], atol=1e-12, rtol=0)


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_the_last_block_of_one_token_is_that_of_all(tiny_clip, tower):
    backbone = load_backbone(str(tiny_clip))
    layers = backbone.model.get_submodule(f"{tower}_model.encoder").layers.double()
    width = {"vision": 24, "text": 16}[tower]
    hidden = torch.randn(4, 6, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    token, causal = torch.tensor([0, 5, 3, 1]), tower == "text"
    whole = run_blocks(layers, hidden, causal=causal, token=None)
    one = run_blocks(layers, hidden, causal=causal, token=token)
    torch.testing.assert_close(one[:, 0], whole[torch.arange(4), token], atol=1e-12, rtol=0)


def test_what_follows_the_token_of_a_causal_tower_has_no_influence(tiny_clip):
    backbone = load_backbone(str(tiny_clip))
    layers = backbone.model.text_model.encoder.layers
    hidden = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    changed = hidden.clone()
    changed[:, 4:] = 7.0
    token = torch.tensor([3, 3])
    before, after = (run_blocks(layers, h, causal=True, token=token) for h in (hidden, changed))
    torch.testing.assert_close(before, after, atol=1e-6, rtol=0)
    assert functional.mse_loss(before, run_blocks(layers, changed, causal=False, token=token)) > 1e-4


@pytest.mark.parametrize("one_token", [False, True])
@pytest.mark.parametrize("mix", [_mix_by_products, _mix_fused])
def test_sequences_that_begin_alike_are_in_one_row_what_each_is_alone(tiny_clip, monkeypatch, mix, one_token):
    for name in ("_mix_by_products", "_mix_fused"):
        monkeypatch.setattr(blocks, name, mix)
    layers = load_backbone(str(tiny_clip)).model.text_model.encoder.layers.double().requires_grad_(True)
    whole = torch.randn(4, 7, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole[:, :3] = whole[:1, :3]
    packing = Packing(shared=3, sequences=4)
    row = packing.join(whole[:1, :3], whole[:, 3:])
    assert row.shape == (1, 3 + 4 * 4, 16)
    token = torch.tensor([3, 6, 4, 3]) if one_token else None
    expected = run_blocks(layers, whole, causal=True, token=token)
    if one_token:
        states = run_blocks(layers, row, causal=True, token=token - 3, packing=packing)
    else:
        shared, own = packing.split(run_blocks(layers, row, causal=True, token=None, packing=packing))
        states = torch.cat([shared.expand(4, -1, -1), own], 1)
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    trained = list(layers.parameters())
    for one, other in zip(
        torch.autograd.grad((states * direction).sum(), trained, materialize_grads=True),
        torch.autograd.grad((expected * direction).sum(), trained, materialize_grads=True),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=0)

"""The layers that keep less are PEFT's own, number by number."""

import pytest
import torch
from peft.tuners.lora import Linear as PeftLinear
from torch import nn

from lowshot.adapters.dropout import SampleDropout
from lowshot.adapters.lean import LeanMixin

SAMPLES = [3, 8]


def layer_on(learner_on, method="lora", quantize="none", **settings):
    learner = learner_on(method, quantize, precision="fp32", **{"dropout": 0.25, **settings})
    layer = learner.backbone.model.get_submodule("vision_model.encoder.layers.1.self_attn.k_proj")
    for index, parameter in enumerate(p for p in layer.parameters() if p.requires_grad):
        parameter.data = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(index))
    return learner, layer.train()


def run(learner, layer, forward):
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(7)).requires_grad_()
    with learner.keys.of(4, SAMPLES):
        y = forward(x)
        y.square().sum().backward()
    trained = [p for p in layer.parameters() if p.requires_grad]
    gradients = [x.grad, *(p.grad.clone() for p in trained)]
    for parameter in trained:
        parameter.grad = None
    return [y.detach(), *gradients]


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
@pytest.mark.parametrize("quantize", ["none", "nf4", "int8"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_output_and_gradients_are_those_of_peft(learner_on, method, quantize, dropout):
    learner, layer = layer_on(learner_on, method, quantize, dropout=dropout)
    assert isinstance(layer, LeanMixin)
    expected = run(learner, layer, lambda x: super(LeanMixin, layer).forward(x))
    lean = run(learner, layer, layer.forward)
    for one, other in zip(lean, expected, strict=True):
        assert one.abs().max() > 0
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-5)


def kept_bytes(function):
    """Bytes of the tensors that autograd keeps, each storage once."""
    storages = {}

    def note(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        function()
    return sum(storages.values())


def test_q_k_and_v_keep_their_input_once_and_a_byte_of_mask_each(learner_on):
    learner, _ = layer_on(learner_on)
    attention = learner.backbone.model.vision_model.encoder.layers[0].self_attn.train()
    layers = [attention.q_proj, attention.k_proj, attention.v_proj]
    x = torch.randn(2, 64, 24, generator=torch.Generator().manual_seed(7)).requires_grad_()
    with learner.keys.of(4, SAMPLES):
        lean = kept_bytes(lambda: [layer(x) for layer in layers])
    # The input and its masks; for each layer A x, A and B, and the frozen weight, which is there anyway.
    each = 4 * (4 * 2 * 64) + 2 * 4 * (4 * 24) + 4 * 24 * 24
    assert lean == x.nbytes + 3 * x.numel() + 3 * each
    for layer in layers:
        layer.lora_dropout["default"] = nn.Dropout(0.25)
    with torch.random.fork_rng():
        plain = kept_bytes(lambda: [PeftLinear.forward(layer, x) for layer in layers])
    assert plain - 3 * each >= 6 * x.nbytes > 3 * (lean - 3 * each)


def test_what_is_not_plain_lora_is_left_to_peft(learner_on):
    assert not isinstance(layer_on(learner_on, "dora")[1], LeanMixin)
    _, layer = layer_on(learner_on)
    x = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(7))
    layer.eval()
    adapted = layer(x)
    layer.enable_adapters(False)
    assert torch.equal(layer(x), layer.base_layer(x))
    layer.enable_adapters(True)
    layer.merge()
    torch.testing.assert_close(layer(x), adapted, atol=1e-4, rtol=0)


def test_every_dropout_of_an_adapter_is_keyed(learner_on):
    learner = learner_on("lora", dropout=0.25)
    plain = [m for m in learner.backbone.model.modules() if type(m) is nn.Dropout]
    keyed = [m for m in learner.backbone.model.modules() if isinstance(m, SampleDropout)]
    assert not plain
    assert len({m.layer for m in keyed}) == len(keyed) == 15

"""Products with frozen weights are those of the layers themselves."""

import pytest
import torch
from torch import nn
from transformers.activations import QuickGELUActivation

from lowshot.models.frozen import FrozenLinears, Products, can_be_joined
from lowshot.models.precision import set_precision


class Mlp(nn.Module):
    def __init__(self, bias=True, activation=QuickGELUActivation):
        super().__init__()
        self.activation_fn = activation()
        self.fc1, self.fc2 = nn.Linear(8, 24, bias=bias), nn.Linear(24, 8, bias=bias)

    def forward(self, inputs):
        return self.fc2(self.activation_fn(self.fc1(inputs)))


def through(products, mlp, inputs):
    return products.mlp(mlp.fc1, mlp.activation_fn, mlp.fc2, inputs)


class NothingAdded:
    """Additions of adapters where there are none."""

    def to(self, modules):
        return modules, None


@pytest.fixture
def random():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def gradient(function, inputs):
    inputs = inputs.detach().requires_grad_()
    outputs = function(inputs)
    return outputs.detach(), torch.autograd.grad(outputs.square().sum(), inputs)[0]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", [QuickGELUActivation, nn.GELU])
def test_an_mlp_is_that_of_its_modules(random, bias, activation):
    mlp = Mlp(bias, activation).double().requires_grad_(False)
    inputs = torch.randn(2, 5, 8, dtype=torch.float64)
    products = Products(NothingAdded())
    for _ in range(2):  # what is made once is used again
        for one, other in zip(
            gradient(lambda x: through(products, mlp, x), inputs), gradient(mlp, inputs), strict=True
        ):
            torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-12)


def test_a_model_that_is_cast_meanwhile_is_computed_in_its_new_type(random):
    mlp, inputs = Mlp().requires_grad_(False), torch.randn(3, 8)
    products = Products(NothingAdded())
    through(products, mlp, inputs)
    mlp.double()
    torch.testing.assert_close(through(products, mlp, inputs.double()), mlp(inputs.double()), atol=1e-12, rtol=0)


@pytest.mark.parametrize("quantize", ["none", "nf4", "int8"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_layers_together_are_each_by_itself(random, quantize, precision):
    layers = nn.ModuleList([nn.Linear(64, 16) for _ in range(3)]).requires_grad_(False)
    set_precision(layers, ["0", "1", "2"], quantize=quantize, precision=precision)
    inputs = torch.randn(7, 64).to(layers[0].bias.dtype)
    assert can_be_joined(list(layers))
    together = FrozenLinears(list(layers))
    joint = gradient(together, inputs)
    expected = gradient(lambda x: torch.cat([layer(x) for layer in layers], -1), inputs)
    for one, other in zip(joint, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 if precision == "fp32" else 5e-2, rtol=1e-2)


def test_of_what_is_trained_or_of_other_kinds_nothing_is_joined(random):
    one, other, without = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
    for layer in (one, other, without):
        layer.requires_grad_(False)
    assert can_be_joined([one, other])
    assert not can_be_joined([one, without])
    assert not can_be_joined([one, nn.Bilinear(4, 4, 4).requires_grad_(False)])
    other.bias.requires_grad_(True)
    assert not can_be_joined([one, other])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_weights_of_8_bits_mean_the_same_in_training_and_judging(random, precision):
    """Activations are never rounded to 8 bits."""
    linear = nn.Sequential(nn.Linear(64, 16)).requires_grad_(False)
    exact = linear[0].weight.clone()
    set_precision(linear, ["0"], quantize="int8", precision=precision)
    inputs = 10 * torch.randn(5, 64).to(linear[0].bias.dtype)  # some stand out
    assert torch.equal(linear.train()(inputs), linear.eval()(inputs))
    weight = FrozenLinears([linear[0]], "int8").weight(torch.float32)
    assert (weight - exact).abs().max() <= exact.abs().max() / 127
    assert not torch.equal(weight, exact)

"""Products with frozen weights while something beside them is trained: fewer and larger ones.

Layers that see the same input, as q, k and v do, are one product. For that their weights are laid side by side in
memory, once, where they stay parameters of their own. Weights of 4 or 8 bits are brought to the type that is computed
in right before a product, forward and back, all layers of it into one tensor; nothing of that is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from .quick_gelu import GATE, QuickGelu, is_quick_gelu

Addition = Callable[[Tensor, Tensor], Tensor]
"""(outputs ``(T, O)``, inputs ``(T, I)``) to outputs with what an adapter adds; the outputs given may be changed."""


class Additions(Protocol):
    """Updates that adapters add to the products of frozen layers."""

    def to(self, modules: Sequence[nn.Module]) -> tuple[Sequence[nn.Module], Addition | None] | None:
        """The frozen layers of modules that see the same input, and what is added to their outputs side by side.

        Returns:
            None where the modules must be run as they are. No addition where nothing is trained in them.
        """


class Products:
    """Computes the linear layers of transformer blocks, those that see the same input together.

    Args:
        additions: What is trained beside them.
    """

    def __init__(self, additions: Additions) -> None:
        self._additions = additions
        self._products: dict[tuple[int, ...], tuple[FrozenLinears, Addition | None] | None] = {}

    def __call__(self, modules: Sequence[nn.Module], inputs: Tensor) -> tuple[Tensor, ...]:
        """Outputs ``(..., O)`` of each module.

        Args:
            modules: Linear layers or adapted ones, in the order in which the model holds them.
            inputs: ``(..., I)``, the same for all of them.
        """
        product = self._product(modules)
        if product is None and len(modules) > 1:
            return tuple(self([module], inputs)[0] for module in modules)
        if product is None:
            return (modules[0](inputs),)
        frozen, add = product
        flat = inputs.flatten(0, -2)
        outputs = frozen(flat)
        if add is not None:
            outputs = add(outputs, flat)
        outputs = outputs.view(*inputs.shape[:-1], -1)
        return (outputs,) if len(modules) == 1 else torch.split(outputs, frozen.sizes, -1)

    def mlp(
        self, first: nn.Module, activation: Callable[[Tensor], Tensor], second: nn.Module, inputs: Tensor
    ) -> Tensor:
        """``(..., D)`` to the same shape, through the two linear layers of a block's MLP."""
        products = self._product([first]), self._product([second])
        if is_quick_gelu(activation) and all(p is not None and p[1] is None for p in products):
            frozen = (product[0] for product in products if product is not None)
            flat: Tensor = _FrozenMlp.apply(inputs.flatten(0, -2), *frozen)  # type: ignore[no-untyped-call]
            return flat.view(inputs.shape)
        (inner,) = self([first], inputs)
        (outputs,) = self([second], activation_of(activation)(inner))
        return outputs

    def _product(self, modules: Sequence[nn.Module]) -> tuple[FrozenLinears, Addition | None] | None:
        key = tuple(map(id, modules))
        if key not in self._products:
            joint = self._additions.to(modules)
            fits = joint is not None and can_be_joined(joint[0])
            self._products[key] = (FrozenLinears(joint[0]), joint[1]) if fits and joint is not None else None
        return self._products[key]


def activation_of(activation: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A block's activation; QuickGELU as it is computed here."""
    computed: Callable[[Tensor], Tensor] = QuickGelu.apply if is_quick_gelu(activation) else activation
    return computed


def can_be_joined(layers: Sequence[nn.Module]) -> bool:
    """Whether layers are frozen linear ones of a kind that ``FrozenLinears`` knows, all of the same."""
    kinds = {(_kind(layer), getattr(layer, "bias", None) is None) for layer in layers}
    trained = any(p.requires_grad for layer in layers for p in layer.parameters())
    return len(kinds) == 1 and not trained and None not in {kind for kind, _ in kinds}


def _kind(layer: nn.Module) -> str | None:
    if type(layer) is nn.Linear:
        return "plain"
    return {"Linear4bit": "nf4", "Linear8bit": "int8"}.get(type(layer).__name__)


class FrozenLinears:
    """Frozen linear layers that see the same input, as one product.

    Args:
        layers: Plain ones, or with weights of 4 or 8 bits; see ``can_be_joined``.
        kind: ``plain``, ``nf4`` or ``int8``; the first layer's if not given.
    """

    def __init__(self, layers: Sequence[nn.Module], kind: str | None = None) -> None:
        self._layers = cast(Sequence[Any], layers)
        self._kind = kind or _kind(layers[0]) or "plain"
        self._scales: list[Any] = []
        self._scaled_bias: Tensor | None = None
        self.sizes = [int(layer.out_features) for layer in self._layers]
        """Outputs of each layer."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """``(T, I)`` to ``(T, O)``, the layers' outputs side by side."""
        if self._kind == "plain":
            return functional.linear(inputs, self.weight(inputs.dtype), self.bias)
        return self.with_bias(inputs, self.bias)

    def with_bias(self, inputs: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply by weights in fewer bits and add a bias ``(O,)``, which may be trained."""
        outputs: Tensor = _QuantisedProduct.apply(inputs, self, bias)  # type: ignore[no-untyped-call]
        return outputs

    @property
    def bias(self) -> Tensor | None:
        """``(O,)``; None where the layers have none."""
        biases = [layer.bias for layer in self._layers]
        return None if biases[0] is None else side_by_side(biases)

    def gated_bias(self) -> Tensor | None:
        """The bias times QuickGELU's factor; it is made once."""
        bias, scaled = self.bias, self._scaled_bias
        if bias is not None and (scaled is None or (scaled.dtype, scaled.device) != (bias.dtype, bias.device)):
            self._scaled_bias = GATE * bias
        return self._scaled_bias

    @torch.no_grad()
    def weight(self, dtype: torch.dtype) -> Tensor:
        """``(O, I)``; what fewer bits stand for, in this type."""
        weights = [layer.weight for layer in self._layers]
        if self._kind == "plain":
            return side_by_side(weights)
        if not self._scales:
            self._scales = [_SCALES[self._kind](layer) for layer in self._layers]
        joined = torch.empty(sum(self.sizes), self._layers[0].in_features, dtype=dtype, device=weights[0].device)
        for weight, scale, part in zip(weights, self._scales, torch.split(joined, self.sizes), strict=True):
            _INTO[self._kind](weight.data, scale, part)
        return joined


def share_frozen(model: nn.Module, other: nn.Module) -> None:
    """Have the frozen parameters of another model be those of this one, whose structure and values it has."""
    for parameter, same in zip(model.parameters(), other.parameters(), strict=True):
        if not parameter.requires_grad:
            same.data = parameter.data


def side_by_side(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Frozen parameters as one tensor, along their first axis, without a copy.

    Where they do not lie side by side in memory yet they are moved there; each goes on as a view of the whole.
    """
    first = parameters[0].data
    if len(parameters) == 1:
        return first
    ends, storage = first.storage_offset(), first.untyped_storage()._cdata
    for parameter in parameters:
        if parameter.data.untyped_storage()._cdata != storage or parameter.data.storage_offset() != ends:
            joined = torch.cat([parameter.data for parameter in parameters])
            for each, part in zip(parameters, torch.split(joined, [len(p) for p in parameters]), strict=True):
                each.data = part
            return joined
        ends += parameter.numel()
    return first.as_strided((sum(len(p) for p in parameters), *first.shape[1:]), first.stride())


def _scales_of_four_bits(layer: Any) -> Any:
    """State of an NF4 weight as bitsandbytes has it, on CUDA without the second quantisation.

    There its scales, one for every 64 weights, are kept in float32: half a bit a weight, and two kernels fewer for
    every product.
    """
    state = layer.weight.quant_state
    if not state.nested or not layer.weight.is_cuda:
        return state
    import bitsandbytes

    single = copy.copy(state)
    single.absmax = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
    single.nested, single.offset, single.state2 = False, None, None
    return single


def _four_bits_into(weight: Tensor, state: Any, part: Tensor) -> None:
    import bitsandbytes

    if state.dtype != part.dtype:
        state = copy.copy(state)
        state.dtype = part.dtype
    if weight.is_cuda:
        bitsandbytes.functional.dequantize_4bit(weight, state, out=part)
    else:  # it has no way to write into a tensor elsewhere
        part.copy_(bitsandbytes.functional.dequantize_4bit(weight, state))


_SCALES: dict[str, Callable[[Any], Any]] = {
    "nf4": _scales_of_four_bits,
    "int8": lambda layer: layer.row_scales()[:, None],
}
_INTO: dict[str, Callable[[Tensor, Any, Tensor], object]] = {
    "nf4": _four_bits_into,
    "int8": lambda weight, scales, part: torch.mul(weight, scales, out=part),
}


class _QuantisedProduct(torch.autograd.Function):
    """x W^T + b, of which nothing is kept: W is made anew for the gradient of x. W gets none."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, frozen: FrozenLinears, bias: Tensor | None) -> Tensor:
        ctx.frozen = frozen
        return functional.linear(inputs, frozen.weight(inputs.dtype), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        needs_x, _, needs_bias = ctx.needs_input_grad
        to_x = gradient @ ctx.frozen.weight(gradient.dtype) if needs_x else None
        return to_x, None, gradient.sum(0) if needs_bias else None


class _FrozenMlp(torch.autograd.Function):
    """W2 q(W1 x + b1) + b2 with QuickGELU q(y) = y sigmoid(g y) = silu(g y) / g, g = 1.702; x alone gets a gradient.

    Both factors are those of products, which cost nothing: the first gives g y, the second divides by g. In the
    gradient, W1^T (g / g) silu'(g y) W2^T, they cancel. Of one tensor of the inner width g y is kept.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, first: FrozenLinears, second: FrozenLinears) -> Tensor:
        gated = _scaled_product(inputs, first.weight(inputs.dtype), first.gated_bias(), GATE)
        ctx.save_for_backward(gated)
        ctx.layers = first, second
        return _scaled_product(functional.silu(gated), second.weight(inputs.dtype), second.bias, 1 / GATE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (gated,) = ctx.saved_tensors
        first, second = ctx.layers
        inner = gradient @ second.weight(gradient.dtype)
        inner = torch.ops.aten.silu_backward(inner, gated)
        return inner @ first.weight(gradient.dtype), None, None


def _scaled_product(inputs: Tensor, weight: Tensor, bias: Tensor | None, factor: float) -> Tensor:
    """The product x W^T times a factor, plus b. On CUDA the bias is added within the product."""
    return (inputs @ weight.T).mul_(factor) if bias is None else torch.addmm(bias, inputs, weight.T, alpha=factor)

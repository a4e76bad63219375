"""Method settings -> an adapter in the model. How, each method's row says."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from ..methods import imported, method_spec
from ..settings import MethodConfig
from .adapter import Adapter
from .lora_xs import Basis
from .placement import Place

_ROOM = "lowshot.adapters"


def prepare(model: nn.Module, method: MethodConfig, place: Place) -> dict[str, Basis] | None:
    """Compute the parts of a method that need full-precision weights, before anything quantises them.

    Returns:
        Name of an adapted layer -> its basis; None where the method needs none.

    Raises:
        InputError: The rank exceeds a weight's smaller side.
    """
    spec = method_spec(method.method)
    if not spec.prepares:
        return None
    prepared: dict[str, Basis] | None = imported(spec.prepares, _ROOM)(model, method, place)
    return prepared


def add_adapter(
    model: nn.Module, method: MethodConfig, place: Place, *, seed: int, bases: dict[str, Basis] | None = None
) -> Adapter:
    """Put a fresh adapter of float32 parameters into the model, in place; only its parameters are trainable.

    Args:
        model: The backbone's model; every other parameter is frozen.
        method: Which method, and its settings.
        place: Where it works.
        seed: Determines the initial values, whatever was drawn before.
        bases: What ``prepare`` returned. The adapter may take them out, so that none is in memory twice.

    Raises:
        InputError: The method does not fit these layers.
    """
    add: Callable[..., Adapter] = imported(method_spec(method.method).code, _ROOM)
    return add(model, method, place, seed=seed, **({} if bases is None else {"bases": bases}))

"""From a recipe and a backbone's structure to an adapter in its model."""

from __future__ import annotations

import dataclasses

import torch

from ..adapters import Adapter, ContextAdapter, adapter_bytes, add_adapter, place, prepare
from ..errors import InputError
from ..heads import HEADS, blank_tensors, trained_numbers
from ..methods import settled_spec
from ..models import Backbone, Towers, load_structure, resolve_precision, round_to, set_precision
from ..settings import Recipe
from ..tensor_file import CLASSIFIER, serialized_size
from .create import refuse_unfit


def adapt(towers: Towers, recipe: Recipe, *, rounded: bool = False) -> Adapter:
    """Bring the frozen weights to the recipe's precision and add its adapter, in place.

    Args:
        towers: The backbone, in float32.
        recipe: Method, precision and seed.
        rounded: Keep plain float32 layers, with the values of the quantised weights: what can be merged and exported.

    Raises:
        InputError: The settings do not fit this backbone, or each other.
    """
    method, model = recipe.method, recipe.model
    _refuse_quantised(recipe)
    where = place(method, towers)
    linears = towers.quantized_linears(projection=model.quantize_projection)
    bases = prepare(towers.model, method, where)
    if rounded:
        round_to(towers.model, linears, model.quantize)
    else:
        precision = resolve_precision(model.quantize, model.precision, towers)
        set_precision(towers.model, linears, quantize=model.quantize, precision=precision)
    adapter = add_adapter(towers.model, method, where, seed=recipe.training.seed, bases=bases)
    if isinstance(adapter, ContextAdapter):
        prompts, tokens = (None, 0) if adapter.vision is None else adapter.vision.vectors.shape[:2]
        towers.use_trained_tokens(openings=adapter.text.openings, image_prompts=prompts, image_prompt_tokens=tokens)
        if isinstance(towers, Backbone) and method.openings:
            adapter.text.begin_with([towers.first_tokens(words, method.context) for words in method.openings])
    return adapter


def _refuse_quantised(recipe: Recipe) -> None:
    spec, quantize = settled_spec(recipe.method.method), recipe.model.quantize
    if spec.why_not_quantised and quantize != "none":
        raise InputError(f"method {spec.name} {spec.why_not_quantised}; quantize is {quantize}, expected none")


@dataclasses.dataclass(frozen=True)
class ParameterCount:
    """The size of a method on a model."""

    trainable_parameters: int
    total_parameters: int
    """Parameters of the model, without the adapter."""
    adapter_bytes: int
    """Size of the tensors' file."""


def count_parameters(recipe: Recipe, classes: int = 100) -> ParameterCount:
    """Count without loading weights: the model's ``config.json`` is all that is read.

    Args:
        recipe: Its model, method and settings.
        classes: Number of classes, on which the size of a head depends; so it does on the recipe's shots (1 if it
            has none).

    Raises:
        InputError: There is no such model, or the settings do not fit it.
    """
    spec = settled_spec(recipe.method.method)
    towers = load_structure(recipe.model.model)
    refuse_unfit(towers, recipe.model.model, spec)
    total = towers.parameters
    if spec.kind == "features":
        return _count_head(recipe, towers, classes)
    _refuse_quantised(recipe)
    # How the frozen weights are stored changes nothing that is counted here, and the meta device cannot quantise.
    adapter = adapt(towers, recipe.replace(quantize="none", quantize_projection=False, precision="fp32"))
    trained = sum(p.numel() for p in adapter.parameters())
    rows = {CLASSIFIER: torch.empty(classes, towers.embedding_size, device="meta")}
    with_rows = trained + rows[CLASSIFIER].numel()
    if spec.has_classifier:
        return ParameterCount(with_rows, total, serialized_size({**adapter.tensors(), **rows}))
    if not towers.has_text:
        return ParameterCount(with_rows, total, adapter_bytes(adapter) + serialized_size(rows))
    return ParameterCount(trained, total, adapter_bytes(adapter))


def _count_head(recipe: Recipe, towers: Towers, classes: int) -> ParameterCount:
    kind = HEADS.get(recipe.method.method)
    if kind is None:
        return ParameterCount(0, towers.parameters, 0)
    images, views = classes * (recipe.data.shots or 1), recipe.training.views or 1
    width, total = towers.embedding_size, towers.parameters
    if recipe.model.beside is not None:
        second = load_structure(recipe.model.beside)
        width, total = width + second.embedding_size, total + second.parameters
    tensors = blank_tensors(kind, classes=classes, width=width, images=images, views=views)
    return ParameterCount(trained_numbers(kind, tensors), total, serialized_size(tensors))

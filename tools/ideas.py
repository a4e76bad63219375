"""Ideas for a better LoRA that are no settings: each changes how ``WeightsLearner`` trains, for the length of a block.

``tools/compare_on_validation.py`` measures them, docs/concepts/best.md has what it found. They are prototypes: exact on
one process and CPU, without checkpoints. What earns its place becomes a setting; the others stay here, so that whoever
doubts a figure can have it again.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast
from unittest import mock

import numpy as np
import torch
from lowshot.training.gradients import StepGradients
from torch import Tensor, nn
from torch.nn import functional

from lowshot.adapters import keep_share
from lowshot.adapters.lora_xs.portable import layers_of
from lowshot.data import Examples
from lowshot.evaluation import fold_of_each, log_probabilities
from lowshot.models import Backbone, Partway
from lowshot.progress import Track
from lowshot.training.loop import TrainingLoop
from lowshot.training.passes import Passes
from lowshot.training.step import ExactStep
from lowshot.training.weights import WeightsLearner


@contextlib.contextmanager
def _changed(owner: type, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """A method of a class in another form: ``change`` gives it, from the one there is."""
    with mock.patch.object(owner, name, change(getattr(owner, name))):
        yield


# -- iterates ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def averaged_iterates() -> Iterator[None]:
    """The mean of the values after each step of the second half is kept, not the last."""
    sums: list[Tensor] = []

    def taking(take: Callable[..., bool]) -> Callable[..., bool]:
        def taken(loop: TrainingLoop, rows: Sequence[int], rate: float) -> bool:
            sound = take(loop, rows, rate)
            values = [parameter.detach() for parameter in loop.state.parameters]
            if loop.state.step == loop.steps // 2 + 1:
                sums[:] = [torch.zeros_like(value) for value in values]
            if loop.state.step > loop.steps // 2:
                torch._foreach_add_(sums, values)
            return sound

        return taken

    def running(run: Callable[..., str]) -> Callable[..., str]:
        def ran(loop: TrainingLoop, *arguments: Any) -> str:
            stopped = run(loop, *arguments)
            with torch.no_grad():
                for parameter, total in zip(loop.state.parameters, sums, strict=True):
                    parameter.copy_(total / (loop.steps - loop.steps // 2))
            return stopped

        return ran

    with _changed(TrainingLoop, "_take", taking), _changed(TrainingLoop, "run", running):
        yield


# -- a second teacher --------------------------------------------------------------------------------------------------


class _Distilling(ExactStep):
    """Adds ``weight`` times KL(zero-shot's posterior || the classifier's) of each image to its cross-entropy."""

    frozen: Backbone
    weight: float

    def _through_images(
        self,
        number: int,
        rows: Sequence[int],
        labels: Tensor,
        images_of: Callable[[Sequence[int]], Tensor | Partway],
        classes: Tensor,
    ) -> Tensor:
        images = cast(Tensor, images_of(rows))
        with torch.no_grad():
            frozen = self.frozen
            seen, named = frozen.encode_images(images), frozen.encode_prompts(self.tokens)
            posterior = frozen.logits(seen, named).softmax(1)
        with self._drawing(number, [2 * row for row in rows]):
            scores = self._scoring.scores(self._encode_images(images), classes)
            apart = functional.kl_div(scores.log_softmax(1), posterior, reduction="batchmean")
            loss = functional.cross_entropy(scores, labels) + self.weight * apart
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


@contextlib.contextmanager
def distilled(weight: float, *, by_shots: bool = False) -> Iterator[None]:
    """Training is held near what zero-shot says of the same crops; both towers are encoded a second time for it.

    Args:
        weight: Of the divergence beside the cross-entropy.
        by_shots: It is divided by the images per class, as ``shrinkage`` does.
    """

    def adapting(initialise: Callable[..., None]) -> Callable[..., None]:
        def initialised(learner: WeightsLearner, backbone: Backbone, *arguments: Any) -> None:
            towers = copy.deepcopy(backbone.model).eval().requires_grad_(False)
            vars(learner)["frozen"] = dataclasses.replace(backbone, model=towers)
            initialise(learner, backbone, *arguments)

        return initialised

    def stepping(_: Callable[..., ExactStep]) -> Callable[..., ExactStep]:
        def step(learner: Any, passes: Passes) -> ExactStep:
            made = _Distilling(
                learner.backbone,
                learner._tokens,
                learner._keys,
                passes,
                learner._text_is_trained,
                scoring=learner.scoring,
            )
            made.frozen, made.weight = learner.frozen, weight / (learner.recipe.data.shots if by_shots else 1)
            return made

        return step

    with _changed(WeightsLearner, "__init__", adapting), _changed(WeightsLearner, "exact_step", stepping):
        yield


# -- which parameters, and when ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def text_frozen_after(share: float) -> Iterator[None]:
    """After this share of the steps the text tower stays as it is (what 2SFS does with both towers)."""

    def computing(_: Callable[..., Any]) -> Callable[..., Any]:
        def gradients_of(learner: WeightsLearner, gradients: StepGradients, steps: int) -> Callable[..., float]:
            text = [p for n, p in learner.adapter.model.named_parameters() if p.requires_grad and "text" in n]
            assert text, "no parameter of the text tower is trained"

            def gradient(number: int, rows: Sequence[int]) -> float:
                loss = gradients(number, rows)
                for parameter in text if number >= share * steps else ():
                    parameter.grad = None  # the optimiser leaves it alone then, its decay too
                return loss

            return gradient

        return gradients_of

    with _changed(WeightsLearner, "_gradients", computing):
        yield


@contextlib.contextmanager
def layer_norms_beside(rate: float) -> Iterator[None]:
    """The layer norms of both towers are trained too, at this share of the learning rate."""

    def adapting(initialise: Callable[..., None]) -> Callable[..., None]:
        def initialised(learner: WeightsLearner, *arguments: Any) -> None:
            initialise(learner, *arguments)
            for module in learner.adapter.model.modules():
                if isinstance(module, nn.LayerNorm):
                    module.requires_grad_(True)

        return initialised

    def taking(take: Callable[..., bool]) -> Callable[..., bool]:
        def taken(loop: TrainingLoop, *arguments: Any) -> bool:
            norms = [p for p in loop.state.parameters if p.dim() == 1]
            assert norms, "no layer norm is trained"
            before = [p.detach().clone() for p in norms]
            sound = take(loop, *arguments)
            with torch.no_grad():
                for parameter, old in zip(norms, before, strict=True):
                    parameter.copy_(old + rate * (parameter - old))
            return sound

        return taken

    with _changed(WeightsLearner, "__init__", adapting), _changed(TrainingLoop, "_take", taking):
        yield


# -- the basis of LoRA-XS ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def scaled_basis(power: float, *, by_layer: bool) -> Iterator[None]:
    """LoRA-XS with diag(S)^power in place of diag(S); each layer, or all together, keeps its mean length of a row.

    Args:
        power: 1 is the paper's; with 0 all directions of a layer count alike.
        by_layer: All layers get the same mean, that of all layers, so that one learning rate suits them alike.
    """

    def adapting(initialise: Callable[..., None]) -> Callable[..., None]:
        def initialised(learner: WeightsLearner, *arguments: Any) -> None:
            initialise(learner, *arguments)
            layers = [cast(Any, layer).lora_A["default"] for _, layer in layers_of(learner.adapter.model)]
            lengths = [layer.weight.norm(dim=1, keepdim=True) for layer in layers]
            mean = torch.cat(lengths).mean()
            for layer, length in zip(layers, lengths, strict=True):
                scaled = length**power
                wanted = mean if by_layer else length.mean()
                layer.weight = layer.weight / length * scaled * (wanted / scaled.mean())

        return initialised

    with _changed(WeightsLearner, "__init__", adapting):
        yield


# -- how much of the update is kept ------------------------------------------------------------------------------------

_SHARES = (1.0, 0.75, 0.5, 0.25)
_FOLDS = 4


@contextlib.contextmanager
def chosen_share() -> Iterator[None]:
    """WiSE-FT's blend with the weights as they were, its share chosen by the likelihood of held-out shots.

    That takes a training for each fold. With one image of each class nothing can be held out, and all is kept.
    """

    def fitting(fit: Callable[..., Any]) -> Callable[..., Any]:
        def fitted(learner: WeightsLearner, examples: Examples, shots: int, track: Track, *rest: Any) -> Any:
            initial = [parameter.detach().clone() for parameter in learner.parameters]
            found = dict.fromkeys(_SHARES, 0.0)
            folds = min(_FOLDS, shots)
            fold_of = fold_of_each(examples.labels, folds) if folds > 1 else np.empty(0)
            for fold in range(folds if folds > 1 else 0):
                fit(learner, examples.subset(np.flatnonzero(fold_of != fold)), shots - shots // folds, track)
                held, before = examples.subset(np.flatnonzero(fold_of == fold)), 1.0
                for share in _SHARES:
                    keep_share(learner.adapter, share / before)
                    before, learner._classes = share, None
                    table = log_probabilities(learner, held.images, learner.backbone.image_size)
                    found[share] += float(table[np.arange(len(held)), held.labels].sum())
                with torch.no_grad():
                    for parameter, value in zip(learner.parameters, initial, strict=True):
                        parameter.copy_(value)
            outcome = fit(learner, examples, shots, track, *rest)
            keep_share(learner.adapter, max(_SHARES, key=found.__getitem__))
            learner._classes = None
            return outcome

        return fitted

    with _changed(WeightsLearner, "fit", fitting):
        yield


IDEAS: Mapping[str, Callable[[], AbstractContextManager[None]]] = {
    "averaged iterates": averaged_iterates,
    "distillation": lambda: distilled(1.0),
    "distillation by shots": lambda: distilled(1.0, by_shots=True),
    "text frozen": lambda: text_frozen_after(0.6),
    "layer norms": lambda: layer_norms_beside(1.0),
    "layer norms, a tenth": lambda: layer_norms_beside(0.1),
    "chosen share": chosen_share,
    "flat basis": lambda: scaled_basis(0.0, by_layer=False),
    "root basis": lambda: scaled_basis(0.5, by_layer=False),
    "even layers": lambda: scaled_basis(1.0, by_layer=True),
}
"""Name -> a block in which it holds."""

"""2SFS: layer norms first, then a linear classifier on the frozen towers (arXiv 2503.11609).

The steps of a run are split. In the first stage the layer norms of both towers are trained as any adapter is. Then the
towers stay as they are, and a linear classifier, which starts as the class embeddings that the trained text tower
gives, is trained on image embeddings. Class c has the score

    s cos(f, w_c)

with the logit scale s, an image's embedding f and the classifier's row w_c. A class that the classifier has no row of
is judged by its prompts, which the trained text tower encodes: the paper's selective inference.

Both stages are one run of one loop: its state holds both, and a run that is killed in either goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..adapters.checkpoint import TENSORS_FILE, read_tensors, serialized, serialized_size
from ..data.task import Examples
from ..models import Backbone, Partway
from ..progress import UNREPORTED, Report, Track
from ..settings import Recipe
from .gradients import StepGradients
from .learner import TrainingOutcome
from .placing import CLASSIFIER
from .weights import WeightsLearner


class TwoStageLearner(WeightsLearner):
    """Layer norms in a backbone, and a linear classifier on its image embeddings.

    Args:
        backbone: Changed in place: brought to the recipe's precision, then adapted.
        prompts: Of each class one, or several whose embeddings are averaged.
        recipe: Method, training and precision.
    """

    def __init__(self, backbone: Backbone, prompts: Sequence[str | Sequence[str]], recipe: Recipe) -> None:
        super().__init__(backbone, prompts, recipe)
        self._learnt_prompts = self._prompts
        self.classifier = nn.Parameter(torch.zeros(len(prompts), backbone.embedding_size, device=backbone.device))
        """w, ``(C, D)``, float32; zero before the second stage."""
        self._has_classifier = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The layer norms', and the classifier's."""
        return [*self.adapter.parameters(), self.classifier]

    def fit(
        self,
        examples: Examples,
        shots: int,
        track: Track,
        checkpoint: Path | None = None,
        contents: Sequence[str] = (),
        report: Report = UNREPORTED,
    ) -> TrainingOutcome:
        """Take the steps of both stages, or those that are left of them.

        Raises:
            InputError: The checkpoint is of another run.
        """
        self._has_classifier = False
        outcome = super().fit(examples, shots, track, checkpoint, contents, report)
        # Where the loss stopped being a number before the classifier had a step of its own, prompts judge.
        self._has_classifier = outcome.steps > first_stage_steps(self.recipe, self.recipe.steps(shots))
        self._classes = None
        return outcome

    def _first_stage(self, steps: int) -> int:
        return first_stage_steps(self.recipe, steps)

    def _gradients(self, gradients: StepGradients, steps: int) -> Callable[[int, Sequence[int]], float]:
        return TwoStageGradients(
            gradients, first_stage_steps(self.recipe, steps), self.classifier, self._begin_second_stage
        )

    @torch.no_grad()
    def _begin_second_stage(self, *, anew: bool) -> None:
        if anew:
            self._has_classifier = False
            self.classifier.copy_(self._encode_classes())
        self._has_classifier = True

    def _encode_classes(self) -> Tensor:
        """The classifier's rows as unit vectors ``(C, D)``; for classes without one what their prompts say."""
        if not self._has_classifier:
            return super()._encode_classes()
        rows = {said: row for row, said in enumerate(map(_as_said, self._learnt_prompts))}
        known = [rows.get(said) for said in map(_as_said, self._prompts)]
        learnt = functional.normalize(self.classifier.detach(), dim=-1)
        if None not in known:
            return learnt[known]
        classes = super()._encode_classes().to(learnt)
        for place, row in enumerate(known):
            if row is not None:
                classes[place] = learnt[row]
        return classes

    @property
    def adapter_bytes(self) -> int:
        """Size of the tensors' file."""
        return serialized_size(self._tensors())

    def save(self, folder: Path) -> None:
        """Write layer norms and classifier into one file; where none was trained yet, it is the class embeddings."""
        tensors = self._tensors()
        if not self._has_classifier:
            with torch.no_grad():
                tensors[CLASSIFIER] = super()._encode_classes().float()
        (folder / TENSORS_FILE).write_bytes(serialized(tensors))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        here = self._tensors()
        for name, tensor in read_tensors(folder / TENSORS_FILE, here).items():
            here[name].copy_(tensor)
        self._has_classifier, self._classes = True, None

    def _tensors(self) -> dict[str, Tensor]:
        """What is saved; the values are those in use, not copies."""
        return {**self.adapter.tensors(), CLASSIFIER: self.classifier.detach()}


@dataclasses.dataclass
class TwoStageGradients:
    """(number of the step, rows of its batch) to the loss; the gradients of its stage are left on the parameters.

    Args:
        first: Of the first stage.
        steps: How many steps that has.
        classifier: w, ``(C, D)``.
        begin: Told before each step of the second stage whether it is the first of it.
    """

    first: StepGradients
    steps: int
    classifier: nn.Parameter
    begin: Callable[..., None]

    def __call__(self, number: int, rows: Sequence[int]) -> float:
        if number < self.steps:
            return self.first(number, rows)
        self.begin(anew=number == self.steps)
        return self._of_classifier(number, rows)

    def _of_classifier(self, number: int, rows: Sequence[int]) -> float:
        """Cross-entropy of s cos(f, w) over the rows; the towers are frozen, so an image costs one forward pass."""
        exact, parameters, at_once = self.first.exact, self.first.state.parameters, self.first.state.passes.images
        for parameter in parameters:
            parameter.grad = None
        own = exact.processes.share(len(rows))
        total = torch.zeros((), dtype=torch.float64, device=self.classifier.device)
        for start in range(own.start, own.stop, at_once):
            part = rows[start : min(start + at_once, own.stop)]
            classes = functional.normalize(self.classifier, dim=-1)
            scores = exact.backbone.logits(self._embeddings(number, part), classes)
            labels = self.first.labels[torch.as_tensor(list(part), device=self.first.labels.device)]
            loss = functional.cross_entropy(scores, labels, reduction="sum") / len(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        exact.processes.add_up(total)
        exact.processes.add_up_gradients(parameters)
        return total.item()

    @torch.no_grad()
    def _embeddings(self, number: int, rows: Sequence[int]) -> Tensor:
        images, backbone = self.first.images_of(number, rows), self.first.exact.backbone
        return backbone.finish(images) if isinstance(images, Partway) else backbone.encode_images(images)


def first_stage_steps(recipe: Recipe, steps: int) -> int:
    """How many of a run's steps train layer norms; the other ones train the classifier."""
    return math.floor(recipe.method.first_stage * steps + 1e-9)


def _as_said(prompts: str | Sequence[str]) -> tuple[str, ...]:
    return (prompts,) if isinstance(prompts, str) else tuple(prompts)

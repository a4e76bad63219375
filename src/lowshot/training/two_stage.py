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
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..models import Backbone
from ..settings import Recipe
from ..tensor_file import CLASSIFIER, TENSORS_FILE, read_tensors, serialized, serialized_size
from .processes import Processes
from .step import Batch, Passes, embeddings_of, parts, zero_loss
from .steps import Stage
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
        self._learnt_texts = self.class_vectors.texts
        self.classifier = nn.Parameter(torch.zeros(len(prompts), backbone.embedding_size, device=backbone.device))
        """w, ``(C, D)``, float32; zero before the second stage."""
        self._has_classifier = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The layer norms', and the classifier's."""
        return [*self.adapter.parameters(), self.classifier]

    def end(self, steps: int, total: int) -> None:
        """See ``WeightsLearner``. Where the classifier has had no step of its own, prompts judge."""
        super().end(steps, total)
        self._has_classifier = steps > self._steps_of_norms(total)

    def stages(self, steps: int, passes: Passes) -> list[Stage]:
        """Layer norms, as any adapter is trained, then the classifier."""
        first, exact = self._steps_of_norms(steps), self.exact_step(passes)
        classifier = ClassifierStep(self.backbone, self.classifier, passes, exact.processes)
        return [Stage(first, exact), Stage(steps - first, classifier, self._begin_classifier)]

    def _steps_of_norms(self, steps: int) -> int:
        """How many of a run's steps train layer norms; the other ones train the classifier."""
        return math.floor(self.recipe.method.first_stage * steps + 1e-9)

    @torch.no_grad()
    def _begin_classifier(self, is_first: bool) -> None:
        if is_first:
            self._has_classifier = False
            self.classifier.copy_(self.encode_classes())
        self._has_classifier = True

    def encode_classes(self) -> Tensor:
        """The classifier's rows as unit vectors ``(C, D)``; for classes without one the embeddings of their prompts."""
        if not self._has_classifier:
            return super().encode_classes()
        row_of = {texts: row for row, texts in enumerate(map(_as_tuple, self._learnt_texts))}
        rows = [row_of.get(texts) for texts in map(_as_tuple, self.class_vectors.texts)]
        classifier = functional.normalize(self.classifier.detach(), dim=-1)
        if None not in rows:
            return classifier[rows]
        classes = super().encode_classes().to(classifier)
        for place, row in enumerate(rows):
            if row is not None:
                classes[place] = classifier[row]
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
                tensors[CLASSIFIER] = super().encode_classes().float()
        (folder / TENSORS_FILE).write_bytes(serialized(tensors))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        here = self._tensors()
        for name, tensor in read_tensors(folder / TENSORS_FILE, here).items():
            here[name].copy_(tensor)
        self._has_classifier, self._classes = True, None

    def _tensors(self) -> dict[str, Tensor]:
        """The tensors of the file; their values are those in use, not copies."""
        return {**self.adapter.tensors(), CLASSIFIER: self.classifier.detach()}


@dataclasses.dataclass
class ClassifierStep:
    """Computes the gradients of a classifier on frozen towers, so that an image costs one forward pass.

    Args:
        backbone: Its towers give the embeddings.
        classifier: w, ``(C, D)``.
        passes: How many images at once.
        processes: Those that share the batch between them.
        loss_scale: See ``StepGradients``.
    """

    backbone: Backbone
    classifier: nn.Parameter
    passes: Passes
    processes: Processes
    loss_scale: float | Tensor = 1.0

    def gradients(self, batch: Batch) -> Tensor:
        """See ``StepGradients``: the loss is the cross-entropy of s cos(f, w) over the rows."""
        own = self.processes.share(len(batch.rows))
        total = zero_loss(self.classifier.device)
        for part in parts(own, self.passes.images):
            with torch.no_grad():
                embeddings = embeddings_of(self.backbone, batch.images(part))
            scores = self.backbone.logits(embeddings, functional.normalize(self.classifier, dim=-1))
            labels = batch.labels[part.start : part.stop]
            loss = functional.cross_entropy(scores, labels, reduction="sum") / len(batch.rows)
            (loss * self.loss_scale).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        self.processes.add_up(total)
        return total


def _as_tuple(texts: str | Sequence[str]) -> tuple[str, ...]:
    return (texts,) if isinstance(texts, str) else tuple(texts)

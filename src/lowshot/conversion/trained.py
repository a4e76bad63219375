"""The function that an adapter is, in plain float32 layers: a vision tower, and class scores of its embeddings."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import Adapter
from ..belonging import Belonging, Gaussians
from ..heads import Head, Text, tensors_of
from ..methods import method_spec
from ..models import Backbone, load_backbone, round_to
from ..several_labels import Presence
from ..tensor_file import read_classifier
from ..training import create_learner
from ..training.head_learner import HeadLearner
from ..training.placing import adapt
from ..training.plot import PlotLearner
from ..training.weights import WeightsLearner
from .source import Source, class_embeddings


class CosineScores(nn.Module):
    """Cosine similarities times the logit scale; SigLIP's bias would cancel in the softmax.

    Args:
        scale: The model's logit scale.
        classes: Unit embeddings ``(C, D)``.
    """

    classes: Tensor

    def __init__(self, scale: float, classes: Tensor) -> None:
        super().__init__()
        self.register_buffer("classes", scale * classes.detach())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Unit embeddings ``(B, D)`` to scores ``(B, C)``."""
        return embeddings @ self.classes.T


class HeadScores(nn.Module):
    """A head with its tensors as buffers.

    Args:
        head: Fitted.
        text: What the class prompts say.
    """

    embeddings: Tensor
    lengths: Tensor

    def __init__(self, head: Head, text: Text) -> None:
        super().__init__()
        self._kind, self._text = type(head), text
        for name, tensor in tensors_of(head).items():
            self.register_buffer(f"head_{name}", tensor.detach())
        self.register_buffer("embeddings", text.embeddings.detach())
        self.register_buffer("lengths", text.lengths.detach())

    def forward(self, embeddings: Tensor) -> Tensor:
        """Unit embeddings ``(B, D)`` to scores ``(B, C)``."""
        head = self._kind(**{name: getattr(self, f"head_{name}") for name in self._kind.AXES})
        text = dataclasses.replace(self._text, embeddings=self.embeddings, lengths=self.lengths)
        return head.scores(embeddings, text)


class PValues(nn.Module):
    """The p-values of belonging to one of the classes, and the decision by them, as ``lowshot.belonging`` has them.

    Args:
        belonging: What was learnt.
        classes: Unit embeddings of the class prompts ``(C, D)``; None without a text tower.
    """

    held: Tensor
    classes: Tensor | None

    def __init__(self, belonging: Belonging, classes: Tensor | None) -> None:
        super().__init__()
        self._held_out = belonging.held_out
        self._names = tuple(belonging.gaussians.tensors())
        for name, tensor in belonging.gaussians.tensors().items():
            self.register_buffer(f"gaussians_{name}", tensor.detach())
        self.register_buffer("held", torch.tensor(belonging.held_out.scores, dtype=torch.float32))
        self.register_buffer("classes", None if classes is None else classes.detach())

    def forward(self, embeddings: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embeddings ``(B, D)`` to p-values ``(B,)``, and whether each is of none of the classes, ``(B,)``."""
        gaussians = Gaussians(**{name: getattr(self, f"gaussians_{name}") for name in self._names})
        cosines = None if self.classes is None else embeddings @ self.classes.T
        scores = Belonging(gaussians, self._held_out).scores(embeddings, cosines)
        places = 1 + (self.held <= scores[:, None]).float().sum(1)
        return places / (len(self._held_out.scores) + 1), places <= self._held_out.last_place


class Labels(nn.Module):
    """The probability of each class by itself, and which labels images have, as ``lowshot.several_labels`` has them."""

    offsets: Tensor
    thresholds: Tensor

    def __init__(self, presence: Presence) -> None:
        super().__init__()
        self._slope = presence.slope
        self.register_buffer("offsets", torch.tensor(presence.offsets, dtype=torch.float32))
        self.register_buffer("thresholds", torch.tensor(presence.thresholds, dtype=torch.float32))

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Class scores ``(B, C)`` to probabilities ``(B, C)``, and whether each image has each label, ``(B, C)``."""
        likely = torch.sigmoid(self._slope * scores + self.offsets)
        return likely, likely >= self.thresholds


@dataclasses.dataclass(frozen=True)
class Trained:
    """The trained model, in float32; a quantised base gives its rounded values."""

    backbone: Backbone
    """With the adapter in it. Its model's logit scale, which the backbone has read already, is that of the calibrated
    scores: files written with it give calibrated probabilities by themselves."""
    adapter: Adapter | None
    """None where no weights of the towers were trained."""
    scores: nn.Module
    """Unit embeddings ``(B, D)`` to class scores ``(B, C)``, not yet divided by the temperature."""
    temperature: float
    p_values: PValues | None = None
    """The rule that tells images of none of the classes, where one was learnt."""
    labels: Labels | None = None
    """The function from scores to probabilities, where images have several labels."""

    @torch.no_grad()
    def probabilities(self, images: Tensor) -> NDArray[np.float32]:
        """Calibrated probabilities ``(N, C)`` of images ``(N, 3, S, S)`` in [0, 1]."""
        scores = self.scores(self.backbone.encode_images(images))
        likely = torch.softmax(scores / self.temperature, dim=-1) if self.labels is None else self.labels(scores)[0]
        table: NDArray[np.float32] = likely.numpy()
        return table


def trained_model(source: Source) -> Trained:
    """Rebuild the function that was trained."""
    spec = method_spec(source.recipe.method.method)
    backbone = load_backbone(source.recipe.model.loaded, exportable=True)
    backbone.resize_as(source.record.resizing)
    if backbone.has_text:
        backbone.model.logit_scale.data -= math.log(source.temperature)
    rebuilt = _merged if not spec.why_not_merged and spec.kind == "weights" else _learnt
    adapter, classes, scores = rebuilt(source, backbone)
    classifier = source.classifier
    return Trained(
        backbone,
        adapter,
        scores,
        source.temperature,
        PValues(classifier.belonging, classes) if classifier.tells_none else None,
        None if classifier.presence is None else Labels(classifier.presence),
    )


_Parts = tuple[Adapter | None, Tensor | None, nn.Module]
"""The adapter, if weights of the towers were trained; class embeddings, if there is a text tower or a classifier's
rows; the class scores."""


def _merged(source: Source, backbone: Backbone) -> _Parts:
    """An adapter that can be merged, beside the embeddings of the prompts or the rows of a classifier."""
    adapter = adapt(backbone, source.recipe, rounded=True)  # which must see the weights before they are rounded
    adapter.load(source.folder)
    if source.record.has_rows:
        rows = read_classifier(source.folder, len(source.record.classes), backbone.embedding_size)
        classes = rows if source.record.on_top else functional.normalize(rows, dim=-1)
    else:
        classes = class_embeddings(backbone, source.record.prompts)
    return adapter, classes, CosineScores(backbone.logit_scale, classes)


def _learnt(source: Source, backbone: Backbone) -> _Parts:
    """Whatever else was learnt, by its learner; not PLOT++, whose images have several embeddings."""
    model, record = source.recipe.model, source.record
    round_to(backbone.model, backbone.quantized_linears(projection=model.quantize_projection), model.quantize)
    recipe = source.recipe.replace(quantize="none", quantize_projection=False, precision="fp32")
    learner = create_learner(backbone, record.prompts, recipe, with_rows=bool(record.on_top))
    learner.load(source.folder)
    if isinstance(learner, HeadLearner):
        classes = learner.classes if backbone.has_text else None
        if learner.head is None:
            return None, classes, CosineScores(backbone.logit_scale, learner.classes)
        return None, classes, HeadScores(learner.head, learner.text)
    assert isinstance(learner, WeightsLearner) and not isinstance(learner, PlotLearner)
    with torch.no_grad():
        classes = learner.encode_classes()
    adapter = learner.adapter if method_spec(recipe.method.method).kind == "weights" else None
    return adapter, classes, CosineScores(backbone.logit_scale, classes)

"""The form of a row in the table of methods: everything that is known before anything is loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["weights", "features", "prompts", "choice"]
Quantization = Literal["none", "nf4", "int8"]
Settings = Mapping[str, Any]
Projection = Literal["q", "k", "v", "o", "fc1", "fc2"]
PROJECTIONS: tuple[Projection, ...] = ("q", "k", "v", "o", "fc1", "fc2")

NOTHING: Settings = {}
HAS_CLASSIFIER = "its classes are rows of a classifier, which no prompts give"


@dataclasses.dataclass(frozen=True)
class MethodSpec:
    """A row of the table of methods: what it is, what it obeys, what can be done with it, and where its code is."""

    name: str
    kind: Kind
    """``weights`` trains inside the backbone, ``features`` on its frozen features, ``prompts`` tokens at its inputs;
    ``choice`` stands for one of the others until ``fit`` has seen the shots."""
    summary: str
    code: str = ""
    """``module:name``, imported when it is used: in ``heads`` a class for ``features``, in ``adapters`` a builder for
    the others."""
    prepares: str = ""
    """``module:name`` in ``adapters`` of a function that sees the full-precision weights before the builder is called.
    It checks them; the builder is given as ``bases`` what it returns, if it returns something."""
    learner: str = "weights:WeightsLearner"
    """``module:name`` in ``training`` of the class that trains it."""
    settings: frozenset[str] = frozenset()
    """Settings in a recipe's ``[method]`` that it obeys. Others are refused rather than ignored."""
    training: frozenset[str] | None = None
    """The same of ``[training]``; None for all of them."""
    presets: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    """Preset -> settings that differ from CLIP-LoRA's, which are the settings' own defaults."""
    learns: bool = True
    """Whether images change it."""
    has_classifier: bool = False
    """Whether a linear classifier is trained on top of the towers, so that prompts do not say all of a class."""
    without_text: str = ""
    """The part that is left of it on an image encoder that has no text tower; empty where it needs class prompts.

    What trains weights needs transformer blocks there: see ``is_without_text``."""
    why_not_quantised: str = ""
    """Why its base must not be quantised; empty where it may be."""
    why_not_in_peft: str = ""
    """Why PEFT has no adapter that is it; empty where it has."""
    why_not_merged: str = ""
    """Why a model's weights and class prompts are not all of it; empty where they are."""
    why_no_rows: str = ""
    """Why no class can be set on top of the towers that it has trained; empty where one can, or nothing is trained."""
    why_not_in_graph: str = ""
    """Why it cannot be had as an ONNX graph; empty where it can."""
    learns_several: bool = False
    """Whether it learns images of several labels, each class with a probability of its own."""
    served: bool = False
    """Whether a server answers with it, in one batch with the others that are served."""
    taught: bool = False
    """Whether a server teaches it."""

    def is_without_text(self, *, has_blocks: bool) -> bool:
        """Whether it can be had on an image encoder without a text tower.

        Args:
            has_blocks: Whether that has transformer blocks, which a convolutional one has not.
        """
        return bool(self.without_text) and (has_blocks or self.kind == "features")

    def with_classifier(self) -> MethodSpec:
        """The same on an image encoder without text, where what trains weights has a classifier beside its adapter."""
        if self.kind != "weights":
            return self
        return dataclasses.replace(
            self, has_classifier=True, why_not_in_peft=HAS_CLASSIFIER, why_not_merged=HAS_CLASSIFIER
        )

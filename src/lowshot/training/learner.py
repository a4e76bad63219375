"""Methods bound to a backbone and a list of classes, as everybody else sees them.

Three kinds of method stand behind this one door: those that train weights inside the backbone and those that train
tokens at its inputs (both ``weights.py``), and those that work on its frozen features (``head_learner.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..data.task import Examples
from ..heads import FullConformal, KeptShots
from ..models import Backbone
from ..progress import UNREPORTED, Report, Track
from ..settings import Recipe


@dataclasses.dataclass(frozen=True)
class TrainingOutcome:
    """The steps, time and memory of a training, and how it ended."""

    steps: int = 0
    """Updates in the weights there are now."""
    seconds: float = 0.0
    """Time of all steps, those before an interruption included."""
    static_memory_bytes: int = 0
    """In use before the first step."""
    peak_memory_bytes: int = 0
    reserved_memory_bytes: int = 0
    """The most that the CUDA allocator held for it; 0 on a CPU."""
    final_loss: float | None = None
    """Mean over the last tenth of the steps; None where nothing was trained."""
    begun_at_step: int = 0
    """Where this process went on with the run."""
    stopped: str = ""
    """Why training ended before its last step; then the weights are the last good ones."""
    unwritten: str = ""
    """Why the state of training could not be written, if it could not."""
    chosen: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Hyper-parameters that the shots, or how many there are, decided."""
    notes: tuple[str, ...] = ()
    """Lines that a person should read."""


class Learner(Protocol):
    """A method bound to a backbone, a list of class prompts and a recipe."""

    backbone: Backbone
    recipe: Recipe

    @property
    def kept(self) -> KeptShots | None:
        """The shots' embeddings, by which classes can be added without them; None where they are not kept."""

    @property
    def offsets(self) -> NDArray[np.float64] | None:
        """Those of the classes that scores were trained with where images have several labels, ``(C,)``; else None."""

    @property
    def trainable_parameters(self) -> int:
        """Numbers that training changes; where shots decide how many there are, 0 until they are learnt from."""

    @property
    def frozen_images(self) -> bool:
        """Whether the vision tower is as it was loaded, in the recipe's precision: its embeddings can be shared."""

    def fit(
        self,
        examples: Examples,
        shots: int,
        track: Track,
        checkpoint: Path | None = None,
        contents: Sequence[str] = (),
        report: Report = UNREPORTED,
    ) -> TrainingOutcome:
        """Learn from labelled images. Where the loss stops being a number, the outcome says so.

        Args:
            examples: What to learn from.
            shots: Images per class.
            track: Shows progress.
            checkpoint: File for the state of training; where it exists, training goes on from it.
            contents: Hashes of what the images show: a state that was left by a run on others is refused.
            report: Is told how training goes, step by step; a method that takes no steps tells nothing.

        Raises:
            InputError: The checkpoint is of another run.
        """

    def with_prompts(self, prompts: Sequence[str | Sequence[str]]) -> Learner:
        """The same towers, with all that they have learnt, judging other classes.

        Nothing is copied and this learner stays as it is; where it is trained or loaded once more, ask again.

        Args:
            prompts: Of each of the other classes one, or several whose embeddings are averaged.

        Raises:
            LongPromptError: A prompt is longer than the text tower takes.
            InputError: The method cannot judge classes that it has no shots of.
        """

    def merged_for_inference(self) -> AbstractContextManager[None]:
        """For the length of a block images are encoded as fast as this method allows, and nothing is trained."""

    def logits_of(self, embeddings: Tensor) -> Tensor:
        """Class scores ``(B, C)`` of the backbone's unit embeddings of images, ``(B, D)``, on any device.

        Of embeddings that ask for gradients they have them.
        """

    @property
    def is_computed(self) -> bool:
        """Whether it is computed from the shots, so that learning without some of them is no training: ``left_out``."""

    def left_out(self, examples: Examples, chosen: Mapping[str, float], track: Track) -> tuple[Tensor, Tensor]:
        """Class scores ``(N, C)`` of N images, each by what is learnt without it; see ``heads.left_out``.

        Also the part in which each was left out, ``(N,)``; -1 of a class's only image. Only where ``is_computed``.

        Args:
            examples: The images, all that is learnt from.
            chosen: The hyper-parameters, which stay those of the outcome of learning from all of them.
            track: Shows progress.
        """

    def full_conformal(self) -> FullConformal:
        """P-values of images and classes by the shots that it has kept, for sets with a guarantee.

        Raises:
            InputError: It has kept none that images can be compared with.
        """

    def prompt_cosines(self, embeddings: Tensor) -> Tensor | None:
        """Similarities ``(B, C)`` to the classes' own embeddings; None of a head without a text tower."""

    def logits(self, images: Tensor) -> Tensor:
        """Class scores ``(B, C)`` of images ``(B, 3, image_size, image_size)`` in [0, 1]."""

    @property
    def adapter_bytes(self) -> int:
        """Size of the tensors' file that ``save`` writes; 0 where it writes none."""

    def save(self, folder: Path) -> None:
        """Write what was learnt into an existing folder."""

    def load(self, folder: Path) -> None:
        """Read it back, strictly.

        Raises:
            AdapterError: It is not exactly what ``save`` writes for this recipe.
        """

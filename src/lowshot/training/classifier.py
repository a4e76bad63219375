"""A classifier beside an adapter, for an image encoder that reads no class names.

Class c has the score

    s cos(f, w_c)

with an image's embedding f, the classifier's row w_c and the encoder's logit scale s, which stays 20. The rows start
as the normalised means of the shots' embeddings, so that training begins as the nearest class mean
(arXiv 1911.04623), and are trained with the adapter, all at the same learning rate.

The scale is fixed, since a few shots can be told apart perfectly, and a scale that is learnt then grows for as long as
training goes on: the loss falls, and probabilities say nothing any more. 20 is that of the methods on frozen features
on such an encoder. What is left of over-confidence calibration on held-out shots removes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.task import Examples
from ..heads.shots import by_class
from ..models import Backbone
from ..models.classes import Owners
from ..progress import Track
from ..settings import TrainingConfig
from ..tensor_file import CLASSIFIER, CLASSIFIER_FILE, read_classifier, serialized, serialized_size
from .class_vectors import TextShape
from .embeddings import encoded_views


class Classifier:
    """A row for each class; as ``ClassVectors``, and for the steps of a run as ``StepVectors``.

    Args:
        backbone: Its vision tower gives the means that the rows start from.
        texts: Of each class what it is called. Nothing reads it.
        training: Its seed and the batches are of no importance here: every image is seen once, its central crop.
    """

    cached_bytes = 0
    text: TextShape | None = None

    def __init__(self, backbone: Backbone, texts: Sequence[str | Sequence[str]], training: TrainingConfig) -> None:
        self._backbone, self._training = backbone, training
        self.texts = tuple(texts)
        self.owners = Owners(torch.arange(len(texts), device=backbone.device), len(texts))
        self.rows = nn.Parameter(torch.zeros(len(texts), backbone.embedding_size, device=backbone.device))
        """w, ``(C, D)``, float32 and of any length; zero before training."""
        self._start = self.rows.detach().clone()

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """The rows."""
        return (self.rows,)

    def __len__(self) -> int:
        """One row for each class."""
        return len(self.rows)

    def embeddings(self) -> Tensor:
        """The rows as unit vectors ``(C, D)``."""
        return functional.normalize(self.rows, dim=-1)

    def in_steps(self) -> Classifier:
        """Itself: nothing of it is the same in every step."""
        return self

    def encode(self, chunk: range, *, anew: bool = False) -> Tensor:  # noqa: ARG002 - it never keeps anything
        """Some of the rows as unit vectors."""
        return functional.normalize(self.rows[chunk.start : chunk.stop], dim=-1)

    @torch.no_grad()
    def begin(self, examples: Examples, track: Track) -> None:
        """Start as the normalised mean of each class's unit embeddings, those of central crops."""
        [embeddings] = encoded_views(self._backbone, examples.images, self._training, None, track, "encoding the shots")
        labels = torch.from_numpy(examples.labels).to(embeddings.device)
        self._start = functional.normalize(by_class(embeddings.T, labels, len(self)).T, dim=-1).to(self.rows)
        self.rows.copy_(self._start)

    @torch.no_grad()
    def keep_share(self, share: float) -> None:
        """Interpolate between the means and the trained rows, as the adapter is between nothing and itself."""
        self.rows.lerp_(self._start, 1 - share)

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return serialized_size({CLASSIFIER: self.rows})

    def save(self, folder: Path) -> None:
        """Write the rows into a file of their own, so that the adapter's is PEFT's alone."""
        (folder / CLASSIFIER_FILE).write_bytes(serialized({CLASSIFIER: self.rows.detach()}))

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Read them back, strictly."""
        self.rows.copy_(read_classifier(folder, *self.rows.shape))


class RowsAsTheyAre(Classifier):
    """Rows of any length that nothing trains: class c has the score s f . w_c.

    So stand the classes of adapted towers once others were set on top of them. A row that is shorter than 1 is a class
    whose images are nearer to it than those of the others are to theirs.
    """

    @property
    def parameters(self) -> Sequence[nn.Parameter]:
        """None of them is trained."""
        return ()

    def embeddings(self) -> Tensor:
        """The rows ``(C, D)``."""
        return self.rows.detach()

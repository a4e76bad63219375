"""From an adapter's files to a resident of a bank. They are read by the code that the classifier reads them with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..belonging import read_belonging
from ..heads import HEADS, read_head
from ..methods import method_spec
from ..models import Backbone
from ..records import RunRecord
from ..settings import Recipe
from ..several_labels import Presence
from ..tensor_file import read_classifier
from .bases import Bases
from .class_tables import ClassTables
from .mixing import Updates
from .residents import Likelihoods, OwnHead, Resident, Stamp

if TYPE_CHECKING:
    from .forms import Forms


class Loader:
    """Reads adapters for one backbone. Not for several threads at once.

    Args:
        backbone: With its linear layers wrapped.
        bases: Those that LoRA-XS adapters share.
        class_tables: Those that adapters share.
    """

    def __init__(self, backbone: Backbone, bases: Bases, class_tables: ClassTables) -> None:
        self._backbone = backbone
        self._bases = bases
        self._forms: Forms | None = None
        self._class_tables = class_tables

    def load(self, folder: Path, stamp: Stamp, record: RunRecord, recipe: Recipe) -> Resident:
        """The resident that a bank keeps of an adapter.

        Raises:
            AdapterError: A file is missing or damaged or does not fit, exactly as for ``FewShotClassifier``.
            InputError: The settings do not fit this backbone.
        """
        method, device = recipe.method.method, self._backbone.device
        text, vision = Updates(), Updates()
        trains_weights = method_spec(method).kind == "weights"
        if trains_weights:
            from .forms import Forms

            self._forms = self._forms or Forms(self._backbone, self._bases)
            text, vision = self._forms.updates(folder, recipe.method)
        if trains_weights and record.has_rows:
            rows = read_classifier(folder, len(record.classes), self._backbone.embedding_size)
            classes = self._class_tables.of_rows(record.classes, rows, as_they_are=bool(record.on_top))
        else:
            classes = self._class_tables.table(record.classes, record.prompts, text)
        temperature = record.temperature
        head = None  # the class embeddings alone
        count, width = classes.embeddings.shape
        belonging = read_belonging(folder, record.belonging, classes=count, width=width)
        if method in HEADS:
            head = OwnHead(read_head(folder, HEADS[method], classes=count, width=width, device=device))
        return Resident(
            name=folder.name,
            stamp=stamp,
            classes=classes,
            temperature=torch.tensor(temperature, dtype=torch.float32, device=device),
            updates=vision,
            head=head,
            belonging=None if belonging is None else belonging.to(device),
            likelihoods=Likelihoods.on(device, Presence.from_dict(record.presence, count)) if record.presence else None,
        )

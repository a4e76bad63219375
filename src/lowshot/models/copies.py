"""A backbone that is read once and handed out many times."""

from __future__ import annotations

from .backbone import Backbone
from .devices import pick_device
from .loading import load_backbone


class KeptBackbone:
    """Loads what ``load_backbone`` does, but reads the files of a model only where the last one asked for was another.

    Every call gives a copy, since whoever is given a backbone changes it: precision, adapters, trained layer norms. The
    one that copies are made of stays as it was loaded, on the CPU: its memory is what this costs. What is changed on
    disk meanwhile is not noticed.
    """

    def __init__(self) -> None:
        self._model: str | None = None
        self._backbone: Backbone | None = None

    def load(self, model: str = "builtin", device: str = "cpu") -> Backbone:
        """A backbone of one's own; arguments and errors are those of ``load_backbone``."""
        on = pick_device(device, model)
        if self._backbone is None or self._model != model:
            self._backbone = None  # its memory is free for the next one
            self._backbone, self._model = load_backbone(model), model
        return self._backbone.copied(on)

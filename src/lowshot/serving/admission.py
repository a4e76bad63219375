"""Which adapters of a folder one backbone can serve; and which backbone, in which precision, where nobody says it."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from ..adapters import place
from ..errors import AdapterError, InputError
from ..methods import Quantization, method_spec
from ..models import Backbone, resolve_precision
from ..saved import check_backbone
from .entries import Entry, read_entry

_Value = TypeVar("_Value")


def model_of_most(folder: Path, entries: Sequence[Entry]) -> str:
    """The model that most of a folder's adapters were trained on: a folder or a Hub id.

    Raises:
        InputError: None of them can be served.
    """
    usable = [entry for entry in entries if not entry.refusal]
    if not usable:
        why = entries[0].refusal if entries else "it holds none"
        raise InputError(
            f"folder {folder} has no adapter that can be served, so the backbone is not known ({why}); "
            "put adapters there, or name a model"
        )
    most = _most_frequent([entry.hashes for entry in usable], ("", ""))
    return next(entry.model for entry in usable if entry.hashes == most)


class Admission:
    """Admits adapters that can be served on a backbone, and refuses the others with the reason.

    Args:
        folder: Holds the adapters' folders.
        backbone: In full precision, nothing wrapped.
        entries: All adapters of the folder: what is not given is that of most of those on this backbone.
        quantize: Precision of the frozen weights.
        precision: Type to compute in; if it is given, adapters that were trained in another one are served in it.
    """

    def __init__(
        self,
        folder: Path,
        backbone: Backbone,
        entries: Sequence[Entry],
        *,
        quantize: Quantization | None,
        precision: str | None,
    ) -> None:
        self._folder = folder
        self._backbone = backbone
        self._any_precision = precision is not None
        linears = backbone.encoder_linears()
        self._sides = {name: min(backbone.model.get_submodule(name).weight.shape) for name in linears}
        here = [entry for entry in entries if not entry.refusal and entry.hashes == self._hashes]
        self.resizing = _most_frequent([backbone.recorded_resizing(each.resizing) for each in here], backbone.resizing)
        """The resizing of images for all adapters."""
        here = [each for each in here if backbone.recorded_resizing(each.resizing) == self.resizing]
        self.quantize = quantize if quantize is not None else _most_frequent([each.quantize for each in here], "none")
        """Precision of the frozen weights."""
        here = [each for each in here if each.quantize == self.quantize]
        self.quantize_projection = _most_frequent([each.quantize_projection for each in here], False)
        """Whether the projection after the vision tower has that too."""
        types = [self._precision_of(each) for each in here]
        if precision is None and types:
            self.precision = _most_frequent(types, "auto")
        else:
            self.precision = resolve_precision(self.quantize, precision or "auto", backbone)
        """Type to compute in."""

    def checked(self, entry: Entry) -> Entry:
        """The entry, refused where the adapter was trained on another backbone or in another precision."""
        if entry.refusal:
            return entry
        folder = self._folder / entry.name
        try:
            if entry.hashes != self._hashes or self._backbone.recorded_resizing(entry.resizing) != self.resizing:
                check_backbone(folder, read_entry(folder)[0], self._backbone)
            for name in self._linears_of(entry):
                if entry.method.rank > self._sides[name]:
                    raise AdapterError(
                        f"adapter {folder} has rank {entry.method.rank}, but {name} has a side of {self._sides[name]}; "
                        "its record is not that of an adapter"
                    )
        except InputError as error:
            return entry.refused(str(error))
        if entry.quantize != self.quantize:
            return entry.refused(
                f"adapter {folder} was trained on a base with quantize {entry.quantize}, this bank's has "
                f"{self.quantize}; open another bank with quantize={entry.quantize!r}"
            )
        if entry.quantize_projection != self.quantize_projection:
            return entry.refused(
                f"adapter {folder} was trained with quantize-projection {entry.quantize_projection}, most of this "
                f"bank's with {self.quantize_projection}; serve it from a folder of its own"
            )
        if self._precision_of(entry) != self.precision and not self._any_precision:
            return entry.refused(
                f"adapter {folder} was trained in {self._precision_of(entry)}, this bank computes in {self.precision}; "
                f"open it with precision={self.precision!r} to compute all adapters in that"
            )
        return entry

    def basis_ranks(self, entries: Sequence[Entry]) -> dict[str, int]:
        """The largest rank that a LoRA-XS adapter has at each layer, of those that are served."""
        ranks: dict[str, int] = {}
        for entry in {each.method: each for each in entries if not each.refusal}.values():
            if entry.method.method == "lora-xs":
                for name in self._linears_of(entry):
                    ranks[name] = max(ranks.get(name, 0), entry.method.rank)
        return ranks

    @property
    def _hashes(self) -> tuple[str, str]:
        identity = self._backbone.identity
        return identity.weights_sha256, identity.settings_sha256

    def _precision_of(self, entry: Entry) -> str:
        return resolve_precision(entry.quantize, entry.precision, self._backbone)

    def _linears_of(self, entry: Entry) -> Sequence[str]:
        """The layers that an adapter adds something to."""
        trains = method_spec(entry.method.method).kind == "weights"
        return place(entry.method, self._backbone).linears if trains else ()


def _most_frequent(values: Sequence[_Value], otherwise: _Value) -> _Value:
    """The first of those that there are most of."""
    return collections.Counter(values).most_common(1)[0][0] if values else otherwise

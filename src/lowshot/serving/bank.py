"""Many adapters, one backbone: a batch may ask a different adapter for each of its rows."""

from __future__ import annotations

import collections
import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Images, ImagesOnDemand, images_in_order
from ..data.crops import central_crops
from ..data.picture import Rows
from ..errors import DataError, InputError, LowshotError, RunError
from ..explaining import Explanation, explain
from ..methods import Quantization
from ..models import Backbone, load_backbone, set_precision
from ..progress import Track, silent
from ..saved import backbone_of, check_backbone
from ..settings import ModelConfig, parse_bytes
from ..torch_state import own_torch_state
from .admission import Admission, model_of_most
from .bases import Bases
from .class_probabilities import class_scores, predictions
from .class_tables import ClassTables
from .entries import Entries, adapter_folders, entry_of, read_entry, stamp_of
from .fetching import Fetcher
from .loader import Loader
from .mixing import mixed, wrap_linears
from .predictions import Description, Prediction, Summary, summary_of
from .residents import Resident, Residents

BATCH_SIZE = 64
"""Rows of one forward pass at most."""
_DECODING_THREADS = 2

Answer: TypeAlias = Prediction | LowshotError
"""The prediction of a row, or the error that befell it."""


class AdapterBank:
    """The adapters of a folder, on one backbone that is loaded once.

    ```python
    bank = AdapterBank("adapters/", memory="2GB")
    bank.names()
    for answer in bank.predict(["a.jpg", "b.jpg"], ["flowers", "digits"]):
        print(answer.adapter, answer.best)
    ```

    Each folder in it that holds an adapter is one, by the folder's name. Their records are read at once, their tensors
    when they are first asked for; every file is checked as ``FewShotClassifier.from_pretrained`` checks it. What cannot
    be served is refused by name and reason, and does not keep the others from being served. A folder that is replaced
    on disk is read again when it is next asked for: each answer comes from one state of it as a whole.

    Threads may share a bank. Forward passes run side by side, adapters are loaded one at a time, and a thread waits for
    another only where what the other uses takes all of the memory.

    Args:
        folder: Holds the adapters' folders.
        model: Where the backbone is; if not given that of most adapters, as their records have it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        memory: What adapters and class embeddings may take together, such as ``2GB``; the backbone comes on top.
        quantize: Precision of the frozen weights; if not given that of most adapters on this backbone.
        precision: Type to compute in. If not given that of most adapters, and those trained in another are refused; if
            given all are computed in it.
        half_classes: Keep class embeddings in float16, which moves a probability by about 0.001 at most, instead of
            float32.
        track: Shows progress of reading the records.

    Raises:
        InputError: The folder cannot be read, there is no adapter in it that says which backbone to load, the backbone
            cannot be loaded, or an argument is out of range.
    """

    @own_torch_state()
    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        model: str | None = None,
        device: str = "auto",
        memory: str = "2GB",
        quantize: Quantization | None = None,
        precision: str | None = None,
        half_classes: bool = True,
        track: Track = silent,
    ) -> None:
        ModelConfig(quantize=quantize or "none", precision=cast(Any, precision or "auto"))  # refuses what is no value
        self.folder = Path(folder)
        self._residents = Residents(parse_bytes("memory", memory))
        paths = [path for path, _ in adapter_folders(self.folder)]
        entries = [entry_of(path) for path in track(paths, what="reading records", total=len(paths))]
        self._model_id = model or model_of_most(self.folder, entries)
        self.backbone: Backbone = backbone_of(self.folder, self._model_id, device, moved=model is not None)
        """The backbone in the bank's precision. Used directly it computes as if there were no adapters."""
        self._admission = Admission(self.folder, self.backbone, entries, quantize=quantize, precision=precision)
        self.backbone.resize_as(self._admission.resizing)
        self.quantize, self.precision = self._admission.quantize, self._admission.precision
        self.quantize_projection = self._admission.quantize_projection
        self._entries = Entries(self.folder, entries, self._admission.checked, gone=self._residents.drop)
        self._bases = Bases(self.backbone.device, self._read_model_again)
        self._bases.prepare(self._admission.basis_ranks(self._entries.all()), self.backbone.model)
        adapted = self.backbone.encoder_linears()
        quantized = self.backbone.quantized_linears(projection=self.quantize_projection)
        set_precision(self.backbone.model, quantized, quantize=self.quantize, precision=self.precision)
        for other in self.backbone.beside:
            set_precision(other.model, (), precision=self.precision)
        self._rows = wrap_linears(self.backbone.model, adapted)
        dtype = torch.float16 if half_classes else torch.float32
        computed_in = (self.quantize, self.precision)
        class_tables = ClassTables(self.backbone, self._rows, self._bases, computed_in, dtype)
        loader = Loader(self.backbone, self._bases, class_tables)
        self._fetcher = Fetcher(self._entries, self._residents, loader)

    def names(self) -> list[str]:
        """The adapters that are served, in alphabetical order."""
        return self._entries.served()

    def summaries(self) -> list[Summary]:
        """Adapters that are served, each in a few words, in alphabetical order; as they were when last looked at."""
        return [entry.summary for entry in self._entries.all() if entry.summary is not None and not entry.refusal]

    def refused(self) -> dict[str, str]:
        """The adapters that are not served: name -> why."""
        return {entry.name: entry.refusal for entry in self._entries.all() if entry.refusal}

    def resident(self) -> list[str]:
        """The adapters in memory, least recently used first."""
        return self._residents.names()

    @property
    def used_bytes(self) -> int:
        """Memory that adapters and class embeddings take; tensors that several share count once."""
        return self._residents.used_bytes

    def describe(self, name: str) -> Description:
        """The record of an adapter, and its state in this bank.

        Raises:
            UnknownNameError: It is not there.
            AdapterError: It is refused.
        """
        folder = self._entries.folder_of(name)
        self._entries.entry(name, stamp_of(folder)).check()
        record, recipe = read_entry(folder)
        notes = check_backbone(folder, record, self.backbone)
        if record.stopped:
            notes.append(f"{folder} has the weights of step {record.steps}: {record.stopped}")
        return Description(
            summary=summary_of(name, record, recipe.method),
            classes=record.classes,
            temperature=record.temperature,
            resident_bytes=self._residents.bytes_of(name),
            notes=tuple(notes),
            record=record,
        )

    def refresh(self) -> None:
        """Look through the folder again: new adapters, those that are gone, and refused ones that were mended.

        An adapter that is asked for is looked at anyway; this is for ``names`` and ``refused``.

        Raises:
            InputError: The folder can no longer be read.
        """
        self._entries.refresh()

    def predict(self, images: Sequence[Any] | Images, names: Sequence[str] | str) -> list[Prediction]:
        """The prediction of each image's adapter.

        Args:
            images: N paths, PIL images or arrays; their central crops are judged.
            names: The adapter of each, ``(N,)``, or one for all.

        Raises:
            DataError: An image cannot be read.
            UnknownNameError: An adapter is not there.
            AdapterError: An adapter is refused.
            RunError: A probability is not finite.
        """
        answers = []
        for answer in self.answers(images, names):
            if isinstance(answer, LowshotError):
                raise answer
            answers.append(answer)
        return answers

    @own_torch_state()
    def answers(self, images: Sequence[Any] | Images, names: Sequence[str] | str) -> list[Answer]:
        """The prediction of each image's adapter, as ``predict``; a row that fails has its error in its place."""
        sources = ImagesOnDemand(images_in_order(images))
        of_rows = _names_of_rows(len(sources), names)

        def crop(row: int) -> Tensor | LowshotError:
            try:
                return self.crop(sources.picture(row))
            except DataError as error:
                return error

        with ThreadPoolExecutor(_DECODING_THREADS, thread_name_prefix="decoding") as pool:
            return self._answers(of_rows, lambda rows: pool.map(crop, rows))

    def crop(self, picture: Rows) -> Tensor:
        """The part of an image that the model sees: ``(3, S, S)``, float32 in [0, 1]. For any thread."""
        return central_crops([picture], self.backbone.image_size, self.backbone.resizing)[0]

    @own_torch_state()
    def answers_to_crops(self, crops: Tensor, names: Sequence[str] | str) -> list[Answer]:
        """The answers to images that are decoded and cropped: ``(N, 3, image_size, image_size)`` in [0, 1]."""
        side = self.backbone.image_size
        if crops.ndim != 4 or crops.shape[1:] != (3, side, side) or not crops.is_floating_point():
            raise DataError(
                f"crops are {tuple(crops.shape)} of {crops.dtype}; expected (N, 3, {side}, {side}) in floating point"
            )
        return self._answers(_names_of_rows(len(crops), names), lambda rows: [crops[row] for row in rows])

    @own_torch_state()
    def explain(self, crop: Tensor, name: str, class_name: str | None = None) -> Explanation | LowshotError:
        """Which parts of an image spoke for a class of an adapter, or why nobody can say; see ``explaining.explain``.

        Args:
            crop: ``(3, image_size, image_size)`` in [0, 1].
            name: The adapter.
            class_name: The class that is asked about; the most probable if not given.
        """
        with contextlib.closing(self._fetcher.parts([name])) as parts:
            part, errors = next(parts)
            if name in errors:
                return errors[name]
            resident = part[name]
            try:
                with self._rows.of(mixed([resident.updates], self._bases.at)):
                    return explain(
                        self.backbone,
                        crop,
                        lambda embeddings: class_scores(self.backbone, embeddings, [resident]),
                        resident.classes.names,
                        class_name,
                        temperature=float(resident.temperature),
                        each=resident.likelihoods,
                    )
            except LowshotError as error:
                return error

    def _answers(
        self, names: Sequence[str], crops_of: Callable[[Sequence[int]], Iterable[Tensor | LowshotError]]
    ) -> list[Answer]:
        """Rows by rows of those adapters that fit into memory together: all of them, as a rule.

        Args:
            names: The adapter of each row.
            crops_of: Begins to decode the images of some rows, and gives them in order.
        """
        answers: dict[int, Answer] = {}
        rows_of = collections.defaultdict(list)
        for row, name in enumerate(names):
            rows_of[name].append(row)
        # Their residents are released, come what may.
        with contextlib.closing(self._fetcher.parts(list(rows_of))) as parts:
            for part, errors in parts:
                answers |= {row: error for name, error in errors.items() for row in rows_of[name]}
                rows = sorted(row for name in part for row in rows_of[name])
                batches = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
                crops_of_batches = map(crops_of, batches)
                crops = next(crops_of_batches, ())
                for batch in batches:
                    coming = next(crops_of_batches, ())  # is decoded while this batch is computed
                    answers |= self._batch(batch, [part[names[row]] for row in batch], list(crops))
                    crops = coming
        return [answers[row] for row in range(len(names))]

    def _batch(
        self, rows: Sequence[int], residents: Sequence[Resident], crops: Sequence[Tensor | LowshotError]
    ) -> dict[int, Answer]:
        """The answers of one forward pass, by row."""
        answers: dict[int, Answer] = {}
        usable = []
        for row, resident, crop in zip(rows, residents, crops, strict=True):
            if isinstance(crop, Tensor):
                usable.append((row, resident, crop))
            else:
                answers[row] = crop
        if not usable:
            return answers
        computed = self._predictions([crop for *_, crop in usable], [resident for _, resident, _ in usable])
        for (row, resident, _), prediction in zip(usable, computed, strict=True):
            if np.isfinite(prediction.probabilities).all():
                answers[row] = prediction
            else:
                answers[row] = RunError(
                    f"adapter {resident.name} gives probabilities that are not finite: its training has diverged"
                )
        return answers

    @torch.no_grad()
    def _predictions(self, crops: Sequence[Tensor], residents: Sequence[Resident]) -> list[Prediction]:
        """The prediction of each row. The device is waited for once: where they are read."""
        pixels = batch_on(self.backbone.device, crops)
        with self._rows.of(mixed([each.updates for each in residents], self._bases.at)):
            embeddings = self.backbone.encode_images(pixels)
        return predictions(self.backbone, embeddings, residents)

    def _read_model_again(self) -> nn.Module:
        """The model in full precision, for adapters of a rank or in a layer that none had before."""
        again = load_backbone(self._model_id)
        if again.identity.weights_sha256 != self.backbone.identity.weights_sha256:
            raise InputError(
                f"the files of model {self._model_id} have changed since the bank was opened; open it again"
            )
        return cast(nn.Module, again.model)


def batch_on(device: torch.device, crops: Sequence[Tensor]) -> Tensor:
    """Crops ``(3, S, S)`` side by side on a device, ``(n, 3, S, S)``: one copy, which nobody waits for.

    On the host they are put into memory that a CUDA device copies from by itself.
    """
    first = crops[0]
    pinned = device.type == "cuda" and first.device.type == "cpu"
    batch = torch.empty(len(crops), *first.shape, dtype=first.dtype, device=first.device, pin_memory=pinned)
    return torch.stack(tuple(crops), out=batch).to(device, non_blocking=device.type != "mps")


def _names_of_rows(count: int, names: Sequence[str] | str) -> list[str]:
    """The adapter of each row."""
    of_rows = [names] * count if isinstance(names, str) else list(names)
    if len(of_rows) != count:
        raise InputError(
            f"{count} images have {len(of_rows)} adapters; expected the name of one for each, or one for all"
        )
    for name in of_rows:
        if not isinstance(name, str):
            raise InputError(f"the name of an adapter is a {type(name).__name__}; expected a text")
    return of_rows

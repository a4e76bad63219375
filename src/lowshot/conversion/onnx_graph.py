"""Format ``onnx``: from pixels to probabilities in one graph: normalisation, image tower, class scores, softmax."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError, RunError, first_line
from ..models import Backbone
from ..randomness import torch_seeded
from .preprocessing import write_preprocessing
from .source import Source, as_input
from .trained import Trained

MODEL_FILE = "model.onnx"
EXACT = "exact/"
"""How names of nodes begin that stay float32 in every precision: pixels, unit length, class scores, softmax."""
LARGEST_SINGLE_FILE_BYTES = 1_900_000_000
"""A file of protocol buffers ends at 2 GiB: larger weights go into a second file beside it."""


class _ImageTower(nn.Module):
    """A vision tower by the code that it comes with, which torch's exporter knows, for any size of batch."""

    def __init__(self, backbone: Backbone, dtype: torch.dtype) -> None:
        super().__init__()
        self.model = backbone.model.to(dtype)
        self._family, self._dtype = backbone.family, dtype

    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels ``(B, 3, S, S)`` to embeddings ``(B, D)``."""
        return self._family.run_images(self.model, pixels.to(self._dtype)).float()


class _UnitEmbedding(nn.Module):
    """Images ``(B, 3, S, S)`` in [0, 1] to unit embeddings of one encoder; they are resized where it sees others."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, dtype: torch.dtype) -> None:
        super().__init__()
        self.tower = _ImageTower(backbone, dtype)
        self._side = backbone.family.image_size(backbone.vision_config)
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings ``(B, D)`` of length 1."""
        if images.shape[-1] != self._side:
            sides = (self._side, self._side)
            images = functional.interpolate(images, sides, mode="bicubic", antialias=True).clamp(0, 1)
        return functional.normalize(self.tower((images - self.mean) / self.std), dim=-1)


class ImageClassifier(nn.Module):
    """Images ``(B, 3, S, S)`` in [0, 1] to calibrated probabilities ``(B, C)``, and what ``PValues`` gives."""

    def __init__(self, trained: Trained, *, half: bool) -> None:
        super().__init__()
        dtype, encoders = torch.float16 if half else torch.float32, (trained.backbone, *trained.backbone.beside)
        self.encoders = nn.ModuleList(_UnitEmbedding(each, dtype) for each in encoders)
        self.scores = trained.scores
        self.p_values, self.labels = trained.p_values, trained.labels
        self._temperature = trained.temperature

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        if self.labels is not None:
            return ["probabilities", "has_label"]
        return ["probabilities", *([] if self.p_values is None else ["p_values", "none_of_these"])]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Probabilities by an image's unit embedding, which two encoders have side by side, and what else is told.

        Where images have several labels that is ``Labels``; else a softmax, and maybe ``PValues``.
        """
        embeddings = [encoder(images) for encoder in self.encoders]
        together = embeddings[0] if len(embeddings) == 1 else torch.cat(embeddings, -1) / math.sqrt(len(embeddings))
        if self.labels is not None:
            labelled: tuple[Tensor, ...] = self.labels(self.scores(together))
            return labelled
        probabilities = torch.softmax(self.scores(together) / self._temperature, dim=-1)
        return probabilities if self.p_values is None else (probabilities, *self.p_values(together))


def write(source: Source, trained: Trained, folder: Path) -> None:
    """Write the graph in float32, with the class names in its metadata, and what to do with an image before it.

    Raises:
        InputError: PEFT cannot merge this tuner, or torch cannot express this image tower as a graph.
    """
    if trained.adapter is not None:
        trained.adapter.merge()
    write_graph(source, trained, folder)
    write_preprocessing(trained.backbone, folder)


def write_graph(source: Source, trained: Trained, folder: Path, *, half: bool = False) -> None:
    """Write the graph alone; nothing is left in its model that could be merged.

    Args:
        source: Where the adapter comes from.
        trained: What to make the graph of.
        folder: Where to.
        half: Whether the image tower is float16; it is so in the model too afterwards.

    Raises:
        InputError: Torch cannot express this image tower as a graph.
    """
    classifier = ImageClassifier(trained, half=half).eval()
    program = _graph(classifier, trained.backbone.image_size)
    for node in program.model.graph.all_nodes():
        if ".tower'" not in node.metadata_props.get("pkg.torch.onnx.name_scopes", ""):
            node.name = f"{EXACT}{node.name}"
        node.metadata_props.clear()  # traces of the exporting machine's source files
    program.model.metadata_props.clear()
    program.model.metadata_props["classes"] = json.dumps(source.record.classes, ensure_ascii=False)
    program.model.metadata_props["prompts"] = json.dumps(source.record.prompts, ensure_ascii=False)
    size = sum(initializer.const_value.nbytes for initializer in program.model.graph.initializers.values())
    program.save(folder / MODEL_FILE, external_data=size > LARGEST_SINGLE_FILE_BYTES)


def _graph(classifier: ImageClassifier, size: int) -> Any:
    """``torch.onnx.ONNXProgram`` with a batch of any size."""
    images = torch.full((2, 3, size, size), 0.5)
    # Of its own code torch gives a warning, and its parts lists of what need not be done.
    with torch_seeded(0), silenced(*_TALKATIVE, warning=".*LeafSpec.* is deprecated"):
        try:
            program = torch.onnx.export(
                classifier,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=classifier.outputs,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            )
        except Exception as error:  # the exporter raises what the tower's code raises under tracing
            cause: BaseException = error
            while cause.__cause__ is not None:  # torch wraps what was raised first in pages of advice
                cause = cause.__cause__
            raise _no_graph(first_line(cause)[:200]) from error
    shape = program.model.graph.inputs[0].shape if program else None
    if shape is None or isinstance(shape[0], int):
        raise _no_graph("it would take batches of one size only")
    return program


def _no_graph(why: str) -> InputError:
    return InputError(
        f"this backbone cannot be had in format onnx: torch makes no graph of its image tower ({why}); "
        "use --format merged"
    )


_TALKATIVE = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")


@contextlib.contextmanager
def silenced(*loggers: str, warning: str = "") -> Iterator[None]:
    """For the length of a block loggers say errors alone, and Python does not warn.

    Args:
        loggers: Their names; the empty one is the root's.
        warning: Expression for the texts of the warnings that are left out; all are if not given.
    """
    with contextlib.ExitStack() as stack:
        for logger in map(logging.getLogger, loggers):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message=warning)
        yield


def read_back(source: Source, folder: Path) -> NDArray[np.float32] | None:
    """Probabilities by onnxruntime: the first probe alone, the others as a batch; None without onnxruntime.

    Raises:
        RunError: onnxruntime refuses the graph, or gives numbers that are not finite.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    exported, images = opened(folder), as_input(source.probes).numpy()
    return np.concatenate([exported(part) for part in (images[:1], images[1:])])


def opened(folder: Path) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """The graph in a folder as a function: images ``(B, 3, S, S)`` in [0, 1] to probabilities ``(B, C)``.

    Raises:
        RunError: onnxruntime refuses the graph; the function, it cannot run it, or a probability is not finite.
    """
    import onnxruntime

    def failed(error: Exception) -> RunError:
        reason = " ".join(str(error).split())[:200]
        return RunError(f"onnxruntime {onnxruntime.__version__} cannot run what was exported: {reason}")

    try:
        session = onnxruntime.InferenceSession(os.fspath(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common parent
        raise failed(error) from error

    def exported(images: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            table: NDArray[np.float32] = session.run(["probabilities"], {"images": images})[0]
        except Exception as error:
            raise failed(error) from error
        if not np.isfinite(table).all():
            raise RunError("what was exported gives probabilities that are not finite; use --precision fp32")
        return table

    return exported

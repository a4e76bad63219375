"""Format ``onnx``: from pixels to probabilities in one graph: normalisation, image tower, class embeddings, softmax."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..adapters import Adapter
from ..errors import InputError, RunError, first_line
from ..models import Backbone
from ..randomness import torch_seeded
from .source import Source, as_input, class_embeddings

PACKAGES = ("onnx", "onnxscript")
MODEL_FILE = "model.onnx"
LARGEST_SINGLE_FILE_BYTES = 1_900_000_000
"""A file of protocol buffers ends at 2 GiB: larger weights go into a second file beside it."""


class ImageClassifier(nn.Module):
    """Images ``(B, 3, S, S)`` in [0, 1] to probabilities ``(B, C)``, with the class embeddings as constants.

    The image tower is run by transformers' own code, which torch's exporter knows, for any size of batch.
    """

    mean: Tensor
    std: Tensor
    classes: Tensor

    def __init__(self, backbone: Backbone, classes: Tensor) -> None:
        super().__init__()
        self.model = backbone.model
        self.register_buffer("mean", torch.tensor(backbone.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(backbone.std).view(3, 1, 1))
        self.register_buffer("classes", backbone.model.logit_scale.exp() * classes)

    def forward(self, images: Tensor) -> Tensor:
        """Softmax of cosine similarities times the logit scale; SigLIP's bias would cancel in it."""
        embedded = self.model.get_image_features(pixel_values=(images - self.mean) / self.std).pooler_output
        return torch.softmax(functional.normalize(embedded, dim=-1) @ self.classes.T, dim=-1)


def write(source: Source, backbone: Backbone, adapter: Adapter | None, folder: Path) -> None:
    """Write the graph, with the class names in its metadata.

    Raises:
        InputError: PEFT cannot merge this tuner, or torch cannot express this image tower as a graph.
    """
    if adapter is not None:
        adapter.merge()
    classes = class_embeddings(backbone, source.record.prompts)
    program = _graph(ImageClassifier(backbone, classes).eval(), backbone.image_size)
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # traces of the exporting machine's source files
    program.model.metadata_props.clear()
    program.model.metadata_props["classes"] = json.dumps(source.record.classes, ensure_ascii=False)
    program.model.metadata_props["prompts"] = json.dumps(source.record.prompts, ensure_ascii=False)
    size = sum(parameter.nbytes for parameter in backbone.model.vision_model.parameters())
    program.save(folder / MODEL_FILE, external_data=size > LARGEST_SINGLE_FILE_BYTES)


def _graph(classifier: ImageClassifier, size: int) -> Any:
    """``torch.onnx.ONNXProgram`` with a batch of any size."""
    images = torch.full((2, 3, size, size), 0.5)
    with torch_seeded(0), _quietly():
        try:
            program = torch.onnx.export(
                classifier,
                (images,),
                dynamo=True,
                verbose=False,
                input_names=["images"],
                output_names=["probabilities"],
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
def _quietly() -> Iterator[None]:
    """Silence a warning that torch gives of its own code, and lists of what need not be done."""
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def read_back(source: Source, folder: Path) -> NDArray[np.float32] | None:
    """Probabilities by onnxruntime: the first probe alone, the others as a batch; None without onnxruntime.

    Raises:
        RunError: onnxruntime refuses the graph.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime

    images = as_input(source.probes).numpy()
    try:
        session = onnxruntime.InferenceSession(os.fspath(folder / MODEL_FILE), providers=["CPUExecutionProvider"])
        parts = [session.run(["probabilities"], {"images": part})[0] for part in (images[:1], images[1:])]
    except Exception as error:  # its errors have no common parent
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"onnxruntime {onnxruntime.__version__} cannot run what was exported: {reason}") from error
    return np.concatenate(parts)

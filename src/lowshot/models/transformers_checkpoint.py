"""A model in the format of transformers, which reads it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import InputError
from ..resizing import Interpolation, Resizing
from .checkpoint_files import CheckpointFiles
from .families import FAMILIES, model_class
from .open_clip import Pixels

PIL_NUMBERS: dict[Interpolation, int] = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of interpolations, which image processors are configured with."""
_PROCESSOR = "preprocessor_config.json"
_SQUASHING = ("ViT", "DeiT")
_STATISTICS = ("image_mean", "image_std")


@dataclasses.dataclass(frozen=True)
class TransformersCheckpoint:
    """A folder or repository that ``save_pretrained`` wrote.

    Args:
        files: Where its files are.
        file: Its config.json, fetched from the Hub if need be.
        settings: What that says.
    """

    files: CheckpointFiles
    file: Path
    settings: dict[str, Any]

    @property
    def id(self) -> str:
        """``builtin``, a folder's full path, or the repository."""
        return "builtin" if self.files.model == "builtin" else self.files.place

    @property
    def revision(self) -> str | None:
        """The commit that the Hub's files are of; None where they lie in a folder."""
        return self.files.commit_of(self.file)

    def config(self) -> dict[str, Any]:
        """Its config.json."""
        return self.settings

    def read(self) -> tuple[Any, Any, Pixels]:
        """The model on the CPU in float32, its tokenizer if it has a text tower, and its pixels.

        Raises:
            InputError: Tensors are missing, or the treatment of pixels cannot be read.
            Exception: Whatever transformers raises where files are missing or damaged.
        """
        kind, family = model_class(self.settings["model_type"]), FAMILIES[self.settings["model_type"]]
        from transformers import AutoImageProcessor, AutoTokenizer

        model, place = self.files.model, self.files.place
        loaded, report = kind.from_pretrained(place, dtype=torch.float32, output_loading_info=True, **family.options)
        if missing := report["missing_keys"]:
            raise InputError(f"model {model!r} lacks {len(missing)} of its tensors, such as {min(missing)}")
        for module in loaded.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # a BERT's own, or a ViT's, which its blocks as they are run here do not have either
        if not family.has_text:
            return loaded, None, pixels_in(self.files)
        tokenizer = AutoTokenizer.from_pretrained(place)
        settings = AutoImageProcessor.from_pretrained(place, backend="pil").to_dict()
        resizing, (mean, std) = resizing_of(settings), (tuple(settings[name]) for name in _STATISTICS)
        says_so = resizing.mode == "squash" and settings.get("do_center_crop") is False
        return loaded, tokenizer, Pixels(mean, std, resizing, resizing if says_so else Resizing())


def resizing_of(settings: Mapping[str, Any]) -> Resizing:
    """How an image processor of transformers resizes.

    It fits the shorter side, or both sides to a height and a width. What it cuts off around the middle of a larger
    image than the model takes is left aside: the model is shown all.

    Args:
        settings: What preprocessor_config.json says. A size that is one number, as it was first written, is that of
            both sides in the processors of ViT and DeiT.
    """
    size = settings.get("size")
    kind = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    is_square = "height" in size if isinstance(size, dict) else isinstance(size, int) and kind.startswith(_SQUASHING)
    interpolation: Interpolation = "bilinear" if settings.get("resample") == PIL_NUMBERS["bilinear"] else "bicubic"
    return Resizing("squash" if is_square else "shortest", interpolation)


def pixels_in(files: CheckpointFiles) -> Pixels:
    """The treatment of pixels, read from its file, since some processors of transformers want torchvision.

    Raises:
        InputError: There is no such file, or it is damaged.
    """
    model = files.model
    try:
        settings = json.loads(files.path(_PROCESSOR).read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in settings[name]) for name in _STATISTICS)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"model {model!r}: {_PROCESSOR} cannot be read: {type(error).__name__} {error}") from None
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise InputError(
            f"model {model!r}: {_PROCESSOR} has image_mean {mean} and image_std {std}; expected 3 numbers each"
        )
    return Pixels(mean, std, resizing_of(settings), Resizing())


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from showing bars while it reads or writes."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()

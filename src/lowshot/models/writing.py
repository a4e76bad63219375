"""A backbone written in transformers format, which other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import InputError
from .backbone import Backbone
from .opening import opened
from .transformers_checkpoint import PIL_NUMBERS, TransformersCheckpoint, resizing_of, without_progress_bars


def is_in_transformers_format(model: str) -> bool:
    """Whether transformers reads a model where it is; arguments and errors are those of ``load_backbone``."""
    return isinstance(opened(model), TransformersCheckpoint)


def refuse_foreign_to_transformers(backbone: Backbone) -> None:
    """Refuse a kind of model that only lowshot has modules of.

    Raises:
        InputError: It is one.
    """
    if backbone.has_text and not backbone.family.model_class:
        kind = backbone.model.config.model_type
        raise InputError(
            f"model {backbone.identity.id} is of a kind that transformers has not ({kind}), so that no other program "
            "could load its weights; use --format onnx"
        )


def write_in_transformers_format(backbone: Backbone, folder: Path) -> None:
    """Write configuration, float32 weights, tokenizer and image processor of a backbone that was loaded exportable.

    Raises:
        InputError: As for ``refuse_foreign_to_transformers``.
    """
    refuse_foreign_to_transformers(backbone)
    with without_progress_bars():
        backbone.model.save_pretrained(folder)
        backbone.tokenizer.save_pretrained(folder)
        image_processor(backbone).save_pretrained(folder)


def image_processor(backbone: Backbone) -> Any:
    """The image processor of transformers for a backbone, which prepares pixels as ``encode_images`` expects them.

    Its own where its folder or repository has one that resizes as the backbone does; else one that says what that is.
    """
    from transformers import AutoImageProcessor, CLIPImageProcessorPil

    checkpoint, side = opened(backbone.identity.id), backbone.image_size
    if isinstance(checkpoint, TransformersCheckpoint):
        own = AutoImageProcessor.from_pretrained(checkpoint.files.place, backend="pil")
        if resizing_of(own.to_dict()) == backbone.resizing:
            return own
    squash = backbone.resizing.mode == "squash"
    return CLIPImageProcessorPil(
        size={"height": side, "width": side} if squash else {"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_center_crop=not squash,
        resample=PIL_NUMBERS[backbone.resizing.interpolation],
        image_mean=list(backbone.mean),
        image_std=list(backbone.std),
    )

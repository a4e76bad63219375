"""The checkpoint that a model's name means, and the format it is in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import InputError
from .checkpoint_files import EXAMPLES, CheckpointFiles
from .families import IN_FOLDERS
from .open_clip import MOST_LAYERS, Checkpoint, checkpoint_in, named_checkpoint
from .timm_vit import TimmCheckpoint, timm_files
from .transformers_checkpoint import TransformersCheckpoint

BUILTIN = Path(__file__).parent / "builtin"
"""The built-in model's folder: a CLIP in transformers format like any other."""
_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")


def opened(model: str) -> Checkpoint | TimmCheckpoint | TransformersCheckpoint:
    """The checkpoint of a model: in transformers format, or one of open_clip's, OpenAI's or timm's.

    What is in both formats is read as transformers' where its weights are there in it.

    Args:
        model: As for ``load_backbone``, one model that comes in files.

    Raises:
        InputError: There is no such model, it is of no known kind, or its config.json is damaged.
    """
    of_timm = timm_files(model)
    if model != "builtin" and not of_timm and (named := named_checkpoint(model)):
        return named
    files = of_timm or CheckpointFiles(model, str(BUILTIN) if model == "builtin" else model)
    path, refusal = None, None
    try:
        path = files.first("config.json")
    except InputError as error:  # without a network nobody knows whether there is one: open_clip's may be in the cache
        refusal = error
    config = _read_config(model, path) if path else {}
    kind, folder = config.get("model_type"), files.folder
    is_known = isinstance(kind, str) and kind in IN_FOLDERS
    of_transformers = TransformersCheckpoint(files, path, config) if path and is_known else None
    # A folder may have a configuration of transformers beside weights of open_clip alone.
    if of_transformers and (folder is None or any(any(folder.glob(each)) for each in _WEIGHTS)):
        return of_transformers
    try:
        checkpoint = checkpoint_in(files)
    except InputError as error:
        raise (refusal or error) from None
    if known := checkpoint or of_transformers:
        return known
    if isinstance(config.get("architecture"), str):
        return TimmCheckpoint(files, config)
    if refusal:
        raise refusal
    if path:
        raise InputError(f"model {model!r} is of type {kind!r}; expected {', '.join(IN_FOLDERS)}")
    _refuse_half_a_checkpoint(files)
    raise InputError(
        f"model {model!r} has no config.json; expected a model in transformers format, such as {EXAMPLES}, or in "
        "open_clip's, with open_clip_config.json"
    )


def _read_config(model: str, path: Path) -> dict[str, Any]:
    """The model's config.json: small, and it tells whether the rest is worth reading or downloading."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"model {model!r}: config.json cannot be read: {error}") from None
    if not isinstance(config, dict):
        raise InputError(f"model {model!r}: config.json cannot be read: it holds a {type(config).__name__}")
    for part in (config, config.get("vision_config"), config.get("text_config")):
        layers = part.get("num_hidden_layers") if isinstance(part, dict) else None
        if isinstance(layers, int) and layers > MOST_LAYERS:
            raise InputError(f"model {model!r}: num_hidden_layers is {layers:,}; expected at most {MOST_LAYERS:,}")
    return config


def _refuse_half_a_checkpoint(files: CheckpointFiles) -> None:
    """Say what is missing where a folder has weights and no configuration."""
    for path in sorted(files.folder.iterdir()) if files.folder else ():
        if path.suffix == ".pt":
            raise InputError(f"model {files.model!r} holds {path.name}; expected the file itself: {path}")
        if path.name.startswith("open_clip_") and path.suffix in (".safetensors", ".bin"):
            raise InputError(
                f"model {files.model!r} holds open_clip's weights ({path.name}) and no open_clip_config.json, which "
                "says what they are weights of; expected both, as push_to_hf_hub writes them"
            )

"""Loading a backbone: the built-in one, one from the Hugging Face Hub, or one from a folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import torch

from ..errors import InputError
from .backbone import Backbone, Identity, settings_sha256, weights_sha256

BUILTIN = Path(__file__).parent / "builtin"
"""The built-in model's folder: a CLIP in transformers format like any other."""


def pick_device(device: str) -> torch.device:
    """The device a setting names.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: Not a device, or not on this machine.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise InputError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N") from None
    if picked.type not in ("cpu", "cuda"):
        raise InputError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r}, but this machine has {torch.cuda.device_count()} CUDA device(s); try cpu"
        )
    return picked


def load_backbone(model: str = "builtin", device: str = "cpu") -> Backbone:
    """Load a CLIP with its tokenizer and preprocessing, in float32.

    Args:
        model: ``builtin``, a Hub id, or a folder in transformers format.
        device: See ``pick_device``.

    Raises:
        InputError: There is no such model, it is not a CLIP, or its files are damaged.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    on = pick_device(device)
    source = _source(model)
    _refuse_what_is_no_clip(model, _config_file(model, source))
    try:
        with _quietly():
            clip, report = CLIPModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    except Exception as error:  # transformers and huggingface_hub raise a dozen kinds; the user needs one line
        raise InputError(f"model {model!r} cannot be loaded: {_first_line(error)}") from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise InputError(f"model {model!r} lacks {len(missing)} of its tensors, such as {missing[0]}")
    mean, std = tuple(processor.image_mean), tuple(processor.image_std)
    identity = Identity(
        id="builtin" if model == "builtin" else source,
        revision=getattr(clip.config, "_commit_hash", None),
        weights_sha256=weights_sha256(clip),
        settings_sha256=settings_sha256(clip, tokenizer, (*mean, *std)),
    )
    return Backbone(clip.to(on), tokenizer, mean, std, identity)


def _source(model: str) -> str:
    """What transformers is asked for: a folder's full path, or a Hub id."""
    folder = BUILTIN if model == "builtin" else Path(model).expanduser()
    return str(folder.resolve()) if folder.is_dir() else model


def _config_file(model: str, source: str) -> Path:
    """The model's config.json: small, and it tells whether the rest is worth reading or downloading."""
    folder = Path(source)
    if folder.is_dir():
        return folder / "config.json"
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or folder.exists():
        raise InputError(f"model {model!r}: there is no such folder")
    if "/" not in model:
        raise InputError(
            f"unknown model {model!r}; expected builtin, a Hub id such as openai/clip-vit-base-patch16, or a folder"
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, "config.json"))
    except Exception as error:  # no such repository, no network, not in the cache while offline, ...
        raise InputError(f"model {model!r} cannot be had from the Hub: {_first_line(error)}") from error


def _refuse_what_is_no_clip(model: str, config: Path) -> None:
    try:
        kind = json.loads(config.read_text(encoding="utf-8")).get("model_type")
    except FileNotFoundError:
        raise InputError(f"model {model!r} has no config.json; expected a CLIP in transformers format") from None
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"model {model!r}: config.json cannot be read: {error}") from None
    if kind != "clip":
        raise InputError(f"model {model!r} is of type {kind!r}; expected clip")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from showing bars, logging what we raise, and drawing from torch's random state."""
    from transformers.utils import logging

    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__

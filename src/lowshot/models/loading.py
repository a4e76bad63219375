"""Loading a backbone: the built-in one, one from the Hugging Face Hub, or one from a folder."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from ..errors import InputError, LowshotError, first_line
from ..randomness import seeded
from ..threads import BUILDING
from ..torch_state import own_torch_state
from .backbone import Backbone
from .checkpoint_files import CheckpointFiles
from .clip import Clip, ClipConfig, read_clip
from .devices import pick_device
from .efficientnet import MEAN, PHOTOS, STD, EfficientNetLite, photos_file, read_photos
from .families import empty_model
from .identity import Identity, settings_sha256, weights_sha256
from .open_clip import Pixels
from .opening import BUILTIN, opened
from .paired import BESIDE, PairedBackbone
from .precision import quiet_bitsandbytes
from .towers import Towers
from .transformers_checkpoint import pixels_in, without_progress_bars

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@own_torch_state()
def load_backbone(model: str = "builtin", device: str = "cpu", *, exportable: bool = False) -> Backbone:
    """Load a CLIP or SigLIP with its tokenizer and preprocessing, in float32.

    Args:
        model: ``builtin``; ``photos``; a Hub id or a folder, in transformers format, open_clip's or timm's;
            ``MODEL:TAG``, as open_clip names weights; ``timm:NAME``, as timm does; a ``.pt`` file of OpenAI's; or two
            of these with a plus sign between spaces: the second one's image embeddings stand behind the first one's.
        device: See ``pick_device``.
        exportable: Whether the built-in model too is of transformers' class, which can save itself; see ``clip``.

    Raises:
        InputError: There is no such model, it is of no known kind, or its files are damaged.
    """
    on = pick_device(device, model)
    if BESIDE in model:
        first, _, second = model.partition(BESIDE)
        return PairedBackbone.of(*(load_backbone(each, str(on), exportable=exportable) for each in (first, second)))
    quiet_bitsandbytes()
    loaded: Any
    model_id, revision = model, None
    if model == PHOTOS:
        (loaded, revision), tokenizer, pixels = read_photos(), None, Pixels(MEAN, STD)
    elif model == "builtin" and not exportable:
        (loaded, tokenizer), pixels = read_clip(BUILTIN), pixels_in(CheckpointFiles(model, str(BUILTIN)))
    else:
        checkpoint = opened(model)
        with _failing_in_one_line(model), _quietly():
            loaded, tokenizer, pixels = checkpoint.read()
        model_id, revision = checkpoint.id, checkpoint.revision
    towers = Towers(loaded)
    _refuse_unusable_vision(model, towers.vision_config)
    if towers.family.reads_end_of_text:
        _refuse_lost_end_of_text(model, towers, tokenizer)
    exact, rounded = weights_sha256(loaded)
    settings, *equal = settings_sha256(towers, tokenizer, (*pixels.mean, *pixels.std))
    identity = Identity(
        id=model_id,
        revision=revision,
        weights_sha256=exact,
        settings_sha256=settings,
        rounded_sha256=rounded,
        reads_text=towers.has_text,
        equal_settings_sha256=equal,
        resizing=pixels.resizing,
    )
    return Backbone(loaded.to(on), tokenizer, pixels.mean, pixels.std, identity, pixels.resizing_before)


@own_torch_state()
def load_structure(model: str = "builtin") -> Towers:
    """The towers alone, on torch's meta device: no weights are read or fetched, no memory is used.

    Args:
        model: As for ``load_backbone``, one of them; of a Hub id or a folder only the configuration is read.

    Raises:
        InputError: There is no such model, it is of no known kind, or its configuration is damaged.
    """
    if model in ("builtin", PHOTOS):
        with torch.device("meta"):
            structure: Any = EfficientNetLite() if model == PHOTOS else Clip(ClipConfig.read(BUILTIN))
        return Towers(structure)
    checkpoint = opened(model)
    with _failing_in_one_line(model):
        config = checkpoint.config()
    with _failing_in_one_line(model), _quietly():
        towers = Towers(empty_model(config))
        _refuse_unusable_vision(model, towers.vision_config)
        return towers


def why_no_model(model: str) -> str:
    """The reason why a model cannot be had, as far as its configuration tells; empty if none is known.

    Args:
        model: As for ``load_backbone``.
    """
    try:
        for each in model.split(BESIDE):
            if each == PHOTOS:
                photos_file()
            elif each != "builtin":
                opened(each)
    except LowshotError as error:
        return str(error)
    return ""


def _refuse_unusable_vision(model: str, vision: Any) -> None:
    """Settings that transformers accepts and that fail only once the first image is encoded."""
    if not getattr(vision, "vision_use_head", True):
        raise InputError(f"model {model!r} has no pooling head (vision_use_head is false): it embeds no images")
    channels = getattr(vision, "num_channels", 3)
    if channels != 3:
        raise InputError(f"model {model!r} takes images of {channels} channels; expected 3")
    patches = getattr(vision, "num_patches", 1)
    if math.isqrt(patches) ** 2 != patches:
        raise InputError(f"model {model!r} has num_patches {patches}; expected a square number such as 256")


def _refuse_lost_end_of_text(model: str, towers: Towers, tokenizer: PreTrainedTokenizerBase) -> None:
    """Where a text tower is configured to read embeddings must be where its tokenizer ends a prompt.

    If not, many or all prompts have the same embedding and nothing else fails.
    """
    text = towers.model.config.text_config
    end = tokenizer("a")["input_ids"][-1]
    read_at = towers.family.end_of_text(text, max(tokenizer.get_vocab().values()))
    if end == read_at:
        return
    place = f"token {read_at}"
    if read_at != text.eos_token_id:
        place = f"the largest token id (eos_token_id {text.eos_token_id}; largest: {read_at})"
    raise InputError(
        f"model {model!r} reads text embeddings at {place}, but its tokenizer ends prompts with token {end}: "
        "correct eos_token_id in the text_config of its config.json, or the tokenizer's files"
    )


@contextlib.contextmanager
def _failing_in_one_line(model: str) -> Iterator[None]:
    """The libraries raise a dozen kinds of error; the user needs one line."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        if not any(package in str(error).lower() for package in ("sentencepiece", "protobuf")):
            raise InputError(f"model {model!r} cannot be loaded: {first_line(error)}") from error
        raise InputError(
            f"the tokenizer of model {model!r} needs two more packages: pip install sentencepiece protobuf"
        ) from error
    except Exception as error:
        raise InputError(f"model {model!r} cannot be loaded: {first_line(error)}") from error


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep transformers from showing bars, logging what we raise, and drawing from torch's own generators."""
    from transformers.utils import logging

    with BUILDING, seeded(0), without_progress_bars():
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()
        try:
            yield
        finally:
            logging.set_verbosity(verbosity)

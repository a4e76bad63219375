"""Loading a backbone: the built-in one, one from the Hugging Face Hub, or one from a folder."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError, LowshotError, first_line
from ..files import from_home
from ..randomness import seeded
from ..resizing import Interpolation, Resizing
from ..threads import BUILDING
from ..torch_state import own_torch_state
from .backbone import Backbone
from .checkpoint_files import EXAMPLES, CheckpointFiles
from .clip import Clip, ClipConfig, read_clip
from .devices import pick_device
from .efficientnet import MEAN, PHOTOS, STD, EfficientNetLite, photos_file, read_photos
from .families import FAMILIES, IN_FOLDERS, model_class
from .identity import Identity, settings_sha256, weights_sha256
from .open_clip import MOST_LAYERS, Checkpoint, Pixels, checkpoint_in, named_checkpoint
from .paired import BESIDE, PairedBackbone
from .precision import quiet_bitsandbytes
from .timm_vit import TimmCheckpoint, timm_files
from .towers import Towers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PIL = {"bilinear": 2, "bicubic": 3}
"""Pillow's numbers of interpolations."""
_SQUASHING = ("ViT", "DeiT")
_STATISTICS = ("image_mean", "image_std")
_WEIGHTS = ("model*.safetensors*", "pytorch_model*.bin*")
BUILTIN = Path(__file__).parent / "builtin"
"""The built-in model's folder: a CLIP in transformers format like any other."""


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
        loaded, tokenizer = read_clip(BUILTIN)
        settings = json.loads((BUILTIN / "preprocessor_config.json").read_text(encoding="utf-8"))
        pixels = Pixels(tuple(settings["image_mean"]), tuple(settings["image_std"]))
    elif isinstance(opened := _opened(model), dict):
        loaded, tokenizer, pixels = _from_transformers(model, opened)
        model_id = "builtin" if model == "builtin" else _source(model)
        revision = getattr(loaded.config, "_commit_hash", None)
    else:
        with _failing_in_one_line(model), _quietly():
            loaded, tokenizer, pixels = opened.read()
        model_id, revision = opened.id, opened.revision
    towers = Towers(loaded)
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
    opened = _opened(model)
    with _failing_in_one_line(model):
        raw = opened if isinstance(opened, dict) else opened.config()
    with _failing_in_one_line(model), _quietly(), torch.device("meta"):
        kind = model_class(raw["model_type"])
        config = kind.config_class.from_dict(raw)
        family = FAMILIES[raw["model_type"]]
        _refuse_unusable_vision(model, config.vision_config if family.has_text else config)
        return Towers(
            kind(config, **family.options).float()
        )  # as load_backbone does, whatever type the checkpoint is in


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
                _opened(each)
    except LowshotError as error:
        return str(error)
    return ""


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


def _source(model: str) -> str:
    """The name of a model for transformers: a folder's full path, or a Hub id."""
    folder = BUILTIN if model == "builtin" else from_home(model)
    return str(folder.resolve()) if folder.is_dir() else model


def _from_transformers(model: str, config: dict[str, Any]) -> tuple[Any, Any, Pixels]:
    """The model, its tokenizer, and what its pixels are normalised with."""
    source, kind, family = _source(model), model_class(config["model_type"]), FAMILIES[config["model_type"]]
    from transformers import AutoImageProcessor, AutoTokenizer

    with _failing_in_one_line(model), _quietly():
        loaded, report = kind.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **family.options)
        if missing := report["missing_keys"]:
            raise InputError(f"model {model!r} lacks {len(missing)} of its tensors, such as {min(missing)}")
        _refuse_unusable_vision(model, loaded.config.vision_config if family.has_text else loaded.config)
        for module in loaded.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # a BERT's own, or a ViT's, which its blocks as they are run here do not have either
        if not family.has_text:
            return loaded, None, _pixels_in(CheckpointFiles(model, source))
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    settings = processor.to_dict()
    resizing, (mean, std) = _resizing_of(settings), (tuple(settings[name]) for name in _STATISTICS)
    said_so = resizing.mode == "squash" and settings.get("do_center_crop") is False
    return loaded, tokenizer, Pixels(mean, std, resizing, resizing if said_so else Resizing())


def _resizing_of(settings: Mapping[str, Any]) -> Resizing:
    """How an image processor of transformers resizes.

    It fits the shorter side, or both sides to a height and a width. What it cuts off around the middle of a larger
    image than the model takes is left aside: the model is shown all.

    Args:
        settings: What preprocessor_config.json says. A size that is one number, as it was first written, is that of
            both sides in the processors of ViT and DeiT.
    """
    size, kind = (
        settings.get("size"),
        str(settings.get("image_processor_type") or settings.get("feature_extractor_type")),
    )
    is_square = "height" in size if isinstance(size, dict) else isinstance(size, int) and kind.startswith(_SQUASHING)
    interpolation: Interpolation = "bilinear" if settings.get("resample") == _PIL["bilinear"] else "bicubic"
    return Resizing("squash" if is_square else "shortest", interpolation)


def _pixels_in(files: CheckpointFiles) -> Pixels:
    """The treatment of pixels, read from its file, since some processors of transformers want torchvision."""
    name, model = "preprocessor_config.json", files.model
    try:
        values = json.loads(files.path(name).read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in values[key]) for key in _STATISTICS)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"model {model!r}: {name} cannot be read: {type(error).__name__} {error}") from None
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise InputError(f"model {model!r}: {name} has image_mean {mean} and image_std {std}; expected 3 numbers each")
    return Pixels(mean, std, _resizing_of(values), Resizing())


def is_in_transformers_format(model: str) -> bool:
    """Whether transformers reads a model where it is; arguments and errors are those of ``load_backbone``."""
    return isinstance(_opened(model), dict)


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

    model, side = backbone.identity.id, backbone.image_size
    if isinstance(_opened(model), dict):
        own = AutoImageProcessor.from_pretrained(_source(model), backend="pil")
        if _resizing_of(own.to_dict()) == backbone.resizing:
            return own
    squash = backbone.resizing.mode == "squash"
    return CLIPImageProcessorPil(
        size={"height": side, "width": side} if squash else {"shortest_edge": side},
        crop_size={"height": side, "width": side},
        do_center_crop=not squash,
        resample=_PIL[backbone.resizing.interpolation],
        image_mean=list(backbone.mean),
        image_std=list(backbone.std),
    )


def _opened(model: str) -> Checkpoint | TimmCheckpoint | dict[str, Any]:
    """The source of a model: a checkpoint of open_clip's, OpenAI's or timm's, or a config.json of transformers.

    What is in both formats is read as transformers' where its weights are there in it.
    """
    of_timm = timm_files(model)
    if model != "builtin" and not of_timm and (named := named_checkpoint(model)):
        return named
    files, path, refusal = of_timm or CheckpointFiles(model, _source(model)), None, None
    try:
        path = files.first("config.json")
    except InputError as error:  # without a network nobody knows whether there is one: open_clip's may be in the cache
        refusal = error
    config = _read_config(model, path) if path else {}
    kind = config.get("model_type")
    is_known, folder = isinstance(kind, str) and kind in IN_FOLDERS, files.folder
    # A folder may have a configuration of transformers beside weights of open_clip alone.
    if is_known and (folder is None or any(any(folder.glob(each)) for each in _WEIGHTS)):
        return config
    try:
        checkpoint = checkpoint_in(files)
    except InputError as error:
        raise (refusal or error) from None
    if checkpoint or is_known:
        return checkpoint or config
    if isinstance(config.get("architecture"), str):
        return TimmCheckpoint(files, config)
    if refusal:
        raise refusal
    if path is None:
        _refuse_half_a_checkpoint(files)
        raise InputError(
            f"model {model!r} has no config.json; expected a model in transformers format, such as {EXAMPLES}, or in "
            "open_clip's, with open_clip_config.json"
        )
    raise InputError(f"model {model!r} is of type {kind!r}; expected {', '.join(IN_FOLDERS)}")


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


def _refuse_unusable_vision(model: str, vision: Any) -> None:
    """Settings that transformers accepts and that fail only once the first image is encoded."""
    if not getattr(vision, "vision_use_head", True):
        raise InputError(f"model {model!r} has no pooling head (vision_use_head is false): it embeds no images")
    if vision.num_channels != 3:
        raise InputError(f"model {model!r} takes images of {vision.num_channels} channels; expected 3")
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

"""Loading a backbone: the built-in one, one from the Hugging Face Hub, or one from a folder."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..errors import InputError, first_line
from ..files import from_home, is_spelt_as_path
from ..randomness import seeded
from ..repositories import repository_file
from ..threads import BUILDING
from ..torch_state import own_torch_state
from .backbone import Backbone, Identity, Towers, settings_sha256, weights_sha256
from .clip import Clip, ClipConfig, read_clip
from .efficientnet import MEAN, PHOTOS, STD, EfficientNetLite, read_photos
from .families import FAMILIES, IN_FOLDERS
from .paired import BESIDE, PairedBackbone
from .precision import quiet_bitsandbytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_EXAMPLES = "openai/clip-vit-base-patch16, laion/CLIP-ViT-bigG-14-laion2B-39B-b160k or google/siglip2-base-patch16-224"
_OTHER_NAMES = {
    "ViT-B-32": "openai/clip-vit-base-patch32",
    "ViT-B-16": "openai/clip-vit-base-patch16",
    "ViT-L-14": "openai/clip-vit-large-patch14",
    "ViT-L-14@336px": "openai/clip-vit-large-patch14-336",
    "ViT-L-14-336px": "openai/clip-vit-large-patch14-336",
    "ViT-bigG-14": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
"""Names of models in OpenAI's package and open_clip, with a dash for OpenAI's slash -> Hub id."""

BUILTIN = Path(__file__).parent / "builtin"
"""The built-in model's folder: a CLIP in transformers format like any other."""


def pick_device(device: str) -> torch.device:
    """The device a setting names.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``. Where several processes train together each gets a CUDA
            device of its own for ``auto`` and ``cuda``.

    Raises:
        InputError: Not a device, or not on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and "LOCAL_RANK" in os.environ:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    if device == "mps":
        raise InputError(
            "device is 'mps', on which lowshot computes nothing yet: losses and several methods are in float64, which "
            "Metal has not, and nobody has run it there; expected cpu, which a Mac is fast with on small models"
        )
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise InputError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N") from None
    if picked.type not in ("cpu", "cuda"):
        raise InputError(f"device is {device!r}; expected auto, cpu, cuda or cuda:N")
    if picked.index is not None and "LOCAL_RANK" in os.environ and picked.index != int(os.environ["LOCAL_RANK"]):
        raise InputError(f"device is {device!r}, but each of several processes needs its own; expected cuda or auto")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        raise InputError(
            f"device is {device!r}, but this machine has {torch.cuda.device_count()} CUDA device(s); try cpu"
        )
    return picked


@own_torch_state()
def load_backbone(model: str = "builtin", device: str = "cpu", *, exportable: bool = False) -> Backbone:
    """Load a CLIP or SigLIP with its tokenizer and preprocessing, in float32.

    Args:
        model: ``builtin``, ``photos``, a Hub id, or a folder in transformers format; or two of these with a plus sign
            between spaces: the second one's image embeddings stand behind the first one's.
        device: See ``pick_device``.
        exportable: Whether the built-in model too is of transformers' class, which can save itself; see ``clip``.

    Raises:
        InputError: There is no such model, it is of no known kind, or its files are damaged.
    """
    if BESIDE in model:
        first, _, second = model.partition(BESIDE)
        return PairedBackbone.of(*(load_backbone(each, device, exportable=exportable) for each in (first, second)))
    quiet_bitsandbytes()
    on = pick_device(device)
    source = _source(model)
    loaded: Any
    revision = None
    if model == PHOTOS:
        (loaded, revision), tokenizer, mean, std = read_photos(), None, MEAN, STD
    elif model == "builtin" and not exportable:
        loaded, tokenizer = read_clip(BUILTIN)
        pixels = json.loads((BUILTIN / "preprocessor_config.json").read_text(encoding="utf-8"))
        mean, std = tuple(pixels["image_mean"]), tuple(pixels["image_std"])
    else:
        loaded, tokenizer, mean, std = _from_transformers(model, source)
    towers = Towers(loaded)
    if towers.has_text and towers.family.text_attention == "causal":
        _refuse_lost_end_of_text(model, towers, tokenizer)
    exact, rounded = weights_sha256(loaded)
    identity = Identity(
        id=model if model in ("builtin", PHOTOS) else source,
        revision=revision or getattr(loaded.config, "_commit_hash", None),
        weights_sha256=exact,
        settings_sha256=settings_sha256(towers, tokenizer, (*mean, *std)),
        rounded_sha256=rounded,
        reads_text=towers.has_text,
    )
    return Backbone(loaded.to(on), tokenizer, mean, std, identity)


@own_torch_state()
def load_structure(model: str = "builtin") -> Towers:
    """The towers alone, on torch's meta device: no weights are read or fetched, no memory is used.

    Args:
        model: ``builtin``, ``photos``, a Hub id, or a folder; of the two latter only config.json is read.

    Raises:
        InputError: There is no such model, it is of no known kind, or its config.json is damaged.
    """
    if model in ("builtin", PHOTOS):
        with torch.device("meta"):
            structure: Any = EfficientNetLite() if model == PHOTOS else Clip(ClipConfig.read(BUILTIN))
        return Towers(structure)
    raw = _read_config(model, _source(model))
    with _failing_in_one_line(model), _quietly(), torch.device("meta"):
        kind = _model_class(raw)
        config = kind.config_class.from_dict(raw)
        family = FAMILIES[raw["model_type"]]
        _refuse_unusable_vision(model, config.vision_config if family.has_text else config)
        return Towers(
            kind(config, **family.options).float()
        )  # as load_backbone does, whatever type the checkpoint is in


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


def _model_class(config: dict[str, Any]) -> type[PreTrainedModel]:
    import transformers

    kind: type[PreTrainedModel] = getattr(transformers, FAMILIES[config["model_type"]].model_class)
    return kind


def _from_transformers(model: str, source: str) -> tuple[Any, Any, tuple[Any, ...], tuple[Any, ...]]:
    """The model, its tokenizer, and the mean and deviation that its pixels are normalised with."""
    raw = _read_config(model, source)
    kind, family = _model_class(raw), FAMILIES[raw["model_type"]]
    from transformers import AutoImageProcessor, AutoTokenizer

    with _failing_in_one_line(model), _quietly():
        loaded, report = kind.from_pretrained(source, dtype=torch.float32, output_loading_info=True, **family.options)
        if missing := report["missing_keys"]:
            raise InputError(f"model {model!r} lacks {len(missing)} of its tensors, such as {min(missing)}")
        _refuse_unusable_vision(model, loaded.config.vision_config if family.has_text else loaded.config)
        if not family.has_text:
            return loaded, None, *_pixel_statistics(model, source)
        for module in loaded.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # a BERT's own, which its blocks as they are run here do not have either
        tokenizer = AutoTokenizer.from_pretrained(source)
        processor = AutoImageProcessor.from_pretrained(source, backend="pil")
    return loaded, tokenizer, tuple(processor.image_mean), tuple(processor.image_std)


def _pixel_statistics(model: str, source: str) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Mean and deviation of pixels; read from their file, since some processors of transformers want torchvision."""
    name = "preprocessor_config.json"
    try:
        values = json.loads(_file(model, source, name).read_text(encoding="utf-8"))
        mean, std = (tuple(float(value) for value in values[key]) for key in ("image_mean", "image_std"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"model {model!r}: {name} cannot be read: {type(error).__name__} {error}") from None
    if len(mean) != 3 or len(std) != 3 or not all(value > 0 for value in std):
        raise InputError(f"model {model!r}: {name} has image_mean {mean} and image_std {std}; expected 3 numbers each")
    return mean, std


def _read_config(model: str, source: str) -> dict[str, Any]:
    """The model's config.json: small, and it tells whether the rest is worth reading or downloading."""
    try:
        text = _file(model, source, "config.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        _refuse_other_formats(model, source)
        raise InputError(
            f"model {model!r} has no config.json; expected a model in transformers format, such as {_EXAMPLES}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"model {model!r}: config.json cannot be read: {error}") from None
    try:
        config = json.loads(text)
        kind = config.get("model_type")
    except (ValueError, AttributeError) as error:
        raise InputError(f"model {model!r}: config.json cannot be read: {error}") from None
    if kind is None:
        _refuse_other_formats(model, source)
    if kind not in IN_FOLDERS:
        raise InputError(f"model {model!r} is of type {kind!r}; expected {', '.join(IN_FOLDERS)}")
    return dict(config)


def _file(model: str, source: str, name: str) -> Path:
    """A file of the model's, fetched from the Hub if need be.

    Raises:
        FileNotFoundError: The folder or repository has no such file (for a folder, raised on reading).
        InputError: There is no such folder or repository, or the Hub cannot be reached.
    """
    folder = Path(source)
    if folder.is_dir():
        return folder / name
    _refuse_what_is_no_hub_id(model)
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return repository_file(model, name)
    except Exception as error:  # no such repository, no network, not in the cache while offline, ...
        if isinstance(error, EntryNotFoundError):
            raise FileNotFoundError(name) from error
        raise InputError(f"model {model!r} cannot be had from the Hub: {first_line(error)}") from error


def _refuse_what_is_no_hub_id(model: str) -> None:
    path = from_home(model)
    known = _OTHER_NAMES.get((path.stem if path.suffix == ".pt" else model).replace("/", "-"), _EXAMPLES)
    if path.is_file():
        raise InputError(
            f"model {model!r} is a file, such as OpenAI and open_clip publish; expected a folder or Hub id in "
            f"transformers format, such as {known}"
        )
    if known != _EXAMPLES:
        raise InputError(f"model {model!r} is OpenAI's or open_clip's name; expected a folder or Hub id: {known}")
    if is_spelt_as_path(model) or model.count("/") > 1:
        raise InputError(f"model {model!r}: there is no such folder")
    if "/" not in model:
        raise InputError(
            f"unknown model {model!r}; expected builtin, photos, a folder, or a Hub id such as "
            "openai/clip-vit-base-patch16"
        )


def _refuse_other_formats(model: str, source: str) -> None:
    """Say so where the files are those of open_clip or of OpenAI's package."""
    with contextlib.suppress(FileNotFoundError):
        if _file(model, source, "open_clip_config.json").is_file():
            raise InputError(
                f"model {model!r} holds open_clip's files (open_clip_config.json) and no config.json; expected "
                f"transformers format, which some of open_clip's models are published in too: such as {_EXAMPLES}"
            )
    if checkpoints := sorted(Path(source).glob("*.pt")):
        raise InputError(
            f"model {model!r} holds a .pt file ({checkpoints[0].name}), such as OpenAI's package downloads; expected "
            f"transformers format, such as {_OTHER_NAMES.get(checkpoints[0].stem, _EXAMPLES)}"
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
    """Where a causal text tower is configured to read embeddings must be where its tokenizer ends a prompt.

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

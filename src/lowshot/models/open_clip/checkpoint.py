"""open_clip's checkpoints, and OpenAI's, as a CLIP of transformers with its tokenizer and pixels."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from ...errors import InputError, first_line
from ...files import from_home, read_json_object
from ...resizing import Interpolation, ResizeMode, Resizing
from ..checkpoint_files import CheckpointFiles
from ..families import empty_model
from ..mobileclip import MobileClip
from ..mobileclip_weights import TrunkTensors
from ..pe_core import PeCore
from .configuration import clip_config, shortfalls
from .published import Published, by_name, trained_with_quick_gelu
from .tokenizer import open_clip_tokenizer, openai_tokenizer
from .torchscript import archive_tensors, is_torchscript
from .weights import clip_tensors, openai_config, state_dict_of

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
HUB, FOLDER = "hf-hub:", "local-dir:"
"""open_clip's own words for where a model is."""
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

_MODES: dict[str, ResizeMode] = {"shortest": "shortest", "squash": "squash"}
_INTERPOLATIONS: dict[str, Interpolation] = {"bicubic": "bicubic", "bilinear": "bilinear", "random": "bicubic"}
"""open_clip's word for how images are resized -> what it does to images that are judged."""


class Pixels(NamedTuple):
    """The steps from an image to what the model sees."""

    mean: tuple[float, float, float] = _OPENAI_MEAN
    std: tuple[float, float, float] = _OPENAI_STD
    resizing: Resizing = Resizing()
    resizing_before: Resizing | None = None
    """How lowshot resized when records did not name it; None for as it does now."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Pixels:
        """From open_clip's ``preprocess_cfg``; what it does not say is OpenAI's.

        Raises:
            InputError: A value is not one that open_clip has, or not one that lowshot has.
        """
        mode, interpolation = settings.get("resize_mode") or "shortest", settings.get("interpolation") or "bicubic"
        if not isinstance(mode, str) or mode not in _MODES:
            raise InputError(f"resize_mode is {mode!r}; expected {' or '.join(_MODES)}")
        if not isinstance(interpolation, str) or interpolation not in _INTERPOLATIONS:
            raise InputError(f"interpolation is {interpolation!r}; expected bicubic or bilinear")
        if settings.get("mode", "RGB") != "RGB":
            raise InputError(f"preprocess_cfg has mode {settings['mode']!r}; expected RGB")
        mean, std = _channels(settings, "mean", _OPENAI_MEAN), _channels(settings, "std", _OPENAI_STD)
        return cls(mean, std, Resizing(_MODES[mode], _INTERPOLATIONS[interpolation]))


def _channels(settings: Mapping[str, Any], name: str, usual: tuple[float, float, float]) -> tuple[float, float, float]:
    value = settings.get(name) or usual
    each = value if isinstance(value, (list, tuple)) else [value] * 3
    numbers = [float(x) for x in each if isinstance(x, (int, float)) and not isinstance(x, bool) and math.isfinite(x)]
    if len(numbers) != len(each) or len(numbers) != 3 or (name == "std" and min(numbers) <= 0):
        raise InputError(f"{name} is {value!r}; expected three numbers")
    return numbers[0], numbers[1], numbers[2]


@dataclasses.dataclass(frozen=True)
class OpenClipCheckpoint:
    """A checkpoint that open_clip reads.

    Args:
        model: What the user calls it.
        id: The same with a folder's full path.
        files: Where its files are.
        published: The row of open_clip's table, where the user gave a name of open_clip's: it has the configuration.
    """

    model: str
    id: str
    files: CheckpointFiles
    published: Published | None = None

    @property
    def revision(self) -> str | None:
        """The commit that the Hub's files are of; None where they lie in a folder."""
        return self.files.commit_of(self._weights())

    def config(self) -> dict[str, Any]:
        """The config.json of the same model in transformers format; see ``clip_config``.

        Raises:
            InputError: A CLIP of transformers is not this model, or the configuration is damaged or contradicts itself.
        """
        with naming(self.model):
            return self._clip_config(self._settings()[0])

    def read(self) -> tuple[Any, Any, Pixels]:
        """The model on the CPU in float32, its tokenizer, and its pixels.

        Raises:
            InputError: As ``config``; or files are missing or damaged, or the weights are of another model.
        """
        with naming(self.model):
            settings, preprocessing = self._settings()
            config, pixels = self._clip_config(settings), Pixels.of(preprocessing)
            tokenizer = open_clip_tokenizer(self.files, settings["text_cfg"])
            tensors = tensors_in(self._weights())
            if settings["text_cfg"].get("proj_type") == "none":  # one with the identity is none
                tensors["text_projection"] = torch.eye(config["projection_dim"])
            return clip_model(config, tensors), tokenizer, pixels

    def _settings(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """open_clip's ``model_cfg`` and ``preprocess_cfg``."""
        if self.published:
            self.published.refuse_contradiction()
            return self.published.config, self.published.pixels
        try:
            content = read_json_object(self.files.path(CONFIG))
        except FileNotFoundError:
            raise InputError(f"there is no {CONFIG}; expected open_clip's configuration beside its weights") from None
        settings, pixels = content.get("model_cfg"), content.get("preprocess_cfg") or {}
        if not isinstance(settings, dict) or not isinstance(pixels, dict):
            raise InputError(f"{CONFIG} has no model_cfg; expected what open_clip's push_to_hf_hub writes")
        if not self.files.folder and not settings.get("quick_gelu"):
            trained = trained_with_quick_gelu(self.files.source)
            if trained:
                raise InputError(
                    f"its {CONFIG} says GELU, but open_clip's own table that its weights were trained with QuickGELU; "
                    f"expected {trained.name}, which goes by the table"
                )
        return settings, pixels

    def _clip_config(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        if needs := shortfalls(settings):
            raise InputError(
                f"transformers' CLIP, as which lowshot reads open_clip's models, has not {'; '.join(needs)}"
            )
        return clip_config(settings)

    def _weights(self) -> Path:
        names = (self.published.file,) if self.published and self.published.file else WEIGHTS
        return self.files.weights(names, "open_clip's")


@dataclasses.dataclass(frozen=True)
class OpenAiCheckpoint:
    """A file that OpenAI's package downloads, such as ``ViT-B-32.pt``: its configuration is in its tensors' shapes."""

    model: str
    path: Path
    revision: str | None = None

    @property
    def id(self) -> str:
        """The file's full path."""
        return str(self.path)

    def config(self) -> dict[str, Any]:
        """As that of ``OpenClipCheckpoint``."""
        with naming(self.model):
            return openai_config(tensors_in(self.path))

    def read(self) -> tuple[Any, Any, Pixels]:
        """As that of ``OpenClipCheckpoint``."""
        with naming(self.model):
            tensors = tensors_in(self.path)
            config = openai_config(tensors)
            return (
                clip_model(config, tensors),
                openai_tokenizer(config["text_config"]["max_position_embeddings"]),
                Pixels(),
            )


Checkpoint = OpenClipCheckpoint | OpenAiCheckpoint


def named_checkpoint(model: str) -> Checkpoint | None:
    """The checkpoint that a name can only mean; None where the files must tell.

    Args:
        model: What the user gave: ``hf-hub:OWNER/NAME``, ``local-dir:FOLDER``, ``MODEL:TAG`` or a file.

    Raises:
        InputError: There is no such folder, or no such weights.
    """
    for prefix in (HUB, FOLDER):
        if model.startswith(prefix):
            return _open_clip(model, model.removeprefix(prefix))
    path = from_home(model)
    if path.is_file():
        return OpenAiCheckpoint(model, path.resolve())
    if path.is_dir():
        return None
    published = by_name(model)
    if not published:
        return None
    files = CheckpointFiles(model, published.repository, on_hub=True)
    return OpenClipCheckpoint(model, published.name, files, published)


def checkpoint_in(files: CheckpointFiles) -> OpenClipCheckpoint | None:
    """The checkpoint in a folder or repository that has no configuration of transformers; None where it has neither.

    Raises:
        InputError: The Hub cannot be asked.
    """
    return _open_clip(files.model, files.source) if files.first(CONFIG) else None


def _open_clip(model: str, source: str) -> OpenClipCheckpoint:
    files = CheckpointFiles(model, source, on_hub=model.startswith(HUB))
    if model.startswith(FOLDER) and not files.folder:
        raise InputError(f"model {model!r}: there is no such folder")
    return OpenClipCheckpoint(model, str(files.folder) if files.folder else f"{HUB}{source}", files)


def clip_model(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Any:
    """A CLIP of transformers, or a model of lowshot's own, with open_clip's tensors.

    Raises:
        InputError: They are not the tensors that the configuration needs.
    """
    model = empty_model(config)
    of_images = TrunkTensors(tensors).turned(config["vision_config"]) if isinstance(model, MobileClip) else None
    turned = clip_tensors(tensors, {name: tuple(p.shape) for name, p in model.named_parameters()}, of_images)
    model.load_state_dict(turned, assign=True)
    for module in model.modules():  # all that is in no checkpoint
        if hasattr(module, "position_ids"):
            count = len(module.position_embedding.weight)
            module.register_buffer("position_ids", torch.arange(count)[None], persistent=False)
    if isinstance(model, PeCore):
        model.vision_model.turn()
    return model


def tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint's file, of which nothing is run.

    Raises:
        InputError: It is damaged, or holds more than tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with path.open("rb") as file:
            if not file.read(2).startswith((b"PK", b"\x80")):  # a zip, or a pickle as torch wrote them before
                raise InputError(f"{path.name} is damaged: it is neither of safetensors nor what torch.save writes")
        if is_torchscript(path):
            return archive_tensors(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        name = re.search(r"GLOBAL (\S+)", str(error))  # out of torch's long advice
        asked_for = f"it asks for {name[1]}" if name else first_line(error)[:100]
        raise InputError(
            f"{path.name} holds more than tensors, and nothing of it is run ({asked_for}); expected a state "
            "dict, best as .safetensors"
        ) from None
    except InputError:
        raise
    except Exception as error:  # whatever a damaged file raises
        raise InputError(f"{path.name} is damaged: {first_line(error)}") from error
    return state_dict_of(checkpoint)


@contextlib.contextmanager
def naming(model: str) -> Iterator[None]:
    """Begin what is refused in a block with the model's name."""
    try:
        yield
    except InputError as error:
        raise (error if repr(model) in str(error) else InputError(f"model {model!r}: {error}")) from None

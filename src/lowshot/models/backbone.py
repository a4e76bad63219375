"""Two towers that put images and prompts into the same space, or one that sees images alone."""

from __future__ import annotations

import concurrent.futures
import contextlib
import copy
import dataclasses
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InputError, LongPromptError
from ..resizing import Resizing
from ..settings import Tower
from .blocks import Attended, Attention, Packing, run_blocks
from .devices import has_float64
from .families import FAMILIES, Family
from .frozen import Products
from .layout import TowerLayout
from .tower_state import TowerState, shared_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclasses.dataclass(frozen=True)
class Identity:
    """Which weights these are.

    Args:
        id: ``builtin``, a Hub id or a folder.
        revision: Commit on the Hub, where there is one.
        weights_sha256: Hash of all weights in full precision.
        settings_sha256: Hash of what else decides what the weights compute: activation, heads, end-of-text token,
            pixels, vocabulary.
        rounded_sha256: Hash of the weights rounded to each type that checkpoints are shared in, by the type's name:
            a copy in half precision is told from another model by them.
        reads_text: Whether it has a text tower, by which a class has a name and not only images.
        equal_settings_sha256: Hashes of the same settings in other words, see ``settings_sha256``.
    """

    id: str
    revision: str | None
    weights_sha256: str
    settings_sha256: str
    rounded_sha256: Mapping[str, str]
    reads_text: bool = True
    equal_settings_sha256: Sequence[str] = dataclasses.field(default_factory=list)


class Watched(NamedTuple):
    """What a vision tower looked at, as part of its graph."""

    blocks: list[Attended]
    """The attention of each transformer block, in their order."""
    feature_maps: list[Tensor]
    """``(N, C, h, w)``, one, where the embedding is the mean of such; else none."""


IMAGES_SCALE = 20.0
"""What cosines are multiplied by where no text tower has taught a model its logit scale."""
_SHARED_IN = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def weights_sha256(model: nn.Module) -> tuple[str, dict[str, str]]:
    """Hashes of names, shapes and values of all parameters: the same for a checkpoint in any file layout.

    Returns:
        The hash of the float32 values, and by name of the type those of the values rounded to it.
    """
    parameters = sorted(model.named_parameters())

    def digest(dtype: torch.dtype | None) -> str:
        sha256 = hashlib.sha256()
        for name, parameter in parameters:
            sha256.update(f"{name} {tuple(parameter.shape)}\n".encode())
            values = parameter.detach().to("cpu", torch.float32).contiguous()
            sha256.update(values.numpy().data if dtype is None else values.to(dtype).view(torch.int16).numpy().data)
        return sha256.hexdigest()

    # Side by side: hashing lets other threads run, and takes as long as reading the file does.
    with concurrent.futures.ThreadPoolExecutor(1 + len(_SHARED_IN)) as threads:
        exact, *rounded = threads.map(digest, [None, *_SHARED_IN.values()])
    return exact, dict(zip(_SHARED_IN, rounded, strict=True))


def settings_sha256(towers: Towers, tokenizer: Any, pixels: Sequence[float]) -> tuple[str, ...]:
    """Hashes of the settings beside the weights: the same weights with another activation are another function.

    Args:
        towers: The model.
        tokenizer: Its tokenizer, if it has a text tower; what it makes of a few words stands for its rules, those of
            padding included where padding has an influence.
        pixels: Mean and deviation that pixels are normalised with.

    Returns:
        The hash, and those of the same function configured in other words: in a CLIP whose end-of-text token has the
        largest id, ``eos_token_id`` says that id, or 2 for the largest of the prompt.
    """
    vision, normalised = towers.vision_config, [round(float(value), 6) for value in pixels]
    if not towers.has_text:
        alone = {"vision": towers.family.image_settings(vision), "pixels": normalised}
        return (hashlib.sha256(json.dumps(alone).encode()).hexdigest(),)
    text = towers.model.config.text_config
    shared = ("hidden_act", "layer_norm_eps", "num_attention_heads")
    padding = towers.padding if towers.family.text_attention == "padded" else {}
    tokens = tokenizer(["a photo of a cat.", "Łódź, 7 猫s"], **padding)["input_ids"]
    vocabulary = sorted(tokenizer.get_vocab().items())
    words = json.dumps(vocabulary)
    hashes = []
    for end in _spellings_of_the_end(towers, max(identifier for _, identifier in vocabulary)):
        settings = {
            "text": [*(getattr(text, name) for name in shared), end],
            "vision": [*(getattr(vision, name) for name in shared), towers.image_size, vision.patch_size],
            "pixels": normalised,
            "tokens": tokens,
        }
        hashes.append(hashlib.sha256(f'{json.dumps(settings)[:-1]}, "vocabulary": {words}}}'.encode()).hexdigest())
    return tuple(hashes)


def _spellings_of_the_end(towers: Towers, largest: int) -> list[Any]:
    """What ``eos_token_id`` is, and what else it could be for the same function."""
    family, text = towers.family, towers.model.config.text_config
    if not family.reads_end_of_text:
        return [text.eos_token_id]
    read_at = family.end_of_text(text, largest)
    others = [end for end in (2, largest) if family.end_of_text(SimpleNamespace(eos_token_id=end), largest) == read_at]
    return [text.eos_token_id, *(end for end in others if end != text.eos_token_id)]


@dataclasses.dataclass
class Towers:
    """A model as far as its structure tells: enough to say where adapters go and what they cost, without weights.

    Adapters and quantisation change ``model`` in place; names stay valid; ``encoder_linears`` and
    ``quantized_linears`` are asked before that.

    Args:
        model: The transformers model; frozen and put into evaluation mode here.
    """

    model: PreTrainedModel

    def __post_init__(self) -> None:
        self.model.requires_grad_(False).eval()
        self.parameters = sum(p.numel() for p in self.model.parameters())
        """Parameters of the model as it was loaded, before any adapter or quantisation."""
        self.use_trained_tokens(openings=())

    def use_trained_tokens(
        self, *, openings: Sequence[Sequence[int]], image_prompts: int | None = None, image_prompt_tokens: int = 0
    ) -> None:
        """Count on tokens that an adapter in ``model`` trains at the towers' inputs.

        Args:
            openings: Ids that stand before the words of every prompt. Each prompt is tokenised once with each of the
                openings, which are equally long.
            image_prompts: M where every image is seen M times, once with each of M prompts of trained tokens.
            image_prompt_tokens: Tokens of each of those prompts.
        """
        self.openings = tuple(map(tuple, openings))
        self.image_prompts = image_prompts
        self.image_prompt_tokens = image_prompt_tokens

    @property
    def family(self) -> Family:
        """The kind of model it is; of no interest outside this package."""
        return FAMILIES[self.model.config.model_type]

    @property
    def has_text(self) -> bool:
        """Whether there is a text tower, without which a class is known by its images alone."""
        return self.family.has_text

    @property
    def half(self) -> str:
        """The type of half precision of such models, ``fp16`` or ``bf16``; see ``resolve_precision``."""
        return self.family.half

    @property
    def device(self) -> torch.device:
        """Where the model is; ``meta`` for a structure without weights."""
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        """Floating type the model computes in, also where most of its weights are stored as integers of 4 or 8 bits."""
        return self.family.first_weight(self.model).dtype

    @property
    def image_size(self) -> int:
        """Side of the square images the vision tower takes, pixels."""
        return self.family.image_size(self.vision_config)

    @property
    def vision_config(self) -> Any:
        """The vision tower's configuration: a part of the model's, or all of it where there is no text tower."""
        return self.model.config.vision_config if self.has_text else self.model.config

    @property
    def image_tokens(self) -> int:
        """Tokens that the vision tower has of one image at once, those of a prompt included."""
        return self.family.image_tokens(self.model) + self.image_prompt_tokens

    @property
    def patches(self) -> slice | None:
        """Which of the tokens of an image are its patches, row by row of a square.

        None where the embedding is not read at one token that sees them.
        """
        if self.family.image_token is None or not self.depths["vision"]:
            return None
        count, tokens = (
            (self.image_size // int(self.vision_config.patch_size)) ** 2,
            self.family.image_tokens(self.model),
        )
        return slice(tokens - count, tokens)  # trained tokens come behind them

    @property
    def has_feature_map(self) -> bool:
        """Whether an image's embedding is the mean of a feature map, see ``watched``."""
        return bool(self.family.feature_map)

    @property
    def inner_width(self) -> int:
        """Numbers of a token within an MLP of the vision tower."""
        return self.family.inner_width(self.vision_config)

    @property
    def embedding_size(self) -> int:
        """Numbers of an embedding."""
        if not self.has_text:
            return int(self.vision_config.hidden_size)
        last = self.model.get_submodule(self.family.text.after[-1])
        assert isinstance(last, nn.Linear)
        return last.out_features

    @property
    def context_length(self) -> int:
        """Tokens the text tower takes at most."""
        return self.family.context_length(self.model.config.text_config)

    @property
    def padding(self) -> dict[str, Any]:
        """Arguments of the tokenizer: padding to the longest prompt if that is exact, else to the full context."""
        if self.family.text_attention == "padded":
            return {"padding": "max_length", "max_length": self.context_length, "return_attention_mask": False}
        return {"padding": True, "return_attention_mask": True}

    @property
    def depths(self) -> dict[Tower, int]:
        """Number of layers of each tower that there is."""
        layers: dict[Tower, int] = {"vision": self.family.depth(self.vision_config)}
        return {**layers, "text": self.model.config.text_config.num_hidden_layers} if self.has_text else layers

    def without_weights(self) -> nn.Module:
        """The same model as it was before it had weights: on whatever device torch makes tensors on now."""
        model: nn.Module = type(self.model)(self.model.config, **self.family.options).eval()
        return model

    def layout(self, tower: Tower) -> TowerLayout:
        """Where a tower's parts lie in ``model``."""
        return self.family.text if tower == "text" else self.family.vision_layout(self.vision_config)

    def blocks(self, tower: Tower) -> nn.ModuleList:
        """A tower's transformer blocks."""
        blocks = self.model.get_submodule(self.layout(tower).blocks)
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    @property
    def token_embedding(self) -> str:
        """Dotted name of the module that makes the text tower's token ids into vectors."""
        return self.family.token_embedding

    def layer_name(self, tower: Tower, layer: int) -> str:
        """Dotted name of one transformer block inside ``model``, such as ``text_model.encoder.layers.3``."""
        return f"{self.layout(tower).blocks}.{layer}"

    def module_name(self, tower: Tower, layer: int, projection: str) -> str:
        """Dotted name of one linear layer inside ``model``.

        Args:
            tower: Which tower.
            layer: Number of the transformer block, from 0 at the input.
            projection: ``q``, ``k``, ``v`` or ``o`` of the attention, ``fc1`` or ``fc2`` of the MLP.
        """
        return f"{self.layer_name(tower, layer)}.{self.layout(tower).block.linear(projection)}"

    def tower_modules(self, tower: Tower) -> tuple[str, ...]:
        """Names of the modules at the top of ``model`` that belong to a tower, in the order they are run.

        What is in neither tower's list, such as the logit scale, belongs to both. Without a text tower all is the
        vision tower.
        """
        if not self.has_text:
            return tuple(name for name, _ in self.model.named_children()) if tower == "vision" else ()
        layout = self.layout(tower)
        return tuple(dict.fromkeys(name.partition(".")[0] for name in (layout.blocks, *layout.after)))

    def encoder_linears(self) -> list[str]:
        """Dotted names of all linear layers inside both towers' transformer blocks."""
        blocks = [self.layout(tower).blocks for tower, depth in self.depths.items() if depth]
        linears = (name for name, module in self.model.named_modules() if isinstance(module, nn.Linear))
        return [name for name in linears if any(_is_in(name, within) for within in blocks)]

    def quantized_linears(self, *, projection: bool) -> list[str]:
        """Dotted names of the linear layers that quantisation replaces.

        Args:
            projection: Whether the one from the vision tower to its embedding is among them.

        Raises:
            InputError: The model has none.
        """
        if not projection:
            return self.encoder_linears()
        last = next(
            reversed(self.layout("vision").after), ""
        )  # the model itself where there is nothing behind the blocks
        if not isinstance(self.model.get_submodule(last), nn.Linear):
            kind = self.model.config.model_type
            raise InputError(f"quantize-projection does not fit: a {kind} has no projection after its vision tower")
        return [*self.encoder_linears(), last]


@dataclasses.dataclass
class Backbone(Towers):
    """A model with its tokenizer and the preprocessing it was trained with.

    The logit scale and bias are those of the model at the time it is given, in full precision: were they read from
    a model that has since been cast to bfloat16, CLIP's scale of 100 would be 98.9.

    Args:
        model: The transformers model, frozen, in evaluation mode.
        tokenizer: Its tokenizer; None without a text tower.
        mean: Per-channel mean its pixels are normalised with.
        std: Per-channel deviation.
        identity: Which weights these are.
        resizing: How images are resized that it judges.
    """

    tokenizer: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    identity: Identity
    resizing: Resizing = Resizing()  # noqa: RUF009 - immutable

    def __post_init__(self) -> None:
        super().__post_init__()
        bias = getattr(self.model, "logit_bias", None)
        self._log_scale = self.model.logit_scale.item() if self.has_text else math.log(IMAGES_SCALE)
        self._bias = 0.0 if bias is None else bias.item()
        self._checkpointing = False
        self._products: Products | None = None
        self._watched: Watched | None = None
        self._pixel_statistics = torch.tensor([self.mean, self.std], dtype=torch.float64).view(2, 3, 1, 1)

    @contextlib.contextmanager
    def training(self, *, checkpointing: bool = False) -> Iterator[None]:
        """Training mode (dropout of adapters on) for the length of a block.

        Args:
            checkpointing: Compute the activations of each transformer block again in the backward pass instead of
                keeping them (arXiv 1604.06174): the same gradients for less memory and more time.
        """
        self.model.train()
        self._checkpointing = checkpointing
        try:
            yield
        finally:
            self._checkpointing = False
            self.model.eval()

    @contextlib.contextmanager
    def watched(self) -> Iterator[Watched]:
        """What the vision tower looks at while it is run, for the length of a block."""
        family, watched = self.family, Watched([], [])
        hook = None
        if family.feature_map:
            module = self.model.get_submodule(family.feature_map)
            hook = module.register_forward_hook(lambda _module, _inputs, outputs: watched.feature_maps.append(outputs))
        self._watched = watched
        try:
            yield watched
        finally:
            self._watched = None
            if hook is not None:
                hook.remove()

    @contextlib.contextmanager
    def computed_by(self, products: Products) -> Iterator[None]:
        """For the length of a block the linear layers of both towers' blocks are computed by ``products``."""
        before, self._products = self._products, products
        try:
            yield
        finally:
            self._products = before

    def tokenize(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Token ids ``(P, L)``, and their mask where the text tower takes one.

        CLIP's prompts are padded to the longest only. Padding to its full 77 tokens would change nothing but the
        cost: attention is causal and the embedding is read at the end-of-text token, so no token after it has any
        influence. So it is where the text tower is a BERT: attention goes both ways, but the mask leaves padding out.
        SigLIP's are padded to its full context (L = 64): attention goes both ways, padding included, and the embedding
        is read at the last place.

        Where there are ``openings``, O of them, every prompt becomes as many, one after the other: ``(P * O, L)``.
        Each has one of the openings between its start and its words.

        Raises:
            LongPromptError: A prompt is longer than the text tower takes; the message quotes it.
        """
        limit, opening = self.context_length, len(self.openings[0]) if self.openings else 0
        texts = [f" {prompt}" if opening else prompt for prompt in prompts]  # Gemma's tokens tell where a word begins
        lengths = [opening + len(ids) for ids in self.tokenizer(texts, verbose=False)["input_ids"]]
        if max(lengths) > limit:
            worst = lengths.index(max(lengths))
            raise LongPromptError(prompts[worst], lengths[worst], limit)
        encoded = self.tokenizer(texts, return_tensors="pt", **self.padding)
        tokens = {name: encoded[name].to(self.device) for name in ("input_ids", "attention_mask") if name in encoded}
        if opening == 0:
            return tokens
        openings = torch.tensor(self.openings, device=self.device)
        before = {"input_ids": openings, "attention_mask": torch.ones_like(openings)}
        start = self.family.text_start
        # What is cut off there is padding.
        places = limit if self.family.text_attention == "padded" else max(lengths)
        for name, ids in tokens.items():
            rows = ids.repeat_interleave(len(openings), dim=0)
            parts = [rows[:, :start], before[name].repeat(len(ids), 1), rows[:, start:]]
            tokens[name] = torch.cat(parts, dim=1)[:, :places]
        return tokens

    def first_tokens(self, words: str, count: int) -> list[int]:
        """The ids of words, without what the tokenizer puts around them: ``count`` of them, or fewer."""
        ids: list[int] = self.tokenizer(words, add_special_tokens=False)["input_ids"]
        return ids[:count]

    def encode_prompts(self, tokens: dict[str, Tensor]) -> Tensor:
        """Unit embeddings ``(P, D)`` of tokenised prompts, in float32 at least."""
        return self.finish(self.embed_prompts(tokens))

    def raw_prompts(self, tokens: dict[str, Tensor]) -> Tensor:
        """Embeddings ``(P, D)`` as ``encode_prompts`` gives them, but of the length that the tower gives them."""
        state = self.advance(self.embed_prompts(tokens), self.depths["text"])
        finished = self.family.finish_text(self.model, state.hidden)
        return finished.to(_at_least_float32(finished.dtype))

    def encode_images(self, images: Tensor) -> Tensor:
        """Unit embeddings ``(B, D)``, in float32 at least, of images ``(B, 3, S, S)`` with values in [0, 1].

        S is ``image_size``. Pixels are normalised in float32 at least, then cast to the model's floating type. Where
        there are ``image_prompts``, M of them, the embeddings are ``(B, M, D)``.
        """
        embeddings = self.finish(self.embed_images(images))
        return embeddings if self.image_prompts is None else embeddings.view(len(images), self.image_prompts, -1)

    def embed_prompts(self, tokens: dict[str, Tensor], shared: int = 0, *, checked: bool = False) -> TowerState:
        """Tokens as they enter the first block of the text tower.

        Args:
            tokens: Tokenised prompts.
            shared: So many tokens that they all begin with are put through the tower once for all; at most
                ``shared_tokens``.
            checked: That has been asked already; the processor would wait for the answer.
        """
        family, ids = self.family, tokens["input_ids"]
        embedded, token = family.embed_text(self.model, ids), family.text_token(self.model, ids)
        words = tokens["attention_mask"].bool() if family.text_attention == "masked" else None
        if shared == 0:
            return TowerState("text", 0, embedded, token, words=words)
        assert checked or shared <= self.shared_tokens(tokens), shared
        return TowerState("text", 0, embedded[:, shared:], token - shared, embedded[:1, :shared])

    def shared_tokens(self, tokens: dict[str, Tensor]) -> int:
        """How many first tokens have the same hidden states in all prompts: 0 where the tower is not causal."""
        ids = tokens["input_ids"]
        if self.family.text_attention != "causal":
            return 0
        return shared_tokens(ids, self.family.text_token(self.model, ids))

    def embed_images(self, images: Tensor) -> TowerState:
        """Images, as ``encode_images`` takes them, as they enter the first block of the vision tower."""
        side = self.family.image_size(self.vision_config)
        assert images.shape[-2:] == (side, side), images.shape
        exact, family, device = _at_least_float32(self.dtype), self.family, self.device
        if self._pixel_statistics[0].device != device:  # moved once: CUDA would wait for a copy in every pass
            self._pixel_statistics = self._pixel_statistics.to(device, torch.float64 if has_float64(device) else exact)
        mean, std = self._pixel_statistics.to(exact)
        pixels = ((images.to(device, exact) - mean) / std).to(self.dtype)
        hidden = family.embed_images(self.model, pixels)
        token = None if family.image_token is None else torch.full((len(hidden),), family.image_token, device=device)
        return TowerState("vision", 0, hidden, token)

    def finish(self, state: TowerState) -> Tensor:
        """Unit embeddings ``(N, D)``, in float32 at least."""
        return self.advance(state, self.depths[state.tower] + 1).hidden

    def advance(self, state: TowerState, stage: int) -> TowerState:
        """Go on through a tower.

        Args:
            state: Where to start.
            stage: Where to stop: what was done up to there is that of this stage's input; see ``TowerState``.
        """
        depth = self.depths[state.tower]
        assert state.stage <= stage <= depth + 1, (state.stage, stage)
        if state.stage < min(stage, depth):
            state = self._through_blocks(state, min(stage, depth))
        if state.stage == stage:
            return state
        finish = self.family.finish_text if state.tower == "text" else self.family.finish_images
        finished = finish(self.model, state.hidden)
        embeddings = functional.normalize(finished.to(_at_least_float32(finished.dtype)), dim=-1)
        return dataclasses.replace(state, stage=stage, hidden=embeddings)

    def _through_blocks(self, state: TowerState, stage: int) -> TowerState:
        """Run the blocks before a stage; behind the last one only what the embedding is read from is left."""
        layers = self.blocks(state.tower)
        is_last = stage == len(layers)
        hidden, packing = state.hidden, None
        if state.shared is not None:
            hidden, packing = Packing.join(state.shared, hidden), Packing(state.shared.shape[1], len(hidden))
        hidden = run_blocks(
            list(layers[state.stage : stage]),
            hidden,
            layout=self.layout(state.tower).block,
            attention=Attention(
                causal=state.tower == "text" and self.family.text_attention == "causal",
                words=state.words,
                rotary=self.family.rotary(self.model, state.tower),
                watch=self._watched.blocks.append if self._watched and state.tower == "vision" else None,
            ),
            token=state.token if is_last else None,
            checkpointing=self._checkpointing,
            packing=packing,
            products=self._products,
        )
        if is_last:
            return TowerState(state.tower, stage, hidden, None)
        shared = None
        if packing is not None:
            shared, hidden = packing.split(hidden)
        return dataclasses.replace(state, stage=stage, hidden=hidden, shared=shared)

    def first_trained_stage(self, tower: Tower) -> int:
        """The first stage of a tower in which something is trained; all before it is the same in every step.

        Returns:
            0 also where something is trained that comes before the blocks; depth + 1 where nothing is (``TowerState``).
        """
        depth = self.depths[tower]
        trained = [name for name, p in self.model.named_parameters(remove_duplicate=False) if p.requires_grad]
        first = depth + 1
        for name in trained:
            if any(_is_in(name, module) for module in self.layout(tower).after):
                first = min(first, depth)
            elif any(_is_in(name, module) for module in self.tower_modules(tower)):
                blocks = (n for n in range(depth) if _is_in(name, self.layer_name(tower, n)))
                first = min(first, next(blocks, 0))
        return first

    @property
    def beside(self) -> tuple[Backbone, ...]:
        """Encoders whose embeddings stand behind its own; see ``paired``. Its text tower knows nothing of them."""
        return ()

    def among_images(self, classes: Tensor) -> Tensor:
        """Class embeddings ``(C, D)`` of the text tower as vectors in the space of image embeddings."""
        return classes

    def copied(self, device: torch.device) -> Backbone:
        """A backbone of one's own, which may be changed."""
        return dataclasses.replace(self, model=copied(self.model, device))

    @property
    def logit_scale(self) -> float:
        """Factor of cosine similarities; 100 in OpenAI's models."""
        return math.exp(self._log_scale)

    def logits(self, images: Tensor, classes: Tensor) -> Tensor:
        """Cosine similarities times the model's logit scale (100 in OpenAI's CLIP), ``(..., B, C)``, of their type.

        SigLIP adds its bias, so that these are the logits it was trained with. Here a softmax over the classes is
        what is trained and predicted, for every model; in it the bias, the same for all classes, cancels.

        Args:
            images: Unit embeddings ``(..., B, D)``.
            classes: Unit embeddings ``(..., C, D)``.
        """
        scale = torch.full((), self._log_scale, dtype=images.dtype, device=images.device).exp()
        return scale * images @ classes.mT + self._bias


def copied(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A model like this one on a device."""
    return copy.deepcopy(model).to(device)


def _is_in(parameter: str, module: str) -> bool:
    return parameter.startswith(f"{module}.")


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)

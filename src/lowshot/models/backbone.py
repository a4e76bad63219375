"""A model that puts images and prompts into the same space, or images alone, with all that this takes."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import LongPromptError
from ..resizing import Resizing
from ..settings import Tower
from .blocks import Attended, Attention, Packing, run_blocks
from .devices import has_float64
from .frozen import Products
from .identity import Identity
from .tower_state import TowerState, shared_tokens
from .towers import Towers, is_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel

IMAGES_SCALE = 20.0
"""The factor of cosines where no text tower has taught a model its logit scale."""


class Watched(NamedTuple):
    """The places that a vision tower looked at, as part of its graph."""

    blocks: list[Attended]
    """The attention of each transformer block, in their order."""
    feature_maps: list[Tensor]
    """``(N, C, h, w)``, one, where the embedding is the mean of such; else none."""


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
        resizing_before: How lowshot resized images for such a model when records did not name it; None for as it does
            now.
    """

    tokenizer: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    identity: Identity
    resizing_before: Resizing | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        bias = getattr(self.model, "logit_bias", None)
        self._log_scale = self.model.logit_scale.item() if self.has_text else math.log(IMAGES_SCALE)
        self._bias = 0.0 if bias is None else bias.item()
        self._checkpointing = False
        self._products: Products | None = None
        self._watched: Watched | None = None
        self._pixel_statistics = torch.tensor([self.mean, self.std], dtype=torch.float64).view(2, 3, 1, 1)

    @property
    def resizing(self) -> Resizing:
        """How images are resized that it judges."""
        return self.identity.resizing

    def recorded_resizing(self, resizing: Resizing | None) -> Resizing:
        """The resizing that a record means: the one that it names, or what lowshot did before it named any."""
        return resizing or self.resizing_before or self.resizing

    def resize_as(self, resizing: Resizing | None) -> None:
        """Resize images as an adapter learnt them, whatever the model's own folder says.

        Args:
            resizing: That of the adapter's record.
        """
        self.identity = dataclasses.replace(self.identity, resizing=self.recorded_resizing(resizing))

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
        """Note where the vision tower looks while it is run, for the length of a block."""
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
            if any(is_in(name, module) for module in self.layout(tower).after):
                first = min(first, depth)
            elif any(is_in(name, module) for module in self.tower_modules(tower)):
                blocks = (n for n in range(depth) if is_in(name, self.layer_name(tower, n)))
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


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)

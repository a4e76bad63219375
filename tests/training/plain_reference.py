"""CLIP, its adapters and their training written down from the papers' formulas, in plain tensor operations.

Nothing here comes from transformers, PEFT, lowshot or torch.nn: this is what they are compared with. Only the names of
the weights are those of a transformers CLIP checkpoint. Sources: CLIP arXiv 2103.00020, CLIP-LoRA 2405.18541, LoRA
2106.09685, LoRA-XS 2405.17604, DoRA 2402.09353, AdamW 1711.05101, cosine schedule 1608.03983.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]
Factors = Mapping[str, Tensor]
"""The matrices of one adapted projection: A, B (LoRA); A, B, m (DoRA); U, s, Vt and R (LoRA-XS, CLIP-LoRA-XS)."""
Formula = Callable[[Tensor, Factors, float], Tensor]
Place = str
"""Which projection, such as ``vision_model.encoder.layers.0.self_attn.q_proj``."""

EPSILON = 1e-5  # of CLIP's layer norms
CONTEXT = 77  # CLIP's tokens per prompt


# --- The adapters: from a frozen weight (O, I) to the adapted one -----------------------------------------------------


def lora(weight: Tensor, factors: Factors, scale: float) -> Tensor:
    """W + g B A (LoRA, equation 3)."""
    return weight + scale * factors["B"] @ factors["A"]


def lora_xs(weight: Tensor, factors: Factors, scale: float) -> Tensor:
    """W + g U R diag(s) V^T (LoRA-XS, equation 2, the singular values where its authors' code has them)."""
    return weight + scale * factors["U"] @ factors["R"] @ (factors["s"][:, None] * factors["Vt"])


def clip_lora_xs(weight: Tensor, factors: Factors, scale: float) -> Tensor:
    """W + g U diag(s) R V^T (CLIP-LoRA-XS, by its code)."""
    return weight + scale * (factors["U"] * factors["s"]) @ factors["R"] @ factors["Vt"]


def dora(weight: Tensor, factors: Factors, scale: float) -> Tensor:
    """m (W + g B A) / ||W + g B A|| by output row (DoRA, equation 5); the norm is a constant (section 4.3)."""
    updated = lora(weight, factors, scale)
    return factors["m"][:, None] * updated / row_norms(updated).detach()[:, None]


def row_norms(weight: Tensor) -> Tensor:
    """Euclidean norm of each row, ``(O,)``."""
    return (weight**2).sum(1).sqrt()


FORMULAS: dict[str, Formula] = {"lora": lora, "lora-xs": lora_xs, "clip-lora-xs": clip_lora_xs, "dora": dora}
TRAINED = {"lora": ("A", "B"), "lora-xs": ("R",), "clip-lora-xs": ("R",), "dora": ("A", "B", "m")}


# --- CLIP -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Clip:
    """A CLIP with an update on some of its projections.

    Args:
        weights: The checkpoint's tensors by name.
        heads: Attention heads of each tower, by ``vision_model`` and ``text_model``.
        mean: Per-channel mean that pixels are normalised with.
        std: Per-channel deviation.
        update: Adapted weight of a projection from its frozen weight, its factors and the scale.
        factors: By place; projections that are not listed stay as they are.
        scale: g, what the update is multiplied with.
    """

    weights: Weights
    heads: Mapping[str, int]
    mean: Sequence[float]
    std: Sequence[float]
    update: Formula
    factors: Mapping[Place, Factors]
    scale: float

    def linear(self, name: str, x: Tensor) -> Tensor:
        """x W^T + b, with W adapted where there are factors for it; x ``(..., I)``."""
        weight = self.weights[f"{name}.weight"]
        if name in self.factors:
            weight = self.update(weight, self.factors[name], self.scale)
        return x @ weight.T + self.weights[f"{name}.bias"]

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        """Layer norm over the last dimension."""
        centred = x - x.mean(-1, keepdim=True)
        deviation = ((centred**2).mean(-1, keepdim=True) + EPSILON).sqrt()
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's activation."""
    return x / (1 + torch.exp(-1.702 * x))


def softmax(scores: Tensor) -> Tensor:
    """Over the last dimension."""
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def forbid_the_future(scores: Tensor) -> Tensor:
    """Attention scores ``(..., L, L)`` with those of later tokens at minus infinity."""
    index = torch.arange(scores.shape[-1])
    return scores.masked_fill(index[None, :] > index[:, None], -math.inf)


def attention(clip: Clip, tower: str, layer: str, x: Tensor) -> Tensor:
    """Multi-head self-attention ``(B, L, D)`` to ``(B, L, D)``; causal in the text tower."""
    batch, length, width = x.shape
    heads = clip.heads[tower]

    def split(projection: str) -> Tensor:
        """``(B, heads, L, D / heads)``."""
        projected = clip.linear(f"{layer}.self_attn.{projection}", x)
        return projected.reshape(batch, length, heads, width // heads).permute(0, 2, 1, 3)

    scores = split("q_proj") @ split("k_proj").transpose(2, 3) / math.sqrt(width // heads)
    if tower == "text_model":
        scores = forbid_the_future(scores)
    mixed = (softmax(scores) @ split("v_proj")).permute(0, 2, 1, 3).reshape(batch, length, width)
    return clip.linear(f"{layer}.self_attn.out_proj", mixed)


def transformer(clip: Clip, tower: str, x: Tensor) -> Tensor:
    """All pre-norm blocks of a tower, ``(B, L, D)`` to ``(B, L, D)``."""
    depth = 0
    while f"{tower}.encoder.layers.{depth}.mlp.fc1.weight" in clip.weights:
        layer = f"{tower}.encoder.layers.{depth}"
        x = x + attention(clip, tower, layer, clip.layer_norm(f"{layer}.layer_norm1", x))
        hidden = quick_gelu(clip.linear(f"{layer}.mlp.fc1", clip.layer_norm(f"{layer}.layer_norm2", x)))
        x = x + clip.linear(f"{layer}.mlp.fc2", hidden)
        depth += 1
    return x


def patches(images: Tensor, side: int) -> Tensor:
    """Cut ``(B, 3, H, W)`` into squares, row by row: ``(B, H W / side^2, 3 side^2)``."""
    batch, channels, height, width = images.shape
    grid = images.reshape(batch, channels, height // side, side, width // side, side)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * side * side)


def unit(x: Tensor) -> Tensor:
    """To length 1 along the last dimension."""
    return x / (x**2).sum(-1, keepdim=True).sqrt()


def encode_images(clip: Clip, images: Tensor) -> Tensor:
    """Unit embeddings ``(B, D)`` of images ``(B, 3, H, W)`` in [0, 1]."""
    weights, prefix = clip.weights, "vision_model.embeddings"
    mean, std = (torch.tensor(list(v), dtype=images.dtype)[:, None, None] for v in (clip.mean, clip.std))
    kernel = weights[f"{prefix}.patch_embedding.weight"]
    embedded = patches((images - mean) / std, kernel.shape[-1]) @ kernel.reshape(len(kernel), -1).T
    first = weights[f"{prefix}.class_embedding"].expand(len(images), 1, -1)
    x = torch.cat([first, embedded], dim=1) + weights[f"{prefix}.position_embedding.weight"]
    x = transformer(clip, "vision_model", clip.layer_norm("vision_model.pre_layrnorm", x))
    pooled = clip.layer_norm("vision_model.post_layernorm", x[:, 0])
    return unit(pooled @ weights["visual_projection.weight"].T)


def encode_prompts(clip: Clip, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Unit embeddings ``(P, D)`` of token ids from start to end of text.

    As in OpenAI's code prompts are filled up with zeros to the full 77 tokens, and the embedding is read at the end of
    text, which has the highest id of all.
    """
    weights, prefix = clip.weights, "text_model.embeddings"
    ids = torch.tensor([[*prompt, *[0] * (CONTEXT - len(prompt))] for prompt in prompts])
    x = weights[f"{prefix}.token_embedding.weight"][ids] + weights[f"{prefix}.position_embedding.weight"]
    x = clip.layer_norm("text_model.final_layer_norm", transformer(clip, "text_model", x))
    pooled = x[torch.arange(len(ids)), ids.argmax(1)]
    return unit(pooled @ weights["text_projection.weight"].T)


def logits(clip: Clip, images: Tensor, prompts: Sequence[Sequence[int]]) -> Tensor:
    """Cosines times the checkpoint's scale, ``(B, P)``."""
    return clip.weights["logit_scale"].exp() * encode_images(clip, images) @ encode_prompts(clip, prompts).T


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean over images ``(B,)`` of -log softmax of the right class; scores ``(B, C)``."""
    highest = scores.amax(1).detach()
    total = torch.exp(scores - highest[:, None]).sum(1).log() + highest
    return (total - scores[torch.arange(len(labels)), labels]).mean()


# --- Training ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Schedule:
    """AdamW and the cosine that leads its learning rate from ``highest`` down to ``lowest``."""

    steps: int
    highest: float
    lowest: float
    weight_decay: float
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8

    def learning_rate(self, step: int) -> float:
        """At step 0, 1, ... (SGDR, equation 5)."""
        return self.lowest + (self.highest - self.lowest) * (1 + math.cos(math.pi * step / self.steps)) / 2


Moments = tuple[Tensor, Tensor]
"""Running means of a gradient and of its square."""


def adamw(values: Tensor, gradient: Tensor, moments: Moments, step: int, schedule: Schedule) -> tuple[Tensor, Moments]:
    """One step of AdamW (algorithm 2, the decay multiplied with the learning rate): new values and new moments."""
    (beta1, beta2), rate = schedule.betas, schedule.learning_rate(step)
    first = beta1 * moments[0] + (1 - beta1) * gradient
    second = beta2 * moments[1] + (1 - beta2) * gradient**2
    unbiased1, unbiased2 = first / (1 - beta1 ** (step + 1)), second / (1 - beta2 ** (step + 1))
    direction = unbiased1 / (unbiased2.sqrt() + schedule.epsilon)
    return values - rate * (direction + schedule.weight_decay * values), (first, second)


@dataclasses.dataclass(frozen=True)
class Step:
    """Loss and gradients of one batch; gradients by place and factor."""

    loss: Tensor
    gradients: dict[Place, dict[str, Tensor]]


def loss_and_gradients(
    clip: Clip, trained: Sequence[str], images: Tensor, labels: Tensor, prompts: Sequence[Sequence[int]]
) -> Step:
    """Cross-entropy of a batch and its gradient with respect to the trained factors, prompts encoded anew."""
    factors = {
        place: {name: value.detach().requires_grad_(name in trained) for name, value in of_place.items()}
        for place, of_place in clip.factors.items()
    }
    loss = cross_entropy(logits(dataclasses.replace(clip, factors=factors), images, prompts), labels)
    names = [(place, name) for place in factors for name in trained]
    gradients: dict[Place, dict[str, Tensor]] = {place: {} for place in factors}
    for (place, name), gradient in zip(
        names, torch.autograd.grad(loss, [factors[place][name] for place, name in names]), strict=True
    ):
        gradients[place][name] = gradient
    return Step(loss.detach(), gradients)


def train(
    clip: Clip,
    trained: Sequence[str],
    batches: Sequence[tuple[Tensor, Tensor]],
    prompts: Sequence[Sequence[int]],
    schedule: Schedule,
) -> tuple[Clip, list[float]]:
    """Take one step of AdamW on each batch of images and labels.

    Returns:
        The clip with its last factors, and the loss of every step.
    """
    losses: list[float] = []
    moments: dict[tuple[Place, str], Moments] = {}
    for step, (images, labels) in enumerate(batches):
        done = loss_and_gradients(clip, trained, images, labels, prompts)
        losses.append(float(done.loss))
        factors = {place: dict(of_place) for place, of_place in clip.factors.items()}
        for place, gradients in done.gradients.items():
            for name, gradient in gradients.items():
                past = moments.get((place, name), (torch.zeros_like(gradient), torch.zeros_like(gradient)))
                factors[place][name], moments[place, name] = adamw(factors[place][name], gradient, past, step, schedule)
        clip = dataclasses.replace(clip, factors=factors)
    return clip, losses

"""The published training steps as their authors run them, and PEFT's plain one: what lowshot is measured against.

Nothing of lowshot is used here. All procedures are given what costs them time in their own programs, such as decoded,
cropped and normalised images and tokenised prompts. The model is transformers' CLIP, whose blocks compute what
OpenAI's do.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import Tensor, nn
from torch.nn import functional
from transformers import BitsAndBytesConfig, CLIPModel

RANK, ALPHA, DROPOUT = 2, 1, 0.25
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class PublishedProcedure:
    """CLIP-LoRA's step (arXiv 2405.18541) in transformers and PEFT: one model with its adapters and its optimiser.

    Every prompt is padded to 77 tokens and encoded anew at each step, attention is written out, the whole batch of
    images and all classes go through the towers at once, and everything the backward pass needs is kept.

    Args:
        model: A CLIP in float32, on its device; adapters are put in place.
        tokens: Prompts ``(C, 77)``.
        precision: ``fp32``, or autocast in ``bf16`` or ``fp16``, the latter with a scaled loss.
    """

    def __init__(self, model: CLIPModel, tokens: Tensor, precision: str) -> None:
        model.set_attn_implementation("eager")
        config = LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            use_rslora=True,
            lora_dropout=DROPOUT,
            target_modules=r".*\.self_attn\.(q|k|v)_proj",
            bias="none",
        )
        with _renamed_by_transformers():
            self.model: Any = get_peft_model(model, config).train()
        self.clip, self.tokens, self.type = model, tokens.to(model.device), TYPES[precision]
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=1e-2, betas=(0.9, 0.999))
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on normalised pixels ``(B, 3, S, S)`` and labels ``(B,)``; returns the loss."""
        with torch.autocast(pixels.device.type, dtype=self.type, enabled=self.type != torch.float32):
            texts = _unit(self.clip.get_text_features(input_ids=self.tokens).pooler_output)
            images = _unit(self.clip.get_image_features(pixel_values=pixels).pooler_output)
            loss = functional.cross_entropy(100 * images @ texts.t(), labels)
        return _updated(self.optimizer, self.scaler, loss)


class PublishedLinear(nn.Module):
    """CLIP-LoRA's layer: W x + alpha/sqrt(r) (B A) dropout(x), with the product of B and A formed at every call.

    Args:
        base: The frozen layer.
    """

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        device = base.weight.device
        self.lora_a = nn.Parameter(torch.empty(RANK, base.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, RANK, device=device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))
        self.dropout = nn.Dropout(DROPOUT)
        self.scale = ALPHA / math.sqrt(RANK)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., I)`` to ``(..., O)``."""
        unchanged: Tensor = self.base(x)
        return unchanged + torch.matmul(self.dropout(x), (self.lora_b @ self.lora_a).T) * self.scale


class PublishedFused:
    """The same step as its authors' own layers take it (MaxZanella/CLIP-LoRA, loralib/layers.py).

    Their attention is torch's fused one, and they keep no more than one mask of a projection: the harder rival.

    Args:
        model: A CLIP in float32, on its device; adapters are put in place.
        tokens: Prompts ``(C, 77)``.
        precision: ``fp16`` is the published one: autocast, the frozen weights in 16 bits but for those of attention,
            which the authors copy into layers of their own, and a scaled loss. ``bf16`` is the same for a CPU, where
            bfloat16 needs no scaling. ``fp32``: neither.
    """

    def __init__(self, model: CLIPModel, tokens: Tensor, precision: str) -> None:
        self.model, self.tokens = model.requires_grad_(False), tokens.to(model.device)
        self.type = TYPES[precision]
        model.to(self.type)
        for layer in (*model.vision_model.encoder.layers, *model.text_model.encoder.layers):
            attention = layer.self_attn.float()
            for name in ("q_proj", "k_proj", "v_proj"):
                setattr(attention, name, PublishedLinear(getattr(attention, name)))
        model.train()
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=1e-2, betas=(0.9, 0.999))
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on normalised pixels ``(B, 3, S, S)`` and labels ``(B,)``; returns the loss."""
        with torch.autocast(pixels.device.type, dtype=self.type, enabled=self.type != torch.float32):
            texts = self.model.get_text_features(input_ids=self.tokens).pooler_output
            images = self.model.get_image_features(pixel_values=pixels.to(self.type)).pooler_output
        similarity = 100 * _unit(images) @ _unit(texts).t()
        return _updated(self.optimizer, self.scaler, functional.cross_entropy(similarity, labels))


class PublishedQLoRA:
    """CLIP-QLoRA as its authors run it (seed 001; MonsieurNam/QLORA_CLIP_IxT, main.py and trainer.py).

    transformers loads the model in NF4 with double quantisation, PEFT's ``prepare_model_for_kbit_training`` brings all
    that is not quantised to float32, layer norms included, and adds its LoRA layers; bfloat16 by autocast. The prompts
    are encoded once, before training, so the text tower's adapters are never trained: less work than lowshot's
    QLoRA does. On a CUDA device the optimiser is bitsandbytes' ``Adam8bit``, which the CPU does not have.

    Args:
        model: A CLIP in float32. It is saved and loaded again, since that is how transformers quantises.
        tokens: Prompts ``(C, L)``.
        device: Where to train.
        images_per_pass: Images of one forward pass; the gradients of a batch's passes are accumulated.
        checkpointing: Gradient checkpointing.
    """

    def __init__(
        self, model: CLIPModel, tokens: Tensor, device: torch.device, *, images_per_pass: int, checkpointing: bool
    ) -> None:
        config = LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            use_rslora=True,
            lora_dropout=DROPOUT,
            target_modules=["q_proj", "k_proj", "v_proj"],
            bias="none",
        )
        with _renamed_by_transformers():
            quantised = prepare_model_for_kbit_training(
                _in_four_bits(model, device),
                use_gradient_checkpointing=checkpointing,
                gradient_checkpointing_kwargs={"use_reentrant": False},
            )
            self.model: Any = get_peft_model(quantised, config)
        self.images_per_pass = images_per_pass
        self.optimizer = _adam(self.model.parameters(), device)
        self.model.eval()
        with torch.no_grad(), self._autocast(device):
            self.texts = _unit(self._clip.get_text_features(input_ids=tokens.to(device)).pooler_output)
        self.model.train()

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on normalised pixels ``(B, 3, S, S)`` and labels ``(B,)``; returns the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        passes = list(zip(pixels.split(self.images_per_pass), labels.split(self.images_per_pass), strict=True))
        total = self.texts.new_zeros((), dtype=torch.float32)
        for some, theirs in passes:
            with self._autocast(pixels.device):
                images = _unit(self._clip.get_image_features(pixel_values=some).pooler_output)
                scores = self._clip.logit_scale.exp().to(images.dtype) * images @ self.texts.to(images.dtype).t()
                loss = functional.cross_entropy(scores, theirs) / len(passes)
            loss.backward()
            total += loss.detach()
        self.optimizer.step()
        return total.item()

    @property
    def _clip(self) -> Any:
        return self.model.base_model.model

    @staticmethod
    def _autocast(device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16)


class PlainPeft:
    """The same step as anybody writes it with transformers and PEFT, without tricks that cost precision.

    The frozen weights have 16 bits and the adapter's numbers 32, attention is torch's fused one, prompts are as long as
    they are, and the whole batch goes through the towers at once.

    Args:
        model: A CLIP in float32, on its device; adapters are put in place.
        tokens: Prompts ``(C, L)``.
        precision: ``bf16``, or ``fp16`` with a scaled loss.
        method: ``lora`` or ``dora``.
    """

    def __init__(self, model: CLIPModel, tokens: Tensor, precision: str, method: str) -> None:
        config = LoraConfig(
            r=RANK,
            lora_alpha=ALPHA,
            use_rslora=True,
            use_dora=method == "dora",
            lora_dropout=DROPOUT,
            target_modules=r".*\.self_attn\.(q|k|v)_proj",
            bias="none",
        )
        self.type = TYPES[precision]
        with _renamed_by_transformers():
            self.model: Any = get_peft_model(model.to(self.type), config).train()
        self.clip, self.tokens = model, tokens.to(model.device)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=1e-2, betas=(0.9, 0.999))
        self.scaler = torch.amp.GradScaler(model.device.type, enabled=precision == "fp16")

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on normalised pixels ``(B, 3, S, S)`` and labels ``(B,)``; returns the loss."""
        texts = _unit(self.clip.get_text_features(input_ids=self.tokens).pooler_output.float())
        images = _unit(self.clip.get_image_features(pixel_values=pixels.to(self.type)).pooler_output.float())
        return _updated(self.optimizer, self.scaler, functional.cross_entropy(100 * images @ texts.t(), labels))


@contextlib.contextmanager
def _renamed_by_transformers() -> Iterator[None]:
    """PEFT asks transformers for checkpointing by a name that has changed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        yield


def _updated(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, loss: Tensor) -> float:
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


def _unit(embeddings: Tensor) -> Tensor:
    return embeddings / embeddings.norm(dim=-1, keepdim=True)


def _in_four_bits(model: CLIPModel, device: torch.device) -> CLIPModel:
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        quantized = CLIPModel.from_pretrained(folder, quantization_config=quantization, device_map={"": device})
    for module in quantized.modules():
        # Some processors repack the weights in the first pass without gradients, and training then fails.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return quantized


def _adam(parameters: Any, device: torch.device) -> torch.optim.Optimizer:
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if device.type != "cuda":
        return torch.optim.AdamW(trained, lr=1e-4, weight_decay=1e-2, eps=1e-5)
    from bitsandbytes.optim import Adam8bit

    optimizer: torch.optim.Optimizer = Adam8bit(trained, lr=1e-4, betas=(0.9, 0.999), eps=1e-5, weight_decay=1e-2)
    return optimizer

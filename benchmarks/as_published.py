"""CLIP-LoRA's training step as its authors run it, on transformers and PEFT: what lowshot's engine is measured against.

Every prompt is padded to 77 tokens and encoded anew, attention is written out (eager), the whole batch of images and
all classes go through the towers at once and everything the backward pass needs is kept; precision is float32, or
bfloat16 by autocast as the published code does it on a GPU. Nothing of lowshot is used here.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

CONTEXT = 77
EXTRA_TOKENS = 8
"""Tokens of a prompt besides start and end: `a photo of a {}.` with a name of two tokens."""


def vit_b16() -> CLIPConfig:
    """The configuration of ViT-B/16 as OpenAI published it."""
    vision = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    text = {"hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12, "num_attention_heads": 8}
    return CLIPConfig(
        vision_config={**vision, "patch_size": 16, "image_size": 224, "projection_dim": 512},
        text_config={**text, "projection_dim": 512, "bos_token_id": 49406, "eos_token_id": 49407},
        projection_dim=512,
    )


def prompts(classes: int, vocabulary: int = 49408) -> Tensor:
    """Random prompts ``(C, 77)`` of ten tokens, padded with zeros; end-of-text is the highest id."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.zeros(classes, CONTEXT, dtype=torch.int64)
    tokens[:, 0] = vocabulary - 2
    tokens[:, 1 : 1 + EXTRA_TOKENS] = torch.randint(1, vocabulary - 2, (classes, EXTRA_TOKENS), generator=generator)
    tokens[:, 1 + EXTRA_TOKENS] = vocabulary - 1
    return tokens


class PublishedProcedure:
    """One model with CLIP-LoRA's adapters and its optimiser.

    Args:
        model: A CLIP in float32; adapters are added in place.
        tokens: Prompts ``(C, 77)``.
        bfloat16: Compute under autocast.
    """

    def __init__(self, model: CLIPModel, tokens: Tensor, *, bfloat16: bool = False) -> None:
        model.set_attn_implementation("eager")
        config = LoraConfig(
            r=2,
            lora_alpha=1,
            use_rslora=True,
            lora_dropout=0.25,
            target_modules=r".*\.self_attn\.(q|k|v)_proj",
            bias="none",
        )
        self.model: PeftModel = get_peft_model(model, config).train()
        self.tokens = tokens
        self.bfloat16 = bfloat16
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=1e-2, betas=(0.9, 0.999))

    def step(self, pixels: Tensor, labels: Tensor) -> float:
        """One optimiser step on normalised pixels ``(B, 3, 224, 224)`` and labels ``(B,)``; returns the loss."""
        clip = self.model.base_model.model
        with torch.autocast(pixels.device.type, dtype=torch.bfloat16, enabled=self.bfloat16):
            texts = clip.get_text_features(input_ids=self.tokens).pooler_output
            texts = texts / texts.norm(dim=-1, keepdim=True)
            images = clip.get_image_features(pixel_values=pixels).pooler_output
            images = images / images.norm(dim=-1, keepdim=True)
            loss = functional.cross_entropy(100 * images @ texts.t(), labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

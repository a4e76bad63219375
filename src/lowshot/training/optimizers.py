"""The optimisers a recipe can name."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ..errors import InputError, MissingExtraError
from ..settings import TrainingConfig


def create_optimizer(
    parameters: Sequence[nn.Parameter], config: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """The optimiser that the recipe names.

    ``adamw`` has betas (0.9, 0.999), the recipe's epsilon and decoupled weight decay (arXiv 1711.05101). ``sgd`` has
    momentum 0.9, and adds its weight decay to the gradient.

    ``paged-adamw-8bit`` keeps its moments in 8 bits, in memory that moves to the host when the device is full
    (arXiv 2110.02861, 2305.14314); bitsandbytes keeps them in float32 for parameters of fewer than 4,096 numbers.

    Raises:
        InputError: It cannot be had here: it needs a CUDA device, or bitsandbytes. It is never replaced by another.
    """
    rate, decay, epsilon = config.learning_rate, config.weight_decay, config.adam_epsilon
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, eps=epsilon, fused=True)
    if config.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=0.9, weight_decay=decay, fused=True)
    if device.type != "cuda":
        raise InputError(
            f"optimizer paged-adamw-8bit needs a CUDA device, but the model is on {device.type}; use optimizer adamw"
        )
    try:
        from bitsandbytes.optim import PagedAdamW8bit
    except ImportError:
        raise MissingExtraError("bitsandbytes", "quantize", "optimizer paged-adamw-8bit") from None
    optimizer: torch.optim.Optimizer = PagedAdamW8bit(parameters, lr=rate, weight_decay=decay, eps=epsilon)
    return optimizer

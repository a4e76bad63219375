"""Whether it matters to a trained block which row of a batch something lies in, and beside what."""

from __future__ import annotations

from torch import nn

from .dropout import SampleDropout


def draws_from_torch(model: nn.Module) -> bool:
    """Whether something in a model draws from torch's generator in training: one of PEFT's tuners may.

    LoRA's dropout, keyed by sample, does not.
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.tuners_utils import BaseTunerLayer

    def may_draw(module: nn.Module) -> bool:
        if isinstance(module, BaseTunerLayer):
            return not isinstance(module, LoraLayer)
        return isinstance(module, nn.Dropout) and not isinstance(module, SampleDropout) and module.p > 0

    return any(map(may_draw, model.modules()))


def rows_are_alike(blocks: nn.Module) -> bool:
    """Whether training makes the same of the same input in every row, so that equal rows need computing once.

    Not with dropout, which draws for each sample. Not with those of PEFT's tuners that lowshot does not know by heart:
    some draw numbers for each row (PVeRA), others look at all rows together (Lily's experts).
    """
    from peft.tuners.lora import LoraLayer
    from peft.tuners.lora.variants import DoraLinearVariant
    from peft.tuners.tuners_utils import BaseTunerLayer

    def is_alike(module: nn.Module) -> bool:
        if isinstance(module, LoraLayer):
            return all(isinstance(variant, DoraLinearVariant) for variant in module.lora_variant.values())
        return not isinstance(module, BaseTunerLayer) and not (isinstance(module, nn.Dropout) and module.p > 0)

    return all(map(is_alike, blocks.modules()))

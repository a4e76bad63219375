"""LoRA-XS as a tuner of PEFT's, registered on import as type ``LORA_XS``."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, NoReturn

from peft import LoraConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.lora import LoraModel
from peft.utils import hotswap

from ...settings import SETTINGS, BasisSide
from ..lean import modules_with
from .basis import Basis
from .layer import LoraXsMixin


class LoraXsType(str, enum.Enum):
    """PEFT's own enumeration cannot be extended; this one member looks up like any of its."""

    LORA_XS = "LORA_XS"


@dataclasses.dataclass
class LoraXsConfig(LoraConfig):  # type: ignore[misc]
    """A ``LoraConfig`` whose layers are LoRA-XS layers; its fields mean what they mean there."""

    basis_side: BasisSide = "input"
    """Side of R that has the singular values: ``input``, U R diag(S) V^T, or ``output``, U diag(S) R V^T.

    Files that lack it are older, and have the input's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        SETTINGS["basis_side"].check(self.basis_side)
        self.peft_type = LoraXsType.LORA_XS
        self.bases: Mapping[str, Basis] = {}
        """Name of a layer -> its prepared basis. It is no field: the file of the configuration does not have it."""
        self._register_custom_module(modules_with(LoraXsMixin))


class LoraXsModel(LoraModel):  # type: ignore[misc]
    """PEFT's LoRA tuner with LoRA-XS layers."""

    def add_weighted_adapter(self, *_: Any, **__: Any) -> NoReturn:
        """Not defined: the inherited version averages factors that LoRA-XS adapters share."""
        raise NotImplementedError(
            "LoRA-XS adapters cannot be combined by add_weighted_adapter; average their R instead"
        )


PEFT_TYPE_TO_CONFIG_MAPPING[LoraXsType.LORA_XS] = LoraXsConfig
PEFT_TYPE_TO_TUNER_MAPPING[LoraXsType.LORA_XS] = LoraXsModel
PEFT_TYPE_TO_PREFIX_MAPPING[LoraXsType.LORA_XS] = "lora_"
hotswap.CONFIG_KEYS_TO_CHECK[LoraXsType.LORA_XS] = [*hotswap.CONFIG_KEYS_TO_CHECK["LORA"], "basis_side"]

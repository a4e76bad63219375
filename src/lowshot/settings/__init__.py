"""Settings: a table with a row for each, recipes made of them, and presets that recipes start from."""

from ..methods import PROJECTIONS, Projection
from .presets import (
    PRESETS,
    changes_of,
    default_method,
    default_preset,
    obeyed,
    preset_for,
    preset_recipe,
)
from .recipe import SETTINGS, Recipe, read_recipe, read_toml
from .row import Decides, Section, Setting, parse_bytes
from .sections import (
    COOP,
    DRAWS,
    POSITIONS,
    TEMPLATE_SETS,
    TOWERS,
    TRACKERS,
    BasisSide,
    DataConfig,
    EngineConfig,
    MethodConfig,
    ModelConfig,
    Tower,
    TrainingConfig,
)
from .shipped import shipped_recipe, shipped_recipes

__all__ = [
    "COOP",
    "DRAWS",
    "POSITIONS",
    "PRESETS",
    "PROJECTIONS",
    "SETTINGS",
    "TEMPLATE_SETS",
    "TOWERS",
    "TRACKERS",
    "BasisSide",
    "DataConfig",
    "Decides",
    "EngineConfig",
    "MethodConfig",
    "ModelConfig",
    "Projection",
    "Recipe",
    "Section",
    "Setting",
    "Tower",
    "TrainingConfig",
    "changes_of",
    "default_method",
    "default_preset",
    "obeyed",
    "parse_bytes",
    "preset_for",
    "preset_recipe",
    "read_recipe",
    "read_toml",
    "shipped_recipe",
    "shipped_recipes",
]

"""Methods: a table with a row for each, known without importing torch. What they do lives in other rooms."""

from .names import display_name, imported, method_spec, resolve_alias, settled_spec
from .peft_options import peft_options, refuse_idle_options
from .row import PROJECTIONS, Kind, MethodSpec, Projection, Quantization
from .rows import ALIASES, AUTO, BEST, BEST_OF, METHODS, PEFT_PREFIX, PIXEL_REGRESSION, ZERO_SHOT

__all__ = [
    "ALIASES",
    "AUTO",
    "BEST",
    "BEST_OF",
    "METHODS",
    "PEFT_PREFIX",
    "PIXEL_REGRESSION",
    "PROJECTIONS",
    "ZERO_SHOT",
    "Kind",
    "MethodSpec",
    "Projection",
    "Quantization",
    "display_name",
    "imported",
    "method_spec",
    "peft_options",
    "refuse_idle_options",
    "resolve_alias",
    "settled_spec",
]

"""The command ``lowshot methods``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ..methods import ALIASES, METHODS, PEFT_PREFIX, MethodSpec
from ..settings import TrainingConfig
from .arguments import parse, print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The methods there are."""

    json: bool = False
    """Print a list of `{name, kind, summary, settings, training, learns, aliases}`."""


def run(arguments: Sequence[str]) -> int:
    """List the methods."""
    parsed = parse(Arguments, "methods", arguments)
    aliases = {name: {a: q for a, (m, q) in ALIASES.items() if m == name} for name in METHODS}
    if parsed.json:
        print_json([_row(spec, aliases[spec.name]) for spec in METHODS.values()])
        return 0
    for spec in METHODS.values():
        print(f"{spec.name:<13} {spec.kind:<9} {spec.summary}")
    for alias, (method, quantize) in ALIASES.items():
        print(f"{alias:<13} {'alias':<9} --method {method} --quantize {quantize}")
    print(
        f"{PEFT_PREFIX + 'TYPE':<13} {'weights':<9} PEFT's tuner of this type, such as oft; options: --peft key=value"
    )
    return 0


def _row(spec: MethodSpec, aliases: Mapping[str, str]) -> dict[str, Any]:
    every = [field.name for field in dataclasses.fields(TrainingConfig)]
    return {
        "name": spec.name,
        "kind": spec.kind,
        "summary": spec.summary,
        "settings": sorted(spec.settings),
        "training": sorted(every if spec.training is None else spec.training),
        "learns": spec.learns,
        "has_classifier": spec.has_classifier,
        "aliases": aliases,
    }

"""The command ``lowshot methods``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..methods import ALIASES, METHODS, PEFT_PREFIX
from ..settings import TrainingConfig
from .parsing import parse
from .printing import print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """The methods there are."""

    json: bool = False
    """Print a list of `{name, kind, summary, settings, training, learns, has_classifier, learns_several, aliases}`."""


def run(arguments: Sequence[str]) -> int:
    """List the methods."""
    parsed = parse(Arguments, "methods", arguments)
    if parsed.json:
        every = [field.name for field in dataclasses.fields(TrainingConfig)]
        rows = [
            {
                "name": spec.name,
                "kind": spec.kind,
                "summary": spec.summary,
                "settings": sorted(spec.settings),
                "training": sorted(every if spec.training is None else spec.training),
                "learns": spec.learns,
                "has_classifier": spec.has_classifier,
                "learns_several": spec.learns_several,
                "aliases": {alias: quantize for alias, (method, quantize) in ALIASES.items() if method == spec.name},
            }
            for spec in METHODS.values()
        ]
        print_json(rows)
        return 0
    for spec in METHODS.values():
        print(f"{spec.name:<13} {spec.kind:<9} {spec.summary}")
    for alias, (method, quantize) in ALIASES.items():
        print(f"{alias:<13} {'alias':<9} --method {method} --quantize {quantize}")
    print(
        f"{PEFT_PREFIX + 'TYPE':<13} {'weights':<9} PEFT's tuner of this type, such as oft; options: --peft key=value"
    )
    return 0

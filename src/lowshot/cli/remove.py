"""The command ``lowshot remove``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from ..progress import shown
from .arguments import AdapterFolder, OpenedOn
from .changing import Changed
from .parsing import parse
from .printing import warned


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Take classes out of a saved adapter.

    A method on frozen features is fitted to the shots that are left. Towers that were adapted stay as they are.
    """

    adapter: AdapterFolder
    classes: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLASS...")]
    """Names of classes."""
    changed: Changed = dataclasses.field(default_factory=Changed)
    refit: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """The images that the adapter was fitted with: all of it is taught anew, by those that are left."""
    opened: OpenedOn = dataclasses.field(default_factory=OpenedOn)


def run(arguments: Sequence[str]) -> int:
    """Forget, save, say."""
    parsed = parse(Arguments, "remove", arguments)
    place = parsed.changed.place(parsed.adapter)
    from ..classifier import saved_adapter
    from ..serving.examples import carry_examples

    classifier = saved_adapter(parsed.adapter, **vars(parsed.opened))
    with warned(classifier.warnings_), parsed.changed.written(parsed.adapter) as aside:
        classifier.remove(*parsed.classes, refit=parsed.refit, track=shown).write(aside)
        carry_examples(parsed.adapter, aside, {name: name for name in classifier.record_.classes})
    left = classifier.record_.classes
    parsed.changed.tell(
        place,
        {"classes": list(left), "removed": list(parsed.classes)},
        f"{len(left)} classes are left; saved to {place}; how well it does now: lowshot evaluate {place} DATA",
    )
    return 0

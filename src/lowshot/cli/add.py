"""The command ``lowshot add``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated

import tyro

from ..files import remove
from ..progress import shown
from .arguments import AdapterFolder, OpenedOn
from .changing import Changed
from .parsing import parse
from .printing import warned
from .states import beside, interruption_told


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Teach a saved adapter classes more, or more images of its classes, without starting over.

    A method on frozen features comes to what fitting all images together comes to, and needs the new ones alone. Towers
    that were adapted stay as they are: new classes are set on top of them. With `--refit` all is taught anew.
    """

    adapter: AdapterFolder
    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """A folder of images, which is a class by its name; a folder of such folders; or a table and so on, as for `fit`.
    Images that the adapter has learnt already are passed over, but for labels that are new where images have several:
    each image has all that it shows."""
    changed: Changed = dataclasses.field(default_factory=Changed)
    shots: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Images per class; if not given as many as the adapter was fitted with, or all."""
    old: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """Images of the classes that the adapter has, for classes on top of adapted towers: those of the training and
    validation split that it was not taught with place the new classes, and tell how well the others still do."""
    refit: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """The images that the adapter was fitted with: all of it is taught anew, by them and the new ones."""
    opened: OpenedOn = dataclasses.field(default_factory=OpenedOn)


def run(arguments: Sequence[str]) -> int:
    """Learn, save, say."""
    parsed = parse(Arguments, "add", arguments)
    place = parsed.changed.place(parsed.adapter)  # said before anything is learnt
    from ..classifier import saved_adapter
    from ..serving.examples import carry_examples
    from ..wording.quantities import counted, on_top_line

    classifier = saved_adapter(parsed.adapter, **vars(parsed.opened))
    before = classifier.record_
    checkpoint = beside(place, "training.safetensors") if parsed.refit else None
    states = classifier.training_states(checkpoint) if checkpoint else []
    with warned(classifier.warnings_), interruption_told(states), parsed.changed.written(parsed.adapter) as aside:
        classifier.add(
            parsed.data, shots=parsed.shots, old=parsed.old, refit=parsed.refit, checkpoint=checkpoint, track=shown
        ).write(aside)
        names = {name: name for name in before.classes}
        carry_examples(parsed.adapter, aside, names, classifier.added_images())
    for state in states:
        remove(state)
    record = classifier.record_
    new = record.classes[len(before.classes) :]
    images = len(record.draw) - (len(before.draw) if parsed.refit is None else 0)
    counts = {"images": len(record.draw), "classes": list(record.classes), "new_classes": list(new)}
    told = {"seconds": record.train_seconds, "calibration": record.calibration, "on_top": record.on_top}
    more = f"{len(new)} class(es) more, {', '.join(new)}" if new else "no class more"
    whole = f"{len(record.classes)} classes and {counted(len(record.draw), 'image')} in all"
    lines = [f"{counted(images, 'image')}{' taught anew' if parsed.refit else ''}: {more}; {whole}"]
    if record.on_top:
        lines.append(
            "the towers stay as they are, and new classes are set on top of them (--refit DATA teaches all anew)"
        )
        lines.append(on_top_line(record.on_top))
    if record.calibration:
        lines.append(f"calibrated anew on {len(record.calibration['scores'])} held-out images")
    lines.append(f"saved to {place}; how well it does now: lowshot evaluate {place} DATA")
    parsed.changed.tell(place, counts | told, *lines)
    return 0

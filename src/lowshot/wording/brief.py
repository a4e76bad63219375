"""A classifier in a few words: for a prompt, a log, a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from ..methods import display_name
from ..records import RunRecord
from .quantities import accuracy_line, counted, size

_MOST_NAMED = 5


def names_text(names: Sequence[object]) -> str:
    """``3 classes (red, green, blue)``, the first of them if there are many."""
    named = ", ".join(map(str, names[:_MOST_NAMED])) + (", ..." if len(names) > _MOST_NAMED else "")
    return f"{len(names):,} class{'' if len(names) == 1 else 'es'} ({named})"


def brief(record: RunRecord) -> dict[str, str]:
    """Facts by what they are of: method, classes, images, accuracy where it was measured, size."""
    facts = {
        "method": display_name(record.method_used, record.quantize),
        "classes": names_text(record.classes),
        "learnt from": f"{counted(len(record.draw), 'image')} of {record.task}",
        "accuracy": accuracy_line(record.metrics).removeprefix("accuracy ") if record.metrics else "",
        "adapter": size(record.adapter_bytes),
        "stopped": record.stopped,
    }
    return {name: fact for name, fact in facts.items() if fact}


def learnt_text(record: RunRecord) -> str:
    """The same in a line: ``learnt 3 classes (a, b, c) from 12 images of images by lora, accuracy ...``."""
    facts = brief(record)
    accuracy = f", accuracy {facts['accuracy']}" if "accuracy" in facts else ""
    return f"learnt {facts['classes']} from {facts['learnt from']} by {facts['method']}{accuracy}"


def html_table(title: str, facts: Mapping[str, str]) -> str:
    """A table of facts below a title, in which nothing is markup."""
    rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(fact)}</td></tr>" for name, fact in facts.items())
    return f"<table><caption><code>{html.escape(title)}</code></caption>{rows}</table>"

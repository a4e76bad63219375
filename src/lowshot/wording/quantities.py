"""Numbers put in writing, the same in tables, pages and cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_NO_BREAK = "\u00a0"


def percent(fraction: float) -> str:
    """``0.9712`` as ``97.1 %``, with a space that no line breaks at."""
    return f"{100 * fraction:.1f}{_NO_BREAK}%"


def share(part: int, whole: int) -> str:
    """``part`` in percent of ``whole`` with two significant digits: adapters may be far below one percent."""
    if not whole:
        return "-"
    value = 100 * part / whole
    if 0 < value < 0.001:
        return "< 0.001"
    return f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.2g}"


def short(value: float) -> str:
    """One digit after the point below ten, none from there on."""
    return f"{value:.1f}" if value < 9.95 else f"{value:,.0f}"


def size(number_bytes: int) -> str:
    """Bytes as ``13 KB`` or ``1.2 MB``; a KB has 1000 bytes."""
    if number_bytes < 1_000_000:
        return f"{short(number_bytes / 1000)}{_NO_BREAK}KB"
    return f"{short(number_bytes / 1_000_000)}{_NO_BREAK}MB"


def duration(seconds: float) -> str:
    """Seconds as ``14 s``, minutes from two minutes on, hours from two hours on."""
    if seconds < 120:
        return f"{short(seconds)}{_NO_BREAK}s"
    if seconds < 7200:
        return f"{short(seconds / 60)}{_NO_BREAK}min"
    return f"{short(seconds / 3600)}{_NO_BREAK}h"


def counted(number: int, noun: str) -> str:
    """``1 run``, ``1,200 runs``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def images_per_class(shots: int) -> str:
    """``1 image per class``, ``16 images per class``."""
    return f"{shots} image{'' if shots == 1 else 's'} per class"


def shots_text(shots: int) -> str:
    """``1 shot``, ``16 shots``."""
    return f"{shots} shot{'' if shots == 1 else 's'}"


def ends(texts: Sequence[str]) -> str:
    """First and last of ascending texts as ``3`` or ``2 to 3``; empty of none."""
    return " to ".join(dict.fromkeys((texts[0], texts[-1]))) if texts else ""


def interval(low: float, high: float) -> str:
    """``0.959, 0.982`` as ``95.9-98.2``: percent, for a place where that is said."""
    return f"{100 * low:.1f}-{100 * high:.1f}"


def accuracy_line(metrics: Mapping[str, Any]) -> str:
    """``accuracy 97.1 % (95.9-98.2) on 901 images: the test split``, with the 95 % interval where it is known.

    Where images have several labels it is the mean average precision.
    """
    if "map" in metrics:
        measured = f"mean average precision {100 * metrics['map']:.1f} %"
    else:
        bounds = metrics.get("acc1_interval")
        measured = f"accuracy {100 * metrics['acc1']:.1f} %{f' ({interval(*bounds)})' if bounds else ''}"
    kind = "the test split" if metrics["split"] == "test" else "images it has not learnt from"
    return f"{measured} on {metrics['images']:,} images: {kind}"


def labels_line(metrics: Mapping[str, Any]) -> str:
    """The measures of labels that thresholds give to images, where images have several."""
    return (
        f"F1 {100 * metrics['micro_f1']:.1f} % over all labels, {100 * metrics['macro_f1']:.1f} % as the mean of the "
        f"classes; all labels of {100 * metrics['exact_match']:.1f} % of the images are right"
    )


def aligned(table: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    """Cells padded to the widest of their column: numbers to the right, words to the left."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        padded = [
            cell.rjust(width) if is_number else cell.ljust(width)
            for cell, width, is_number in zip(cells, widths, numbers, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines) + "\n"


def unknown_line(unknown: Mapping[str, Any]) -> str:
    """The figures on images of none of the classes, which are ``unknown`` among the metrics of ``evaluate``."""
    return (
        f"{unknown['images']:,} images of none of these: {100 * unknown['turned_away']:.1f} % are turned away, and "
        f"{100 * unknown['known_turned_away']:.1f} % of the known ones (--reject {unknown['reject']:g}); AUROC "
        f"{unknown['auroc']:.3f}, of the top probability {unknown['auroc_of_probability']:.3f}; where 95 % of the "
        f"known ones are kept {100 * unknown['accepted_at_95']:.1f} % of the others are"
    )


def on_top_line(on_top: Mapping[str, Any]) -> str:
    """The share of held-out images that classes on top are recognised by: ``lowshot.on_top.OnTop`` as plain values."""
    new, known = on_top["new"], on_top["known"]
    first = "no image of the classes on top could be held out"
    if new is not None:
        first = (
            f"held out, {_right(new)} of the classes on top are recognised ({percent(new['right'] / new['images'])})"
        )
    if known is None:
        return f"{first}; how many of the other classes still are is not known"
    after, before = (percent(known[name] / known["images"]) for name in ("right", "before"))
    return f"{first}, and {_right(known)} of the other classes ({after}; {before} without those on top)"


def _right(judged: Mapping[str, Any]) -> str:
    return f"{judged['right']:,} of {counted(judged['images'], 'image')}"

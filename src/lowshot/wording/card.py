"""The README.md that a saved adapter carries, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import re

from ..methods import METHODS, display_name
from ..records import RunRecord
from .imported_card import USE, imported_card
from .protocols import COLUMNS, protocol_rows
from .provenance import commit_text, hardware_text, model_text, versions_text
from .quantities import (
    accuracy_line,
    duration,
    images_per_class,
    interval,
    labels_line,
    on_top_line,
    percent,
    share,
    size,
    unknown_line,
)
from .settings import telling_settings

_MOST_CLASSES = 20
# What the Hub accepts as a model; a folder on somebody's disk is none, and would be refused on upload.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def model_card(record: RunRecord) -> str:
    """Markdown with YAML front matter: what the adapter is, how to use it, how it was made, how far to trust it."""
    if "imported" in record.provenance:
        return imported_card(record)
    task = "zero-shot-image-classification" if record.reads_text else "image-classification"
    front = ["---", "library_name: lowshot", f"pipeline_tag: {task}"]
    backbone = str(record.model.get("id") or "")
    if _HUB_ID.fullmatch(backbone):
        front.append(f"base_model: {_yaml_string(backbone)}")
    tags = dict.fromkeys((*(("clip", "lora") if record.reads_text else ()), "few-shot", "lowshot", record.method_used))
    front += ["tags:", *(f"- {_yaml_string(tag)}" for tag in tags), "---"]
    probabilities = "- Probabilities are comparisons between the classes, not calibrated odds."
    if calibration := record.calibration:
        probabilities = (
            f"- Probabilities are calibrated on {calibration['images']:,} images of its shots, held out "
            f"(temperature {calibration['temperature']:.3g}):\n  on images of another kind they may be off."
        )
    origin = record.provenance
    facts = {
        "backbone": model_text(record),
        "date": origin.get("date", ""),
        "command": origin.get("command", ""),
        "sources": commit_text(origin),
        "versions": versions_text(origin),
        "hardware": hardware_text(origin),
    }
    provenance = ["## Provenance", "", *(f"- {name}: {_code(value)}" for name, value in facts.items() if value)]
    limits = [_LIMITS.format(probabilities=probabilities, others=_others(record))]
    sections = (front, _title(record), [USE, _USE_IN_SHELL], _making(record), _accuracy(record), limits, provenance)
    return "\n\n".join("\n".join(lines) for lines in sections) + "\n"


_USE_IN_SHELL = """
```sh
lowshot predict path/to/this/folder image.png
```"""

_LIMITS = """## Limits

{others}
- A few images per class say little about light, cameras and backgrounds they do not show. Measure on
  your own images before relying on it.
{probabilities}
- It needs the backbone it was trained on, and inherits that model's biases and licence."""


def _others(record: RunRecord) -> str:
    """A line on images of other classes."""
    if not (belonging := record.belonging):
        return "- It knows these classes only: an image of anything else is given to one of them all the same."
    lines = (
        f"- It knows these classes only. An image that fits in worse than all but {percent(belonging['reject'])} of",
        f"  {len(belonging['scores']):,} shots that were held out is said to be none of these. Many images of other",
        "  classes fit in better, and are given to one of these.",
    )
    unknown = record.metrics.get("unknown")
    return "\n".join([*lines, *([f"  {_plain(unknown_line(unknown))}."] if unknown else [])])


def _title(record: RunRecord) -> list[str]:
    """Lines on what it is, by which method, and on its classes; of ``auto`` why it is this method."""
    name = display_name(record.method_used, record.quantize)
    first = ", ".join(map(_code, record.classes[:_MOST_CLASSES]))
    more = len(record.classes) - _MOST_CLASSES
    ending = f", and {more} more" if more > 0 else ""
    spec = METHODS.get(record.method_used)
    method = [f"Method: {spec.summary}."] if spec else []
    if choice := record.choice:
        tried = [f"{each['method']} {percent(each['acc1'])}" for each in choice["tried"] if each["acc1"] is not None]
        several, one = "How well the labels of held-out shots are ranked", "Accuracy on held-out shots"
        judged = f" {several if record.has_several else one}: {', '.join(tried)}." if tried and choice["folds"] else ""
        method.append(f"lowshot's `auto` chose {record.method_used}: {choice['why']}.{judged}")
    kind, base = "A [CLIP](https://arxiv.org/abs/2103.00020) image classifier", "adapter for CLIP"
    if not record.reads_text:
        kind, base = "An image classifier on an image encoder that reads no class names", "on an image encoder"
    return [
        f"# {_plain(record.task)}: {_plain(name)} {base}",
        "",
        f"{kind} for {len(record.classes)} classes, made by",
        f"lowshot from {images_per_class(record.shots) if record.shots else 'class names alone'}.",
        *method,
        "",
        f"Classes ({len(record.classes)}): {first}{ending}.",
        *_on_top(record),
    ]


def _on_top(record: RunRecord) -> list[str]:
    """Lines on classes that were set on top of the towers; none where there are none."""
    if not record.on_top:
        return []
    names = [_code(name) for name in record.classes[-record.on_top["classes"] :]]
    named = ", ".join(names[:_MOST_CLASSES]) + (", ..." if len(names) > _MOST_CLASSES else "")
    images, line = record.on_top["images"], on_top_line(record.on_top)
    return [
        "",
        f"Set on top of the towers, which have learnt nothing of them: {named}, from {images:,} images.",
        f"{line[0].upper()}{line[1:]}.",
    ]


def _making(record: RunRecord) -> list[str]:
    """Table of costs and settings."""
    trainable = f"{record.trainable_parameters:,} of {record.total_parameters:,}"
    facts = {
        "method": display_name(record.method_used, record.quantize),
        "images per class": str(record.shots),
        "seed": str(record.seed),
        "optimiser steps": f"{record.steps:,}" + (f"; {record.stopped}" if record.stopped else ""),
        "training time": duration(record.learning_seconds),
        "peak memory": f"{size(record.peak_memory_bytes)}, of which {size(record.static_memory_bytes)} before training",
        "trainable parameters": f"{trainable} ({share(record.trainable_parameters, record.total_parameters)} %)",
        "adapter size": size(record.adapter_bytes),
        **{f"{name.replace('_', ' ')}, chosen on the shots": f"{value:g}" for name, value in record.chosen.items()},
    }
    if (count := sum(map(len, record.prompts))) > len(record.prompts):
        facts["prompts"] = f"{count:,}, averaged by class; all of them are in lowshot.json"
    facts |= {name.replace("_", " "): value for name, value in telling_settings(record).items()}
    rows = (f"| {name} | {_cell(value)} |" for name, value in facts.items())
    rest = "Settings that the method does not have are left out, and others that are as by default:"
    return ["## How it was made", "", "| | |", "|:--|:--|", *rows, "", rest, "`lowshot.json` has all of them."]


def _accuracy(record: RunRecord) -> list[str]:
    """Lines on how well it does, with a table where classes were judged that were not learnt."""
    metrics = record.metrics
    if "map" in metrics:
        return _precision(record)
    if "acc1" not in metrics:
        return ["## Accuracy", "", "It was not measured: no labelled test images were given."]
    images = f" on {metrics['images']:,} images" if metrics.get("images") else ""
    split = f" of the {_code(metrics['split'])} split" if metrics.get("split") else ""
    bounds = metrics.get("acc1_interval")
    within = f" ({interval(*bounds)}, a 95 % interval over the images)" if bounds else ""
    measured = f"{percent(metrics['acc1'])}{within}{images}{split} of {_code(record.task)}, for this one seed."
    lines = ["## Accuracy", "", measured]
    if rows := protocol_rows(record.task, metrics):
        rule = ("--:" if is_number else ":--" for is_number in COLUMNS.values())
        body = ([_cell(name), *cells] for name, *cells in rows)
        lines += ["", "Judged too, each in its own label space by the names of its classes:", ""]
        lines += [f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *body)]
    return lines


def _precision(record: RunRecord) -> list[str]:
    """The same where images have several labels, with a table of the classes if they are few."""
    measured = accuracy_line(record.metrics).replace(" %", "\u00a0%")
    text = f"{measured[0].upper()}{measured[1:]}, for this one seed. {labels_line(record.metrics)}."
    known = zip(record.classes, record.metrics["class_ap"], strict=True)
    rows = [f"| {_cell(name)} | {percent(precision)} |" for name, precision in known if precision is not None]
    held_out = (
        f", learnt from {record.presence['images']:,} images that were held out" if record.presence["images"] else ""
    )
    text += f" An image has each label that is as probable as the threshold of its class{held_out}."
    table = ["", "| class | average precision |", "|:--|--:|", *rows] if len(rows) <= _MOST_CLASSES else []
    return ["## Accuracy", "", text, *table]


def _yaml_string(text: str) -> str:
    """A double-quoted YAML scalar: it means the same whatever is in it (``no``, ``1e3``, ``a: b``, line breaks)."""
    escaped = (f"\\{c}" if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(escaped)}"'


def _plain(text: str) -> str:
    """Text outside a code span: one line, without marks that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", " ".join(text.split()))


def _code(text: str) -> str:
    """A code span, in which Markdown acts on nothing; its fence is longer than any run of backticks inside."""
    line = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    padding = " " if len(fence) > 1 else ""
    return f"{fence}{padding}{line}{padding}{fence}"


def _cell(text: str) -> str:
    """A code span in a table, where a bar would end the cell even inside code."""
    return _code(text).replace("|", "\\|")

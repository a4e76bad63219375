"""The README.md of what was exported or imported: what it is, how it was made, the lines to use it."""

from __future__ import annotations

import json
import textwrap

from ..methods import display_name
from ..records import RunRecord
from ..wording.provenance import listing
from ..wording.quantities import accuracy_line, images_per_class
from .measured import Accuracy

_TITLES = {
    "peft": "An adapter for PEFT",
    "merged": "A model in transformers format",
    "onnx": "An image classifier in ONNX",
    "page": "A page that classifies images",
}

_PEFT = """
        import json
        import torch
        from peft import PeftModel
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        {base}
        folder = "path/to/this/folder"
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()"""

_USES = {
    "peft": _PEFT
    + """
        classes = json.load(open(f"{{folder}}/classes.json", encoding="utf-8"))
        tokens = AutoTokenizer.from_pretrained(base)(classes["prompts"], padding="max_length", return_tensors="pt")
        pixels = AutoImageProcessor.from_pretrained(base)(Image.open("image.png").convert("RGB"), return_tensors="pt")
        with torch.no_grad():
            probabilities = model(**tokens, **pixels).logits_per_image.softmax(-1)[0]
        print(classes["classes"][probabilities.argmax()])
        """,
    "merged": """
        import json
        from transformers import pipeline

        folder = "path/to/this/folder"
        classes = json.load(open(f"{{folder}}/classes.json", encoding="utf-8"))
        names = dict(zip(classes["prompts"], classes["classes"]))
        classify = pipeline("zero-shot-image-classification", model=folder)
        for found in classify("image.png", candidate_labels=classes["prompts"], hypothesis_template="{{}}"):
            print(names[found["label"]], found["score"])
        """,
    "onnx": """
        import sys

        sys.path.append("path/to/this/folder")
        from classify import probabilities

        classes, table = probabilities(["image.png"])
        print(classes[table[0].argmax()])
        """,
    "page": """
        import webbrowser

        webbrowser.open("file://path/to/this/folder/index.html")
        """,
}

_SEVERAL_PROMPTS = """
        classes = json.load(open(f"{{folder}}/classes.json", encoding="utf-8"))
        prompts = [prompt for said in classes["prompts"] for prompt in said]
        owners = torch.tensor([number for number, said in enumerate(classes["prompts"]) for _ in said])
        tokens = AutoTokenizer.from_pretrained({files})(prompts, padding="max_length", return_tensors="pt")
        image = Image.open("image.png").convert("RGB")
        pixels = AutoImageProcessor.from_pretrained({files})(image, return_tensors="pt")
        with torch.no_grad():
            found = model(**tokens, **pixels)
            texts = found.text_embeds
            sums = torch.zeros(len(classes["classes"]), texts.shape[1]).index_add(0, owners, texts)
            scores = model.logit_scale.exp() * found.image_embeds @ torch.nn.functional.normalize(sums, dim=-1).T
            probabilities = scores.softmax(-1)[0]
        print(classes["classes"][probabilities.argmax()])
        """

_USES_OF_SEVERAL_PROMPTS = {
    "peft": _PEFT + _SEVERAL_PROMPTS.replace("{files}", "base"),
    "merged": """
        import json
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        folder = "path/to/this/folder"
        model = AutoModel.from_pretrained(folder).eval()"""
    + _SEVERAL_PROMPTS.replace("{files}", "folder"),
}
"""Programs for classes of several prompts, whose embeddings are averaged."""

_WORDS = {
    "peft": "`adapter_config.json` and `adapter_model.safetensors` are PEFT's own files and need nothing else. The\n"
    "backbone is not in here: load it first, exactly the one named below.",
    "merged": "Weights, tokenizer and image processor; the adapter is inside the weights. The pipeline's scores of a\n"
    "SigLIP are sigmoids: in the same order, but only a softmax over `logits_per_image` gives the probabilities.",
    "onnx": "`model.onnx` takes `images` (B, 3, S, S), float32 in [0, 1], RGB, for any B, and gives `probabilities`\n"
    "(B, C). Normalisation is inside. `preprocessing.json` says what is done with an image beforehand; `classify.py`\n"
    "does it with onnxruntime, pillow and numpy alone: `python classify.py image.png`.",
    "page": "Open `index.html` in a browser of 2023 or later, from a disk or from any web server. Images are dropped\n"
    "on it, pasted or chosen, and classified where they are. The page fetches nothing: model and onnxruntime-web\n"
    "(Copyright Microsoft Corporation, MIT licence) are in it, a model of more than 48 MB in scripts beside it.",
}
_WORDS_OF_SEVERAL_PROMPTS = {
    "merged": "Weights, tokenizer and image processor; the adapter is inside the weights. A class has several\n"
    "prompts, whose embeddings are averaged: the lines below do that, transformers' zero-shot pipeline does not.",
}


def readme(
    record: RunRecord,
    name: str,
    precision: str = "fp32",
    measured: Accuracy | None = None,
    *,
    is_readable: bool = True,
) -> str:
    """Markdown for an exported folder.

    Args:
        record: Of the adapter.
        name: The format.
        precision: Of an ONNX file's image tower.
        measured: What was measured of it.
        is_readable: Whether transformers reads the backbone where it is; open_clip's format it does not read.
    """
    words = _WORDS | _WORDS_OF_SEVERAL_PROMPTS if _has_several_prompts(record) else _WORDS
    head = f"# {_TITLES[name]}, for {len(record.classes)} classes"
    use = f"## Use\n\n```python\n{_program(record, name, is_readable=is_readable)}\n```"
    parts = [head, words[name], _CLASSES, use]
    rounded = "" if precision == "fp32" else f" --precision {precision}"
    facts = {
        "command": f"lowshot export ADAPTER --format {name}{rounded}",
        "method": display_name(record.method_used, record.quantize),
        "backbone": record.model.get("id"),
        "revision": record.model.get("revision"),
        "weights sha256": record.model.get("weights_sha256"),
        "learnt from": f"{record.task}, shots {record.shots}, seed {record.seed}" if record.shots else None,
        "imported from": record.provenance.get("imported", {}).get("file"),
        "settings": json.dumps(record.recipe, sort_keys=True, ensure_ascii=False),
    }
    parts += ["## How it was made", listing(facts)]
    if record.quantize != "none":
        parts.append((_ON_QUANTIZED_PEFT if name == "peft" else _ON_QUANTIZED).format(record.quantize))
    if precision != "fp32":
        parts.append(_IN_FEWER_BITS[precision])
    if measured is not None:
        parts.append(accuracy_words(measured).capitalize() + ".")
    if record.calibration:
        where = "in the lines above" if name == "peft" else "inside the model"
        parts.append(
            f"Its probabilities were calibrated on {record.calibration['images']:,} images that were held out: scores "
            f"are\ndivided by a temperature of {record.calibration['temperature']:.6g}, {where}."
        )
    if record.has_several:
        parts.append(_LABELS[name])
    if record.belonging:
        parts.append(_OTHERS_IN_GRAPH if name == "onnx" else _OTHERS_ELSEWHERE)
    return "\n\n".join(parts) + "\n"


def _has_several_prompts(record: RunRecord) -> bool:
    return any(len(prompts) > 1 for prompts in record.prompts)


def _program(record: RunRecord, name: str, *, is_readable: bool) -> str:
    """The lines of Python that use an export; see ``readme``."""
    uses = _USES | _USES_OF_SEVERAL_PROMPTS if _has_several_prompts(record) else _USES
    uses = uses | _USES_OF_SEVERAL_LABELS if record.has_several else uses
    model = str(record.model.get("id") or "")
    quoted = json.dumps(model, ensure_ascii=False)
    base = f"base = {quoted}" if is_readable else _WRITTEN_BASE.format(model=quoted)
    program = textwrap.dedent(uses[name]).strip().format(base=_BUILTIN_BASE if model == "builtin" else base)
    temperature = record.calibration.get("temperature")
    if temperature and name == "peft":
        program = program.replace(".softmax(-1)", f".div({temperature:.6g}).softmax(-1)")
    return program


_OTHERS_IN_GRAPH = (
    "It tells images of none of its classes: the output `none_of_these` says which they are, `p_values` how well each\n"
    "image fits in among those of the classes."
)
_USES_OF_SEVERAL_LABELS = {
    "onnx": """
        import sys

        sys.path.append("path/to/this/folder")
        from classify import answers

        classes, told = answers(["image.png"])
        print([name for name, has in zip(classes, told["has_label"][0]) if has])
        """,
}
_EACH_BY_ITSELF = "Images have several labels, or none: each class has a probability of its own."
_LABELS = {
    "onnx": f"{_EACH_BY_ITSELF} The output `has_label` says which\nlabels an image has, by a threshold for each class.",
    "page": f"{_EACH_BY_ITSELF} The labels that an image\nhas, by a threshold for each class, are in bold letters.",
}
_OTHERS_ELSEWHERE = "What tells images of none of the classes is not in this format; it is in `--format onnx`."


def page_facts(record: RunRecord, precision: str, measured: Accuracy | None) -> dict[str, str]:
    """Facts that a visitor of a page should know beside its answers, by name."""
    learnt = f"{images_per_class(record.shots)} of {record.task}" if record.shots else "the class names"
    facts = {
        "learnt from": learnt,
        "method": f"{display_name(record.method_used, record.quantize)} on {record.model.get('id')}",
        "precision": precision,
    }
    metrics = dict(record.metrics)
    if measured is not None:
        measure = "map" if record.has_several else "acc1"
        metrics = {measure: measured.after, "images": measured.images, "split": measured.split}
    if not metrics:
        return facts
    name = "mean average precision" if record.has_several else "accuracy"
    return {**facts, name: accuracy_line(metrics).removeprefix(f"{name} ")}


def accuracy_words(measured: Accuracy) -> str:
    """Accuracies of the classifier and the export on the same images, in words."""
    kind = "the test split" if measured.split == "test" else "images it has not learnt from"
    before, after = (f"{100 * share:.1f} %" for share in (measured.before, measured.after))
    return (
        f"{measured.measure} {before} before and {after} after on {measured.images:,} images of {measured.task}: {kind}"
    )


_IN_FEWER_BITS = {
    "fp16": "The image tower's weights are float16, and so is its arithmetic; class scores are computed in float32.",
    "int8": "The image tower's linear layers hold integers of 8 bits, to which what they multiply is rounded too; the\n"
    "rest is float32. Small models lose more by it than large ones.",
}
_CLASSES = "`classes.json` has the class names in the order of the probabilities, the template and the prompts."
_BUILTIN_BASE = """from importlib.util import find_spec

base = find_spec("lowshot").submodule_search_locations[0] + "/models/builtin\""""
"""Python that finds the built-in model without importing lowshot."""
_WRITTEN_BASE = """from pathlib import Path

base = "path/to/the/backbone"
if not Path(base).exists():  # transformers does not read open_clip's format: lowshot writes its own, once
    from lowshot.conversion import write_backbone

    write_backbone({model}, base)"""
_ON_QUANTIZED_PEFT = (
    "It was trained on a backbone whose blocks were quantised to {}. On the same backbone in\n"
    "full precision it is nearly the same function; `--format merged` has exactly the trained one."
)
_ON_QUANTIZED = (
    "The backbone's blocks were quantised to {} in training. The weights here are float32: those\n"
    "rounded values, plus the adapter's update."
)

"""The README.md of what was exported or imported: what it is, how it was made, the lines to use it."""

from __future__ import annotations

import json
import textwrap

from ..methods import display_name
from ..records import RunRecord

_TITLES = {
    "peft": "An adapter for PEFT",
    "merged": "A model in transformers format",
    "onnx": "An image classifier in ONNX",
}

_USES = {
    "peft": """
        import json
        import torch
        from peft import PeftModel
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        {base}
        folder = "path/to/this/folder"
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()
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
        import json
        import numpy as np
        import onnxruntime
        from PIL import Image, ImageOps

        session = onnxruntime.InferenceSession("path/to/this/folder/model.onnx")
        classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
        side = session.get_inputs()[0].shape[-1]
        image = ImageOps.exif_transpose(Image.open("image.png")).convert("RGB")
        image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
        images = (np.asarray(image, dtype=np.float32) / 255).transpose(2, 0, 1)[None]
        probabilities = session.run(["probabilities"], {{"images": images}})[0][0]
        print(classes[probabilities.argmax()])
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
    "peft": """
        import json
        import torch
        from peft import PeftModel
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        {base}
        folder = "path/to/this/folder"
        model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), folder).eval()"""
    + _SEVERAL_PROMPTS.replace("{files}", "base"),
    "merged": """
        import json
        import torch
        from PIL import Image
        from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

        folder = "path/to/this/folder"
        model = AutoModel.from_pretrained(folder).eval()"""
    + _SEVERAL_PROMPTS.replace("{files}", "folder"),
}
"""Where a class has several prompts, whose embeddings are averaged."""

_WORDS = {
    "peft": "`adapter_config.json` and `adapter_model.safetensors` are PEFT's own files and need nothing else. The\n"
    "backbone is not in here: load it first, exactly the one named below.",
    "merged": "Weights, tokenizer and image processor; the adapter is inside the weights. The pipeline's scores of a\n"
    "SigLIP are sigmoids: in the same order, but only a softmax over `logits_per_image` gives the probabilities.",
    "onnx": "`model.onnx` takes `images` (B, 3, S, S), float32 in [0, 1], RGB, and gives `probabilities` (B, C).\n"
    "Normalisation is inside; resize the shorter side to S (bicubic) and cut out the middle beforehand.",
}
_WORDS_OF_SEVERAL_PROMPTS = {
    "merged": "Weights, tokenizer and image processor; the adapter is inside the weights. A class has several\n"
    "prompts, whose embeddings are averaged: the lines below do that, transformers' zero-shot pipeline does not.",
}


def readme(record: RunRecord, name: str) -> str:
    """Markdown for an exported folder.

    Args:
        record: Of the adapter.
        name: The format: ``peft``, ``merged`` or ``onnx``.
    """
    several = any(len(said) > 1 for said in record.prompts)
    uses = _USES | _USES_OF_SEVERAL_PROMPTS if several else _USES
    words = _WORDS | _WORDS_OF_SEVERAL_PROMPTS if several else _WORDS
    use = textwrap.dedent(uses[name]).strip().format(base=_base(record))
    temperature = record.calibration.get("temperature")
    if temperature and name == "peft":
        use = use.replace(".softmax(-1)", f".div({temperature:.6g}).softmax(-1)")
    head = f"# {_TITLES[name]}, for {len(record.classes)} classes"
    parts = [head, words[name], _CLASSES, f"## Use\n\n```python\n{use}\n```", _making(record, name)]
    return "\n\n".join(parts) + "\n"


def _base(record: RunRecord) -> str:
    """Python that says where the backbone is; the built-in one is found without importing lowshot."""
    if record.model.get("id") == "builtin":
        found = 'find_spec("lowshot").submodule_search_locations[0] + "/models/builtin"'
        return f"from importlib.util import find_spec\n\nbase = {found}"
    return f"base = {json.dumps(str(record.model.get('id', '')), ensure_ascii=False)}"


_CLASSES = "`classes.json` has the class names in the order of the probabilities, the template and the prompts."


def _making(record: RunRecord, name: str) -> str:
    facts = {
        "command": f"lowshot export ADAPTER --format {name}",
        "method": display_name(record.method_used, record.quantize),
        "backbone": record.model.get("id"),
        "revision": record.model.get("revision"),
        "weights sha256": record.model.get("weights_sha256"),
        "learnt from": f"{record.task}, shots {record.shots}, seed {record.seed}" if record.shots else None,
        "imported from": record.provenance.get("imported", {}).get("file"),
        "settings": json.dumps(record.recipe, sort_keys=True, ensure_ascii=False),
    }
    notes = [_on_quantized_base(record, name)] if record.quantize != "none" else []
    notes += [_on_calibration(record, name)] if record.calibration else []
    return "\n\n".join(["## How it was made", _listing(facts), *notes])


def _listing(facts: dict[str, object]) -> str:
    """Facts in an indented block, where Markdown acts on nothing that a name may hold."""
    width = max(map(len, facts))
    return "\n".join(f"    {name:<{width}}  {' '.join(str(v).split())}" for name, v in facts.items() if v)


def _on_quantized_base(record: RunRecord, name: str) -> str:
    if name == "peft":
        return (
            f"It was trained on a backbone whose blocks were quantised to {record.quantize}. On the same backbone in\n"
            "full precision it is nearly the same function; `--format merged` has exactly the trained one."
        )
    return (
        f"The backbone's blocks were quantised to {record.quantize} in training. The weights here are float32: those\n"
        "rounded values, plus the adapter's update."
    )


def _on_calibration(record: RunRecord, name: str) -> str:
    where = "in the lines above" if name == "peft" else "inside the model"
    return (
        f"Its probabilities were calibrated on {record.calibration['images']:,} images that were held out: scores are\n"
        f"divided by a temperature of {record.calibration['temperature']:.6g}, {where}."
    )

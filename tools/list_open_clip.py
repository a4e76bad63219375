"""Write src/lowshot/models/open_clip: what the installed package open_clip publishes, and OpenAI's byte pairs.

    pip install --no-deps open_clip_torch
    python tools/list_open_clip.py

The package is not imported, which would import torchvision too: its table is Python, its configurations are JSON.
"""

import gzip
import importlib
import importlib.metadata
import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

OUT = Path(__file__).parents[1] / "src" / "lowshot" / "models" / "open_clip"
MERGES = 49152 - 256 - 2
"""As many of the pairs in OpenAI's file as its tokenizer uses."""
DEFAULTS = {"mean": "OPENAI_DATASET_MEAN", "std": "OPENAI_DATASET_STD"}
USUAL = {"interpolation": "bicubic", "resize_mode": "shortest"}


def weights_row(published, constants) -> dict:
    repository, _, file = published["hf_hub"].rstrip("/").partition("/")
    name, _, file = file.partition("/")
    row = {"repository": f"{repository}/{name}"}
    if file:
        row["file"] = file
    if published.get("quick_gelu"):
        row["quick_gelu"] = True
    usual = USUAL | {key: getattr(constants, name) for key, name in DEFAULTS.items()}
    return row | {key: published[key] for key in usual if tuple_of(published[key]) != tuple_of(usual[key])}


def tuple_of(value) -> object:
    return tuple(value) if isinstance(value, list) else value


def main() -> None:
    folder = Path(importlib.util.find_spec("open_clip").submodule_search_locations[0])
    package = ModuleType("open_clip")
    package.__path__ = [str(folder)]
    sys.modules["open_clip"] = package  # its modules are found, its __init__ is not run
    table = importlib.import_module("open_clip.pretrained")._PRETRAINED
    constants = importlib.import_module("open_clip.constants")
    models = {
        name: {
            "config": json.loads((folder / "model_configs" / f"{name}.json").read_text(encoding="utf-8")),
            "weights": {tag: weights_row(published, constants) for tag, published in weights.items()},
        }
        for name, weights in table.items()
    }
    pairs = gzip.decompress((folder / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).split(b"\n")[1 : MERGES + 1]
    (OUT / "merges.txt.gz").write_bytes(gzip.compress(b"\n".join(pairs), mtime=0))
    version = importlib.metadata.version("open_clip_torch")
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(model)}" for name, model in models.items())
    text = f'{{"open_clip": {json.dumps(version)}, "models": {{\n{rows}\n}}}}\n'
    (OUT / "published.json").write_text(text, encoding="utf-8")
    print(f"{sum(len(model['weights']) for model in models.values())} weights of {len(models)} models, {version}")


if __name__ == "__main__":
    main()

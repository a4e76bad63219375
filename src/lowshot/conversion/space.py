"""A folder for a Hugging Face Space: lowshot's own server, in a container, with one adapter that anybody may ask.

A Space whose ``sdk`` is ``docker`` is a repository with a Dockerfile and a README.md that says so in its front matter
(https://huggingface.co/docs/hub/spaces-sdks-docker). The container runs as user 1000, and visitors reach one port of
it. Nothing is needed that lowshot has not: neither another page nor another library to make one.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import sys
from pathlib import Path

import numpy as np

from ..errors import AdapterError, InputError
from ..files import canonical_json, folder_written_aside, from_home, refuse_existing, write_bytes, write_text
from ..records import RECORD_FILE, TENSOR_FILES
from ..serving import AdapterBank
from ..serving.entries import entry_of
from ..torch_state import own_torch_state
from ..wording.card import model_card
from ..wording.quantities import images_per_class
from .exporting import README_FILE, Export
from .own_wheel import write_wheel
from .source import largest_difference, open_source

PORT = 7860
"""Port at which a Space expects its server."""
SERVED = "adapters"
"""The folder that is served."""
TOLERANCE = 5e-3
"""Largest accepted difference of a probability from the classifier's: a server keeps class embeddings in float16."""
_CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
_PINNED = ("torch", "transformers", "peft")
_USER = 1000


@own_torch_state()
def export_space(folder: str | os.PathLike[str], out: str | os.PathLike[str], *, model: str | None = None) -> Export:
    """Write a folder that is a Hugging Face Space once it is pushed: a page and an API that anybody may ask.

    It is read back by what a server reads it with, and compared with the classifier, before it appears. Nothing of the
    images that the adapter learnt from goes along, neither their names nor hashes of what they show.

    Args:
        folder: A saved adapter.
        out: Folder for the Space; must not exist yet. It appears whole and checked, or not at all.
        model: Where the Space finds the adapter's backbone, if not where it was: ``builtin`` or a Hub id.

    Raises:
        OutputError: ``out`` exists, or cannot be written.
        AdapterError: The adapter cannot be loaded, or no server can serve it.
        InputError: The backbone is a folder on this machine, which no Space can fetch.
        RunError: The files do not compute what the adapter does.
    """
    refuse_existing(Path(out))
    source = open_source(folder, model)
    refusal, base = entry_of(source.folder).refusal, source.recipe.model.model
    if refusal:
        raise AdapterError(refusal)
    if base != "builtin" and from_home(base.removeprefix("local-dir:")).exists():
        raise InputError(
            f"model {base} is a folder on this machine, which no Space can fetch; push it to the Hub and say where it "
            "is there: --model OWNER/NAME"
        )
    with folder_written_aside(Path(out)) as aside:
        record = dataclasses.replace(source.record, draw=(), learnt=())  # names and hashes of somebody's own images
        adapter = aside / SERVED / source.name
        adapter.mkdir(parents=True)
        for path in (source.folder / name for name in TENSOR_FILES):
            if path.exists():
                write_bytes(adapter / path.name, path.read_bytes())
        texts = {
            adapter / RECORD_FILE: canonical_json(record.to_dict()),
            adapter / README_FILE: model_card(record),
            aside / README_FILE: front_matter(source.name, base)
            + _README.format(
                name=source.name,
                classes=len(record.classes),
                learnt=images_per_class(record.shots) if record.shots else "their names",
                served=SERVED,
            ),
            aside / "Dockerfile": dockerfile(base),
            aside / "requirements.txt": requirements(write_wheel(aside), base, source.quantize),
        }
        for path, text in texts.items():
            write_text(path, text)
        answers = AdapterBank(aside / SERVED, model=base, device="cpu").predict(list(source.probes), source.name)
        table = np.stack([answer.probabilities for answer in answers])
        if source.is_float32:  # a base of fewer bits rounds by itself, and differently in every order of its products
            source.refuse_difference(table, "Space", TOLERANCE)
        files = tuple(sorted(path.relative_to(aside).as_posix() for path in aside.rglob("*") if path.is_file()))
    notes = () if source.is_float32 else ("the classifier rounds its arithmetic: that is the difference",)
    return Export(Path(out), "space", files, largest_difference(table, source.probabilities), notes)


def front_matter(name: str, model: str) -> str:
    """YAML that the Hub reads. Names of adapters and of models on the Hub mean in JSON what they mean in YAML."""
    repository = model.removeprefix("hf-hub:")  # the built-in model has none, nor has one of open_clip's names
    values = {
        "title": json.dumps(name),
        "emoji": "🔎",
        "colorFrom": "gray",
        "colorTo": "indigo",
        "sdk": "docker",
        "app_port": PORT,
        "tags": json.dumps(["lowshot", "clip", "few-shot"]),
        **({"models": json.dumps([repository])} if "/" in repository else {}),
    }
    return "\n".join(["---", *(f"{key}: {value}" for key, value in values.items()), "---", "", ""])


_README = """# {name}

An image classifier for {classes} classes, which lowshot made from {learnt}.
Open the page and give it an image, or ask by HTTP:

    curl -F images=@image.jpg 'https://OWNER-SPACE.hf.space/v1/adapters/{name}/predict?top=3'

Whoever can open this Space may ask, and download the adapter. Nobody can teach, change or remove anything: that is what
`--no-teach` and `--public` in the Dockerfile say. Images are answered and not kept.

| | |
|:--|:--|
| `Dockerfile` | the container and the server's command |
| `lowshot-*.whl` | lowshot itself, as it made this: it is on no package registry |
| `requirements.txt` | what it computes with, in the versions that this was checked with |
| `{served}/{name}` | the adapter; its [card]({served}/{name}/README.md) says how it was made and how well it does |

## Publish

In this folder, after `hf auth login`:

    hf repos create OWNER/SPACE --repo-type space --space-sdk docker
    hf upload OWNER/SPACE . . --repo-type space
"""


def dockerfile(model: str) -> str:
    """Dockerfile of a container that serves the adapters on this backbone."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    where = ["--host", "0.0.0.0", "--port", str(PORT)]
    command = ["lowshot", "serve", SERVED, "--model", model, *where, "--no-teach", "--public"]
    return f"""FROM python:{python}-slim
RUN useradd --create-home --uid {_USER} user
USER user
ENV HOME=/home/user PATH=/home/user/.local/bin:$PATH
WORKDIR /home/user/app
COPY --chown=user . .
RUN pip install --no-cache-dir --user -r requirements.txt
EXPOSE {PORT}
CMD {json.dumps(command)}
"""


def requirements(wheel: str, model: str, quantize: str) -> str:
    """Packages that a backbone in this precision needs, in the versions that are installed here.

    Args:
        wheel: File of lowshot itself, beside the requirements.
        model: Where the Space finds the backbone.
        quantize: The backbone's precision.
    """
    extras = ["serve", *(["quantize"] if quantize != "none" else []), *(["siglip"] if model != "builtin" else [])]
    packages = [*_PINNED, *(["bitsandbytes"] if quantize != "none" else [])]
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in packages}
    return "\n".join(
        [
            "# Without an accelerator; for one remove the next line, which keeps gigabytes of CUDA away.",
            f"--extra-index-url {_CPU_WHEELS}",
            f"./{wheel}[{','.join(extras)}]",
            *(f"{name}=={version}" for name, version in versions.items()),
            "",
        ]
    )

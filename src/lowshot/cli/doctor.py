"""The command ``lowshot doctor``."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Literal

from ..extras import absent, install_command, names
from ..torchvision_guard import torchvision_fault
from .parsing import parse
from .printing import print_json

_HUB_SECONDS = 5.0
"""Time in which the Hub must answer."""
_NOT_FOR_USERS = ("all", "dev", "docs", "pretrain")
"""Extras that are no part of using lowshot, or only name others."""
_STEP_IMAGES = 32
"""Images of a training step in the preset ``paper``."""


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What this machine can do, and what stands in the way. Exit status 1 if something does."""

    json: bool = False
    """Print a list of `{name, state, detail}`."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """State of one part of the installation."""

    state: Literal["ok", "absent", "broken"]
    """``absent`` is a part that only some work needs; ``broken`` stands in the way."""
    detail: str


def run(arguments: Sequence[str]) -> int:
    """Look at every part and print its state."""
    parsed = parse(Arguments, "doctor", arguments)
    findings = {}
    for name, (check, remedy) in CHECKS.items():
        try:
            findings[name] = check()
        except Exception as error:  # whatever a check raises is what it looks for
            findings[name] = Finding("broken", f"{remedy} ({' '.join(str(error).split())[:200]})")
    if parsed.json:
        print_json([{"name": name, **dataclasses.asdict(finding)} for name, finding in findings.items()])
    else:
        for name, finding in findings.items():
            print(f"{finding.state:<7} {name:<14} {finding.detail}")
    return int(any(finding.state == "broken" for finding in findings.values()))


def check_python() -> Finding:
    """State of the interpreter."""
    detail = f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores"
    return Finding("ok" if sys.version_info >= (3, 10) else "broken", detail)


def check_torch() -> Finding:
    """State of torch."""
    import torch

    from ..models.precision import multiplies_bfloat16

    bfloat16 = "with" if multiplies_bfloat16() else "without"
    return Finding("ok", f"{torch.__version__}, {torch.get_num_threads()} threads, {bfloat16} bfloat16 instructions")


def check_cuda() -> Finding:
    """State of the GPU."""
    import torch

    if not torch.cuda.is_available():
        on_mac = torch.backends.mps.is_available()
        instead = (
            "the GPU of this Mac takes models other than builtin and photos" if on_mac else "training runs on the CPU"
        )
        return Finding("absent", f"no CUDA device: {instead}")
    free, total = torch.cuda.mem_get_info()
    return Finding("ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")


def check_torchvision() -> Finding:
    """State of torchvision: built for another torch it does not load, and lowshot does without it."""
    if fault := torchvision_fault():
        return Finding("absent", f"what is installed does not fit this torch ({fault[:100]}), and is not needed")
    if importlib.util.find_spec("torchvision") is None:
        return Finding("ok", "not installed, and not needed")
    return Finding("ok", f"{importlib.metadata.version('torchvision')}, not needed")


def check_transformers() -> Finding:
    """State of transformers."""
    from transformers import CLIPModel  # noqa: F401

    return Finding("ok", importlib.metadata.version("transformers"))


def check_peft() -> Finding:
    """State of PEFT, with LoRA-XS registered in it."""
    from ..adapters.lora_xs import tuner  # noqa: F401

    return Finding("ok", importlib.metadata.version("peft"))


def check_bitsandbytes() -> Finding:
    """State of bitsandbytes."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return Finding("absent", f"no 4-bit base (qlora): {install_command('quantize')}")
    importlib.import_module("bitsandbytes")
    return Finding("ok", importlib.metadata.version("bitsandbytes"))


def check_hub() -> Finding:
    """State of the Hugging Face Hub: asked, since a client that is installed says nothing of a network."""
    from huggingface_hub import constants, get_session

    cache = f"models in the cache ({constants.HF_HUB_CACHE}) and in folders can be used"
    if constants.HF_HUB_OFFLINE:
        return Finding("absent", f"not asked: HF_HUB_OFFLINE is set; {cache}")
    try:
        get_session().head(constants.ENDPOINT, timeout=_HUB_SECONDS)
    except Exception as error:  # of whichever HTTP client it has, or the system's
        why = " ".join(str(error).split())[:80] or type(error).__name__
        return Finding("absent", f"{constants.ENDPOINT} cannot be reached ({why}); {cache}")
    return Finding("ok", f"{constants.ENDPOINT} answers; {cache}")


def check_extras() -> Finding:
    """Which optional packages are here, by the extra that lists them."""
    lacking = {extra: absent(extra) for extra in names() if extra not in _NOT_FOR_USERS}
    if not lacking:
        return Finding("absent", "not known: lowshot runs from its source without having been installed")
    here = [extra for extra, packages in lacking.items() if not packages]
    lines = [f"installed: {', '.join(here) or 'none'}"]
    lines += [f"{extra}: {install_command(extra)}" for extra, packages in lacking.items() if packages]
    return Finding("absent" if any(lacking.values()) else "ok", "; ".join(lines))


def check_pace() -> Finding:
    """The work that a minute is enough for, measured on one transformer block for a second or two."""
    import torch

    from ..models import pick_device
    from ..training.speed import measure_pace

    device = pick_device("auto", "openai/clip-vit-base-patch16")
    dtype, images = {"cuda": (torch.float16, 64), "mps": (torch.float32, 64)}.get(device.type, (torch.float32, 4))
    pace = measure_pace(device, dtype, images=images)
    here = f"{torch.get_num_threads()} threads" if device.type == "cpu" else "the GPU of this Mac"
    here = torch.cuda.get_device_name(device) if device.type == "cuda" else here
    steps = 60 * pace.trained / _STEP_IMAGES
    return Finding(
        "ok",
        f"about {60 * pace.encoded:,.0f} images through the image tower of a ViT-B/16, or {steps:,.1f} steps of LoRA "
        f"with {_STEP_IMAGES} images (besides the prompts), in {str(dtype).removeprefix('torch.')} on {here}; "
        "one block timed",
    )


def check_builtin_model() -> Finding:
    """State of the built-in model's files."""
    from ..models import load_backbone

    return Finding("ok", f"{load_backbone('builtin').parameters:,} parameters")


CHECKS: dict[str, tuple[Callable[[], Finding], str]] = {
    "python": (check_python, "install Python 3.10 or newer"),
    "torch": (check_torch, "pip install torch"),
    "cuda": (check_cuda, "check the driver with nvidia-smi"),
    "torchvision": (check_torchvision, "pip uninstall torchvision"),
    "transformers": (check_transformers, "pip install 'transformers>=5.10,<6'"),
    "peft": (check_peft, "LoRA-XS needs pip install 'peft>=0.21,<0.22'"),
    "bitsandbytes": (check_bitsandbytes, "pip install --force-reinstall bitsandbytes"),
    "hub": (check_hub, "pip install huggingface_hub"),
    "builtin model": (check_builtin_model, "reinstall lowshot"),
    "extras": (check_extras, "reinstall lowshot"),
    "in a minute": (check_pace, "see torch and cuda above"),
}
"""Name -> its check, and what to do where the check fails; in the order in which they are shown."""

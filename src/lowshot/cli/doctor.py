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

from .arguments import parse, print_json


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What this machine can do, and what stands in the way. Exit status 1 if something does."""

    json: bool = False
    """Print a list of `{name, state, detail}`."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "absent", "broken"]
    """``absent`` is a part that only some work needs; ``broken`` stands in the way."""
    detail: str


def run(arguments: Sequence[str]) -> int:
    """Look at everything and say what was found."""
    parsed = parse(Arguments, "doctor", arguments)
    findings = [_look(name) for name in CHECKS]
    if parsed.json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.state:<7} {finding.name:<14} {finding.detail}")
    return int(any(finding.state == "broken" for finding in findings))


def _look(name: str) -> Finding:
    """Run one check; whatever it raises is what was looked for."""
    check, remedy = CHECKS[name]
    try:
        return check()
    except Exception as error:
        return Finding(name, "broken", f"{remedy} ({' '.join(str(error).split())[:200]})")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _python() -> Finding:
    state: Literal["ok", "broken"] = "ok" if sys.version_info >= (3, 10) else "broken"
    return Finding("python", state, f"{platform.python_version()} on {platform.platform()}, {os.cpu_count()} cores")


def _torch() -> Finding:
    import torch

    return Finding("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")


def _cuda() -> Finding:
    import torch

    if not torch.cuda.is_available():
        return Finding("cuda", "absent", "no CUDA device: training runs on the CPU")
    free, total = torch.cuda.mem_get_info()
    return Finding("cuda", "ok", f"{torch.cuda.get_device_name()}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")


def _torchvision() -> Finding:
    """A torchvision built for another torch makes transformers and PEFT fail with a message that names neither."""
    if importlib.util.find_spec("torchvision") is None:
        return Finding("torchvision", "ok", "not installed, and not needed")
    importlib.import_module("torchvision")
    return Finding("torchvision", "ok", f"{_version('torchvision')}, not needed")


def _transformers() -> Finding:
    from transformers import CLIPModel  # noqa: F401

    return Finding("transformers", "ok", str(_version("transformers")))


def _peft() -> Finding:
    from ..adapters.lora_xs import tuner  # noqa: F401

    return Finding("peft", "ok", str(_version("peft")))


def _bitsandbytes() -> Finding:
    if importlib.util.find_spec("bitsandbytes") is None:
        return Finding("bitsandbytes", "absent", "no 4-bit base (qlora): pip install 'lowshot[quantize]'")
    importlib.import_module("bitsandbytes")
    return Finding("bitsandbytes", "ok", str(_version("bitsandbytes")))


def _hub() -> Finding:
    from huggingface_hub import constants

    offline = "offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else "online"
    return Finding("hub", "ok", f"{offline}, cache in {constants.HF_HUB_CACHE}")


def _builtin_model() -> Finding:
    from ..models import load_backbone

    return Finding("builtin model", "ok", f"{load_backbone('builtin').parameters:,} parameters")


CHECKS: dict[str, tuple[Callable[[], Finding], str]] = {
    "python": (_python, "install Python 3.10 or newer"),
    "torch": (_torch, "pip install torch"),
    "cuda": (_cuda, "check the driver with nvidia-smi"),
    "torchvision": (_torchvision, "it does not fit this torch: pip uninstall torchvision"),
    "transformers": (_transformers, "pip install 'transformers>=5.10,<6'"),
    "peft": (_peft, "LoRA-XS needs pip install 'peft>=0.21,<0.22'"),
    "bitsandbytes": (_bitsandbytes, "pip install --force-reinstall bitsandbytes"),
    "hub": (_hub, "pip install huggingface_hub"),
    "builtin model": (_builtin_model, "reinstall lowshot"),
}
"""Name -> its check, and what to do where the check fails; in the order in which they are shown."""

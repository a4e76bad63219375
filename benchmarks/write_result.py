"""Files of every benchmark's figures: benchmarks/results/<date>-<hardware>-<benchmark>.json."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowshot.files import canonical_json, write_text
from lowshot.records import provenance

RESULTS = Path(__file__).parent / "results"


def write_result(result: Mapping[str, Any], folder: Path | None = None) -> Path:
    """Write a result under today's date (UTC), the machine and its ``benchmark`` name.

    Args:
        result: With ``benchmark``; with ``device`` where that is not the machine's accelerator, if it has one; and with
            ``part``, names of what was measured where that is not all of the benchmark.
        folder: Where to; ``RESULTS`` if not given.

    Returns:
        The file.
    """
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    on_cpu = result.get("device") == "cpu"
    machine = hardware_slug(provenance()["hardware"], on_cpu=on_cpu)
    name = "-".join([result["benchmark"], *result.get("part", ())])
    path = (folder or RESULTS) / f"{date}-{machine}-{name}.json"
    write_text(path, canonical_json(result))
    return path


def hardware_slug(hardware: Mapping[str, Any], *, on_cpu: bool = False) -> str:
    """A machine in a file's name: ``nvidia-h200``, or ``2-core-amd-epyc`` where there is no accelerator.

    Args:
        hardware: As in a provenance.
        on_cpu: The accelerator, if there is one, was not used.
    """
    accelerator = None if on_cpu else hardware["accelerator"]
    name = accelerator or f"{hardware['cores']} core {hardware['processor']}"
    plain = re.sub(r"\((R|TM)\)|\b(Processor|CPU)\b|@.*", " ", name)
    return "-".join(re.findall(r"[a-z0-9]+", plain.lower()))

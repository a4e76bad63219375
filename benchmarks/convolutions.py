"""Images through the model `photos` on a CPU: all of a batch at once, or a few after another.

    .venv/bin/python benchmarks/convolutions.py [--json] [--smoke]

Prints a line for each way, all ways in turn, and writes benchmarks/results/<date>-<hardware>-convolutions.json: the
median of the milliseconds that an image takes, and pages of fresh memory that it touches.
"""

from __future__ import annotations

import resource
import statistics
import time
from typing import Any
from unittest import mock

import torch
from measuring import Output, finish

from lowshot.models import image_families, load_backbone

BATCH, REPEATS = 64, 5
AT_ONCE = (1, 2, 4, 8, 16, 64)


def main(arguments: Output) -> dict[str, Any]:
    """Measure every way, print a line for each, write the figures."""
    batch, repeats = (4, 1) if arguments.smoke else (BATCH, REPEATS)
    backbone = load_backbone("photos")
    images = torch.rand(batch, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    measured: dict[int, list[tuple[float, float]]] = {at_once: [] for at_once in AT_ONCE}
    for _ in range(repeats):
        for at_once, times in measured.items():
            pages, started = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, time.perf_counter()
            with torch.inference_mode(), mock.patch.object(image_families, "_CPU_IMAGES_AT_ONCE", at_once):
                backbone.encode_images(images)
            milliseconds = 1e3 * (time.perf_counter() - started) / batch
            times.append((milliseconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - pages) / batch))
    rows = []
    for at_once, times in measured.items():
        milliseconds, pages = (statistics.median(each) for each in zip(*times, strict=True))
        row = {"variant": f"{at_once} at once", "milliseconds": milliseconds, "pages": pages, "all": times}
        arguments.say(f"{row['variant']:>10}: {milliseconds:6.1f} ms and {pages:6.0f} pages an image")
        rows.append(row)
    about = {"benchmark": "convolutions", "batch": batch, "threads": torch.get_num_threads(), "rows": rows}
    return finish(about, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Output))

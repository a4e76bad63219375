"""Judging photographs: how far it is from the speed of the forward pass, and what each lever gives alone.

    .venv/bin/python benchmarks/evaluation.py [--json] [--smoke] [--device cuda] [--images 512] [--repeats 1]

A ViT-B/16 with random weights and CLIP-LoRA's adapter judges JPEG files of 500 x 375 pixels. `forward` is the towers
alone on crops that are ready; `plain` decodes and crops a batch and then computes it; `lowshot` is what the library
does. In between, in float32, where weights can be merged: `forward-merged` and `overlapped`, each with one lever.
`first-learner` and `second-learner` are zero-shot classifiers on one backbone. Prints a table and writes
benchmarks/results/<date>-<hardware>-evaluation.json: images per second, as a share of `forward` too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measuring import OnDevice, Row, Rows, finish, ratios
from shapes import SHAPES, PromptTokens

if TYPE_CHECKING:
    from torch import Tensor

    from lowshot.data import FileImages
    from lowshot.training import Learner

PHOTO_SIZE = 500, 375
FILES = 512
"""Different photographs at most; where more are to be judged, they come again."""
ONE_LEVER = ("forward-merged", "overlapped")
"""Ways to judge; where nothing is merged they are `forward` and `lowshot`."""


@dataclasses.dataclass(frozen=True)
class Arguments(OnDevice):
    """Cases to measure."""

    images: int | None = None
    """Judged in each row; 512 on a CPU and 8192 on CUDA if not given."""
    repeats: int | None = None
    """Measurements of each row, all rows in turn; 1 on a CPU and 3 on CUDA if not given."""
    classes: int = 100
    threads: int | None = None
    """Threads of torch; as it comes if not given."""

    @property
    def count(self) -> int:
        """Images judged in each row: more than one batch."""
        return self.images or (260 if self.smoke else 8192 if self.on == "cuda" else 512)

    @property
    def times(self) -> int:
        """Number of measurements of each row."""
        return self.repeats or (3 if self.on == "cuda" and not self.smoke else 1)


def write_photographs(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """JPEG files, as large as photographs of that size are: waves with some noise upon them."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[: size[1], : size[0]] / 100
    paths = []
    for number in range(count):
        generator = np.random.default_rng(number)
        waves = np.cos(columns * generator.normal(scale=5) + rows * generator.normal(scale=5))[..., None]
        pixels = 128 + 60 * waves + generator.normal(0, 12, (*waves.shape[:2], 3))
        paths.append(folder / f"{number:04}.jpg")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def learner_of(arguments: Arguments, method: str, precision: str) -> Learner:
    """A learner on random weights, always the same ones."""
    import torch

    from lowshot.models import Backbone, Identity
    from lowshot.randomness import seeded
    from lowshot.settings import preset_recipe
    from lowshot.training import create_learner

    shape = SHAPES["smoke" if arguments.smoke else "vit-b16"]()
    tokenizer: Any = PromptTokens(shape, arguments.classes)
    identity = Identity("random", None, f"random {shape.title}", "", {})
    with seeded(0):
        model = shape.random_model().to(torch.device(arguments.on))
        backbone = Backbone(model, tokenizer, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), identity)
        recipe = preset_recipe("paper", method).replace(precision=precision)
        return create_learner(backbone, [str(number) for number in range(arguments.classes)], recipe)


def forward(learner: Learner, crops: Tensor, count: int) -> None:
    """The towers alone: as many images as asked for, from one batch of crops that is ready."""
    import torch

    scores = []
    with torch.no_grad():
        for start in range(0, count, len(crops)):
            images = crops[: min(len(crops), count - start)].to(learner.backbone.device, non_blocking=True)
            scores.append(torch.softmax(learner.logits(images).float(), dim=-1))
        torch.cat(scores).cpu()


def plain(learner: Learner, images: FileImages) -> None:
    """One batch after the other: decode and crop its images, compute it, fetch the result."""
    import torch

    from lowshot.data.crops import central_crops
    from lowshot.evaluation.predict import BATCH_SIZE

    side = learner.backbone.image_size
    for start in range(0, len(images), BATCH_SIZE):
        rows = range(start, min(start + BATCH_SIZE, len(images)))
        crops = torch.cat([central_crops([images[i]], side) for i in rows])
        torch.softmax(learner.logits(crops).float(), dim=-1).cpu().numpy()


@contextlib.contextmanager
def unmerged(learner: Any) -> Iterator[None]:
    """Judging as it would be if weights were never merged."""
    learner.merged_for_inference = contextlib.nullcontext
    try:
        yield
    finally:
        del learner.merged_for_inference


def seconds(work: Callable[..., Any], *arguments: Any) -> float:
    """Seconds of one call; every way ends with its results on the processor, so that CUDA is done then."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def one_round(arguments: Arguments, images: FileImages, precision: str, learner: Learner) -> dict[str, float]:
    """Seconds of each way in one precision; of `merge`, of merging alone."""
    import torch

    from lowshot.data.crops import central_crops
    from lowshot.evaluation.predict import BATCH_SIZE, probabilities
    from lowshot.training.embeddings import EmbeddingCache

    side, on_cuda = learner.backbone.image_size, arguments.on == "cuda"
    ready = torch.cat([central_crops([images[i]], side) for i in range(min(BATCH_SIZE, len(images)))])
    crops = ready.pin_memory() if on_cuda else ready
    forward(learner, crops, len(crops) if on_cuda or arguments.smoke else 16)  # not measured
    times = {"forward": seconds(forward, learner, crops, len(images))}
    if precision == "fp32":
        started = time.perf_counter()
        with learner.merged_for_inference():
            times["merge"] = time.perf_counter() - started
            times["forward-merged"] = seconds(forward, learner, crops, len(images))
        with unmerged(learner):
            times["overlapped"] = seconds(probabilities, learner, images)
    times["plain"] = seconds(plain, learner, images)
    times["lowshot"] = seconds(probabilities, learner, images)
    if precision == "bf16":
        features = EmbeddingCache()
        for name in ("first-learner", "second-learner"):
            other = learner_of(arguments, "zero-shot", precision)
            times[name] = seconds(lambda of=other: probabilities(of, images, features=features))
    return times


def measured(arguments: Arguments, images: FileImages) -> tuple[dict[str, Row], float]:
    """Rows by variant, and the seconds that merging takes."""
    times: dict[str, list[float]] = {}
    for precision in ("fp32", "bf16"):
        learner = learner_of(arguments, "lora", precision)
        for _ in range(arguments.times):
            for way, took in one_round(arguments, images, precision, learner).items():
                times.setdefault(f"{way}-{precision}", []).append(took)
    merge = statistics.median(times.pop("merge-fp32"))
    rows: dict[str, Row] = {}
    for variant, took in times.items():
        median, precision = statistics.median(took), variant.rpartition("-")[2]
        rows[variant] = {
            "variant": variant,
            "precision": precision,
            "seconds": took,
            "median_seconds": median,
            "images_per_second": len(images) / median,
            "share_of_forward": statistics.median(times[f"forward-{precision}"]) / median,
        }
    return rows, merge


def figures(rows: Rows) -> dict[str, float]:
    """Gains, as the plain way over lowshot's; and each lever alone."""
    wanted = {
        "time_ratio": ("plain-fp32", "lowshot-bf16"),
        "time_ratio_same_precision": ("plain-bf16", "lowshot-bf16"),
        "time_ratio_fp32": ("plain-fp32", "lowshot-fp32"),
        "time_ratio_merged": ("forward-fp32", "forward-merged-fp32"),
        "time_ratio_overlapped": ("plain-fp32", "overlapped-fp32"),
        "time_ratio_features": ("first-learner-bf16", "second-learner-bf16"),
    }
    return ratios(rows, {name: ("median_seconds", *pair) for name, pair in wanted.items()})


def line(row: Mapping[str, Any]) -> str:
    """A row of the table."""
    return f"{row['variant']:<24} {row['images_per_second']:10.1f} images/s   {row['share_of_forward']:8.1%} of forward"


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    import torch

    from lowshot.data import FileImages
    from lowshot.threads import cpu_threads

    size = (60, 45) if arguments.smoke else PHOTO_SIZE
    with tempfile.TemporaryDirectory() as folder, cpu_threads(arguments.threads):
        files = write_photographs(Path(folder), min(arguments.count, FILES), size)
        images = FileImages([files[number % len(files)] for number in range(arguments.count)])
        rows, merge = measured(arguments, images)
        threads = torch.get_num_threads()
    arguments.say(*map(line, rows.values()))
    shape = SHAPES["smoke" if arguments.smoke else "vit-b16"]()
    result = {
        "benchmark": "evaluation",
        "device": arguments.on,
        "shape": {
            "images": arguments.count,
            "photograph": f"{size[0]} x {size[1]} JPEG",
            "classes": arguments.classes,
            "model": shape.title,
        },
        "threads": threads,
        **figures(rows),
        "merge_seconds": merge,
        "rows": list(rows.values()),
    }
    return finish(result, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))

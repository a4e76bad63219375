"""The parts of ``gpu.py`` that answer: ``judging`` and ``serving``."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gpu_run import Row, Run
from gpu_steps import keep_bases


def judging_part(run: Run) -> None:
    """LoRA judges decoded photographs."""
    run.attempt("judging", 25.0, functools.partial(judging_rows, run))


def judging_rows(run: Run, ends: float) -> Sequence[Row]:
    """Images a second of the towers alone, and of all that judging does."""
    import numpy as np
    import torch

    import evaluation
    from lowshot.data import MemoryImages
    from lowshot.data.crops import central_crops
    from lowshot.evaluation.predict import BATCH_SIZE, probabilities

    arguments = evaluation.Arguments(smoke=run.smoke, device=run.device)  # type: ignore[arg-type]
    width, height = (60, 45) if run.smoke else evaluation.PHOTO_SIZE
    photos = np.random.default_rng(0).integers(0, 256, (64, height, width, 3), dtype=np.uint8)
    images = MemoryImages([photos[number % len(photos)] for number in range(260 if run.smoke else 4096)])
    learner = evaluation.learner_of(arguments, "lora", run.precision)
    side = learner.backbone.image_size
    crops = torch.cat([central_crops([images[number]], side) for number in range(BATCH_SIZE)])
    crops = crops.pin_memory() if run.device == "cuda" else crops
    ways = {
        "forward": lambda: evaluation.forward(learner, crops, len(images)),
        "judging": lambda: probabilities(learner, images),
    }
    rows = rows_in_turn(run, ways, len(images), ends, 3)
    return [{**row, "share_of_forward": rows[0]["median_seconds"] / row["median_seconds"]} for row in rows]


def rows_in_turn(run: Run, ways: Mapping[str, Callable[[], Any]], images: int, ends: float, repeats: int) -> list[Row]:
    """The rows of ways that take turns.

    Args:
        run: On which device.
        ways: What is measured, by name; each computes all images.
        images: How many they are.
        ends: After which no further turn is begun, if one counts.
        repeats: Turns that count.
    """
    import statistics

    import torch
    from measuring import in_turn

    times = in_turn(ways, 0 if run.smoke else repeats, torch.device(run.device), ends)
    medians = {name: statistics.median(took) for name, took in times.items()}
    return [
        {"variant": name, "seconds": times[name], "median_seconds": median, "images_per_second": images / median}
        for name, median in medians.items()
    ]


def serving_part(run: Run) -> None:
    """LoRA-XS of rank 16 in every layer of both towers, 64 rows a batch."""
    import serving

    settings: Any = {"device": run.device, "precision": run.precision, "smoke": run.smoke}
    arguments = serving.Arguments(model="builtin" if run.smoke else "vit-b16", adapters=(1, 10_000), **settings)
    with tempfile.TemporaryDirectory() as temporary:
        model = arguments.model
        if model == "vit-b16":
            model = str(Path(temporary) / model)
            keep_bases("vit-b16")
            serving.write_vit_b16(Path(model))
        folder = Path(temporary) / "adapters"
        run.attempt("bank", 60.0, functools.partial(bank_rows, run, arguments, model, folder))
        run.attempt("peft-different", 30.0, functools.partial(peft_rows, run, arguments, model))


def some_crops(arguments: Any, side: int) -> Any:
    """A batch that is ready on the device."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return torch.rand(arguments.batch, 3, side, side, generator=generator).to(arguments.on)


def bank_rows(run: Run, arguments: Any, model: str, folder: Path, ends: float) -> Sequence[Row]:
    """One adapter beside the weights, and banks of one and of many."""
    import numpy as np
    import torch

    import serving

    learner = serving.learner_of(arguments, model)
    serving.write_adapters(arguments, learner, folder, 1)
    banks, figures = serving.memory(arguments, folder, model)
    crops, generator = some_crops(arguments, learner.backbone.image_size), np.random.default_rng(0)

    def by_bank(count: int, *, different: bool = False) -> None:
        names = generator.choice(count, arguments.batch, replace=not different)
        answers = banks[count].answers_to_crops(crops, [f"linked-{name}" for name in names])
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        assert not failed, failed[0]

    ways: dict[str, Callable[[], Any]] = {
        "single": lambda: torch.softmax(learner.logits(crops).float(), dim=-1).cpu(),
        "bank-1": functools.partial(by_bank, min(banks)),
        "bank-10000": functools.partial(by_bank, max(banks)),
        "bank-different": functools.partial(by_bank, max(banks), different=True),
    }
    run.result["parts"]["serving"] |= figures
    return rows_in_turn(run, ways, arguments.batch, ends, 10)


def peft_rows(run: Run, arguments: Any, model: str, ends: float) -> Sequence[Row]:
    """PEFT's mixed batch of LoRA-XS, a different adapter for each row."""
    import serving

    side = serving.SHAPES["vit-b16"]().image_size if model != "builtin" else 32
    mixed = serving.peft_mixed(arguments, model, "lora-xs", some_crops(arguments, side))
    return rows_in_turn(run, {"peft-different": mixed}, arguments.batch, ends, 5)

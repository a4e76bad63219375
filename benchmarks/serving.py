"""Many LoRA-XS adapters on one backbone: how fast mixed batches are, what an adapter takes in memory and to load.

    .venv/bin/python benchmarks/serving.py [--json] [--smoke] [--model vit-b16] [--precision bf16] [--device cuda]

Rank 16 on q, k, v of every layer of both towers, random numbers in R; batches of crops that are ready. Ways alternate,
so that a busy machine disturbs them alike:

- `merged`: one adapter inside the weights; `single`: one adapter beside them, as the classifier computes it;
- `bank-N`: N adapters in memory, each row of the batch asks one of them at random;
- `bank-different`: as many different ones as the batch has rows; `peft-different` and `peft-lora-different` are PEFT's
  own mixed batch of as many LoRA-XS and LoRA adapters in the same towers, `model-per-adapter` a merged model for each
  row, one after the other.

The N adapters in memory have numbers and class embeddings of their own, but are put there without being read: their
folders are links to one that is. Reading is measured on `--loads` true folders, all different: for the first time on a
machine, when the text tower encodes the classes, and again. Prints a table and writes
benchmarks/results/<date>-<hardware>-serving[-MODEL][-PRECISION].json.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from measuring import OnDevice, Row, Rows, finish, in_turn, ratios, seconds
from shapes import SHAPES

if TYPE_CHECKING:
    from torch import Tensor

    from lowshot.serving import AdapterBank
    from lowshot.settings import Recipe
    from lowshot.training import Learner
    from lowshot.training.weights import WeightsLearner

RANK = 16
NOISE = 0.02
"""Deviation of R's entries."""


@dataclasses.dataclass(frozen=True)
class Arguments(OnDevice):
    """Adapters to serve, and repetitions."""

    model: Literal["builtin", "vit-b16"] = "builtin"
    """The built-in model, or a ViT-B/16 with random weights."""
    precision: Literal["fp32", "bf16"] = "fp32"
    adapters: tuple[int, ...] = (1, 100, 10_000)
    """Numbers of adapters in memory."""
    batch: int = 64
    """Rows of a batch."""
    classes: int = 100
    loads: int = 32
    """Adapters that are read from files."""
    repeats: int = 7
    """Measured batches of each way, after one that is not."""
    threads: int | None = None
    """Threads of torch; as it comes if not given."""

    def __post_init__(self) -> None:
        if self.smoke:
            small = {"adapters": (1, 6), "batch": 4, "classes": 3, "loads": 4, "repeats": 1}
            for name, value in small.items():
                object.__setattr__(self, name, value)


def write_vit_b16(folder: Path) -> None:
    """A ViT-B/16 with random weights in transformers format, and a tokenizer that spells."""
    from tokenizers import pre_tokenizers
    from transformers import CLIPImageProcessorPil, CLIPTokenizer

    from lowshot.randomness import seeded

    shape = SHAPES["vit-b16"]()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += [f"<unused {number}>" for number in range(shape.vocabulary - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    with seeded(0):
        shape.random_model().save_pretrained(folder)
    CLIPTokenizer({token: i for i, token in enumerate(tokens)}, [], model_max_length=77).save_pretrained(folder)
    side = {"height": shape.image_size, "width": shape.image_size}
    CLIPImageProcessorPil(size={"shortest_edge": shape.image_size}, crop_size=side).save_pretrained(folder)


def recipe_of(arguments: Arguments, model: str) -> Recipe:
    """LoRA-XS of rank 16 everywhere."""
    from lowshot.settings import preset_recipe

    settings = {"model": model, "rank": RANK, "dropout": 0.0, "precision": arguments.precision}
    return preset_recipe("paper", "lora-xs").replace(device=arguments.on, **settings)


def learner_of(arguments: Arguments, model: str) -> WeightsLearner:
    """An untrained adapter on a backbone of its own."""
    from lowshot.data.prompts import class_prompts
    from lowshot.models import load_backbone
    from lowshot.training.weights import WeightsLearner

    recipe = recipe_of(arguments, model)
    prompts = class_prompts(names_of(arguments), recipe.data.template)
    return WeightsLearner(load_backbone(model, arguments.on), prompts, recipe)


def names_of(arguments: Arguments) -> tuple[str, ...]:
    """Class names."""
    return tuple(f"no {number}" for number in range(arguments.classes))


def write_adapters(arguments: Arguments, learner: WeightsLearner, folder: Path, count: int) -> None:
    """Adapters with random R, in the true format, each with its record."""
    import torch

    from lowshot.files import canonical_json
    from lowshot.records import RECORD_FILE, RunRecord, provenance

    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        for parameter in learner.parameters:
            parameter.data.copy_(NOISE * torch.randn(parameter.shape, generator=generator))
        path = folder / f"adapter-{number}"
        path.mkdir(parents=True)
        learner.save(path)
        record = RunRecord(
            task="random",
            method="lora-xs",
            quantize="none",
            shots=0,
            seed=number,
            recipe=learner.recipe.to_dict(),
            classes=names_of(arguments),
            model=dataclasses.asdict(learner.backbone.identity),
            draw=(),
            trainable_parameters=learner.trainable_parameters,
            total_parameters=learner.backbone.parameters,
            adapter_bytes=learner.adapter_bytes,
            steps=0,
            train_seconds=0.0,
            peak_memory_bytes=0,
            prompts=learner.class_vectors.texts,
            provenance=provenance(),
        )
        (path / RECORD_FILE).write_text(canonical_json(record.to_dict()), encoding="utf-8")


def filled(bank: AdapterBank, count: int) -> AdapterBank:
    """As many adapters in memory: all that is read of the first one, with other numbers in the same places."""
    import torch

    from lowshot.serving.mixing import Updates

    first, _ = bank._fetcher.fetch(bank.names()[0], may_wait=True)
    assert first.updates.middles is not None
    generator, shape = torch.Generator().manual_seed(1), first.updates.middles.shape
    for name in bank.names()[:count]:
        middles = (NOISE * torch.randn(shape, generator=generator)).to(first.updates.middles.device)
        classes = dataclasses.replace(first.classes, embeddings=first.classes.embeddings.clone())
        updates = Updates(first.updates.layers, middles)
        other = dataclasses.replace(first, name=name, classes=classes, updates=updates)
        bank._residents.admit(other, may_wait=False)
        bank._residents.release([other])
    bank._residents.release([first])
    return bank


def linked(folder: Path, to: Path, count: int) -> Path:
    """A folder with so many adapters that are one."""
    folder.mkdir()
    for number in range(count):
        (folder / f"linked-{number}").symlink_to(to)
    return folder


@contextlib.contextmanager
def cache_of_its_own() -> Iterator[None]:
    """Nothing is known from earlier runs, and nothing is left behind."""
    before = os.environ.get("LOWSHOT_CACHE")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["LOWSHOT_CACHE"] = cache
        try:
            yield
        finally:
            os.environ.pop("LOWSHOT_CACHE")
            if before is not None:
                os.environ["LOWSHOT_CACHE"] = before


def peft_mixed(arguments: Arguments, model: str, method: str, crops: Tensor) -> Callable[[], Any]:
    """PEFT's mixed batch in the same vision tower, a different adapter for each row."""
    import torch
    from peft import LoraConfig, get_peft_model

    from lowshot.adapters import place
    from lowshot.adapters.lora_xs import layer_bases
    from lowshot.adapters.lora_xs.tuner import LoraXsConfig
    from lowshot.adapters.peft_adapter import attaching
    from lowshot.models import load_backbone, set_precision

    recipe = recipe_of(arguments, model).replace(encoder="vision")
    backbone = load_backbone(model, arguments.on)
    linears = list(place(recipe.method, backbone).linears)
    config_class = LoraXsConfig if method == "lora-xs" else LoraConfig
    bases = layer_bases(backbone.model, dict.fromkeys(linears, RANK)) if method == "lora-xs" else {}
    set_precision(backbone.model, backbone.encoder_linears(), precision=arguments.precision)
    config = config_class(r=RANK, lora_alpha=1, use_rslora=True, target_modules=linears, init_lora_weights=False)
    config.bases = bases
    names = [f"row-{row}" for row in range(len(crops))]
    with attaching(0, config):
        peft = get_peft_model(backbone.model, config, adapter_name=names[0]).eval()
        for name in names[1:]:
            peft.add_adapter(name, config)
    peft.eval().requires_grad_(False)

    def run() -> None:
        with torch.no_grad(), peft.base_model._enable_peft_forward_hooks(adapter_names=names):
            backbone.encode_images(crops)

    return run


def ways_of(
    arguments: Arguments, model: str, learner: WeightsLearner, banks: Mapping[int, AdapterBank]
) -> dict[str, Callable[[], Any]]:
    """Each way to compute a batch, as a function without arguments; each ends with its results on the processor."""
    import numpy as np
    import torch

    from lowshot.data.prompts import class_prompts
    from lowshot.models import load_backbone
    from lowshot.settings import preset_recipe
    from lowshot.training import create_learner

    side, rows = learner.backbone.image_size, arguments.batch
    crops = torch.rand(rows, 3, side, side, generator=torch.Generator().manual_seed(1)).to(arguments.on)
    generator = np.random.default_rng(0)
    base = dataclasses.asdict(learner.recipe.model)
    recipe = preset_recipe("paper", "zero-shot").replace(**base)
    # What is merged has the layers of the backbone as it is: the same arithmetic on other numbers.
    prompts = class_prompts(names_of(arguments), recipe.data.template)
    merged = create_learner(load_backbone(model, arguments.on), prompts, recipe)

    def by_learner(asked: Learner) -> None:
        torch.softmax(asked.logits(crops).float(), dim=-1).cpu()

    def one_by_one() -> None:
        for crop in crops:
            torch.softmax(merged.logits(crop[None]).float(), dim=-1).cpu()

    def by_bank(count: int, *, different: bool = False) -> None:
        names = generator.choice(count, rows, replace=not different)
        answers = banks[count].answers_to_crops(crops, [f"linked-{name}" for name in names])
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        assert not failed, failed[0]

    return {
        "merged": lambda: by_learner(merged),
        "single": lambda: by_learner(learner),
        **{f"bank-{count}": functools.partial(by_bank, count) for count in banks},
        "bank-different": functools.partial(by_bank, max(banks), different=True),
        "peft-different": peft_mixed(arguments, model, "lora-xs", crops),
        "peft-lora-different": peft_mixed(arguments, model, "lora", crops),
        "model-per-adapter": one_by_one,
    }


def rows_of(arguments: Arguments, ways: Mapping[str, Callable[[], Any]]) -> dict[str, Row]:
    """Every way in turn, as often as asked for; the first turn is not counted."""
    import torch

    rows: dict[str, Row] = {}
    for name, took in in_turn(ways, arguments.repeats, torch.device(arguments.on)).items():
        median = statistics.median(took)
        rows[name] = {
            "variant": name,
            "seconds": took,
            "median_seconds": median,
            "images_per_second": arguments.batch / median,
        }
    return rows


def loads(arguments: Arguments, folder: Path, model: str) -> dict[str, float]:
    """Seconds an adapter takes to be ready, out of files that the system has in memory; medians."""
    import torch

    from lowshot.serving import AdapterBank

    figures: dict[str, float] = {}
    for when in ("first", "again"):
        bank = AdapterBank(folder, model=model, device=arguments.on, precision=arguments.precision)
        names, took = bank.names(), []
        assert len(names) == arguments.loads, bank.refused()
        for name in names:
            load = functools.partial(bank._fetcher.fetch, name, may_wait=True)
            took.append(seconds(load, torch.device(arguments.on)))
        figures[f"load_{when}_seconds"] = statistics.median(took[1:])  # the first one prepares for all
        figures[f"load_{when}_most_seconds"] = max(took[1:])
    return figures


def memory(arguments: Arguments, folder: Path, model: str) -> tuple[dict[int, AdapterBank], dict[str, float]]:
    """Banks with their adapters in memory; what one of them takes there, and what opening costs for each adapter."""
    import torch

    from lowshot.serving import AdapterBank
    from lowshot.training.memory import resident_bytes

    banks, figures = {}, {}
    device = torch.device(arguments.on)
    for count in sorted(arguments.adapters):
        links = linked(folder.parent / f"links-{count}", folder / "adapter-0", count)
        started = time.perf_counter()
        bank = AdapterBank(links, model=model, device=arguments.on, precision=arguments.precision, memory="64GB")
        figures["open_seconds_per_adapter"] = (time.perf_counter() - started) / count
        before = resident_bytes(device)
        banks[count] = filled(bank, count)
        residents = bank._residents._by_name.values()
        figures["adapter_bytes"] = statistics.mean(float(each.updates.nbytes) for each in residents)
        figures["class_bytes"] = statistics.mean(float(each.classes.nbytes) for each in residents)
        figures["resident_bytes_per_adapter"] = (resident_bytes(device) - before) / count
        assert bank.resident() == [f"linked-{number}" for number in sorted(range(count), key=str)]
    return banks, figures


def figures_of(rows: Rows, arguments: Arguments) -> dict[str, float]:
    """The ratios that the targets are about."""
    most = f"bank-{max(arguments.adapters)}"
    wanted = {
        "share_of_single": ("single", most),
        "share_of_merged": ("merged", most),
        "times_peft": ("peft-different", "bank-different"),
        "times_peft_lora": ("peft-lora-different", "bank-different"),
        "times_model_per_adapter": ("model-per-adapter", "bank-different"),
    }
    return ratios(rows, {name: ("median_seconds", *pair) for name, pair in wanted.items()})


def line(row: Row) -> str:
    """A row of the table."""
    return f"{row['variant']:<24} {1e3 * row['median_seconds']:10.1f} ms   {row['images_per_second']:10.1f} images/s"


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure, print, write; returns the result."""
    import torch

    from lowshot.threads import cpu_threads

    with tempfile.TemporaryDirectory() as temporary, cache_of_its_own(), cpu_threads(arguments.threads):
        folder, model = Path(temporary) / "adapters", arguments.model
        if model == "vit-b16":
            model = str(Path(temporary) / "vit-b16")
            write_vit_b16(Path(model))
        learner = learner_of(arguments, model)
        write_adapters(arguments, learner, folder, arguments.loads)
        figures = loads(arguments, folder, model)
        banks, needs = memory(arguments, folder, model)
        rows = rows_of(arguments, ways_of(arguments, model, learner, banks))
        threads = torch.get_num_threads()
    arguments.say(*map(line, rows.values()))
    name = "-".join(["serving", *(part for part in (arguments.model, arguments.precision) if part not in _USUAL)])
    result = {
        "benchmark": name,
        "device": arguments.on,
        "shape": {
            "model": arguments.model if arguments.model == "builtin" else SHAPES[arguments.model]().title,
            "precision": arguments.precision,
            "batch": arguments.batch,
            "classes": arguments.classes,
            "rank": RANK,
            "adapters": list(arguments.adapters),
            "loads": arguments.loads,
        },
        "threads": threads,
        **figures,
        **needs,
        **figures_of(rows, arguments),
        "rows": list(rows.values()),
    }
    return finish(result, arguments)


_USUAL = ("builtin", "fp32")

if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))

"""Write docs/performance.md, and what other pages have of it, from the newest results of the benchmarks.

The figures of photographs are from the runs in docs/results/photos.

    .venv/bin/python tools/write_performance.py

A test fails when the tables and the results differ.
"""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lowshot.settings import preset_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGE = DOCS / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"
PHOTOGRAPHS = DOCS / "results" / "photos" / "runs.csv"

NAMES = {
    "published-fp32": "as published, fp32",
    "published-bf16": "as published, bf16",
    "published-fp16": "as published, fp16",
    "published-fused-fp32": "as published, fused attention, fp32",
    "published-fused-bf16": "as published, fused attention, bf16",
    "published-fused-fp16": "as published, fused attention, fp16",
    "lowshot-fp32": "lowshot, fp32",
    "lowshot-bf16": "lowshot, bf16",
    "lora-fp32": "`lora`, fp32",
    "lora-bf16": "`lora`, bf16",
    "lora-int8": "`lora`, int8",
    "qlora": "`qlora` (NF4, bf16)",
    "qlora-checkpointing": "`qlora`, gradient checkpointing",
    "qlora-vision": "`qlora`, image tower alone",
    "qlora-in-0.17GB": "`qlora`, checkpointing, `--memory-budget 0.17GB`",
    "published-qlora": "QLoRA as published",
    "published-qlora-checkpointing": "QLoRA as published, 8 x 4 images, checkpointing",
}
"""Rows of the benchmarks -> what the tables call them; others keep their names."""


def results_of(benchmark: str, *, on_cuda: bool = False) -> list[dict[str, Any]]:
    """The results of a benchmark on a CPU, or on a GPU; those that measured a part of it too; the latest last."""
    results: list[dict[str, Any]] = [
        json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob(f"*-{benchmark}*.json")
    ]
    # "step" is a part of other benchmarks' names too.
    of_it = [result for result in results if result["benchmark"] == benchmark]
    on_it = [result for result in of_it if (result.get("device", "cpu") != "cpu") == on_cuda]
    return sorted(on_it, key=lambda result: str(result["provenance"]["date"]))


def newest(benchmark: str, *, on_cuda: bool = False) -> dict[str, Any] | None:
    """The latest of ``results_of``; None where there is none."""
    results = results_of(benchmark, on_cuda=on_cuda)
    return results[-1] if results else None


def needed(benchmark: str, program: str) -> list[dict[str, Any]]:
    """The results of a benchmark, which there have to be.

    Raises:
        SystemExit: There is none; it says by which program it is measured.
    """
    results = results_of(benchmark)
    if not results:
        raise SystemExit(f"there is no result of benchmarks/{program}.py to write; run make bench")
    return results


def rows_of(*results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The rows that were measured, by variant; of one that several results have, the last."""
    return {row["variant"]: row for result in results for row in result.get("rows", ()) if "failed" not in row}


def markdown(head: list[str], rows: list[list[str]]) -> list[str]:
    """A table whose first column is text and whose others are figures."""
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return [f"|{'|'.join(cells)}|" if cells is lines[1] else f"| {' | '.join(cells)} |" for cells in lines]


def name_of(variant: str) -> str:
    """Name of a row in the tables."""
    if variant.startswith("lora-bf16-in-"):
        return f"`lora`, bf16, `--memory-budget {variant.removeprefix('lora-bf16-in-')}`"
    return NAMES.get(variant, f"`{variant}`")


def seconds_of(value: float) -> str:
    """Seconds with as many places as they are worth."""
    return f"{value:.1f}" if value >= 1 else f"{value:.3g}"


def gigabytes(value: float) -> str:
    """Gigabytes with three digits."""
    return f"{value / 1e9:.3g}"


def machine(provenance: Mapping[str, Any]) -> str:
    """The machine of a result, in words."""
    hardware = provenance["hardware"]
    if hardware["accelerator"]:
        return f"one {hardware['accelerator']}"
    return f"{hardware['cores']} cores of an {hardware['processor']}, no accelerator"


def origin(command: str, *results: Mapping[str, Any]) -> str:
    """Command, days and hardware of results."""
    days = " and ".join(sorted({result["provenance"]["date"][:10] for result in results}))
    return f"`{command}`, {days}, {machine(results[-1]['provenance'])}"


def step_lines(result: Mapping[str, Any]) -> list[str]:
    """A step as published and by lowshot."""
    shape = result["shape"]
    title = f"one step, ViT-B/16, {shape['batch_size']} images, {shape['classes']} classes"
    rows = [
        [
            name_of(variant),
            f"{seconds_of(row['median_seconds'])} "
            f"({seconds_of(min(row['seconds']))} to {seconds_of(max(row['seconds']))})",
            gigabytes(row["peak_bytes"]),
            f"{row['share_of_matrix_rate']:.0%}",
        ]
        for variant, row in rows_of(result).items()
    ]
    narrow = "fp16" if "published-fp16" in rows_of(result) else "bf16"
    return [
        *markdown([title, "seconds (spread)", "peak memory GB", "share of matrix rate"], rows),
        "",
        f"lowshot in bf16 is {result['time_ratio']:.1f} times as fast as the published step in fp32 and "
        f"{result['time_ratio_same_precision']:.1f} times as fast as it in {narrow}, with "
        f"1/{result['memory_ratio']:.1f} and 1/{result['memory_ratio_same_precision']:.1f} of the memory; fp32 against "
        f"fp32 {result['time_ratio_fp32']:.1f} times, 1/{result['memory_ratio_fp32']:.1f}.",
        *_fused_line(result, narrow),
    ]


def _fused_line(result: Mapping[str, Any], narrow: str) -> list[str]:
    """The same against the authors' own layers, where that was measured."""
    if "time_ratio_fused_fp32" not in result:
        return []
    return [
        f"Against the authors' own layers, whose attention is fused: {result['time_ratio_fused_same_precision']:.1f} "
        f"times and 1/{result['memory_ratio_fused_same_precision']:.1f} in {narrow}, "
        f"{result['time_ratio_fused_fp32']:.1f} times and 1/{result['memory_ratio_fused_fp32']:.1f} in fp32."
    ]


def many_classes_line(result: Mapping[str, Any]) -> str:
    """A step with a thousand classes in a budget."""
    steps = ", ".join(
        f"{gigabytes(row['peak_bytes'])} GB and {row['median_seconds']:.0f} s a step in {variant.split('-')[1]}"
        for variant, row in rows_of(result).items()
    )
    return f"With {result['shape']['classes']:,} classes and `--memory-budget 4GB`: {steps}."


def memory_lines(result: Mapping[str, Any]) -> list[str]:
    """Memory by method and base, and how well it is predicted."""
    rows = []
    for variant, row in rows_of(result).items():
        predicted = row["predicted"]
        off = f"{predicted['peak_bytes'] / row['peak_bytes'] - 1:+.0%}" if predicted else "-"
        rows.append([name_of(variant), gigabytes(row["static_bytes"]), gigabytes(row["dynamic_bytes"]), off])
    head = ["the same step", "GB before it", "GB on top of that", "`lowshot plan` is off by"]
    return [*markdown(head, rows), ""]


def quantized_lines(result: Mapping[str, Any]) -> list[str]:
    """QLoRA against LoRA and against the published QLoRA."""
    rows = [
        [
            name_of(variant),
            seconds_of(row["median_seconds"]),
            f"{row['stored_bytes'] / 1e6:.0f}",
            gigabytes(row["static_bytes"]),
            gigabytes(row["dynamic_bytes"]),
        ]
        for variant, row in rows_of(result).items()
    ]
    head = ["the same step", "seconds", "weights MB", "GB before it", "GB on top of that"]
    return [*markdown(head, rows), "", "The published QLoRA trains the image tower alone.", ""]


SERVED = {
    "merged": "one adapter, merged into the weights",
    "single": "one adapter beside the weights",
    "bank-1": "bank, 1 adapter",
    "bank-100": "bank, 100 adapters, mixed at random",
    "bank-10000": "bank, 10,000 adapters, mixed at random",
    "bank-different": "bank, a different adapter for each image",
    "peft-different": "the same in PEFT, LoRA-XS",
    "peft-lora-different": "the same in PEFT, LoRA",
    "model-per-adapter": "a merged model for each, one after the other",
}


def serving_lines(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Mixed batches of many adapters, a column for each model."""
    if not results:
        return []
    measured = [rows_of(result) for result in results]
    rows = [
        [SERVED[variant], *(f"{of[variant]['images_per_second']:,.1f}" if variant in of else "-" for of in measured)]
        for variant in SERVED
        if any(variant in of for of in measured)
    ]
    models = ["built-in" if result["shape"]["model"] == "builtin" else result["shape"]["model"] for result in results]
    head = [f"images a second, batches of {results[0]['shape']['batch']}", *models]
    lines = [*markdown(head, rows), ""]
    lines += [_served(model, result) for model, result in zip(models, results, strict=True)]
    commands = "` and `".join(f"python benchmarks/serving.py{_MODEL_OPTION.get(model, '')}" for model in models)
    return [*lines, f"{origin(commands, results[0])}.", ""]


_MODEL_OPTION = {"ViT-B/16, random": " --model vit-b16"}


def _served(model: str, result: Mapping[str, Any]) -> str:
    """Sums of the columns, and the size of an adapter."""
    most, rank = max(result["shape"]["adapters"]), result["shape"]["rank"]
    return (
        f"{model}: {most:,} adapters at {result['share_of_single']:.0%} of one beside the weights and "
        f"{result['share_of_merged']:.0%} of one inside them; {result['times_peft']:.1f} times PEFT's mixed batch. An "
        f"adapter of rank {rank} takes {result['adapter_bytes'] / 1e3:.1f} KB in memory, its class embeddings "
        f"{result['class_bytes'] / 1e3:.1f} KB, and {1e3 * result['load_again_seconds']:.0f} ms to load, for the first "
        f"time on a machine {1e3 * result['load_first_seconds']:.0f} ms."
    )


def load_lines(result: Mapping[str, Any] | None) -> list[str]:
    """Many clients of the HTTP interface at once."""
    if result is None:
        return []
    row = rows_of(result)["all-clients"]
    answered = ", ".join(f"{count:,} answers with {status}" for status, count in row["statuses"].items())
    return [
        f"`lowshot serve` with {row['clients']} clients at once and {result['adapters']} adapters of the built-in "
        f"model: {row['answers_per_second']:.0f} answers a second, half of them within {row['p50_seconds']:.2f} s, "
        f"99 % within {row['p99_seconds']:.2f} s ({answered}); memory grew by {row['growth_bytes'] / 1e6:.1f} MB. The "
        f"clients share the machine. {origin('python benchmarks/load.py', result)}.",
        "",
    ]


def gpu_lines(result: Mapping[str, Any]) -> list[str]:
    """The steps that ``benchmarks/gpu.py`` measured, and each figure beside the aim for it."""
    rows = [row for row in result["parts"].get("step", {}).get("rows", ()) if "median_seconds" in row]
    lines = [
        "| one step on a GPU, ViT-B/16, 32 images, 100 classes | seconds | peak memory GB | share of matrix rate |"
    ]
    lines += ["|:--|--:|--:|--:|"]
    for row in rows:
        seconds, peak = f"{row['median_seconds']:.3g}", f"{row['peak_bytes'] / 1e9:.3g}"
        lines.append(f"| {row['variant']} | {seconds} | {peak} | {row['share_of_matrix_rate']:.0%} |")
    lines += ["", "| figure | aimed at | measured |", "|:--|--:|--:|"]
    for name, aim in result["targets"].items():
        lines.append(f"| {name.replace('_', ' ')} | {aim['aim']} | {aim['measured']:.3g} |")
    return [*lines, "", f"{origin('python benchmarks/gpu.py', result)}, random weights.", ""]


HEAD = """# Speed and memory

Written by `make docs` from `benchmarks/results`; do not edit. [Exact and fast](concepts/exact-and-fast.md) says how,
lever by lever, and how each is proved.
"""


def page() -> str:
    """All tables and what they were measured on, as a page."""
    many, memory, quantized = map(newest, ("step-1000-classes", "memory", "quantized"))
    gpu = newest("gpu", on_cuda=True)
    lines = [HEAD, "## A training step", ""]
    lines += [] if gpu is None else gpu_lines(gpu)
    lines += [*step_section(), *([many_classes_line(many), ""] if many else [])]
    if memory:
        source = f"{origin('python benchmarks/memory.py', memory)}, random weights."
        lines += ["## Memory", "", *memory_lines(memory), source, ""]
    if quantized:
        source = f"{origin('python benchmarks/quantized.py', quantized)}, random weights."
        lines += ["## In fewer bits", "", *quantized_lines(quantized), source, ""]
    serving = [result for result in (newest("serving"), newest("serving-vit-b16")) if result]
    lines += [*(["## Serving", ""] if serving else []), *serving_lines(serving), *load_lines(newest("load"))]
    return "\n".join([*lines, *(["Not measured: any GPU.", ""] if gpu is None else [])])


def step_section() -> list[str]:
    """The step as published and by lowshot, and where that was measured."""
    step = needed("step", "step")[-1]
    count = len(step["rows"][0]["seconds"])
    return [*step_lines(step), f"{origin('python benchmarks/step.py', step)}, random weights, {count} steps each.", ""]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, with two digits."""
    for size, unit in ((3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 1.5 * size or unit == "s":
            return f"{seconds / size:.{0 if seconds >= 9.5 * size else 1}f} {unit}"
    raise AssertionError(seconds)


def times() -> str:
    """The time that methods take, by the measured time of a step and of an image, for some numbers of shots."""
    step, evaluation = needed("step", "step")[-1], needed("evaluation", "evaluation")[-1]
    shots, classes = (1, 4, 16), step["shape"]["classes"]
    of_step, of_images = rows_of(step)["lowshot-bf16"], rows_of(evaluation)["lowshot-bf16"]
    step_seconds, rate = of_step["median_seconds"], of_images["images_per_second"]
    rows = []
    for preset in ("paper", "fast"):
        recipe = preset_recipe(preset, "lora")
        trainings = [duration(recipe.steps(k) * step_seconds) for k in shots]
        rows.append([f"`lora`, preset `{preset}`: {recipe.training.steps_per_shot} steps a shot", *trainings])
    for method in ("proker", "task-res"):
        views = preset_recipe("paper", method).training.views or 1
        seen = "each image once" if views == 1 else f"{views} views of each image"
        rows.append([f"`{method}`: {seen}", *(duration(classes * k * views / rate) for k in shots)])
    head = [f"ViT-B/16, {classes} classes", *("1 shot" if k == 1 else f"{k} shots" for k in shots)]
    return "\n".join(
        [
            *markdown(head, rows),
            "",
            f"{seconds_of(step_seconds)} s a step, {gigabytes(of_step['peak_bytes'])} GB of memory, {rate:.1f} images "
            f"a second in bf16: {origin('python benchmarks/step.py` and `python benchmarks/evaluation.py', step)}.",
            "",
        ]
    )


def calibrations() -> str:
    """The errors of probabilities without calibration and with it."""
    results, rows = needed("calibration", "calibration"), []
    for variant, row in rows_of(*results).items():
        plain, calibrated = row["plain"], row["calibrated"]
        off = [f"{plain['ece']:.1%} to {calibrated['ece']:.1%}", f"{plain['nll']:.3f} to {calibrated['nll']:.3f}"]
        rows.append([f"`{variant}`", f"{plain['acc1']:.1%}", f"{row['temperature']:.3g}", *off])
    head = ["`lowshot fit ...`", "accuracy", "temperature", "calibration error", "negative log-likelihood"]
    source = f"Without calibration to with it; {origin('python benchmarks/calibration.py', *results)}, one seed."
    return "\n".join([*markdown(head, rows), "", source, ""])


def none_of_these(benchmark: str = "none-of-these", arguments: str = "") -> str:
    """The share of images of none of the classes that are told as such.

    Args:
        benchmark: Which results: of the built-in tasks, or of a folder.
        arguments: Those of the command.
    """
    results = needed(benchmark, "none_of_these")

    def cell(row: Mapping[str, Any], name: str, scale: float, digits: int) -> str:
        mean, deviation = (scale * value for value in row[name])
        return f"{mean:.{digits}f} ± {deviation:.{digits}f}"

    rows = [
        [
            f"`{row['task']}`, `{row['method']}`" + (f", {row['shots']} shots" if arguments else ""),
            str(row["draws"]),
            cell(row, "auroc_of_probability", 1, 3),
            cell(row, "auroc", 1, 3),
            cell(row, "accepted_by_probability", 100, 0),
            cell(row, "accepted", 100, 0),
            cell(row, "known_turned_away", 100, 1),
        ]
        for row in rows_of(*results).values()
    ]
    head = ["half of", "draws", "AUROC of the top probability", "AUROC", "accepted at 95 % by it, %", "accepted, %"]
    source = f"{origin(f'python benchmarks/none_of_these.py{arguments}', results[-1])}; ± is the deviation over draws"
    last = f"The last column is with `--reject {results[-1]['reject']:g}`, the others need no threshold of it."
    return "\n".join([*markdown([*head, "known, turned away, %"], rows), "", f"{source}. {last}", ""])


def photographs() -> str:
    """Probabilities of photographs as they come and calibrated, by method and shots; then images of no class."""
    with PHOTOGRAPHS.open(encoding="utf-8", newline="") as file:
        runs = [run for run in csv.DictReader(file) if run["model"] == "photos"]

    def cell(method: str, shots: str, folds: str, name: str, scale: float, digits: int) -> str:
        values = [
            scale * float(run[name]) for run in runs if alike(run, method, shots) and run["calibration_folds"] == folds
        ]
        return f"{statistics.fmean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}" if values else "-"

    def alike(run: Mapping[str, str], method: str, shots: str) -> bool:
        return (run["method"], run["shots"]) == (method, shots)

    rows = []
    for method in dict.fromkeys(run["method"] for run in runs):
        for shots in sorted({run["shots"] for run in runs}, key=int):
            of_both = [[cell(method, shots, folds, *figure) for figure in _OF_PROBABILITIES] for folds in ("0", "5")]
            rows.append([f"`{method}`", shots, *(each for pair in zip(*of_both, strict=True) for each in pair)])
    head = ["method", "shots", "calibration error, points", "calibrated", "negative log-likelihood", "calibrated"]
    dates = sorted(run["date"][:10] for run in runs)
    source = f"`lowshot bench photos` and `lowshot bench photos-calibrated`, {dates[0]} and {dates[-1]}, five seeds."
    folder = " --data clothing --model photos --methods proker --shots 4 16 --draws 10"
    lines = [*markdown(head, rows), "", source, ""]
    return "\n".join([*lines, none_of_these("none-of-these-clothing", folder)])


_OF_PROBABILITIES = (("ece", 100, 1), ("nll", 1, 2))


def sets() -> str:
    """The share of images that sets of classes cover, and how large the sets are."""
    results = needed("sets", "sets")
    measured = rows_of(*results)

    def cell(row: Mapping[str, Any]) -> str:
        share, least, size = 100 * row["covered"][0], 100 * row["least_covered"], row["mean_set_size"][0]
        return f"{share:.1f} %, {least:.1f} %; {size:.2f}"

    by_held_out = [row for row in measured.values() if row["rule"] == "held-out"]
    rows = [
        [
            f"`{row['task']}`, {row['classes']} classes",
            f"{100 * row['coverage']:g} %",
            cell(row),
            cell(measured[row["variant"].replace("held-out", "guaranteed")]),
        ]
        for row in sorted(by_held_out, key=lambda row: (row["classes"], row["task"], row["coverage"]))
    ]
    result = results[-1]
    text = (
        "Share of the images that is covered, that of the class that is covered least; classes in a set. "
        f"`proker`, {result['shots']} shots, means over {by_held_out[-1]['draws']} draws of "
        f"shots and of {result['images']} images, both from all images of a task. "
        f"{origin('python benchmarks/sets.py', result)}."
    )
    return "\n".join([*markdown(["", "asked for", "by held-out shots", "guaranteed"], rows), "", text, ""])


_WAYS = ("before", "prompts alone", "on top", "on top, by known images", "taught anew")


def one_more() -> str:
    """The accuracy with classes on top of adapted towers, beside teaching all anew."""
    result = needed("one-more", "one_more")[-1]

    def cell(values: Mapping[str, Any], name: str) -> str:
        return f"{100 * values[name][0]:.1f} ± {100 * values[name][1]:.1f}" if name in values else ""

    rows = [
        [f"`{row['task']}`, {row['shots']}", way, *(cell(values, name) for name in ("old", "new", "all", "ece_new"))]
        for row in rows_of(result).values()
        for way, values in ((name, row["ways"][name]) for name in _WAYS)
    ]
    head = ["task, shots", "way", "old classes, %", "new ones, %", "all, %", "calibration error of the new ones, %"]
    draws = f"{result['rows'][0]['draws']} draws of the new classes; ± is the deviation over draws"
    source = f"{origin('python benchmarks/one_more.py', result)}, {draws}."
    return "\n".join([*markdown(head, rows), "", source, ""])


TABLES: dict[str, Callable[[], str]] = {
    "performance": lambda: "\n".join(step_section()),
    "times": times,
    "calibration": calibrations,
    "sets": sets,
    "none of these": none_of_these,
    "one more": one_more,
    "photographs": photographs,
}
"""Name of a table, as its marks in a page have it -> what writes it."""
PAGES = (
    ROOT / "README.md",
    DOCS / "start" / "choosing.md",
    DOCS / "how-to" / "confidence.md",
    DOCS / "how-to" / "none-of-these.md",
    DOCS / "how-to" / "classes.md",
    DOCS / "findings.md",
)
"""The pages that have tables among what people have written."""


def with_tables(page: str) -> str:
    """A page with each of its tables between its two marks."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: written by make docs -->\n", f"<!-- end of {name} -->\n"
        if begin in page:
            before, _, rest = page.partition(begin)
            _, _, after = rest.partition(end)
            page = f"{before}{begin}\n{table()}\n{end}{after}"
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
    PAGE.write_text(page(), encoding="utf-8")

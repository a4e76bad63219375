"""Write the README's performance table from the newest results of ``benchmarks/step.py``.

    .venv/bin/python tools/write_performance.py

A test fails when the table and the results differ.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
BEGIN, END = "<!-- performance: written by make docs -->\n", "<!-- end of performance -->\n"


def newest(benchmark: str) -> dict[str, Any]:
    """The latest result of a benchmark."""
    path = max((ROOT / "benchmarks" / "results").glob(f"????-??-??-{benchmark}.json"))
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def table() -> str:
    """The table and what it was measured on, as Markdown."""
    step, many = newest("step"), newest("step-1000-classes")
    rows = {row["variant"]: row for row in step["rows"]}
    lines = [
        "| one step, ViT-B/16, 32 images, 100 classes | seconds (spread) | peak memory GB | share of matrix rate |",
        "|:--|--:|--:|--:|",
    ]
    for variant, row in rows.items():
        low, high = min(row["seconds"]), max(row["seconds"])
        who, precision = variant.split("-")
        name = "as published" if who == "published" else "lowshot"
        lines.append(
            f"| {name}, {precision} | {row['median_seconds']:.1f} ({low:.1f} to {high:.1f}) "
            f"| {row['peak_bytes'] / 1e9:.1f} | {row['share_of_matrix_rate']:.0%} |"
        )
    provenance = step["provenance"]
    hardware = provenance["hardware"]
    where = f"{hardware['cores']} cores of an {hardware['processor']}, no accelerator"
    ratios = (
        f"lowshot in bf16 is {step['time_ratio']:.1f} times as fast as the published step in fp32 and "
        f"{step['time_ratio_same_precision']:.1f} times as fast as it in bf16, with 1/{step['memory_ratio']:.1f} and "
        f"1/{step['memory_ratio_same_precision']:.1f} of the memory; fp32 against fp32 {step['time_ratio_fp32']:.1f} "
        f"times, 1/{step['memory_ratio_fp32']:.1f}."
    )
    thousand = ", ".join(
        f"{row['peak_bytes'] / 1e9:.1f} GB and {row['median_seconds']:.0f} s a step in {row['variant'].split('-')[1]}"
        for row in many["rows"]
    )
    return "\n".join(
        [
            *lines,
            "",
            ratios,
            f"With 1,000 classes and `--memory-budget 4GB`: {thousand}.",
            f"`python benchmarks/step.py`, {provenance['date'][:10]}, {where}, random weights, "
            f"{len(step['rows'][0]['seconds'])} steps each. Not measured: any GPU.",
            "",
        ]
    )


def written(readme: str) -> str:
    """The README with the table in its place."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}{END}{after}"


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")

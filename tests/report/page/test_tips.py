from __future__ import annotations

from lowshot.report.page.tips import Origins, row_tip
from lowshot.report.summary import summarize

from ..factory import record, zero_shot

THERE = {"commit": "f" * 40, "dirty": True, "hardware": {"processor": "Other CPU"}, "date": "2026-02-02T00:00:00+00:00"}


def test_origins_are_told_apart_and_numbered_as_they_appear():
    records = [record(), record(seed=2, provenance=THERE), record(seed=3), record(seed=4, provenance={})]

    origins = Origins(records)

    assert origins.texts == [
        "commit 0123456789; Test CPU, 2 cores, Linux",
        "commit ffffffffff with uncommitted changes; Other CPU",
    ]
    assert [origins.of([one]) for one in records] == ["1", "2", "1", ""]
    assert origins.of(records) == "1 2"


def test_a_tip_has_figures_seeds_and_days():
    records = [record(seed=1), record(seed=2, accuracy=0.95, provenance=THERE)]
    (row,) = summarize(records)

    assert row_tip(row, records).replace("\u00a0", " ").splitlines() == [
        "lora, 16 images per class",
        "accuracy 96.0 ± 1.4 % on digits",
        "3,072 trainable parameters, 13 KB",
        "14 s, at most 410 MB of memory for it",
        "seeds 1, 2; 2026-01-31 to 2026-02-02",
    ]


def test_what_has_no_cost_has_no_line_about_it():
    records = [zero_shot(provenance={})]
    (row,) = summarize(records)

    assert row_tip(row, records).splitlines() == ["zero-shot", "accuracy 78.0 % on digits", "seed 1"]

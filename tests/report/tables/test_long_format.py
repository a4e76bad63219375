from __future__ import annotations

import csv
import dataclasses
import io
import json

import pytest

from lowshot.report.tables.long_format import LongRow, in_csv, long_rows

from ..factory import record, zero_shot
from .test_comparison import B16, grid


def read(records):
    return list(csv.DictReader(io.StringIO(in_csv(records))))


def test_every_figure_is_unrounded_and_has_its_costs_and_commit():
    third = 1 / 3
    (line,) = read([record(accuracy=third, train_seconds=1.23456789, evaluation_seconds=2.5)])

    assert float(line["accuracy"]) == third
    assert (line["kind"], line["label"], line["data"], line["classes"]) == ("measured", "lora", "digits", "all")
    assert (line["seeds"], line["deviation"]) == ("1", "")
    assert (float(line["train_seconds"]), float(line["evaluation_seconds"])) == (1.23456789, 2.5)
    assert line["source"] == "commit 0123456789"


def test_tests_are_on_the_average_of_the_methods_that_were_compared():
    eight = [f"task {i}" for i in range(8)]
    lines = read(grid(eight, {"lora": 0.6, "dora": 0.5}))
    tested = [line for line in lines if line["p"]]

    assert len(lines) == 2 * 9
    (line,) = tested
    assert (line["label"], line["data"], line["best"], line["pairs"]) == ("dora", "average", "lora", "8")
    assert float(line["p"]) == float(line["p_holm"]) == 2 / 2**8


def test_published_figures_are_lines_of_their_own_with_kind_and_source():
    lines = read(grid(["dtd"], {"lora": 0.6}, model=B16))
    (quoted,) = [x for x in lines if (x["label"], x["kind"], x["shots"]) == ("CLIP-LoRA", "quoted", "4")]

    assert (float(quoted["accuracy"]), quoted["method"], quoted["data"], quoted["backbone"]) == (
        0.638,
        "",
        "dtd",
        "ViT-B/16",
    )
    assert quoted["source"].startswith("HALoRA")
    assert {line["kind"] for line in lines} >= {"measured", "quoted", "digitised", "withdrawn"}
    assert all(line["uncertainty"] for line in lines if line["kind"] == "digitised")


def test_halves_and_their_harmonic_mean_are_told_apart():
    metrics = {"acc1": 0.8, "others": {"new": {"acc1": 0.4}}, "harmonic_mean": 8 / 15}
    run = record(task="a (base)", recipe={"data": {"protocol": "base-to-new"}}, metrics=metrics)

    lines = [(line["data"], line["classes"], float(line["accuracy"])) for line in read([run])]

    assert lines == [("a", "base", 0.8), ("a", "new", 0.4), ("a", "harmonic mean", 8 / 15)]


def test_costs_are_those_of_the_data_set_and_of_the_average():
    records = [record(task=t, train_seconds=s) for t, s in (("a", 1.0), ("b", 3.0))]

    assert [(line["data"], float(line["train_seconds"])) for line in read(records)] == [
        ("a", 1.0),
        ("b", 3.0),
        ("average", 2.0),
    ]


@pytest.mark.parametrize("made", [[zero_shot()], [record(accuracy=None)]])
def test_rows_become_plain_json_and_what_was_not_judged_has_none(made):
    values = [row.to_dict() for row in long_rows(made)]

    assert json.loads(json.dumps(values)) == values
    assert len(values) == (1 if made[0].metrics else 0)


def test_the_header_names_every_field():
    assert in_csv([]).strip().split(",") == [field.name for field in dataclasses.fields(LongRow)]

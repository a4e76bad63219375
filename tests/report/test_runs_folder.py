from __future__ import annotations

import random

import pytest

from lowshot.errors import InputError
from lowshot.files import canonical_json
from lowshot.report.reading_order import in_reading_order
from lowshot.runs_folder import read_runs
from refusing import refused

from .factory import record, rival, zero_shot


def keep(folder, key, content, part="done"):
    path = folder / part / f"{key}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else canonical_json(content.to_dict()))
    return path


def test_records_of_all_folders_are_joined(tmp_path):
    one, two = record(seed=1), record(seed=2)
    keep(tmp_path / "a", "k1", one)
    keep(tmp_path / "b", "k2", two)

    runs = read_runs([tmp_path / "a", tmp_path / "b"])

    assert (runs.records, runs.failed, runs.under_way) == ((one, two), 0, 0)


def test_a_run_that_two_folders_have_alike_counts_once(tmp_path):
    for folder in "ab":
        keep(tmp_path / folder, "k1", record())

    assert len(read_runs([tmp_path / "a", tmp_path / "b", tmp_path / "a"]).records) == 1


def test_a_run_told_of_differently_is_refused_with_both_files(tmp_path):
    first, second = keep(tmp_path / "a", "k1", record()), keep(tmp_path / "b", "k1", record(accuracy=0.5))

    with refused(InputError, first, second, "differ"):
        read_runs([tmp_path / "a", tmp_path / "b"])


def test_damaged_records_are_named_and_nothing_is_read_without_them(tmp_path):
    keep(tmp_path, "k1", record())
    half = keep(tmp_path, "k2", '{"format": 1')
    empty = keep(tmp_path, "k3", "{}")

    with refused(InputError, "2 of 3 records", half, empty, "remove them"):
        read_runs([tmp_path])


def test_of_many_damaged_records_three_are_named_and_the_others_counted(tmp_path):
    for i in range(5):
        keep(tmp_path, f"k{i}", "")

    with refused(InputError, "5 of 5 records", "2 more"):
        read_runs([tmp_path])


@pytest.mark.parametrize("content", ["nothing", "empty", "file", "failures"])
def test_what_holds_no_records_is_refused(tmp_path, content):
    folder = tmp_path / "runs"
    if content == "file":
        folder.write_text("")
    elif content == "empty":
        (folder / "done").mkdir(parents=True)
    elif content == "failures":
        keep(folder, "k1", '{"error": "no"}', "failed")

    with refused(InputError, folder, "failed" if content == "failures" else "lowshot bench --out"):
        read_runs([folder])


def test_runs_that_failed_or_are_under_way_are_counted_unless_they_have_a_record(tmp_path):
    keep(tmp_path, "k1", record())
    for key in ("k1", "k2", "k3"):
        keep(tmp_path, key, '{"error": "no"}', "failed")
    for name in ("k1.training", "k2.training", "k4.training", "k4.fold-1.training"):
        (tmp_path / "partial").mkdir(exist_ok=True)
        (tmp_path / "partial" / f"{name}.safetensors").touch()
    (tmp_path / "partial" / "k5.lock").touch()

    runs = read_runs([tmp_path])

    assert (runs.failed, runs.under_way) == (2, 1)


def test_records_are_in_the_papers_order_whatever_their_files_are_called():
    expected = (
        zero_shot(task="imagenet"),
        rival(task="imagenet"),
        record("lora", 4, settings={"rank": 2}, task="imagenet"),
        record("lora", 16, 1, settings={"rank": 2}, task="imagenet"),
        record("lora", 16, 2, settings={"rank": 2}, task="imagenet"),
        record("lora", 4, settings={"rank": 16}, task="imagenet"),
        record("lora", 4, quantize="nf4", task="imagenet"),
        record("lora-xs", 4, task="imagenet"),
        record("peft:oft", 4, task="imagenet"),
        record("lora", 4, task="caltech101"),
        record("lora", 4, task="a folder"),
    )

    for seed in range(20):
        assert in_reading_order(random.Random(seed).sample(expected, len(expected))) == expected


def test_a_half_of_the_classes_stands_where_the_whole_does():
    halves = [record(task=f"{task} (base)") for task in ("imagenet", "dtd")]

    assert in_reading_order([*reversed(halves), record(task="a")]) == (*halves, record(task="a"))

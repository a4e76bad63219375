from __future__ import annotations

import dataclasses
import json
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.errors import InputError
from lowshot.report.averages import averages
from lowshot.report.summary import accuracy_text, format_table, summarize
from lowshot.report.variants import usual_settings
from lowshot.settings import preset_recipe
from refusing import refused

from .factory import record, rival, zero_shot

FRACTIONS = st.floats(0, 1, allow_nan=False)


@given(st.lists(FRACTIONS, min_size=2, max_size=8))
def test_mean_and_deviation_are_those_of_the_sample(accuracies):
    (row,) = summarize([record(seed=seed, accuracy=accuracy) for seed, accuracy in enumerate(accuracies)])

    assert row.seeds == len(accuracies)
    assert math.isclose(row.accuracy_mean, statistics.fmean(accuracies))
    assert math.isclose(row.accuracy_std, statistics.stdev(accuracies), abs_tol=1e-12)


@given(st.permutations([record(shots=shots, seed=seed) for shots in (1, 4, 16) for seed in (1, 2)]))
def test_rows_of_a_method_ascend_in_shots_whatever_the_order_of_records(records):
    assert [row.shots for row in summarize(records)] == [1, 4, 16]


def test_methods_and_tasks_keep_their_order_of_appearance():
    records = [
        record("lora", task="b"),
        zero_shot(task="b"),
        record("dora", task="a"),
        record("lora", quantize="nf4", task="b"),
        record("lora", task="a"),
    ]

    rows = [(row.task, row.name) for row in summarize(records)]

    assert rows == [("b", "lora"), ("b", "zero-shot"), ("b", "qlora"), ("a", "lora"), ("a", "dora")]


def test_time_is_the_mean_and_memory_the_maximum_over_seeds():
    runs = [(10.0, 300), (20.0, 500)]
    (row,) = summarize(
        [
            record(seed=i, train_seconds=time, peak_memory_bytes=100 + memory, static_memory_bytes=100)
            for i, (time, memory) in enumerate(runs)
        ]
    )

    assert (row.train_seconds, row.training_memory_bytes) == (15.0, 500)


def test_the_time_of_auto_has_all_that_it_tried():
    tried = [{"method": name, "images": 8, "acc1": 0.5, "seconds": 3.0, "said": ""} for name in ("gda", "lora")]
    choice = {"method": "lora", "why": "it is better", "folds": 4, "tried": tried}

    (row,) = summarize([record(train_seconds=1.0, choice=choice, recipe=preset_recipe("builtin", "lora").to_dict())])

    assert row.train_seconds == 7.0


def test_runs_of_auto_are_one_series_whatever_it_chose():
    def chose(method, task):
        choice = {"method": method, "why": "it is better", "folds": 4, "tried": []}
        recipe = preset_recipe("builtin", method).to_dict()
        return dataclasses.replace(record(task=task, choice=choice, recipe=recipe), method="auto")

    rows = summarize([chose("gda", "a"), chose("lora", "b")])
    (both,) = summarize([chose("gda", "a"), dataclasses.replace(chose("lora", "a"), seed=2, trainable_parameters=72)])
    assert both.trainable_parameters == (3072 + 72) / 2

    assert len({row.series for row in rows}) == len({row.settings for row in rows}) == 1
    assert [row.task for row in averages([chose("gda", "a"), chose("lora", "b")]).rows] == ["average of 2 data sets"]


def test_one_seed_has_no_deviation():
    (row,) = summarize([record(accuracy=0.5)])

    assert (row.seeds, row.accuracy_std) == (1, 0.0)
    assert accuracy_text(row) == "50.0"
    assert "±" not in format_table([row])


def test_mean_is_unknown_unless_every_run_was_evaluated():
    (row,) = summarize([record(seed=1, accuracy=0.5), record(seed=2, accuracy=None)])

    assert row.accuracy_mean is None
    assert format_table([row], "markdown").splitlines()[-1].split(" | ")[5] == "-"


def test_runs_with_different_settings_are_not_averaged():
    records = [record(seed=seed, settings={"rank": rank}) for rank in (2, 8) for seed in (1, 2)]

    rows = summarize(records)

    assert [(row.variant, row.seeds) for row in rows] == [("rank 2", 2), ("rank 8", 2)]
    assert [row.label for row in rows] == ["lora, rank 2", "lora, rank 8"]


@pytest.mark.parametrize(("value", "rows"), [("auto", 1), ("fp32", 2)])
def test_a_run_older_than_a_setting_is_one_with_its_default(value, rows):
    younger = preset_recipe("paper", "lora").replace(adapter_precision=value).to_dict()
    older = preset_recipe("paper", "lora").to_dict()
    del older["model"]["adapter_precision"]
    assert len(summarize([record(seed=1, recipe=older), record(seed=2, recipe=younger)])) == rows


def test_settings_that_differ_between_methods_are_no_variants():
    rows = summarize([record("lora", settings={"rank": 2}), record("lora-xs", settings={"rank": 32})])

    assert [row.label for row in rows] == ["lora", "lora-xs"]


def test_settings_that_tell_runs_apart_on_one_task_are_named_on_all():
    records = [record(task="a", settings={"rank": rank}) for rank in (2, 8)]

    assert [row.label for row in summarize([*records, record(task="b")])] == [
        "lora, rank 2",
        "lora, rank 8",
        "lora, rank 2",
    ]


def test_of_several_models_every_run_names_its_own():
    rows = summarize([record("lora"), record("dora", model={"id": "other"}), rival()])

    assert [row.label for row in rows] == ["lora, model builtin", "dora, model other", "pixels + logistic regression"]


def test_where_the_data_lie_makes_no_variant():
    rows = summarize([record(seed=1, settings={"root": "/a"}), record(seed=2, settings={"root": "/b"})])

    assert [(row.label, row.seeds) for row in rows] == [("lora", 2)]
    assert "root" not in dict(rows[0].settings)


def test_lists_and_tuples_of_a_setting_are_the_same_setting():
    records = [
        record(seed=1, settings={"projections": ("q", "k")}),
        record(seed=2, settings={"projections": ["q", "k"]}),
    ]

    assert [row.variant for row in summarize(records)] == [""]


def test_a_seed_told_of_twice_is_refused():
    with refused(InputError, "2 records", "qlora", "digits", "4 shots", "seed 7"):
        summarize([record(shots=4, seed=7, quantize="nf4")] * 2)


def test_rivals_are_known_by_full_words_and_keep_their_name():
    (row,) = summarize([rival()])

    assert row.is_rival
    assert (row.name, row.label) == ("pixel-regression", "pixels + logistic regression")


def test_rows_become_plain_json():
    values = [row.to_dict() for row in summarize([zero_shot(), record()])]

    assert json.loads(json.dumps(values)) == values
    assert values[1]["accuracy_mean"] == 0.97
    assert {"task", "method", "quantize", "shots", "seeds", "adapter_bytes", "train_seconds"} <= set(values[1])


def test_no_records_are_no_rows():
    assert summarize([]) == []


def test_text_table_is_aligned():
    rows = summarize([zero_shot(), *(record(seed=seed, accuracy=0.96 + seed / 100) for seed in (1, 2)), rival()])

    assert format_table(rows) == (
        "method                        shots  trainable  % of total  adapter KB  accuracy %  seconds  memory MB\n"
        "zero-shot                         0          0           0           -  78.0            0.0        410\n"
        "lora                             16      3,072        0.15          13  97.5 ± 0.7       14        410\n"
        "pixels + logistic regression     16        650         100           -  92.0             14        410\n"
    )


def test_markdown_table_escapes_bars():
    table = format_table(summarize([record(task="a|b"), record(task="c")]), "markdown").splitlines()

    assert table[0].startswith("| task | method | shots |")
    assert table[1].startswith("| :-- | :-- | --: |")
    assert table[2].startswith("| a\\|b | lora | 16 |")


def test_the_task_has_a_column_only_where_there_are_several():
    one, two = [record(task="a")], [record(task="a"), record(task="b")]

    assert not format_table(summarize(one)).startswith("task")
    assert format_table(summarize(two)).startswith("task")


def test_a_setting_that_most_runs_have_from_their_preset_goes_without_saying():
    usual = {"rank": 8, "encoder": "both"}
    variants = [usual, {**usual, "encoder": "text"}, {**usual, "rank": 2}]

    rows = summarize([record(settings=settings) for settings in variants])

    assert [row.label for row in rows] == ["lora", "lora, encoder text", "lora, rank 2"]
    assert usual_settings([record(settings=settings) for settings in variants]) == {
        ("lora", "none"): {"rank": "8", "encoder": "both"}
    }


def test_a_setting_that_most_runs_have_but_not_from_their_preset_is_named():
    rows = summarize([record(seed=seed, settings={"rank": rank}) for seed, rank in enumerate((4, 4, 4, 8))])

    assert [row.label for row in rows] == ["lora, rank 4", "lora, rank 8"]


def test_half_of_the_runs_are_not_most_of_them():
    rows = summarize([record(settings={"rank": rank}) for rank in (8, 2)])

    assert [row.label for row in rows] == ["lora, rank 8", "lora, rank 2"]


def test_what_is_switched_off_goes_without_saying():
    rows = summarize([record(settings={"gradient_checkpointing": on}) for on in (True, False)])

    assert [row.label for row in rows] == ["lora, gradient-checkpointing True", "lora"]

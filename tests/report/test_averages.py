from __future__ import annotations

import math
import statistics

from hypothesis import given
from hypothesis import strategies as st

from lowshot.report.averages import averages

from .factory import record, rival, zero_shot

FRACTIONS = st.floats(0, 1, allow_nan=False)


def on(tasks, seeds=(1, 2), accuracy=lambda task, seed: 0.5, **changes):
    return [record(task=t, seed=s, accuracy=accuracy(t, s), **changes) for t in tasks for s in seeds]


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS, FRACTIONS), min_size=2, max_size=5))
def test_the_mean_is_over_data_sets_for_each_seed_and_the_deviation_over_these_means(accuracies):
    tasks = [f"task {i}" for i in range(len(accuracies))]
    (row,) = averages(on(tasks, (0, 1, 2), lambda task, seed: accuracies[int(task[5:])][seed])).rows
    means = [statistics.fmean(of_task[seed] for of_task in accuracies) for seed in range(3)]

    assert row.task == f"average of {len(tasks)} data sets"
    assert row.seeds == 3
    assert math.isclose(row.accuracy_mean, statistics.fmean(means), abs_tol=1e-12)
    assert math.isclose(row.accuracy_std, statistics.stdev(means), abs_tol=1e-12)


def test_series_and_shots_that_a_data_set_lacks_are_left_out_and_named():
    records = [*on("ab"), *on("ab", shots=4), *on("a", shots=1), *on("b", method="dora")]

    averaged = averages(records)

    assert [(row.label, row.shots) for row in averaged.rows] == [("lora", 4), ("lora", 16)]
    assert averaged.left_out == ("lora, 1 shot: no run on b", "dora, 16 shots: no run on a")


def test_what_was_not_judged_on_every_data_set_is_left_out():
    averaged = averages([*on("a"), *on("b", accuracy=lambda task, seed: None if seed == 2 else 0.5)])

    assert averaged.rows == ()
    assert averaged.left_out == ("lora, 16 shots: not judged on b",)


def test_only_seeds_that_all_data_sets_have_count():
    (row,) = averages(
        [*on("a", (1, 2, 3), lambda task, seed: seed / 10), *on("b", (2, 3), lambda task, seed: 0.0)]
    ).rows
    apart = averages([*on("a", (1,)), *on("b", (2,))])

    assert (row.seeds, round(row.accuracy_mean, 6)) == (2, 0.125)
    assert apart.left_out == ("lora, 16 shots: no seed that all data sets have",)


def test_what_learns_nothing_has_one_run_and_no_deviation():
    (row,) = averages([zero_shot(0.6, task="a"), zero_shot(0.8, task="b")]).rows

    assert (row.shots, row.seeds, row.accuracy_mean, row.accuracy_std) == (0, 1, 0.7, 0.0)


def test_costs_are_means_over_the_data_sets():
    costs = {"trainable_parameters": 30, "train_seconds": 3.0, "peak_memory_bytes": 300, "adapter_bytes": 50}
    more = {"trainable_parameters": 50, "train_seconds": 5.0, "peak_memory_bytes": 500, "adapter_bytes": 150}
    (row,) = averages([*on("a", **costs, evaluation_seconds=1.0), *on("b", **more, evaluation_seconds=2.0)]).rows

    assert (row.trainable_parameters, row.adapter_bytes) == (40, 100)
    assert (row.train_seconds, row.training_memory_bytes, row.evaluation_seconds) == (4.0, 400, 1.5)


def test_settings_that_differ_between_data_sets_are_not_averaged():
    averaged = averages([*on("a", settings={"rank": 2}), *on("b", settings={"rank": 8})])

    assert averaged.rows == ()
    assert averaged.left_out == ("lora, 16 shots: rank is not the same on all data sets",)


def test_a_setting_that_is_not_known_here_counts_as_one_that_decides_answers():
    averaged = averages([*on("a", settings={"of_the_future": 1}), *on("b", settings={"of_the_future": 2})])

    assert averaged.left_out == ("lora, 16 shots: of-the-future is not the same on all data sets",)


def test_settings_of_the_data_and_of_the_machine_may_differ():
    (row,) = averages(
        [
            *on("a", settings={"template": "{} texture.", "threads": 1, "root": "/data"}),
            *on("b", settings={"template": "a photo of a {}.", "threads": 2, "root": "/scratch"}),
        ]
    ).rows

    assert "template" not in dict(row.settings)
    assert dict(row.settings)["rank"] == "2"


def test_a_variant_on_one_data_set_is_averaged_with_the_same_settings_on_the_others():
    records = [*on("ab", settings={"rank": 2}), *on("a", settings={"rank": 8})]

    averaged = averages(records)

    assert [row.label for row in averaged.rows] == ["lora, rank 2"]
    assert averaged.left_out == ("lora, rank 8, 16 shots: no run on b",)


def test_protocols_are_averaged_among_themselves():
    halves = {"data": {"protocol": "base-to-new"}}
    base = [record(task=f"{t} (base)", accuracy=0.9, recipe=halves) for t in "ab"]

    rows = averages([*on("ab"), *base, rival(task="a"), rival(task="b")]).rows

    assert [(row.task, row.label) for row in rows] == [
        ("average of 2 data sets", "lora"),
        ("average of 2 data sets", "pixels + logistic regression"),
        ("average of 2 data sets (base-to-new)", "lora"),
    ]


def test_one_data_set_is_no_average():
    assert averages(on("a")).rows == ()
    assert averages([]).rows == ()

from __future__ import annotations

import pytest

from lowshot.errors import InputError
from lowshot.report.published import ELEVEN, PublishedFigure
from lowshot.report.tables.beside import is_outside
from lowshot.report.tables.comparison import comparison_tables
from refusing import refused

from ..factory import record, rival, zero_shot

B16 = {"id": "openai/clip-vit-base-patch16", "weights_sha256": "ab" * 32}
SEEDS = (1, 2, 3)


def grid(tasks, methods, shots=(4,), seeds=SEEDS, **changes):
    """Methods with their accuracy; seeds differ by a point, data sets by two, so that no difference is tied."""
    return [
        record(method, k, seed, accuracy + seed / 100 + 0.02 * i * (1 + accuracy), task=task, **changes)
        for i, task in enumerate(tasks)
        for method, accuracy in methods.items()
        for k in shots
        for seed in seeds
    ]


def lines(table):
    """Block and label -> what the cells say, bold ones with stars."""
    return {
        (block.heading, line.label): [f"*{cell.text}*" if cell.is_best else cell.text for cell in line.cells]
        for block in table.blocks
        for line in block.lines
    }


def said(table):
    return " ".join(table.notes)


def test_several_data_sets_stand_side_by_side_with_a_block_for_each_number_of_shots():
    table, _, _ = comparison_tables(
        [zero_shot(0.7, task="a"), zero_shot(0.8, task="b"), *grid("ab", {"lora": 0.5}, (1, 4))]
    )

    assert table.columns == ("a", "b", "average")
    assert lines(table)["0 shots", "zero-shot"] == ["70.0", "80.0", "75.0"]
    assert lines(table)["1 shot", "lora"] == lines(table)["4 shots", "lora"]
    assert lines(table)["4 shots", "lora"] == ["52.0 ± 1.0", "55.0 ± 1.0", "53.5 ± 1.0"]


def test_all_methods_stand_in_one_table_by_shots_with_what_they_cost_at_the_most():
    records = [zero_shot(0.7, task="a"), zero_shot(0.8, task="b"), *grid("ab", {"lora": 0.5, "dora": 0.6}, (1, 4))]
    records += grid("ab", {"gda": 0.4}, (1,), train_seconds=2.0, trainable_parameters=0, adapter_bytes=0)

    _, glance, _ = comparison_tables(records)

    assert glance.columns == ("0 shots", "1 shot", "4 shots", "trainable", "adapter KB", "training s")
    assert lines(glance)["", "zero-shot"] == ["75.0", "", "", "0", "-", "0.0"]
    assert lines(glance)["", "lora"] == ["", "53.5 ± 1.0", "53.5 ± 1.0", "3,072", "13", "14"]
    assert lines(glance)["", "gda"] == ["", "43.4 ± 1.0", "", "0", "-", "2.0"]
    assert "at the largest number of shots" in said(glance)


def test_one_data_set_has_the_shots_side_by_side():
    table, _ = comparison_tables([zero_shot(0.7), *grid(["digits"], {"lora": 0.5, "dora": 0.6}, (1, 16))])

    assert table.columns == ("0 shots", "1 shot", "16 shots")
    assert lines(table)["", "zero-shot"] == ["70.0", "", ""]
    assert lines(table)["", "lora"] == ["", "52.0 ± 1.0", "52.0 ± 1.0"]


def test_base_to_new_has_both_halves_and_the_harmonic_mean_of_the_averages():
    protocol = {"data": {"protocol": "base-to-new"}, "method": {"method": "lora"}}
    records = [
        record(
            task=f"{task} (base)",
            recipe=protocol,
            metrics={"acc1": base, "others": {"new": {"acc1": new}}, "harmonic_mean": 2 * base * new / (base + new)},
        )
        for task, base, new in (("a", 0.8, 0.4), ("b", 0.6, 0.6))
    ]

    table, _ = comparison_tables(records)

    assert table.columns == ("base", "new", "harmonic mean")
    assert lines(table)["average, 16 shots", "lora"] == ["70.0", "50.0", "58.3"]
    assert lines(table)["a, 16 shots", "lora"] == ["80.0", "40.0", "53.3"]
    assert "harmonic mean that of both averages" in said(table)


def test_a_transfer_has_its_targets_side_by_side_and_a_table_for_each_source():
    recipe = {"data": {"protocol": "cross-dataset"}}
    others = {"acc1": 0.7, "others": {"x": {"acc1": 0.5}, "y": {"acc1": 0.3}}, "mean_of_others": 0.4}
    tables = comparison_tables([record(task=t, recipe=recipe, metrics=others) for t in ("a", "b")])

    assert [table.title.split(", ")[-1] for table in tables[::2]] == ["learnt on a", "learnt on b"]
    assert tables[0].columns == ("a", "x", "y", "mean of the others")
    assert lines(tables[0])["16 shots", "lora"] == ["70.0", "50.0", "30.0", "40.0"]


def test_transfers_are_compared_over_their_targets_without_the_source():
    def transfer(method, accuracy):
        others = {f"target {i}": {"acc1": accuracy + i / 1000 * accuracy} for i in range(7)}
        metrics = {"acc1": 0.9, "others": others, "mean_of_others": accuracy * 1.003}
        return record(method, task="imagenet", recipe={"data": {"protocol": "cross-dataset"}}, metrics=metrics)

    table, _ = comparison_tables([transfer("lora", 0.6), transfer("dora", 0.5)])

    assert "exact, on 7 pairs, the means of each data set" in said(table)
    assert lines(table)["16 shots", "lora"][-1] == "*60.2*"


def test_backbones_and_protocols_have_tables_of_their_own_and_rivals_join_each_backbone():
    tables = comparison_tables(
        [record(), record(model=B16), rival(), record(recipe={"data": {"protocol": "base-to-new"}})]
    )
    labels = [{label for _, label in lines(table)} for table in tables[::2]]

    assert [table.title for table in tables[::2]] == [
        "Accuracy in percent, the built-in model, digits",
        "Accuracy in percent, ViT-B/16 (openai/clip-vit-base-patch16), digits",
        "Accuracy in percent, the built-in model, base-to-new",
    ]
    assert labels == [{"lora", "pixels + logistic regression"}] * 2 + [{"lora"}]


def test_weights_that_differ_under_one_name_are_not_mixed():
    table, _ = comparison_tables([record(), record(seed=2, model={"id": "builtin", "weights_sha256": "cd" * 32})])

    assert {label for _, label in lines(table)} == {"lora, weights abababab", "lora, weights cdcdcdcd"}


def test_what_was_not_judged_is_a_dash():
    table, _ = comparison_tables([record(task="a"), record(task="b", accuracy=None)])

    assert lines(table)["16 shots", "lora"] == ["97.0", "-", "-"]
    assert "No average: lora, 16 shots: not judged on b." in said(table)


def test_the_best_average_is_bold_where_the_test_supports_it():
    eight = [f"task {i}" for i in range(8)]
    table, _ = comparison_tables(grid(eight, {"lora": 0.6, "dora": 0.5}))

    assert lines(table)["4 shots", "lora"][-1].startswith("*")
    assert not any(text.startswith("*") for text in lines(table)["4 shots", "lora"][:-1])
    assert not any(text.startswith("*") for text in lines(table)["4 shots", "dora"])
    assert "8 pairs, the means of each data set" in said(table)
    assert "Holm over the 1 comparison of this table" in said(table)


def test_the_best_is_not_bold_where_chance_would_do():
    eight = [f"task {i}" for i in range(8)]
    near = [
        record(method, 4, seed, 0.5 + sign * (i - 3) / 100, task=task)
        for i, task in enumerate(eight)
        for method, sign in (("lora", 1), ("dora", -1))
        for seed in SEEDS
    ]
    table, _ = comparison_tables(near)

    assert not any(text.startswith("*") for cells in lines(table).values() for text in cells)
    assert "Nothing is in bold: at 4 shots no method is better than every other" in said(table)


def test_too_few_pairs_are_said_to_support_nothing():
    table, _ = comparison_tables(grid(["digits"], {"lora": 0.9, "dora": 0.1}))

    assert not any(text.startswith("*") for cells in lines(table).values() for text in cells)
    assert "so few pairs support no difference (corrected p is 0.25 at the least)" in said(table)
    assert "new draws on these data, of no others" in said(table)


def test_published_figures_stand_below_the_same_method_with_the_difference():
    table, _, _ = comparison_tables(grid(["dtd"], {"lora": 0.618}, model=B16))

    assert lines(table)["", "lora"] == ["63.8 ± 1.0"]
    assert lines(table)["", "CLIP-LoRA, quoted"] == ["63.8 (+0.0)"]
    assert "HALoRA (AAAI 2026) Table 5" in said(table)


def test_a_difference_beyond_the_seeds_spread_is_marked():
    table, _, _ = comparison_tables(grid(["dtd"], {"lora": 0.5}, model=B16))
    single, _, _ = comparison_tables(grid(["dtd"], {"lora": 0.5}, seeds=(1,), model=B16))

    assert lines(table)["", "CLIP-LoRA, quoted"] == ["63.8 (-11.8!)"]
    assert lines(single)["", "CLIP-LoRA, quoted"] == ["63.8 (-12.8)"]


@pytest.mark.parametrize(
    ("published", "uncertainty", "outside"),
    [(0.52, None, False), (0.5204, None, False), (0.521, None, True), (0.521, 0.001, False), (0.479, None, True)],
)
def test_the_spread_is_two_deviations_the_reading_error_and_the_rounding(published, uncertainty, outside):
    figure = PublishedFigure("CLIP-LoRA", "ViT-B/16", "dtd", 4, published, "quoted", uncertainty, "somewhere")

    assert is_outside(figure, [0.49, 0.5, 0.51]) is outside
    assert is_outside(figure, [0.1]) is False


def test_the_average_has_its_published_one_over_the_same_data_sets_alone():
    eleven, *_ = comparison_tables(grid(ELEVEN, {"lora": 0.5}, model=B16))
    ten, *_ = comparison_tables(grid(ELEVEN[:10], {"lora": 0.5}, model=B16))

    assert lines(eleven)["4 shots", "CLIP-LoRA, quoted"][-1].startswith("77.4 ")
    assert lines(ten)["4 shots", "CLIP-LoRA, quoted"][-1] == ""


def test_other_published_methods_have_a_table_of_their_own_with_kinds_and_sources():
    _, others, _ = comparison_tables(grid(["dtd"], {"lora": 0.6}, model=B16))

    assert lines(others)["", "PLOT++, quoted"] == ["62.4"]
    assert ("", "CLIP-LoRA, quoted") not in lines(others)
    assert "withdrawn: claimed once, and taken back by its authors" in said(others)
    assert "Source of PLOT++" in said(others)


def test_the_built_in_model_has_no_published_figures():
    assert len(comparison_tables(grid(["dtd"], {"lora": 0.6}))) == 2


def test_templates_of_zero_shot_that_are_not_the_papers_are_pointed_out():
    def note(template):
        return said(comparison_tables([zero_shot(task="dtd", model=B16, settings={"template": template})])[0])

    assert "--template coop" in note("a photo of a {}.")
    assert "--template coop" not in note("coop")


def test_costs_are_those_of_the_average_and_say_so():
    *_, costs = comparison_tables(grid("ab", {"lora": 0.5}, evaluation_seconds=3.0))

    assert costs.columns == ("shots", "trainable", "% of total", "adapter KB", "training s", "memory MB", "judging s")
    assert lines(costs)["", "lora"] == ["4", "3,072", "0.15", "13", "14", "410", "3.0"]
    assert "Means over the data sets." in costs.notes


def test_uncommitted_changes_several_commits_and_machines_are_one_line_each():
    def provenance_of(commit, dirty, machine):
        return {"commit": commit * 40, "dirty": dirty, "hardware": {"processor": machine}}

    *_, clean = comparison_tables([record(seed=1), record(seed=2)])
    *_, mixed = comparison_tables(
        [
            record(seed=1, provenance=provenance_of("a", True, "x")),
            record(seed=2, provenance=provenance_of("b", False, "y")),
        ]
    )

    assert "commit" not in said(clean)
    assert mixed.notes[-3:] == (
        "1 of 2 runs was made from sources with uncommitted changes.",
        "The runs are of 2 commits of lowshot: aaaaaaaaaa, bbbbbbbbbb.",
        "The runs are of 2 machines; compare their times and memory with care.",
    )


def test_a_data_set_called_as_a_mean_is_refused():
    with refused(InputError, "'average'", "column"):
        comparison_tables([record(task="average")])

from __future__ import annotations

import pytest

from lowshot.methods import METHODS
from lowshot.report.page.curves import (
    Look,
    baselines,
    counterpart,
    curves,
    kind_text,
    published_curves,
    published_tip,
    series_numbers,
)
from lowshot.report.page.series import COLOURS
from lowshot.report.page.tips import Origins
from lowshot.report.published import PublishedFigure
from lowshot.report.summary import runs_by_row, summarize

from ..factory import record, rival, zero_shot


def runs_and_look(records):
    runs = runs_by_row(records)
    return runs, Look(series_numbers(list(runs)), Origins(records))


def figure(method="CLIP-LoRA", shots=4, accuracy=0.7, kind="quoted", uncertainty=None, backbone="ViT-B/16"):
    return PublishedFigure(method, backbone, "dtd", shots, accuracy, kind, uncertainty, "a paper")


def drawn(figures, records=None, *, labelled=True):
    runs, look = runs_and_look([record(), zero_shot()] if records is None else records)
    return published_curves(figures, runs, look, labelled=labelled)


def test_methods_and_rivals_have_numbers_and_zero_shot_has_none():
    rows = summarize([zero_shot(), record(), record("dora"), rival(), record(task="greek")])

    assert list(series_numbers(rows).values()) == [0, 2, 1]


def colours(*records):
    """Methods' colours on a page of these records."""
    return {key[:2]: number % COLOURS for key, number in series_numbers(summarize(records)).items()}


def test_a_method_has_the_same_colour_on_pages_of_other_methods():
    first = colours(rival(), record("lora-xs"), record("lora"), record("dora"))
    second = colours(record("gda"), record("dora"), record("lora-xs"), record("lora", quantize="nf4"))

    assert {first[key] == second[key] for key in first.keys() & second.keys()} == {True}
    assert len(set(second.values())) == 4


def test_methods_have_different_colours_while_there_are_some_and_then_different_marks():
    few = [record("lora", settings={"rank": rank}) for rank in (1, 2, 4, 8, 16, 32)]
    many = [record(method) for method in METHODS if method not in ("zero-shot", "lora")] + few

    assert len({number % COLOURS for number in series_numbers(summarize(few)).values()}) == 6
    numbers = list(series_numbers(summarize(many)).values())
    assert len(set(numbers)) == len(numbers) and max(numbers) < 42


def test_curves_are_of_what_learnt_and_was_judged():
    runs, look = runs_and_look([zero_shot(), record(shots=1), record(shots=4), record("dora", accuracy=None)])

    (line,) = curves(runs, look)

    assert (line.label, [point.x for point in line.points]) == ("lora", [1, 4])
    assert [baseline.label for baseline in baselines(runs, look)] == ["zero-shot"]


def test_a_published_method_that_was_run_here_has_its_number():
    (line,) = drawn([figure(shots=1), figure(shots=4), figure(shots=0)])

    assert (line.label, line.number, line.is_published) == ("CLIP-LoRA (quoted)", 0, True)
    assert [point.x for point in line.points] == [1, 4]


def test_of_several_figures_for_a_point_the_best_known_is_drawn_and_all_kinds_are_named():
    figures = [figure(kind="digitised", accuracy=0.6, uncertainty=0.005), figure(accuracy=0.7)]
    figures.append(figure(shots=8, kind="digitised", accuracy=0.8, uncertainty=0.005))

    (line,) = drawn(figures)

    assert [(point.mean, point.deviation) for point in line.points] == [(0.7, 0.0), (0.8, 0.005)]
    assert line.label == "CLIP-LoRA (quoted, digitised)"


def test_a_withdrawn_claim_is_a_curve_of_its_own():
    ours = [record(quantize="nf4", settings={"encoder": "vision", "scaling": "rank", "adam_epsilon": 1e-5})]
    figures = [figure("CLIP-QLoRA", kind="readme"), figure("CLIP-QLoRA, claim of July 2025", kind="withdrawn")]

    lines = drawn(figures, ours)

    assert [line.label for line in lines] == [
        "CLIP-QLoRA (readme)",
        "CLIP-QLoRA, claim of July 2025 (withdrawn)",
    ]
    assert {line.number for line in lines} == {0}
    assert [line.label for line in drawn(figures, ours, labelled=False)] == ["CLIP-QLoRA (readme)"]


def test_what_was_withdrawn_is_never_mixed_with_what_stands():
    lines = drawn([figure(accuracy=0.7), figure(shots=8, accuracy=0.9, kind="withdrawn")])

    assert [[point.mean for point in line.points] for line in lines] == [[0.7], [0.9]]


@pytest.mark.parametrize("kind", ["replication", "log"])
def test_replications_and_logs_are_left_to_the_table(kind):
    assert drawn([figure(kind=kind)]) == []


def test_the_best_known_of_several_published_curves_of_one_method_is_drawn():
    again = "CLIP-LoRA, re-run by CLIP-SVD's authors"

    for figures in ([figure(again, kind="readme"), figure()], [figure(), figure(again, kind="readme")]):
        (line,) = drawn(figures)
        assert line.label == "CLIP-LoRA (quoted)"


def test_of_other_methods_the_best_papers_are_drawn_and_only_where_they_are_asked_for():
    names = ["A", "B", "C", "D"]
    figures = [figure(name, shots, 0.5 + i / 100) for i, name in enumerate(names) for shots in (1, 4, 16)]
    figures += [figure("few shots", 16, 0.9), *(figure("boast", shots, 0.99, "readme") for shots in (1, 4, 16))]

    lines = drawn(figures)

    assert [line.label for line in lines] == ["D (quoted)", "C (quoted)", "B (quoted)"]
    assert {line.number for line in lines} == {-1}
    assert drawn(figures, labelled=False) == []


def test_backbones_are_named_where_there_are_several():
    lines = drawn([figure(), figure(backbone="ViT-L/14")])

    assert {line.label for line in lines} == {"CLIP-LoRA ViT-B/16 (quoted)", "CLIP-LoRA ViT-L/14 (quoted)"}


def test_the_counterpart_of_a_row_has_its_method_and_shots():
    (row,) = summarize([record(shots=4)])
    wanted = figure(kind="digitised", uncertainty=0.002)

    assert counterpart(row, [figure(shots=1), figure("PLOT++"), figure(kind="replication"), wanted]) == wanted
    assert counterpart(row, [figure(shots=1)]) is None


def test_a_published_figure_says_how_it_is_known_and_from_where():
    digitised = figure(kind="digitised", uncertainty=0.005)

    assert kind_text(digitised) == "digitised, ±\u00a00.5"
    assert published_tip(digitised).splitlines() == [
        "CLIP-LoRA, ViT-B/16, 4 images per class",
        "published: 70.0 % (digitised, ±\u00a00.5)",
        "a paper",
    ]

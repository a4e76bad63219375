from __future__ import annotations

import pytest

from lowshot.report.page.headline import headline, key_figures, main_result, standfirst
from lowshot.report.summary import summarize

from ..factory import record, rival, zero_shot


def words(text):
    return text.replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        (
            [zero_shot(), record(accuracy=0.971)],
            "16 images per class take digits from 78.0 % zero-shot to 97.1 % with an adapter of 13 KB.",
        ),
        ([record(shots=1)], "1 image per class takes digits to 97.0 % with an adapter of 13 KB."),
        ([record(adapter_bytes=0)], "16 images per class take digits to 97.0 %."),
        ([zero_shot()], "digits: 78.0 % zero-shot, before a single image is learnt from."),
        ([rival()], "digits: pixels + logistic regression reaches 92.0 %."),
        ([record(accuracy=None)], "digits: no accuracy to report."),
    ],
)
def test_headline_says_no_more_than_the_rows(records, expected):
    assert words(headline(summarize(records))) == expected


def test_an_average_has_its_article_and_many_adapters():
    rows = summarize([zero_shot(task="average of 3 data sets"), record(task="average of 3 data sets")])

    assert words(headline(rows)) == (
        "16 images per class take the average of 3 data sets from 78.0 % zero-shot to 97.0 % with adapters of 13 KB."
    )


def test_main_result_is_at_the_most_shots_even_if_fewer_did_better():
    rows = summarize([record("lora", 4, accuracy=0.99), record("dora", 16, accuracy=0.9)])

    assert main_result(rows).name == "dora"


def test_of_equal_methods_the_smallest_adapter_is_the_main_result():
    rows = summarize([record("lora"), record("lora-xs", adapter_bytes=2_000), record("dora", adapter_bytes=20_000)])

    assert main_result(rows).name == "lora-xs"


def test_a_rival_is_never_the_main_result_but_is_named_beside_it():
    rows = summarize([record(accuracy=0.8), rival(accuracy=0.9), rival(shots=4, accuracy=0.95)])

    assert main_result(rows).name == "lora"
    assert "For comparison, pixels + logistic regression reaches 90.0 %." in words(standfirst(rows))


def test_several_zero_shot_rows_are_not_compared_with():
    backbones = [zero_shot(accuracy=a, settings={"model": model}) for a, model in ((0.6, "small"), (0.7, "large"))]

    assert "zero-shot" not in headline(summarize([*backbones, record()]))


def test_standfirst_tells_how_sure_and_what_the_smallest_adapter_reaches():
    small = [record("lora-xs", seed=seed, accuracy=0.96, adapter_bytes=2_149) for seed in (1, 2)]
    rows = summarize([*(record(seed=seed, accuracy=0.95 + seed / 100) for seed in (1, 2)), *small])

    assert words(standfirst(rows)) == (
        "Method: lora, the highest mean of 2 methods, over 2 runs (± 0.7 points). lora-xs reaches 96.0 % with 2.1 KB."
    )


def test_standfirst_owns_up_to_a_single_run():
    assert standfirst(summarize([record()])) == "Method: lora; a single run, so no deviation is known."


def test_key_figures_are_those_of_the_main_result():
    figures = key_figures(summarize([zero_shot(), record()]))

    assert [(name, words(value)) for name, value, _ in figures] == [
        ("zero-shot", "78.0 %"),
        ("lora, 16 per class", "97.0 %"),
        ("adapter", "13 KB"),
        ("training", "14 s"),
    ]
    assert [figure.name for figure in figures if figure.is_result] == ["lora, 16 per class"]


def test_without_a_main_result_there_are_no_key_figures():
    rows = summarize([zero_shot(), rival()])

    assert (key_figures(rows), standfirst(rows)) == ([], "")

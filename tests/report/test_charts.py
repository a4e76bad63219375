from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.report.charts import (
    Baseline,
    Point,
    Series,
    Wording,
    compact,
    line_chart,
    percent_ticks,
    scatter_chart,
    series_style,
)

FRACTIONS = st.floats(0, 1)
WORDING = Wording("chart", "Accuracy of <all>", "images per class")
ZERO_SHOT = Baseline("zero-shot", 0.78, "tip")


def series(label="lora", number=0, points=((1, 0.8), (16, 0.97)), is_rival=False, deviation=0.01):
    return Series(label, number, is_rival, tuple(Point(x, mean, deviation, f"{label} {x}") for x, mean in points))


def texts(svg):
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter("text")]


def heights_of_labels(svg, right_of):
    spans = [span for text in ET.fromstring(svg).iter("text") for span in text.iter("tspan")]
    return sorted(float(span.get("y")) for span in spans if float(span.get("x")) > right_of)


@given(FRACTIONS, FRACTIONS)
def test_ticks_enclose_the_values_at_even_steps(one, other):
    low, high = sorted((one, other))

    ticks = percent_ticks(low, high)

    assert ticks[0] <= 100 * low + 1e-9
    assert ticks[-1] >= 100 * high - 1e-9
    assert 2 <= len(ticks) <= 7
    assert len({b - a for a, b in itertools.pairwise(ticks)}) == 1
    assert ticks[0] >= 0


@pytest.mark.parametrize(("level", "ticks"), [(1.0, [99, 100]), (0.0, [0, 1]), (0.5, [50, 51])])
def test_ticks_of_one_value_stay_between_0_and_100(level, ticks):
    assert percent_ticks(level, level) == ticks


@pytest.mark.parametrize(("number", "text"), [(1, "1"), (100, "100"), (1e4, "10K"), (1e6, "1M"), (1e9, "1G")])
def test_compact_numbers(number, text):
    assert compact(number) == text


@pytest.mark.parametrize("draw", [line_chart, scatter_chart])
def test_a_chart_is_well_formed_and_has_an_accessible_name(draw):
    root = ET.fromstring(draw([series()], [ZERO_SHOT], WORDING))

    title = root.find("title")
    assert root.get("role") == "img"
    assert (title.text, title.get("id")) == ("Accuracy of <all>", root.get("aria-labelledby"))


def test_lines_of_equal_methods_have_labels_that_do_not_touch():
    lines = [series(name, i) for i, name in enumerate(["lora", "dora", "lora-xs", "qlora", "qdora", "qlora-xs"])]

    heights = heights_of_labels(line_chart(lines, [ZERO_SHOT], WORDING), right_of=390)

    assert len(heights) == 7
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 18


def test_a_chart_grows_with_many_methods_so_that_all_labels_fit():
    svg = line_chart([series(f"lora, rank {i}", i) for i in range(40)], [], WORDING)

    height = float(ET.fromstring(svg).get("viewBox").split()[3])
    assert heights_of_labels(svg, right_of=390)[-1] < height


def test_long_names_are_wrapped_and_cut():
    svg = line_chart([series("pixels + logistic regression"), series("one two three " * 10, 1)], [], WORDING)

    spans = [span.text for span in ET.fromstring(svg).iter("tspan")]
    assert "pixels +" in spans
    assert max(map(len, spans)) <= 14
    assert any(span.endswith("…") for span in spans)


def test_a_method_missing_at_some_shots_is_drawn_where_it_is_known():
    svg = line_chart([series(), series("dora", 1, points=[(4, 0.9)])], [], WORDING)

    assert {"1", "4", "16"} <= set(texts(svg))
    tips = [group.get("data-tip") for group in ET.fromstring(svg).iter("g") if group.get("data-tip")]
    assert tips == ["lora 1", "lora 16", "dora 4"]


def test_deviations_are_drawn_within_0_and_100_percent():
    svg = line_chart([series(points=[(1, 0.0), (16, 1.0)], deviation=0.2)], [], WORDING)

    bars = [path.get("d") for path in ET.fromstring(svg).iter("path") if path.get("class") == "whisker"]
    heights = [float(y) for bar in bars for y in re.findall(r"[ V]([\d.]+)", bar)]
    assert len(bars) == 2
    assert all(34 <= y <= 348 for y in heights)


def test_a_single_seed_has_no_bar():
    assert "whisker" not in line_chart([series(deviation=0)], [], WORDING)


def test_rivals_and_baselines_have_their_own_style():
    svg = line_chart([series(is_rival=True)], [ZERO_SHOT], WORDING)

    assert 'class="rival"' in svg
    assert 'class="baseline"' in svg
    assert series_style(None, is_rival=False) == "baseline"
    assert series_style(7, is_rival=False) == "series-1"


def test_the_scatter_chart_spans_whole_powers_of_ten():
    points = [series("lora-xs", points=[(2304, 0.96)]), series("lora", 1, points=[(21504, 0.97)])]

    svg = scatter_chart(points, [ZERO_SHOT], Wording("chart", "title", "trainable parameters"))

    assert {"1K", "10K", "100K"} <= set(texts(svg))


def test_methods_of_equal_cost_and_accuracy_have_labels_that_do_not_touch():
    points = [series(name, i, points=[(21504, 0.97)]) for i, name in enumerate(["lora", "qlora", "dora", "qdora"])]

    root = ET.fromstring(scatter_chart(points, [], WORDING))

    places = {(span.get("y"), text.get("text-anchor")) for text in root.iter("text") for span in text.iter("tspan")}
    assert len(places) == 4

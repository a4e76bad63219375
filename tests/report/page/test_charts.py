from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET

import pytest

from lowshot.report.page.axes import Wording
from lowshot.report.page.charts import MOST_LINES, line_chart, scatter_chart, small_chart
from lowshot.report.page.series import Baseline, Point, Series, key_mark, series_style

WORDING = Wording("chart", "Accuracy of <all>", "images per class")
ZERO_SHOT = Baseline("zero-shot", 0.78, "tip")


def series(label="lora", number=0, points=((1, 0.8), (16, 0.97)), is_rival=False, deviation=0.01):
    return Series(label, number, is_rival, tuple(Point(x, mean, deviation, f"{label} {x}") for x, mean in points))


def texts(svg):
    return ["".join(text.itertext()) for text in ET.fromstring(svg).iter("text")]


def heights_of_labels(svg, right_of):
    spans = [span for text in ET.fromstring(svg).iter("text") for span in text.iter("tspan")]
    return sorted(float(span.get("y")) for span in spans if float(span.get("x")) > right_of)


@pytest.mark.parametrize("draw", [line_chart, small_chart, scatter_chart])
def test_a_chart_is_well_formed_and_has_an_accessible_name(draw):
    root = ET.fromstring(draw([series()], [ZERO_SHOT], WORDING))

    title = root.find("title")
    assert root.get("role") == "img"
    assert (title.text, title.get("id")) == ("Accuracy of <all>", root.get("aria-labelledby"))


def test_lines_of_equal_methods_have_labels_that_do_not_touch():
    lines = [series(name, i) for i, name in enumerate(["lora", "dora", "lora-xs", "qlora", "qdora", "qlora-xs"])]

    heights = heights_of_labels(line_chart(lines, [ZERO_SHOT], WORDING), right_of=400)

    assert len(heights) == 7
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 20


def test_a_chart_grows_with_many_methods_so_that_all_labels_fit():
    svg = line_chart([series(f"lora, rank {i}", i) for i in range(40)], [], WORDING)

    height = float(ET.fromstring(svg).get("viewBox").split()[3])
    assert heights_of_labels(svg, right_of=400)[-1] < height


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


def test_methods_of_equal_cost_and_accuracy_have_labels_that_do_not_touch():
    points = [series(name, i, points=[(21504, 0.97)]) for i, name in enumerate(["lora", "qlora", "dora", "qdora"])]

    root = ET.fromstring(scatter_chart(points, [], WORDING))

    places = {(span.get("y"), text.get("text-anchor")) for text in root.iter("text") for span in text.iter("tspan")}
    assert len(places) == 4


def test_a_published_curve_is_told_from_our_own_and_lies_below_it():
    theirs = Series("CLIP-LoRA (quoted)", 0, False, (Point(4, 0.9, 0.0, "quoted"),), is_published=True)
    unknown = Series("PLOT++ (digitised)", -1, False, (Point(4, 0.8, 0.01, "digitised"),), is_published=True)

    svg = line_chart([series(), theirs, unknown], [], WORDING)

    groups = [group.get("class") for group in ET.fromstring(svg).iter("g") if group.get("class")]
    assert groups == ["series-0 published", "other published", "series-0"]
    assert "label series-0 published" in svg


def test_published_curves_leave_the_dodging_of_our_own_as_it_is():
    theirs = Series("CLIP-LoRA", 0, False, (Point(1, 0.9, 0.0, "quoted"),), is_published=True)
    own = [series(), series("dora", 1)]

    def places(svg):
        return re.findall(r'translate\(([\d.]+) [\d.]+\)" class="marker"', svg)

    assert set(places(line_chart(own, [], WORDING))) < set(places(line_chart([*own, theirs], [], WORDING)))


def test_small_charts_have_points_and_no_labels():
    svg = small_chart([series(), series("dora", 1)], [ZERO_SHOT], WORDING)

    assert svg.count('class="marker"') == 4
    assert "label" not in svg.replace("aria-labelledby", "")


def test_the_pareto_front_is_a_stair_from_its_first_point_to_the_edge():
    points = [(1000, 0.9), (2000, 0.85), (10_000, 0.95)]

    svg = scatter_chart([series(f"m{i}", i, points=[p], deviation=0) for i, p in enumerate(points)], [], WORDING)

    (path,) = [path.get("d") for path in ET.fromstring(svg).iter("path") if path.get("class") == "front"]
    corners = [tuple(map(float, corner.split())) for corner in path[1:].split("L")]
    assert len(corners) == 4
    assert [x for x, _ in corners] == sorted(x for x, _ in corners)
    assert [y for _, y in corners] == sorted((y for _, y in corners), reverse=True)


def test_what_is_no_better_than_zero_shot_makes_no_front():
    points = [(1000, 0.7), (10_000, 0.75)]

    assert "front" not in scatter_chart(
        [series(f"m{i}", i, points=[p]) for i, p in enumerate(points)], [ZERO_SHOT], WORDING
    )


def test_of_too_many_methods_the_front_alone_is_named():
    crowd = [series(f"m{i}", i, points=[(1000 + i, 0.9 - i / 100)]) for i in range(MOST_LINES + 1)]

    assert "m8" in texts(scatter_chart(crowd[1:], [], WORDING))
    assert [text for text in texts(scatter_chart(crowd, [], WORDING)) if text.startswith("m")] == ["m0"]


def test_the_first_42_methods_differ_in_colour_or_shape():
    assert len({key_mark(i, is_rival=False) for i in range(42)}) == 42


def test_labels_keep_off_the_steps_of_the_front():
    methods = [series("a", points=[(1000, 0.9)], deviation=0), series("b", 1, points=[(9000, 0.95)], deviation=0)]

    svg = scatter_chart(methods, [ZERO_SHOT], WORDING)

    root = ET.fromstring(svg)
    (path,) = [path.get("d") for path in root.iter("path") if path.get("class") == "front"]
    x, y = map(float, path[1:].split("L")[0].split())
    (label,) = [span for span in root.iter("tspan") if span.text == "a"]
    is_on_the_step = float(label.get("x")) > x and abs(float(label.get("y")) - 5 - y) < 10
    assert not is_on_the_step

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from lowshot.report.page.axes import Wording
from lowshot.report.page.reliability import Bin, Reliability, pooled_bins, reliability_chart, reliability_text

from ..factory import record

SURE = Reliability("lora", "series-0", (Bin(100, 0.5, 0.4), Bin(300, 0.9, 0.8)))


def judged(seed, *bins):
    return record(seed=seed, metrics={"acc1": 0.5, "reliability": list(bins)})


def test_bins_of_all_seeds_are_pooled_by_their_images():
    runs = [judged(1, [10, 0.62, 0.5], [90, 0.97, 1.0]), judged(2, [30, 0.66, 0.7])]

    assert pooled_bins(runs) == (Bin(40, pytest.approx(0.65), pytest.approx(0.65)), Bin(90, 0.97, 1.0))


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one():
    assert [b.images for b in pooled_bins([judged(1, [1, 9 / 15, 0.5], [2, 9.5 / 15, 0.5], [4, 10 / 15, 0.5])])] == [
        1,
        6,
    ]


def test_bins_at_both_ends_of_the_scale_are_kept():
    assert [b.images for b in pooled_bins([judged(1, [1, 0.0, 0.0], [2, 1.0, 1.0])])] == [1, 2]


@pytest.mark.parametrize("records", [[], [record()], [judged(1, [1, 0.5, 0.5]), record(seed=2)]])
def test_without_the_bins_of_every_run_there_are_none(records):
    assert pooled_bins(records) == ()


def test_the_calibration_error_weighs_bins_by_images():
    tilted = Reliability("lora", "series-0", (Bin(100, 0.5, 0.7), Bin(300, 0.9, 0.8)))

    assert tilted.error == pytest.approx(0.125)
    assert tilted.whole.images == 400


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.4, "too sure: 50.0"), (0.6, "not sure enough: 50.0"), (0.502, "as sure as it is right: 50.0")],
)
def test_words_say_in_which_direction_confidence_is_off(accuracy, words):
    text = reliability_text(Reliability("lora", "series-0", (Bin(10, 0.5, accuracy),))).replace("\u00a0", " ")

    assert text.startswith(f"lora is on average {words}")
    assert f"expected calibration error of {abs(50 - 100 * accuracy):.1f} points" in text


def test_the_area_of_a_dot_is_its_share():
    root = ET.fromstring(reliability_chart([SURE], Wording("chart", "title", "confidence, %")))

    small, large = (float(dot.get("r")) for dot in root.iter("circle"))
    assert (large / small) ** 2 == pytest.approx(3, rel=0.05)

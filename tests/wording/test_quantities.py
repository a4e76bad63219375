from __future__ import annotations

import pytest

from lowshot.wording.quantities import (
    accuracy_line,
    duration,
    ends,
    images_per_class,
    on_top_line,
    percent,
    share,
    size,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (percent(0.9712), "97.1 %"),
        (percent(1.0), "100.0 %"),
        (share(3072, 2_000_000), "0.15"),
        (share(650, 650), "100"),
        (share(0, 10), "0"),
        (share(1, 10**9), "< 0.001"),
        (share(1, 100_000), "0.001"),
        (share(99, 1000), "9.9"),
        (share(125, 1000), "12"),
        (share(1, 0), "-"),
        (size(0), "0.0 KB"),
        (size(2_149), "2.1 KB"),
        (size(9_940), "9.9 KB"),
        (size(9_960), "10 KB"),
        (size(999_000), "999 KB"),
        (size(999_999), "1,000 KB"),
        (size(1_000_000), "1.0 MB"),
        (size(1_250_000), "1.2 MB"),
        (size(2_500_000_000), "2,500 MB"),
        (duration(0.04), "0.0 s"),
        (duration(119), "119 s"),
        (duration(120), "2.0 min"),
        (duration(180), "3.0 min"),
        (duration(7200), "2.0 h"),
        (duration(9000), "2.5 h"),
        (ends([]), ""),
        (ends(["3", "3"]), "3"),
        (ends(["2", "2", "3"]), "2 to 3"),
        (images_per_class(1), "1 image per class"),
        (images_per_class(16), "16 images per class"),
        (
            accuracy_line({"acc1": 0.971, "acc1_interval": [0.9589, 0.982], "images": 1901, "split": "test"}),
            "accuracy 97.1 % (95.9-98.2) on 1,901 images: the test split",
        ),
        (
            accuracy_line({"acc1": 1.0, "images": 4, "split": "unseen"}),
            "accuracy 100.0 % on 4 images: images it has not learnt from",
        ),
        (
            accuracy_line({"map": 0.875, "images": 1200, "split": "test"}),
            "mean average precision 87.5 % on 1,200 images: the test split",
        ),
    ],
)
def test_numbers_in_writing(text, expected):
    assert text.replace("\u00a0", " ") == expected


@pytest.mark.parametrize(
    ("new", "known", "facts"),
    [
        (None, None, ["no image of the classes on top", "not known"]),
        ({"images": 1, "right": 1}, None, ["1 of 1 image", "100.0 %", "not known"]),
        (
            {"images": 8, "right": 6},
            {"images": 1200, "right": 900, "before": 960},
            ["6 of 8 images", "75.0 %", "900 of 1,200 images", "75.0 %; 80.0 % without"],
        ),
    ],
)
def test_classes_on_top_are_told_by_those_that_were_held_out(new, known, facts):
    line = on_top_line({"new": new, "known": known}).replace("\u00a0", " ")
    assert [fact for fact in facts if fact not in line] == []

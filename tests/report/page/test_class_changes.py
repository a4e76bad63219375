from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from lowshot.report.page.axes import Wording
from lowshot.report.page.class_changes import ClassChange, changes_chart, changes_text, class_changes, shortened

from ..factory import record, zero_shot

WORDING = Wording("chart", "Recall of <classes>", "")


def judged(make, recalls, **changes):
    return make(classes=tuple("abcdef"[: len(recalls)]), metrics={"acc1": 0.5, "class_recall": recalls}, **changes)


def changes_of(count, gain=0.01):
    return [ClassChange(f"class {i}", 0.5, 0.5 + gain * (count - 1 - 2 * i) / count) for i in range(count)]


def test_changes_are_means_over_seeds_the_greatest_gain_first():
    runs = [judged(record, [0.2, 0.9, 0.5], seed=1), judged(record, [0.4, 1.0, 0.5], seed=2)]

    changes = class_changes(runs, [judged(zero_shot, [0.5, 0.6, 0.5])])

    assert [change.name for change in changes] == ["b", "c", "a"]
    assert [change.gain for change in changes] == pytest.approx([0.35, 0.0, -0.2])


def test_a_class_without_test_images_is_left_out():
    changes = class_changes([judged(record, [0.2, None])], [judged(zero_shot, [0.1, None])])

    assert [change.name for change in changes] == ["a"]


@pytest.mark.parametrize(
    ("result", "before"),
    [
        ([], [judged(zero_shot, [0.1])]),
        ([judged(record, [0.2])], []),
        ([judged(record, [0.2])], [zero_shot(classes=("a",))]),
        ([judged(record, [0.2])], [judged(zero_shot, [0.1, 0.2])]),
        ([judged(record, [0.2]), record(classes=("a",), seed=2)], [judged(zero_shot, [0.1])]),
    ],
    ids=["no-result", "no-zero-shot", "old-zero-shot", "other-classes", "one-old-run"],
)
def test_there_are_no_changes_where_runs_do_not_tell_or_do_not_compare(result, before):
    assert class_changes(result, before) == []


def test_the_words_count_classes_and_forgive_rounding():
    changes = [ClassChange("a", 0.1, 0.4), ClassChange("b", 0.3, 0.1 + 0.2), ClassChange("c", 0.4, 0.1)]

    assert changes_text(changes, 3).startswith("Of 3 classes 1 improved, 1 stayed as they were and 1 fell.")
    assert "mean over 3 runs" in changes_text(changes, 3)
    assert "Shown are" not in changes_text(changes, 1)


def test_of_many_classes_the_extremes_are_shown_and_that_is_said():
    changes = changes_of(100)

    root = ET.fromstring(changes_chart(changes, "lora", WORDING))

    names = [text.text for text in root.iter("text") if text.get("class") == "name"]
    assert names == [f"class {i}" for i in [*range(10), *range(90, 100)]]
    assert [path.get("class") for path in root.iter("path")].count("cut") == 1
    assert "Shown are the 10 that gain most and the 10 that gain least." in changes_text(changes, 1)


def test_gains_and_losses_differ_in_sign_and_class():
    changes = [ClassChange("a", 0.1, 0.4), ClassChange("b", 0.3, 0.3), ClassChange("c", 0.4, 0.1)]

    root = ET.fromstring(changes_chart(changes, "lora", WORDING))

    groups = [group for group in root.iter("g") if group.get("data-tip")]
    assert [group.get("class") for group in groups] == ["gain", "same", "loss"]
    assert [list(group)[-1].text for group in groups] == ["+30.0", "±0.0", "\u221230.0"]
    assert "cut" not in {path.get("class") for path in root.iter("path")}


def test_cut_names_differ_as_the_names_do():
    names = [
        "short",
        "an extraordinarily long name",
        *(f"latin small letter o with {mark}" for mark in ("grave", "acute")),
    ]
    short = shortened([*names, "latin small letter omega"], 18)

    assert [short[name] for name in names[:2]] == ["short", "an extraordinaril…"]
    assert len(set(short.values())) == 5
    assert all(len(text) <= 18 for text in short.values())


def test_names_that_differ_in_the_middle_alone_are_numbered():
    names = [f"{'a' * 30}{letter}{'z' * 30}" for letter in "bcd"]

    assert sorted(shortened(names, 18).values()) == [f"{i} {'a' * 13}…" for i in (1, 2, 3)]


def test_long_names_are_cut_in_the_drawing_and_whole_in_the_tip():
    name = "an extraordinarily long class name"

    svg = changes_chart([ClassChange(name, 0.1, 0.4)], "lora", WORDING)

    assert "an extraordinaril…" in svg
    assert f'data-tip="{name}' in svg

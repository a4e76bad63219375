from __future__ import annotations

import collections
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowshot.errors import InputError, OutputError
from lowshot.report.page import render_page, write_report
from refusing import refused

from ..factory import CATALOGUE, DIGITS, eleven_data_sets, measured, of_several, record, rival, showcase, zero_shot


class Outline(HTMLParser):
    """Tags, their attributes and the text of a page."""

    def __init__(self, page):
        super().__init__()
        self.tags = collections.Counter()
        self.attributes = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text += data

    @property
    def charts(self):
        return self.attributes.count(("svg", "role", "img"))

    @property
    def identities(self):
        return [value for _, name, value in self.attributes if name == "id"]


def grid(**changes):
    """Three methods and a rival at two shot counts with two seeds."""
    learnt = [
        make(shots=shots, seed=seed, accuracy=0.8 + shots / 100 + seed / 1000, **changes)
        for make in (
            record,
            lambda **rest: record("lora", quantize="nf4", **rest),
            lambda **rest: record("lora-xs", settings={"rank": 8}, **rest),
            rival,
        )
        for shots in (1, 16)
        for seed in (1, 2)
    ]
    return [zero_shot(**changes), *learnt]


def test_a_page_has_every_section():
    outline = Outline(render_page(grid(), showcase(), "Digits"))

    assert {"task-0", "results", "predictions", "confusion", "provenance"} <= set(outline.identities)
    assert len(outline.identities) == len(set(outline.identities))
    assert outline.charts == 1 + 2 * 3  # by shots; three costs for each number of shots
    assert "16 images per class take digits from 78.0" in outline.text


def test_a_page_needs_nothing_but_itself():
    outline = Outline(render_page(grid(), showcase(), "Digits"))

    links = [value for _, name, value in outline.attributes if name in ("src", "href", "srcset", "action")]
    assert links
    assert all(link.startswith("data:") for link in links)
    assert not re.search(r"@import|url\(", render_page(grid()))


def test_the_same_records_give_the_same_page():
    assert render_page(grid(), showcase()) == render_page(grid(), showcase())


def test_a_page_without_a_showcase_leaves_its_sections_out():
    assert "predictions" not in render_page(grid())


@pytest.mark.parametrize(
    "records",
    [
        [zero_shot()],
        [record(accuracy=None)],
        [record()],
        [rival()],
        [record(trainable_parameters=0)],
        [zero_shot(accuracy=0.0), record(accuracy=1.0)],
        [record(provenance={}, model={}, recipe={}, metrics={"acc1": 0.9})],
        [*grid(), record("dora", shots=4)],
    ],
    ids=["zero-shot", "unmeasured", "one", "rival", "no-parameters", "extremes", "no-provenance", "missing-shots"],
)
def test_a_page_is_made_from_whatever_records_there_are(records):
    outline = Outline(render_page(records))

    assert outline.tags["h1"] == 1
    assert outline.tags["table"] >= 1


def test_a_method_not_run_at_the_most_shots_is_named_with_the_costs():
    assert "Not run with so many images: dora." in render_page([*grid(), record("dora", shots=4)])


def test_one_method_has_no_charts_of_cost():
    assert "What it costs" not in render_page([zero_shot(), record()])
    assert "What it costs" in render_page([zero_shot(), record(), record("dora")])


def test_several_data_sets_are_told_by_their_average_and_drawn_in_small():
    outline = Outline(render_page([*grid(task="digits"), *grid(task="greek")]))

    assert "16 images per class take the average of 2 data sets from 78.0" in outline.text
    assert {"task-0", "data-sets"} <= set(outline.identities)
    assert "task-1" not in outline.identities
    assert outline.charts == 1 + 2 * 3 + 2


def test_without_an_average_every_task_has_its_charts_and_its_sentence():
    outline = Outline(render_page([*grid(task="digits"), record("layernorm", task="greek", shots=4)]))

    assert {"task-0", "task-1"} <= set(outline.identities)
    assert "4 images per class take greek to 97.0" in outline.text


def test_what_is_not_in_the_average_is_said():
    page = render_page([*grid(task="digits"), *grid(task="greek"), record("dora", task="greek")])

    assert "Not in the average: dora, 16 shots: no run on digits." in page


def test_the_papers_grid_has_published_curves_and_stays_light():
    page = render_page(eleven_data_sets())
    outline = Outline(page)

    assert "the average of 11 data sets from 65.1" in outline.text
    assert "CLIP-LoRA" in outline.text
    assert "PLOT++" in outline.text
    assert "published figures" in outline.text
    assert outline.charts == 1 + 5 * 3 + len(CATALOGUE) + 2 * len(CATALOGUE)
    assert len(page) < 2_000_000


def test_built_in_runs_have_nothing_published_beside_them():
    assert "published" not in render_page(grid()).split("<main>")[1].split("<script>")[0].lower()


def test_more_methods_than_lines_can_show_are_a_shaded_table():
    records = [record(settings={"rank": rank}, task=task) for rank in range(1, 10) for task in ("digits", "greek")]
    outline = Outline(render_page(records))

    assert outline.charts == 3
    assert "The stronger the colour" in outline.text


def test_the_best_method_is_looked_at_class_by_class():
    learnt = [record(seed=seed, metrics=measured(0.9, 10, seed)) for seed in (1, 2)]
    outline = Outline(render_page([zero_shot(metrics=measured(0.6, 10)), *learnt, record("dora", accuracy=0.7)]))

    assert "lora on digits with 16 images per class" in outline.text
    assert "Of 10 classes 10 improved" in outline.text
    assert "expected calibration error" in outline.text


def test_records_of_before_say_why_there_is_no_closer_look():
    assert "were recorded without the recall of each class" in render_page([zero_shot(), record()])


def test_runs_of_several_labels_say_that_zero_shot_would_tell_which_classes_gain():
    page = render_page([of_several(0.449), of_several(0.455, seed=2)])
    assert "drawn where zero-shot has been run" in page
    assert "were recorded without" not in page


def test_zero_shot_of_another_backbone_is_not_what_classes_gain_on():
    other = zero_shot(metrics=measured(0.6, 10), model={"id": "another"})

    assert "Which classes gain" not in render_page([other, record(metrics=measured(0.9, 10))])


def test_base_to_new_has_its_table():
    metrics = {"acc1": 0.9, "others": {"new": {"acc1": 0.7}}, "harmonic_mean": 0.7875}
    outline = Outline(render_page([record(task="letters (base)", metrics=metrics)]))

    assert "other-classes" in outline.identities
    assert "harmonic mean" in outline.text


def test_what_to_beware_of_stands_in_the_open():
    dirty = {"commit": "f" * 40, "dirty": True}
    page = render_page([*grid(), record("dora", provenance=dirty)], caveats=["2 failed: out of <memory>."])

    in_the_open = page.split('id="provenance"')[1].split("<details")[0]
    assert "2 failed: out of &lt;memory&gt;." in in_the_open
    assert "uncommitted changes" in in_the_open
    assert "caveats" not in render_page(grid()).split("<main>")[1]


def test_scripts_and_styles_are_allowed_by_their_hash_alone():
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', render_page([record()]))[1]

    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not [name for _, name, _ in Outline(render_page(grid(), showcase())).attributes if name == "style"]


def test_provenance_tells_of_uncommitted_changes_settings_and_seeds():
    dirty = {"commit": "f" * 40, "dirty": True, "command": "lowshot demo"}
    text = Outline(render_page([*grid(), record("dora", seed=3, provenance=dirty)])).text

    assert "commit ffffffffff with uncommitted changes" in text
    assert "lowshot demo" in text
    assert "1, 2, 3" in text
    assert "Test CPU, 2 cores, Linux" in text
    assert "weights sha256 abab" in text
    assert "steps per shot" in text


def test_many_different_commands_are_counted_not_listed():
    records = [record(seed=seed, provenance={"command": f"lowshot fit {seed}"}) for seed in range(9)]

    assert "and 3 more" in Outline(render_page(records)).text


_WHOLE = Outline(render_page([*grid(), *eleven_data_sets((4, 16), (1, 2), tasks=("dtd", "ucf101"))], showcase()))
HARMLESS_TAGS = set(_WHOLE.tags)
HARMLESS_ATTRIBUTES = {name for _, name, _ in _WHOLE.attributes}


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
def test_names_never_become_markup(name):
    name = f"<script>'\"&{name}"
    learnt = measured(0.9, 10)
    who = {"task": name, "model": {"id": name}, "classes": (name, *DIGITS[1:])}
    records = [
        record(method=name, provenance={"command": name, "commit": name}, metrics=learnt, **who),
        record("dora", metrics={**learnt, "others": {name: {"acc1": 0.5}}}, **who),
        zero_shot(metrics=measured(0.5, 10), **who),
    ]

    hostile = Outline(render_page(records, showcase(classes=(name, *DIGITS[1:]), note=name, method=name), name))
    assert hostile.tags["script"] == 1
    assert set(hostile.tags) <= HARMLESS_TAGS
    assert {attribute for _, attribute, _ in hostile.attributes} <= HARMLESS_ATTRIBUTES
    assert hostile.text.count(name) >= 8


def test_template_marks_in_a_title_stay_as_they_are():
    assert "<title>$style $$ ${script}</title>" in render_page([record()], title="$style $$ ${script}")


def test_writing_makes_the_folder_and_names_the_tasks(tmp_path):
    page = write_report(tmp_path / "new" / "report", grid(), showcase())

    assert page == tmp_path / "new" / "report" / "index.html"
    assert "<title>lowshot: digits</title>" in page.read_text(encoding="utf-8")


def test_a_title_of_ones_own_replaces_an_earlier_page(tmp_path):
    write_report(tmp_path, grid())
    page = write_report(tmp_path, grid(), title="Mine")

    assert "<title>Mine</title>" in page.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [page]


def test_names_with_broken_bytes_are_written(tmp_path):
    write_report(tmp_path, [record(task="caf\udce9")])


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")

    with refused(OutputError, tmp_path / "file"):
        write_report(tmp_path / "file", [record()])


def test_no_records_are_refused():
    with refused(InputError, "records"):
        render_page([])


def test_reports_need_neither_torch_nor_numpy():
    code = "import sys, lowshot.report.page; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_page_of_several_labels_speaks_of_mean_average_precision_and_has_its_other_measures():
    records = [of_several(0.283, zero_shot), of_several(0.449), of_several(0.455, seed=2), of_several(0.42, shots=4)]
    page = Outline(render_page(records))
    assert "from 28.3 % zero-shot to 45.2 % mean average precision" in page.text.replace("\xa0", " ")
    assert "accuracy" not in page.text.lower()
    assert "mean average precision, %" in page.text and "mAP %" in page.text
    assert "Several labels an image" in page.text and "41.0" in page.text and "7.5" in page.text
    assert "Average precision of each class" in page.text and "Which classes gain" in page.text
    assert ("section", "id", "labels") in page.attributes


def test_runs_of_one_label_and_of_several_are_never_one_line_or_one_average():
    """Also where they are of one task, which can be learnt both ways."""
    labels = {"data": {"shots": 16, "labels_per_image": "several"}, "method": {"method": "lora"}}
    both = [
        *(record(accuracy=0.97, task=task) for task in ("digits", "letters")),
        *(of_several(0.44, task=task, recipe=labels) for task in ("digits", "shapes")),
    ]
    page = Outline(render_page(both))
    assert "average of 2 data sets" in page.text and "average of 2 data sets (several labels)" in page.text
    assert "digits (several labels)" in page.text
    assert "accuracy or mAP %" in page.text
    assert "70.5" not in page.text  # what the mean of both would be
    assert ("section", "id", "labels") in page.attributes
    alone = Outline(render_page(both[:2]))
    assert ("section", "id", "labels") not in alone.attributes and "mAP" not in alone.text

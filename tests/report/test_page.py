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
from lowshot.report import render_page, write_report

from .factory import DIGITS, record, rival, showcase, zero_shot


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

    identities = [value for _, name, value in outline.attributes if name == "id"]
    assert {"task-0", "results", "predictions", "confusion", "provenance"} <= set(identities)
    assert len(identities) == len(set(identities))
    assert outline.tags["svg"] == 2
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


def test_a_method_not_run_at_the_most_shots_is_named_below_the_second_chart():
    assert "Not drawn, for want of parameters or of such a run: dora." in render_page(
        [*grid(), record("dora", shots=4)]
    )


def test_every_task_has_its_charts_and_its_sentence():
    outline = Outline(render_page([*grid(task="digits"), *grid(task="greek")]))

    assert outline.tags["svg"] == 4
    assert "take greek from" in outline.text


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


@settings(max_examples=25, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(str.strip))
def test_names_never_become_markup(name):
    name = f"<script>'\"&{name}"
    records = [record(method=name, task=name, provenance={"command": name}, model={"id": name}), zero_shot(task=name)]

    hostile = Outline(render_page(records, showcase(classes=(name, *DIGITS[1:]), note=name, method=name), name))
    harmless = Outline(render_page(grid(), showcase()))

    assert hostile.tags["script"] == 1
    assert set(hostile.tags) <= set(harmless.tags)
    assert {attribute for _, attribute, _ in hostile.attributes} <= {name for _, name, _ in harmless.attributes}
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

    with pytest.raises(OutputError, match="cannot be written"):
        write_report(tmp_path / "file", [record()])


def test_no_records_are_refused():
    with pytest.raises(InputError, match="a report has no records"):
        render_page([])


def test_reports_need_neither_torch_nor_numpy():
    code = "import sys, lowshot.report; sys.exit(bool({'torch', 'numpy', 'PIL'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

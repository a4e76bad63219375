from __future__ import annotations

import html

from hypothesis import given
from hypothesis import strategies as st

from lowshot.markup import Markup, element, escape, join


@given(st.text())
def test_text_comes_back_and_holds_no_markup(text):
    escaped = escape(text)

    assert not set("<>\"'") & set(escaped)
    assert html.unescape(escaped) == html.unescape(html.escape(text))


def test_markup_passes_and_text_does_not():
    assert join([Markup("<b>"), "<b>"]) == "<b>&lt;b&gt;"


def test_attributes_are_escaped_renamed_and_left_out():
    assert element("td", "x", class_="a", data_value='"<', title=None, x=1.25) == (
        '<td class="a" data-value="&quot;&lt;" x="1.2">x</td>'
    )


def test_an_image_has_no_closing_tag():
    assert element("img", src="data:,") == '<img src="data:,">'


def test_broken_bytes_of_a_folder_name_do_not_stop_a_page():
    assert escape("caf\udce9").encode("utf-8") == b"caf?"

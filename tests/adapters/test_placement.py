import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.adapters import layers_at, sites

POSITIONS = ("all", "bottom", "mid", "up", "half-bottom", "half-up", "top3")


@pytest.mark.parametrize(
    ("position", "layers"),
    [
        ("all", [*range(12)]),
        ("bottom", [0, 1, 2, 3]),
        ("mid", [4, 5, 6, 7]),
        ("up", [8, 9, 10, 11]),
        ("half-bottom", [0, 1, 2, 3, 4, 5]),
        ("half-up", [6, 7, 8, 9, 10, 11]),
        ("top3", [9, 10, 11]),
    ],
)
def test_twelve_layers_are_cut_as_clip_lora_cuts_them(position, layers):
    assert list(layers_at(position, 12)) == layers


@given(depth=st.integers(1, 64))
def test_parts_cover_any_depth_without_overlap(depth):
    every = list(range(depth))
    assert [i for p in ("bottom", "mid", "up") for i in layers_at(p, depth)] == every
    assert [i for p in ("half-bottom", "half-up") for i in layers_at(p, depth)] == every
    assert list(layers_at("top3", depth)) == every[-3:]


def test_each_tower_is_cut_by_its_own_depth():
    found = sites(encoder="both", position="up", projections=("q",), depths={"vision": 24, "text": 12})
    assert {(s.tower, s.layer) for s in found} == {("text", i) for i in range(8, 12)} | {
        ("vision", i) for i in range(16, 24)
    }


@pytest.mark.parametrize(
    ("encoder", "towers"), [("both", {"text", "vision"}), ("vision", {"vision"}), ("text", {"text"})]
)
def test_encoder_chooses_the_towers(encoder, towers):
    found = sites(encoder=encoder, position="all", projections=("q", "o"), depths={"vision": 3, "text": 2})
    assert {s.tower for s in found} == towers
    assert {s.projection for s in found} == {"q", "o"}


def test_no_site_is_named_twice():
    found = sites(encoder="both", position="all", projections=("q", "k", "v"), depths={"vision": 12, "text": 12})
    assert len(found) == len(set(found)) == 72

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.adapters import layers_at, place
from lowshot.errors import InputError
from lowshot.settings import MethodConfig
from refusing import refused


class Twelve:
    """Two towers of twelve layers each, or of as many as are given."""

    def __init__(self, depths=None):
        self.depths = depths or {"vision": 12, "text": 12}
        self.token_embedding = "text.tokens"

    def tower_modules(self, tower):
        return tower, f"{tower}_projection"

    def layer_name(self, tower, index):
        return f"{tower}.{index}"

    def module_name(self, tower, index, projection):
        return f"{tower}.{index}.{projection}"


def placed(depths=None, **settings):
    return place(MethodConfig(**settings), Twelve(depths))


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
        ("0,3,11", [0, 3, 11]),
        ("7,2,7", [2, 7]),
    ],
)
def test_twelve_layers_are_cut_as_clip_lora_cuts_them_or_as_listed(position, layers):
    assert list(layers_at(position, 12)) == layers


@given(depth=st.integers(1, 64))
def test_parts_cover_any_depth_without_overlap(depth):
    every = list(range(depth))
    assert [i for p in ("bottom", "mid", "up") for i in layers_at(p, depth)] == every
    assert [i for p in ("half-bottom", "half-up") for i in layers_at(p, depth)] == every
    assert list(layers_at("top3", depth)) == every[-3:]


@given(depth=st.integers(1, 64), layers=st.lists(st.integers(0, 70), min_size=1))
def test_listed_layers_are_taken_or_the_one_that_is_missing_is_named(depth, layers):
    listed = ",".join(map(str, layers))
    if max(layers) < depth:
        assert list(layers_at(listed, depth)) == sorted(set(layers))
        return
    with refused(InputError, f"layer {max(layers)}", "text tower", f"{depth} layers", f"0 to {depth - 1}"):
        layers_at(listed, depth, "text")


def test_each_tower_is_cut_by_its_own_depth():
    place = placed({"vision": 24, "text": 12}, position="up", projections=("q",))
    assert place.layers == (*(f"text.{i}" for i in range(8, 12)), *(f"vision.{i}" for i in range(16, 24)))
    assert place.linears == tuple(f"{layer}.q" for layer in place.layers)


@pytest.mark.parametrize(
    ("encoder", "towers"), [("both", ("text", "vision")), ("vision", ("vision",)), ("text", ("text",))]
)
def test_encoder_chooses_the_towers(encoder, towers):
    place = placed({"vision": 3, "text": 2}, encoder=encoder, projections=("q", "fc2"))
    assert tuple(place.blocks) == towers
    assert place.modules == tuple(name for t in towers for name in (t, f"{t}_projection"))
    assert {name.split(".")[0] for name in place.linears} == set(towers)
    assert {name.split(".")[2] for name in place.linears} == {"q", "fc2"}


def test_no_layer_is_named_twice():
    place = placed()
    assert len(place.linears) == len(set(place.linears)) == 72


def test_both_towers_are_those_that_there_are():
    assert tuple(placed({"vision": 12}, encoder="both").blocks) == ("vision",)
    with refused(InputError, "encoder is 'text'", "no such tower", "expected vision"):
        placed({"vision": 12}, encoder="text")

"""Images of which there are only so many views, and what of them is computed once."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowshot.models import TowerState
from lowshot.training.step import Passes
from lowshot.training.views import Views, views_bytes

from .steps import ROWS, WHOLE, assert_same, gradients, learner_on

SEED, COUNT = 3, 4
EMBEDDING = 16 * 8  # bytes in float64


class Crops:
    """Random pixels of a view, and a list of all that was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, shown):
        self.asked += shown
        return torch.cat([self.pixels(row, view) for row, view in shown])

    @staticmethod
    def pixels(row, view):
        generator = torch.Generator().manual_seed(100 * row + view)
        return torch.rand(1, 3, 16, 16, generator=generator, dtype=torch.float64)


def views_of(learner, crops, **chosen):
    return Views(learner.backbone, crops, **{"views": COUNT, "seed": SEED, **chosen})


def plain(learner, step=3):
    """The gradients where every view is put through the whole tower."""
    number = views_of(learner, Crops()).number
    return gradients(learner, WHOLE, images_of=lambda rows: Crops()([(row, number(step, row)) for row in rows]))


CHOICES = [{"position": "1"}, {"position": "half-up"}, {"encoder": "text"}, {"position": "all"}]


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
@pytest.mark.parametrize("capacity", [0, 2_000, 1 << 30])
def test_kept_views_give_the_gradient_of_views_computed_again(tiny_clip, chosen, capacity):
    learner = learner_on(tiny_clip, **chosen)
    views = views_of(learner, Crops(), capacity=capacity)
    for passes in (WHOLE, Passes(2, 2), Passes(1, 5)):  # the second time they come from memory
        found = gradients(learner, passes, images_of=lambda rows: views(3, rows))
        assert_same(found, plain(learner), 1e-10)
    assert views.cached_bytes <= capacity


def test_every_family_can_keep_views(tiny_model):
    for chosen in ({"position": "1"}, {"encoder": "text"}):
        learner = learner_on(tiny_model, **chosen)
        views = views_of(learner, Crops())
        for _ in range(2):
            found = gradients(learner, Passes(3, 5), images_of=lambda rows, views=views: views(3, rows))
            assert_same(found, plain(learner), 1e-10)


@pytest.mark.parametrize("chosen", [{"position": "1"}, {"encoder": "text"}], ids=str)
def test_a_view_is_cropped_once(tiny_clip, chosen):
    crops = Crops()
    views = views_of(learner_on(tiny_clip, **chosen), crops)
    for step in range(60):
        assert len(views(step, ROWS)) == len(ROWS)
    assert len(crops.asked) == len(set(crops.asked)) == len(ROWS) * COUNT
    before = views.cached_bytes
    views(61, ROWS)
    assert views.cached_bytes == before


@pytest.mark.parametrize("slab", [1, 1000, 1 << 25])
def test_what_is_kept_holds_on_to_nothing_else(tiny_clip, monkeypatch, slab):
    monkeypatch.setattr("lowshot.training.views.SLAB", slab)
    learner = learner_on(tiny_clip, encoder="text")
    views = views_of(learner, Crops(), capacity=20 * EMBEDDING + 1)
    for step in range(60):
        images = views(step, ROWS)
        again = [learner.backbone.encode_images(Crops.pixels(row, views.number(step, row))) for row in ROWS]
        torch.testing.assert_close(images.hidden, torch.cat(again).detach(), atol=1e-12, rtol=0)
    storages = {kept.hidden.untyped_storage().data_ptr(): kept.hidden for kept in views._cached.values()}
    taken = sum(hidden.untyped_storage().nbytes() for hidden in storages.values())
    assert taken == views.cached_bytes == 20 * EMBEDDING
    assert len(storages) == {1: 20, 1000: 3, 1 << 25: 1}[slab]


def test_a_view_that_is_shown_twice_at_once_is_begun_once(tiny_clip):
    crops = Crops()
    views = views_of(learner_on(tiny_clip, encoder="text"), crops)
    twice = views(0, [5, 5])
    assert len(crops.asked) == 1
    assert torch.equal(twice.hidden[0], twice.hidden[1])


def test_where_all_blocks_are_trained_views_are_pixels_and_nothing_is_kept(tiny_clip):
    crops = Crops()
    views = views_of(learner_on(tiny_clip), crops)
    shown = [(row, views.number(0, row)) for row in ROWS]
    for _ in range(2):
        assert torch.equal(views(0, ROWS), Crops()(shown))
    assert crops.asked == 2 * shown
    assert views.cached_bytes == 0


def test_beyond_the_capacity_a_view_is_computed_again_and_those_kept_stay(tiny_clip):
    crops, learner = Crops(), learner_on(tiny_clip, encoder="text")
    views = views_of(learner, crops, capacity=3 * EMBEDDING + EMBEDDING // 2)
    for _ in range(2):
        views(0, [1, 2, 3, 4, 5])
    assert views.cached_bytes == 3 * EMBEDDING
    assert [row for row, _ in crops.asked] == [1, 2, 3, 4, 5, 4, 5]


@pytest.mark.parametrize("chosen", CHOICES, ids=str)
def test_what_all_views_take_is_known_beforehand(tiny_clip, chosen):
    learner = learner_on(tiny_clip, **chosen)
    for capacity in (2_000, 1 << 30):
        views = views_of(learner, Crops(), capacity=capacity)
        for step in range(60):
            views(step, ROWS)
        assert views_bytes(learner.backbone, len(ROWS), COUNT, capacity) == views.cached_bytes


def test_views_are_kept_in_the_type_the_model_computes_in(tiny_clip):
    views = views_of(learner_on(tiny_clip, dtype=torch.float32, precision="bf16", position="1"), Crops())
    images = views(0, ROWS)
    assert isinstance(images, TowerState)
    assert images.hidden.dtype == torch.bfloat16
    assert views.cached_bytes == images.hidden.nbytes


def test_what_is_kept_has_no_graph(tiny_clip):
    learner = learner_on(tiny_clip, position="1")
    with learner.backbone.training():
        assert not views_of(learner, Crops())(0, ROWS).hidden.requires_grad


@settings(max_examples=20)
@given(step=st.integers(0, 10_000), row=st.integers(0, 10_000), count=st.integers(1, 20))
def test_the_view_that_is_shown_depends_on_seed_step_and_row(step, row, count):
    one, again, other = (numbers(seed, step, row, count) for seed in (1, 1, 2))
    assert one == again
    assert set(one) <= set(range(count))
    assert count < 3 or one != other
    assert count < 3 or one != numbers(1, step + 1, row, count)
    assert count < 3 or one != numbers(1, step, row + 1, count)


def numbers(seed, step, row, count):
    """The views that 40 images show from this row and 40 steps from this step on."""
    views = Views(Untrained(), None, count, seed)
    return [views.number(step, row + n) for n in range(40)] + [views.number(step + 40 * n, row) for n in range(40)]


class Untrained:
    """Stands for a backbone: which view is shown does not depend on it."""

    @staticmethod
    def first_trained_stage(tower):
        return 0


def test_every_view_is_shown_as_often_as_any_other():
    views = Views(Untrained(), None, COUNT, SEED)
    shown = torch.tensor([views.number(step, row) for step in range(200) for row in range(20)])
    assert torch.bincount(shown, minlength=COUNT).float().sub(1000).abs().max() < 100

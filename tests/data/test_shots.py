import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.data import Examples, MemoryImages, Task, draw_from, draw_shots
from lowshot.errors import DataError

ITEMS = st.lists(st.tuples(st.text(max_size=8), st.integers(0, 4)), min_size=1, max_size=40, unique_by=lambda i: i[0])
SHOTS = st.none() | st.integers(1, 12)
SEEDS = st.integers(0, 2**31 - 1)
HUNDRED = [(f"class {i % 5}/{i}.png", i % 5) for i in range(100)]


def drawn(items, shots, seed):
    """The identities drawn, in the order of the draw."""
    names, labels = zip(*items, strict=True)
    return [names[i] for i in draw_shots(names, np.asarray(labels), shots, seed).indices]


@given(ITEMS, SHOTS, SEEDS, st.randoms(use_true_random=False))
def test_the_order_of_the_items_changes_nothing(items, shots, seed, random):
    shuffled = random.sample(items, len(items))

    assert drawn(shuffled, shots, seed) == drawn(items, shots, seed)


@given(ITEMS, st.integers(1, 6), st.integers(0, 6), SEEDS)
def test_more_shots_contain_fewer(items, fewer, more, seed):
    assert set(drawn(items, fewer, seed)) <= set(drawn(items, fewer + more, seed)) <= set(drawn(items, None, seed))


@given(ITEMS, st.integers(1, 6), SEEDS, st.data())
def test_removing_an_undrawn_item_changes_nothing(items, shots, seed, data):
    before = drawn(items, shots, seed)
    undrawn = [item for item in items if item[0] not in before]
    if undrawn:
        removed = data.draw(st.sampled_from(undrawn))
        assert drawn([item for item in items if item != removed], shots, seed) == before


@given(ITEMS, SHOTS, SEEDS)
def test_each_class_gives_the_shots_or_all_it_has_and_says_so(items, shots, seed):
    names, labels = zip(*items, strict=True)
    sizes = {label: labels.count(label) for label in labels}

    draw = draw_shots(names, np.asarray(labels), shots, seed)

    taken = [labels[i] for i in draw.indices]
    assert taken == sorted(taken)  # grouped by class
    assert len(set(draw.indices.tolist())) == len(taken)
    assert {label: taken.count(label) for label in sizes} == {
        label: size if shots is None else min(size, shots) for label, size in sizes.items()
    }
    assert draw.short == {label: size for label, size in sizes.items() if shots is not None and size < shots}
    assert draw.shots == (max(sizes.values()) if shots is None else shots)


def test_another_seed_draws_others():
    draws = {tuple(drawn(HUNDRED, 4, seed)) for seed in range(20)}

    assert len(draws) == 20


def test_every_item_is_drawn_about_equally_often():
    counts = dict.fromkeys((name for name, _ in HUNDRED), 0)
    for seed in range(400):
        for name in drawn(HUNDRED, 4, seed):
            counts[name] += 1

    # 400 draws at a chance of 4 in 20: 80 expected, standard deviation 8.
    assert all(80 - 5 * 8 < count < 80 + 5 * 8 for count in counts.values())


def test_the_draw_is_the_same_on_every_machine_and_in_every_version():
    first = drawn(HUNDRED, 1, 1)
    digest = hashlib.sha256("\n".join(drawn(HUNDRED, 16, 7)).encode()).hexdigest()

    assert first == ["class 0/30.png", "class 1/51.png", "class 2/22.png", "class 3/68.png", "class 4/99.png"]
    assert digest[:16] == "d1bf823af65ea1a8"


@pytest.mark.parametrize(
    ("names", "labels", "shots", "message"),
    [
        (["a", "a"], [0, 1], 1, "two images have the same identity"),
        ([], [], 1, "no images to draw shots from"),
        (["a", "b"], [0], 1, "2 identities have 1 labels"),
        (["a", "b"], [0, 1], 0, "shots is 0; expected 1 or more"),
        (["a", "b", "c"], [0, 0, 1], -1, "shots is -1; expected 1 or more"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(names, labels, shots, message):
    with pytest.raises(DataError, match=message):
        draw_shots(names, np.asarray(labels, dtype=np.int64), shots, 1)


def task(labels, classes=("red", "green", "blue")):
    images = MemoryImages([np.zeros((2, 2, 3), np.uint8)] * len(labels))
    names = tuple(f"{i}.png" for i in range(len(labels)))
    return Task("colours", classes, Examples(images, np.asarray(labels, dtype=np.int64), names))


def test_a_task_draws_from_its_training_split():
    coloured = task([0, 1, 2, 0, 1, 2])

    draw = draw_from(coloured, 1, seed=3)

    expected = draw_shots(coloured.train.identities, coloured.train.labels, 1, 3)
    assert draw.indices.tolist() == expected.indices.tolist()
    assert coloured.train.labels[draw.indices].tolist() == [0, 1, 2]


def test_a_class_without_training_images_is_named():
    with pytest.raises(DataError, match=r"colours: no training images for 2 class\(es\): red, blue"):
        draw_from(task([1, 1]), 1, seed=1)


def test_a_task_without_training_images_is_refused():
    with pytest.raises(DataError, match=r"no training images for 3 class\(es\)"):
        draw_from(task([]), None, seed=1)

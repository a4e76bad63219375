import collections
import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowshot.data import draw_like_clip_lora, draw_like_coop, draw_shots
from lowshot.errors import DataError
from refusing import refused

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

    drawn_labels = [labels[i] for i in draw.indices]
    assert drawn_labels == sorted(drawn_labels)  # grouped by class
    assert len(set(draw.indices.tolist())) == len(drawn_labels)
    assert {label: drawn_labels.count(label) for label in sizes} == {
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
    ("names", "labels", "shots", "facts"),
    [
        (["a", "a"], [0, 1], 1, ("two images", "the same identity")),
        ([], [], 1, ("no images",)),
        (["a", "b"], [0], 1, ("2 identities", "1 labels")),
        (["a", "b"], [0, 1], 0, ("shots is 0", 1)),
        (["a", "b", "c"], [0, 0, 1], -1, ("shots is -1", 1)),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(names, labels, shots, facts):
    with refused(DataError, *facts):
        draw_shots(names, np.asarray(labels, dtype=np.int64), shots, 1)


# -- as other code draws -----------------------------------------------------------------------------------------------

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=40)


def dassl(labels, shots, *, repeat):
    """``generate_fewshot_dataset`` of Dassl, on positions: it draws from Python's own generator."""
    tracker = collections.defaultdict(list)
    for position, label in enumerate(labels):
        tracker[label].append(position)
    output = []
    for items in tracker.values():
        short = random.choices(items, k=shots) if repeat and len(items) < shots else items
        output += random.sample(items, shots) if len(items) >= shots else short
    return output


def coop(labels, shots, seed):
    return draw_like_coop(np.asarray(labels, dtype=np.int64), shots, seed).indices.tolist()


def clip_lora(labels, validation, shots, seed):
    held_out = None if validation is None else np.asarray(validation, dtype=np.int64)
    return draw_like_clip_lora(np.asarray(labels, dtype=np.int64), held_out, shots, seed).indices.tolist()


@given(LABELS, st.integers(1, 12), SEEDS)
def test_coop_draws_what_dassl_draws(labels, shots, seed):
    random.seed(seed)
    assert coop(labels, shots, seed) == dassl(labels, shots, repeat=False)


@given(LABELS, LABELS, st.integers(1, 12), SEEDS)
def test_clip_lora_draws_for_validation_first(labels, validation, shots, seed):
    random.seed(seed)
    dassl(validation, min(shots, 4), repeat=True)
    assert clip_lora(labels, validation, shots, seed) == dassl(labels, shots, repeat=True)


@given(st.permutations([*range(5)] * 8), st.integers(1, 4), SEEDS)
def test_without_a_validation_split_clip_lora_draws_more_of_each_class_and_keeps_the_first(labels, shots, seed):
    random.seed(seed)
    drawn = dassl(labels, shots + min(shots, 4), repeat=True)
    each = shots + min(shots, 4)
    expected = [position for start in range(0, len(drawn), each) for position in drawn[start : start + shots]]
    assert clip_lora(labels, None, shots, seed) == expected


# Five images of class 1, four of class 0, two of class 2, which is short and here comes first; what
# ``generate_fewshot_dataset`` itself returned, in Dassl at c61a1b5 and in CLIP-LoRA.
@pytest.mark.parametrize(
    ("seed", "as_coop", "as_clip_lora"),
    [
        (1, [0, 6, 3, 1, 10, 2, 5, 7], [0, 6, 0, 1, 8, 3, 5, 7, 2]),
        (2, [0, 6, 1, 10, 8, 7, 2, 5], [6, 6, 0, 8, 10, 4, 7, 9, 5]),
        (3, [0, 6, 3, 10, 8, 9, 7, 2], [0, 6, 0, 10, 8, 3, 5, 2, 7]),
    ],
)
def test_the_draws_of_others_are_pinned(seed, as_coop, as_clip_lora):
    labels, validation = [2, 1, 0, 1, 1, 0, 2, 0, 1, 0, 1], [0, 1, 2, 0, 1, 2]
    assert coop(labels, 3, seed) == as_coop
    assert clip_lora(labels, validation, 3, seed) == as_clip_lora


# EuroSAT's training images in CoOp's split, and the positions of those that linzhiqiu/cross_modal_adaptation (0ba1f73,
# indices/eurosat) publishes as drawn: somebody else's computer, Python and year.
EUROSAT = np.repeat(np.arange(10), [1500, 1500, 1500, 1250, 1250, 1000, 1250, 1500, 1250, 1500])


@pytest.mark.parametrize(
    ("shots", "seed", "published"),
    [
        (1, 1, [275, 2665, 3129, 5022, 5991, 7507, 8920, 10217, 11527, 12429]),
        (1, 2, [115, 1687, 3173, 5239, 6096, 7753, 8631, 9765, 11990, 12434]),
        (
            4,
            3,
            [
                487,
                1213,
                1114,
                267,
                2257,
                2736,
                2470,
                2781,
                4189,
                3134,
                4240,
                3026,
                5460,
                5031,
                5628,
                4979,
                6142,
                6713,
                6857,
                6875,
                7487,
                7406,
                7654,
                7881,
                8308,
                8474,
                8310,
                9071,
                10048,
                9281,
                10625,
                9381,
                11076,
                11960,
                10837,
                11366,
                12063,
                12551,
                12968,
                13218,
            ],
        ),
    ],
)
def test_published_shots_of_eurosat_are_drawn_again(shots, seed, published):
    assert coop(EUROSAT, shots, seed) == published


@pytest.mark.parametrize("rule", ["coop", "clip-lora"])
@given(LABELS, st.none() | st.integers(1, 12), SEEDS)
def test_the_draws_of_others_say_what_is_short(rule, labels, shots, seed):
    """Of a short class CoOp takes each image once, CLIP-LoRA as many as of the others."""
    every = np.asarray(labels)
    draw = draw_like_coop(every, shots, seed) if rule == "coop" else draw_like_clip_lora(every, every, shots, seed)

    sizes = collections.Counter(labels)
    most = max(sizes.values()) if shots is None else shots
    fills = rule == "clip-lora" and shots is not None
    assert collections.Counter(labels[i] for i in draw.indices) == {
        label: most if fills else min(size, most) for label, size in sizes.items()
    }
    assert draw.shots == most
    assert draw.short == {label: size for label, size in sizes.items() if shots is not None and size < shots}


def test_coop_takes_a_short_class_whole_and_in_order_and_draws_the_next_as_if_it_were_not_there():
    draw = draw_like_coop(np.asarray([0, 0, 1, 1, 1, 1]), 3, seed=1)
    assert draw.indices.tolist() == [0, 1, *random.Random(1).sample([2, 3, 4, 5], 3)]
    assert draw.warnings(["red", "blue"]) == ["class 'red' has 2 of the 3 shots asked for; all of it is used"]


def test_clip_lora_takes_some_images_of_a_short_class_several_times_and_it_is_said():
    draw = draw_like_clip_lora(np.asarray([0, 0, 1, 1, 1]), np.asarray([0, 1]), 3, seed=1)
    assert len(draw.indices) == 6
    assert set(draw.indices[:3].tolist()) <= {0, 1}
    assert draw.warnings(["red", "blue"]) == [
        "class 'red' has 2 of the 3 shots asked for; some of it is drawn several times"
    ]


@pytest.mark.parametrize("draw", [coop, lambda labels, shots, seed: clip_lora(labels, labels, shots, seed)])
def test_the_draws_of_others_leave_pythons_generator_alone(draw):
    before = random.getstate()
    draw([0, 1] * 10, 4, 1)
    assert random.getstate() == before


def test_without_a_validation_split_clip_lora_needs_images_for_both():
    with refused(DataError, "number 1", "3 images", "2 + 2"):
        clip_lora([0, 0, 0, 0, 1, 1, 1], None, 2, 1)


@pytest.mark.parametrize("rule", ["coop", "clip-lora"])
@pytest.mark.parametrize(("labels", "shots", "fact"), [([], 1, "no images"), ([0], 0, "shots is 0")])
def test_what_others_cannot_draw_from_is_refused(rule, labels, shots, fact):
    with refused(DataError, fact):
        coop(labels, shots, 1) if rule == "coop" else clip_lora(labels, None, shots, 1)


def test_many_short_classes_have_one_warning_that_names_those_with_the_fewest_images():
    """ImageNet's had a line for each, a thousand."""
    labels = np.repeat(np.arange(1000), np.arange(1000) % 7 + 1)
    draw = draw_shots([str(i) for i in range(len(labels))], labels, 16, seed=1)
    assert draw.warnings([f"c{label}" for label in range(1000)]) == [
        "1,000 classes have fewer than the 16 shots asked for: 'c0' 1, 'c7' 1, 'c14' 1 and 997 more; all of it is used"
    ]

import itertools
import math
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from lowshot.data import crops as module
from lowshot.data.crops import batches, central_crops, crop_box, random_crops
from refusing import refused

CPU = torch.device("cpu")


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def calm(height, width):
    """Noise so far from black and white that no bicubic kernel overshoots."""
    return (noise(height, width) // 4 + 96).astype(np.uint8)


# -- central crops -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (32, 32, 32),
        (64, 64, 32),
        (8, 8, 32),
        (50, 37, 32),
        (37, 50, 32),
        (240, 320, 224),
        (301, 90, 64),
        (33, 1000, 32),
    ],
)
@pytest.mark.parametrize(("picture", "tolerance"), [(calm, 1.1), (noise, 26)])
def test_central_crops_are_those_of_the_clip_processor(height, width, size, picture, tolerance):
    from transformers import CLIPImageProcessorPil

    image = picture(height, width)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": size}, crop_size={"height": size, "width": size}, do_normalize=False
    )
    expected = processor(image, return_tensors="pt", input_data_format="channels_last")["pixel_values"]

    crops = central_crops([image], size)

    # Pillow rounds to bytes after each of its two passes, and there cuts overshoot; we cut at the end.
    assert crops.shape == expected.shape == (1, 3, size, size)
    difference = (crops - expected).abs()
    assert difference.mean() < 0.6 / 255
    assert difference.max() < tolerance / 255


def test_an_image_of_the_right_size_is_left_as_it_is():
    image = noise(16, 16)

    assert torch.equal(central_crops([image], 16)[0], torch.from_numpy(image).permute(2, 0, 1) / 255.0)


def test_the_middle_is_cut_out():
    image = np.zeros((4, 12, 3), np.uint8)
    image[:, 4:8] = 255

    assert (central_crops([image], 4) == 1).all()


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=4), st.integers(1, 24))
@settings(max_examples=50)
def test_central_crops_of_any_sizes_are_those_of_each_alone(shapes, size):
    images = [noise(*shape, seed=i) for i, shape in enumerate(shapes)]

    together = central_crops(images, size)

    assert together.shape == (len(images), 3, size, size)
    assert together.dtype == torch.float32
    assert together.min() >= 0
    assert together.max() <= 1
    for row, image in zip(together, images, strict=True):
        assert torch.allclose(row, central_crops([image], size)[0], atol=1e-6)


def test_read_only_arrays_and_mirrored_views_are_images_too():
    image = noise(9, 7)
    frozen = image.copy()
    frozen.setflags(write=False)

    for crop in (central_crops, lambda i, s: random_crops(i, s, crop_minimum=1.0, flip=False, keys=[(0,)] * len(i))):
        assert torch.equal(crop([frozen], 7), crop([image], 7))
        assert torch.equal(crop([frozen, noise(8, 8)], 7)[:1], crop([image], 7))
        assert torch.equal(crop([image[:, ::-1]], 7), crop([np.ascontiguousarray(image[:, ::-1])], 7))


@pytest.mark.parametrize("shape", [(375, 500), (600, 90), (40, 700), (224, 500), (300, 224), (448, 448), (31, 33)])
@pytest.mark.parametrize("size", [32, 224])
def test_a_crop_made_a_few_rows_at_a_time_is_the_same_to_the_last_bit(shape, size, monkeypatch):
    """Published figures, and adapters made before, were made with all rows at once."""
    image = noise(*shape)
    at_once = central_crops([image], size)

    monkeypatch.setattr(module, "_FLOAT_PIXELS", 5000)

    assert torch.equal(central_crops([image], size), at_once)
    assert torch.equal(central_crops([image, image], size)[1:], at_once)


# -- random crops ------------------------------------------------------------------------------------------------------


@given(st.permutations(range(5)), st.integers(1, 5))
@settings(max_examples=30)
def test_the_same_key_gives_the_same_pixels_whatever_else_is_in_the_batch(order, count):
    images = [noise(10 + i, 14, seed=i) for i in range(5)]
    keys = [(7, 3, i) for i in range(5)]

    def crop(rows):
        return random_crops([images[i] for i in rows], 8, crop_minimum=0.2, flip=True, keys=[keys[i] for i in rows])

    whole = crop(range(5))

    assert torch.equal(crop(order[:count]), whole[order[:count]])


def test_each_part_of_the_key_matters():
    image = noise(40, 40)
    keys = list(itertools.product((0, 1), (1, 2), (1, 2)))

    crops = random_crops([image] * 8, 16, crop_minimum=0.1, flip=False, keys=keys)

    assert len({crop.numpy().tobytes() for crop in crops}) == 8


def test_global_random_state_is_not_touched():
    np.random.seed(0)  # noqa: NPY002 - it is the old generator that must stay as it is
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    random_crops([noise(9, 9)], 8, crop_minimum=0.1, flip=True, keys=[(1, 2)])
    list(batches(5, 2, 4, 1))

    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_half_of_the_crops_are_mirrored():
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 1] = 255
    keys = [(5, i) for i in range(2000)]

    crops = random_crops([image] * 2000, 2, crop_minimum=1.0, flip=True, keys=keys)
    mirrored = (crops[:, 0, 0, 0] == 1).sum().item()

    assert abs(mirrored - 1000) < 5 * math.sqrt(2000) / 2  # five standard deviations
    unmirrored = random_crops([image] * 50, 2, crop_minimum=1.0, flip=False, keys=keys[:50])
    assert (unmirrored[:, :, :, 0] == 0).all()


@given(st.integers(1, 60), st.integers(1, 60), st.floats(0.01, 1), st.integers(0, 999))
@settings(max_examples=60)
def test_values_stay_between_0_and_1(height, width, minimum, seed):
    crops = random_crops([noise(height, width, seed)], 12, crop_minimum=minimum, flip=True, keys=[(seed,)])

    assert (crops.shape, crops.dtype) == ((1, 3, 12, 12), torch.float32)
    assert crops.min() >= 0
    assert crops.max() <= 1


@pytest.mark.parametrize(("count", "facts"), [(2, ("more images", 1)), (0, ("fewer images", 1))])
def test_as_many_keys_as_images(count, facts):
    with refused(ValueError, *facts):
        random_crops([noise(4, 4)] * count, 4, crop_minimum=1.0, flip=False, keys=[(1,)])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_an_image_is_let_go_before_the_next_one_is_asked_for(device):
    alive = []

    def photographs():
        for seed in range(4):
            assert all(photograph() is None for photograph in alive)
            image = noise(40, 30, seed)
            alive.append(weakref.ref(image))
            yield image
            del image

    keys = [(0, i) for i in range(4)]
    crops = random_crops(photographs(), 8, crop_minimum=0.5, flip=True, keys=keys, device=torch.device(device))

    assert len(alive) == len(crops) == 4


# -- boxes -------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(1e-6, 1), st.integers(0, 2**32))
def test_a_box_lies_inside_the_image(height, width, minimum, seed):
    top, left, crop_height, crop_width = crop_box(height, width, minimum, np.random.default_rng(seed))

    assert 0 <= top < top + crop_height <= height
    assert 0 <= left < left + crop_width <= width


@given(st.integers(20, 3000), st.integers(20, 3000), st.floats(0.05, 1), st.integers(0, 2**32))
def test_a_box_keeps_the_ratio_and_the_area_up_to_rounding(height, width, minimum, seed):
    _, _, crop_height, crop_width = crop_box(height, width, minimum, np.random.default_rng(seed))

    rounding = 1 / crop_height + 1 / crop_width
    whole = (crop_height, crop_width) == (height, width)
    assert whole or 3 / 4 * (1 - rounding) <= crop_width / crop_height <= 4 / 3 * (1 + rounding)
    central = crop_width == width or crop_height == height  # nothing of the wanted area fitted into a long image
    assert central or crop_height * crop_width >= minimum * height * width * (1 - rounding)


@given(st.integers(1, 2000), st.integers(0, 2**32))
def test_all_of_a_square_image_is_kept_if_nothing_may_be_lost(side, seed):
    """Whatever ratio is drawn, one side of a box of full area is longer than the image, or rounds to all of it."""
    assert crop_box(side, side, 1.0, np.random.default_rng(seed)) == (0, 0, side, side)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (1, 50, (0, 24, 1, 1)),
        (50, 1, (24, 0, 1, 1)),
        (30, 400, (0, 180, 30, 40)),
        (400, 30, (180, 0, 40, 30)),
        (1, 1, (0, 0, 1, 1)),
    ],
)
def test_of_an_image_longer_than_any_ratio_the_middle_is_kept(height, width, box):
    assert crop_box(height, width, 1.0, np.random.default_rng(0)) == box


def reference_box(height, width, minimum, random):
    """RandomResizedCrop as its documentation describes it, written without a look at ours."""
    for _ in range(10):
        target = random.uniform(minimum, 1) * height * width
        ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round((target * ratio) ** 0.5), round((target / ratio) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            return random.randint(0, height - h), random.randint(0, width - w), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(
    ("height", "width", "minimum"),
    [(224, 224, 0.08), (375, 500, 0.08), (500, 200, 0.6), (96, 32, 0.9), (400, 300, 0.9)],
)
def test_boxes_are_distributed_as_those_of_random_resized_crop(height, width, minimum):
    import random

    draws = 3000
    generator, reference = np.random.default_rng(1), random.Random(1)
    boxes = np.array([crop_box(height, width, minimum, generator) for _ in range(draws)])
    expected = np.array([reference_box(height, width, minimum, reference) for _ in range(draws)])

    for column in range(4):
        assert ks_2samp(boxes[:, column], expected[:, column]).pvalue > 1e-4
    for combine in (lambda b: b[:, 2] * b[:, 3], lambda b: b[:, 3] / b[:, 2], lambda b: b[:, 0] * b[:, 1]):
        ours, theirs = combine(boxes), combine(expected)
        assert ks_2samp(ours, theirs).pvalue > 1e-4
        error = math.sqrt((ours.var() + theirs.var()) / draws)
        assert abs(ours.mean() - theirs.mean()) <= 5 * error


def test_boxes_reach_all_four_edges_of_the_image():
    generator = np.random.default_rng(3)
    boxes = [crop_box(5, 6, 0.1, generator) for _ in range(500)]

    assert {top for top, _, height, _ in boxes if height == 2} == {0, 1, 2, 3}
    assert {left for _, left, _, width in boxes if width == 2} == {0, 1, 2, 3, 4}


# -- batches -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 50), st.integers(0, 30), st.integers(0, 2**31 - 1))
def test_batches_are_as_many_as_asked_for_and_cover_everything_in_each_pass(count, size, steps, seed):
    drawn = list(batches(count, size, steps, seed))
    per_pass = math.ceil(count / size)

    assert len(drawn) == steps
    for start in range(0, steps - steps % per_pass, per_pass):
        one_pass = drawn[start : start + per_pass]
        assert sorted(np.concatenate(one_pass).tolist()) == list(range(count))
        assert [len(batch) for batch in one_pass[:-1]] == [size] * (per_pass - 1)
        assert len(one_pass[-1]) == count - size * (per_pass - 1)


@given(st.integers(1, 30), st.integers(1, 9), st.integers(1, 12), st.integers(0, 99))
def test_more_steps_begin_as_fewer_do(count, size, steps, seed):
    fewer, more = (list(batches(count, size, number, seed)) for number in (steps, steps + 7))

    assert [batch.tolist() for batch in more[:steps]] == [batch.tolist() for batch in fewer]


def test_the_order_of_a_pass_depends_on_seed_and_pass_alone():
    def orders(size, seed):
        passes = math.ceil(12 / size)
        drawn = [batch.tolist() for batch in batches(12, size, 3 * passes, seed)]
        return [list(itertools.chain(*drawn[i : i + passes])) for i in range(0, 3 * passes, passes)]

    assert orders(5, seed=1) == orders(12, seed=1) == orders(1, seed=1)
    assert len({tuple(order) for seed in (1, 2) for order in orders(5, seed)}) == 6

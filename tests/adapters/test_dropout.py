"""Masks belong to seed, step, sample and layer, whichever generator makes them, and are otherwise as good as random."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowshot.adapters import dropout
from lowshot.adapters.dropout import MaskKeys, SampleDropout
from refusing import refused

CPU = torch.device("cpu")
SHARES = [0.1, 0.25, 0.9]


@pytest.fixture(params=["drawn", "hashed"])
def generator(request, monkeypatch):
    """Masks of inputs on the CPU come from its own generator, or from that of all other devices."""
    if request.param == "hashed":
        monkeypatch.setattr(dropout, "_drawn", dropout._hashed)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture], max_examples=30)
@given(
    samples=st.lists(st.integers(0, 10_000), min_size=1, max_size=8, unique=True),
    cut=st.integers(0, 8),
    width=st.integers(1, 33),
    p=st.sampled_from(SHARES),
)
def test_a_mask_does_not_depend_on_what_else_is_in_the_batch(generator, samples, cut, width, p):
    keys = MaskKeys(seed=1)
    layer = SampleDropout(p, 5, keys)
    with keys.of(2, samples):
        whole = layer(torch.ones(len(samples), 3, width))
    parts = []
    for part in (samples[:cut], samples[cut:]):
        if part:
            with keys.of(2, part):
                parts.append(layer(torch.ones(len(part), 3, width)))
    assert torch.equal(torch.cat(parts), whole)
    assert set(whole.unique().tolist()) <= {0.0, float(torch.tensor(1.0) / layer.share_kept)}
    assert layer.share_kept == pytest.approx(1 - p, abs=1e-5)


def test_entries_are_dropped_as_often_as_asked_and_their_mean_stays(generator):
    keys = MaskKeys(seed=1)
    layer = SampleDropout(0.25, 0, keys)
    with keys.of(0, range(50)):
        dropped = layer(torch.ones(50, 2000))
    assert (dropped == 0).float().mean() == pytest.approx(0.25, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=0.01)
    other = SampleDropout(0.25, 1, keys)
    with keys.of(0, range(50)):
        assert ((dropped == 0) == (other(torch.ones(50, 2000)) == 0)).float().mean() < 0.7


def test_rows_without_keys_are_an_error_and_not_another_mask(generator):
    layer = SampleDropout(0.5, 0, MaskKeys(seed=1))
    with refused(RuntimeError, "0 samples", "3 rows"):
        layer(torch.ones(3, 4))
    assert torch.equal(layer.eval()(torch.ones(3, 4)), torch.ones(3, 4))


def levels_of_all(dtype):
    """Every level, as often as any other, 2^16 in all."""
    return torch.arange(1 << 16).to(torch.int32).to(dtype)


@pytest.mark.parametrize("p", [*SHARES, 0.5, 1 / 256, 1e-4, 1 - 1e-5, 1 - 1e-9])
def test_of_all_levels_exactly_the_share_is_kept(monkeypatch, p):
    size = 1 << 16
    drawn = np.arange(size, dtype=np.uint16)
    monkeypatch.setattr(dropout, "_levels", lambda count, *key: drawn)
    monkeypatch.setattr(dropout, "_hashed_levels", lambda *a: levels_of_all(a[-1])[None, None])
    layer = SampleDropout(p, 0, MaskKeys(seed=1, samples=[0]))
    mask = layer.mask(torch.ones(1, size))
    assert mask.sum() == size * layer.share_kept > 0
    assert dropout._hashed(size, layer.threshold, [0], layer.keys, CPU).sum() == mask.sum()


def test_a_probability_that_rounds_to_none_keeps_everything(generator):
    layer = SampleDropout(1e-6, 0, MaskKeys(seed=1, samples=[7]))
    assert layer.mask(torch.ones(1, 9)) is None
    assert torch.equal(layer(torch.ones(1, 9)), torch.ones(1, 9))


def test_inputs_elsewhere_get_masks_that_were_made_there(monkeypatch):
    monkeypatch.delattr(dropout, "_drawn")
    layer = SampleDropout(0.5, 0, MaskKeys(seed=1, samples=[4, 6]))
    mask = layer.mask(torch.empty(2, 3, 5, device="meta"))
    assert (mask.device.type, mask.dtype, mask.shape) == ("meta", torch.uint8, (2, 3, 5))


@pytest.mark.gpu
def test_a_hash_is_the_same_on_every_device():
    samples = [0, 3, 1 << 40]
    layer = SampleDropout(0.25, 3, MaskKeys(seed=1, step=2, samples=samples))
    mask = layer.mask(torch.empty(3, 197, 769, device="cuda"))
    expected = dropout._hashed(197 * 769, 1 << 14, [3], layer.keys, CPU)
    assert torch.equal(mask.cpu().flatten(1), expected[0])


def words_of(samples, seed, step, layers):
    """``(2, layers, N)``: those of the first layers of a model."""
    return dropout._sample_words(samples, step, dropout._layer_bases(seed, layers, CPU))


def test_levels_are_those_of_the_formula_in_whole_numbers():
    samples, count, layers = [0, 1, 2**40], 23, 3
    words = words_of(samples, 2**31 - 1, 500, layers)
    levels = dropout._hashed_levels(count, words[..., None], torch.arange((count + 3) // 4))
    halves = dropout._hashed_levels(2 * count, words[..., None], torch.arange((count + 3) // 4), torch.int8)
    assert torch.equal(halves[..., ::2], (levels & 255).to(torch.int8))
    assert torch.equal(halves[..., 1::2], (levels >> 8).to(torch.int8))
    assert levels.shape == (layers, len(samples), count)
    for layer, base in enumerate(dropout._layer_bases(2**31 - 1, layers, CPU).tolist()):
        key = scrambled(base + 500 * INCREMENT)
        for row, sample in enumerate(samples):
            first = scrambled(key + sample * INCREMENT)
            step = scrambled(first + INCREMENT) | 1
            assert [word % 2**64 for word in words[:, layer, row].tolist()] == [first, step]
            assert levels[layer, row].tolist() == [level_of(first, step, entry) for entry in range(count)]


INCREMENT = 0x9E3779B97F4A7C15


def scrambled(word):
    word %= 2**64
    word ^= word >> 32
    for multiplier in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB):
        word = word * multiplier % 2**64
        word ^= word >> 32
    return word


def level_of(first, step, entry):
    word = scrambled(first + step * (entry // 4))
    unsigned = word >> 16 * (entry % 4) & 0xFFFF
    return unsigned - 2**16 if unsigned >= 2**15 else unsigned


def test_masks_by_numbers_that_live_in_tensors_are_the_same(monkeypatch):
    monkeypatch.setattr(dropout, "_drawn", dropout._hashed)
    keys = MaskKeys(seed=1, layers=3)
    layer = SampleDropout(0.25, 2, keys)
    with keys.of(7, [5, 9, 2]):
        plain = layer.mask(torch.ones(3, 40))
    with keys.of(torch.tensor(7), torch.tensor([5, 9, 2])):
        assert torch.equal(layer.mask(torch.ones(3, 40)), plain)


def test_layers_that_see_the_same_input_get_the_masks_that_each_has_alone(generator):
    keys = MaskKeys(seed=1)
    layers = [SampleDropout(0.25, number, keys) for number in (4, 5, 6)]
    like = torch.ones(2, 3, 5)
    with keys.of(2, [8, 1]):
        together = dropout.joint_masks(layers, like)
        assert torch.equal(together, torch.stack([layer.mask(like) for layer in layers]))


def test_keys_that_differ_have_words_that_differ():
    """Keys that differ by one, that trade places, and that have the same sum are among these."""
    few = [0, 1, 2, 3, 12, 23, 2**31 - 1]
    words = [words_of(range(200), seed, step, 24) for seed, step in itertools.product(few, repeat=2)]
    for row in torch.stack(words, dim=1).flatten(1):
        assert len(row.unique()) == 200 * 24 * len(few) ** 2


# Keys are fixed, so what follows passes always or never. Bounds are in standard deviations of what independent entries
# would give; the worst of some hundred figures is expected at about 3.
BOUND = 5
ENTRIES = 4 * 1536
KEYS = list(itertools.product([1, 2], [0, 1, 2]))  # seed, step
LAYERS = 3
SAMPLES = range(8)


@pytest.fixture(scope="module", params=[torch.int16, torch.int8], ids=str)
def levels(request):
    """``(144, 6144)``: seeds, steps, layers and samples that differ by one. Levels of one byte as if they had two."""
    places, one_byte = torch.arange(ENTRIES // 4), request.param == torch.int8
    words = [words_of(SAMPLES, *key, LAYERS)[..., None] for key in KEYS]
    rows = torch.cat([dropout._hashed_levels(ENTRIES, each, places, request.param) for each in words]).flatten(0, 1)
    return rows.short() * 256 + 128 if one_byte else rows


def have_one_byte(levels):
    return bool((levels & 255 == 128).all())


def standardised(levels, p):
    """Whether each entry is kept, with mean 0 and variance 1."""
    threshold = 256 * round(p * 256) if have_one_byte(levels) else round(p * 65536)
    entries = (levels > threshold - 32769).double()
    share = 1 - threshold / 65536
    return (entries - share) / math.sqrt(share * (1 - share))


def assert_standard_normal(scores):
    """Their sum, the sum of their squares (chi-square) and the largest."""
    scores = scores.flatten()
    assert abs(scores.sum()) < BOUND * math.sqrt(len(scores))
    assert abs((scores**2).sum() - len(scores)) < BOUND * math.sqrt(2 * len(scores))
    assert scores.abs().max() < 6.5


@pytest.mark.parametrize("p", SHARES)
def test_every_sample_entry_lane_layer_step_and_seed_is_dropped_as_often_as_asked(levels, p):
    entries = standardised(levels, p)
    assert_standard_normal(entries.mean(1) * math.sqrt(ENTRIES))
    assert_standard_normal(entries.mean(0) * math.sqrt(len(entries)))
    by_lane = entries.view(len(entries), -1, 4).transpose(1, 2).flatten(2)
    assert_standard_normal(by_lane.mean((0, 2)) * math.sqrt(entries.numel() / 4))
    by_key = entries.view(2, 3, 3, -1)
    for part in (by_key, by_key.transpose(0, 1), by_key.transpose(0, 2)):
        each = part.flatten(1)
        assert_standard_normal(each.mean(1) * math.sqrt(each.shape[1]))


def test_every_level_is_as_frequent_as_any_other(levels):
    for shift in (8,) if have_one_byte(levels) else (0, 4, 8):
        counts = torch.bincount((levels.long() >> shift & 255).flatten(), minlength=256)
        expected = levels.numel() / 256
        assert_standard_normal((counts - expected) / math.sqrt(expected * 255 / 256))


@pytest.mark.parametrize("p", SHARES)
def test_no_two_masks_are_correlated(levels, p):
    """Neighbouring samples, layers, steps and seeds, and all other pairs."""
    entries = standardised(levels, p)
    together = entries @ entries.T / math.sqrt(ENTRIES)
    assert_standard_normal(together[tuple(torch.triu_indices(*together.shape, offset=1))])


@pytest.mark.parametrize("p", SHARES)
def test_no_three_masks_in_a_row_are_correlated(levels, p):
    entries = standardised(levels, p)
    assert_standard_normal((entries[2:] * entries[1:-1] * entries[:-2]).mean(1) * math.sqrt(ENTRIES))


@pytest.mark.parametrize("p", SHARES)
@pytest.mark.parametrize("distance", [1, 2, 3, 4, 5, 8, 64, 768, 1024, 4096])
def test_no_two_entries_are_correlated_within_a_mask_nor_with_the_next(levels, p, distance):
    entries = standardised(levels, p)
    count = math.sqrt(ENTRIES - distance)
    assert_standard_normal((entries[:, distance:] * entries[:, :-distance]).mean(1) * count)
    assert_standard_normal((entries[1:, distance:] * entries[:-1, :-distance]).mean(1) * count)

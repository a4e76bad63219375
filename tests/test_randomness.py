"""Draws from torch that nobody else takes part in."""

import contextlib
import threading

import pytest
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lowshot.randomness import drawn_twice, seeded, torch_seeded


def draws():
    """One of each kind: with a generator, with a twin that takes one, inside of torch, and without any."""
    ones = torch.ones(40)
    return [
        torch.randn(40),
        torch.randint(2, 9, (40,)),
        torch.rand_like(ones),
        torch.randperm(40),
        torch.nn.init.kaiming_uniform_(torch.empty(5, 8)),
        torch.nn.Linear(5, 8).weight.detach(),
        torch.bernoulli(ones / 2),
        functional.dropout(ones),
        torch.svd_lowrank(torch.arange(40.0).view(5, 8), q=2)[0],
        torch.randint_like(ones, 2, 9),
        torch.normal(ones, ones),
        torch.multinomial(ones, 20),
        torch.ops.aten.native_dropout(ones, 0.5, True)[0],
    ]


def test_a_seed_draws_what_torchs_generator_would_and_leaves_that_one_alone():
    with torch_seeded(3):
        expected = draws()
    state = torch.random.get_rng_state()
    with seeded(3):
        found = draws()

    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


def test_threads_that_draw_and_seed_meanwhile_change_nothing():
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            torch.manual_seed(0)
            torch.randn(3)

    with seeded(3):
        expected = torch.stack([torch.randn(1000) for _ in range(20)])
    before = torch.random.get_rng_state()
    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        with seeded(3):
            found = torch.stack([torch.randn(1000) for _ in range(20)])
    finally:
        stop.set()
        thread.join()
        torch.random.set_rng_state(before)

    assert torch.equal(found, expected)


def test_a_block_inside_another_draws_by_its_own_seed_and_does_not_advance_the_outer_one():
    with seeded(3):
        first, second = torch.randn(4), torch.nn.Dropout(0.5)(torch.ones(50))
    with seeded(4):
        inner = draws()

    with seeded(3):
        a = torch.randn(4)
        with seeded(4):
            b = draws()
        c = torch.nn.Dropout(0.5)(torch.ones(50))

    assert torch.equal(a, first)
    assert torch.equal(c, second)
    assert all(torch.equal(x, y) for x, y in zip(b, inner, strict=True))


@pytest.mark.parametrize("around", [seeded(5), contextlib.nullcontext()])
def test_what_is_computed_again_in_the_backward_pass_draws_the_same(around):
    inputs = torch.ones(100, requires_grad=True)

    def squared(inputs):  # its backward pass needs what was drawn
        return functional.dropout(inputs) ** 2

    with seeded(3):
        torch.rand(7)
        outputs = checkpoint(squared, inputs, use_reentrant=False, preserve_rng_state=False, context_fn=drawn_twice)
        torch.rand(3)
    with around:
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs)

    assert torch.equal(gradient, 2 * outputs)


def test_without_a_seed_there_is_nothing_to_repeat():
    inputs = torch.ones(4, requires_grad=True)

    outputs = checkpoint(torch.square, inputs, use_reentrant=False, preserve_rng_state=False, context_fn=drawn_twice)

    assert torch.equal(torch.autograd.grad(outputs.sum(), inputs)[0], torch.full((4,), 2.0))


def test_nothing_is_drawn_on_the_meta_device():
    with seeded(3), torch.device("meta"):
        assert torch.nn.Linear(2, 2).weight.is_meta
    with seeded(3):
        torch.nn.Linear(2, 2, device="meta")
        after = torch.randn(4)
    with seeded(3):
        assert torch.equal(torch.randn(4), after)

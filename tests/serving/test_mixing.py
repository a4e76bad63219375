"""Mixed layers against the update of each row written out as one matrix."""

import threading

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lowshot.adapters.lora_xs import basis_of
from lowshot.serving.mixing import OwnFactors, Rows, Updates, mixed, wrap_linears

INPUTS, OUTPUTS, TOKENS = 6, 5, 3
LAYERS = ("one", "two")


def random(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model():
    model = nn.ModuleDict({name: nn.utils.skip_init(nn.Linear, INPUTS, OUTPUTS) for name in LAYERS})
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = random(*parameter.shape, seed=seed)
    return model.requires_grad_(False)


BASES = {name: basis_of(layer.weight, OUTPUTS) for name, layer in model().items()}


def basis_at(name, rank):
    return BASES[name].leading(rank)


@st.composite
def adapters(draw):
    """An adapter with a matrix in the basis, with factors of its own, or nothing, at each layer."""
    kinds = draw(st.tuples(*(st.sampled_from(("shared", "own", "nothing")) for _ in LAYERS)))
    rank, seed = draw(st.integers(1, OUTPUTS)), draw(st.integers(0, 9))
    shared = tuple(name for name, kind in zip(LAYERS, kinds, strict=True) if kind == "shared")
    own = {
        name: OwnFactors(random(rank, INPUTS, seed=seed + 10), random(OUTPUTS, rank, seed=seed + 20))
        for name, kind in zip(LAYERS, kinds, strict=True)
        if kind == "own"
    }
    return Updates(shared, random(len(shared), rank, rank, seed=seed) if shared else None, own)


def dense(updates, name):
    """The update of a layer as one matrix ``(O, I)``."""
    whole = torch.zeros(OUTPUTS, INPUTS)
    if name in updates.layers:
        middle = updates.middles[updates.layers.index(name)]
        basis = basis_at(name, len(middle))
        whole += basis.left.T @ middle.T @ basis.right
    if name in updates.own:
        whole += updates.own[name].b @ updates.own[name].a
    return whole


@given(st.lists(adapters(), min_size=1, max_size=4), st.lists(st.integers(0, 3), min_size=1, max_size=6))
def test_each_row_gets_the_update_of_its_own_adapter(there, picks):
    updates = [there[pick % len(there)] for pick in picks]
    plain, wrapped = model(), model()
    rows = wrap_linears(wrapped, LAYERS)
    inputs = random(len(updates), TOKENS, INPUTS, seed=99)
    with rows.of(mixed(updates, basis_at)):
        results = {name: wrapped[name](inputs) for name in LAYERS}
    for name in LAYERS:
        for row, each in enumerate(updates):
            expected = plain[name](inputs[row]) + inputs[row] @ dense(each, name).T
            torch.testing.assert_close(results[name][row], expected, atol=1e-4, rtol=1e-5)


@given(adapters(), st.integers(1, 3))
@settings(max_examples=30)
def test_a_layer_that_an_adapter_leaves_alone_stays_as_it_is_to_the_last_bit(other, count):
    nothing, plain, wrapped = Updates(), model(), model()
    rows = wrap_linears(wrapped, LAYERS)
    inputs = random(count + 1, TOKENS, INPUTS, seed=99)
    with rows.of(mixed([*[nothing] * count, other], basis_at)):
        results = {name: wrapped[name](inputs) for name in LAYERS}
    for name in LAYERS:
        assert torch.equal(results[name][:count], plain[name](inputs)[:count])


def test_a_wrapped_model_without_rows_is_the_model():
    plain, wrapped = model(), model()
    wrap_linears(wrapped, LAYERS)
    inputs = random(2, TOKENS, INPUTS, seed=99)
    assert all(torch.equal(wrapped[name](inputs), plain[name](inputs)) for name in LAYERS)


def test_threads_do_not_see_each_others_rows():
    rows, seen = Rows(), []
    with rows.of({"one": ()}):
        thread = threading.Thread(target=lambda: seen.append(dict(rows.mixed)))
        thread.start()
        thread.join()
        assert rows.mixed
    assert seen == [{}]
    assert not rows.mixed


def test_the_inputs_and_the_weights_are_left_alone():
    wrapped = model()
    rows = wrap_linears(wrapped, LAYERS)
    weights = [parameter.clone() for parameter in wrapped.parameters()]
    update = Updates(LAYERS, random(2, 3, 3, seed=1))
    inputs = random(2, TOKENS, INPUTS, seed=99)
    before = inputs.clone(), update.middles.clone()
    with rows.of(mixed([update, Updates()], basis_at)):
        first, again = wrapped["one"](inputs), wrapped["one"](inputs)
    assert torch.equal(first, again)
    assert torch.equal(inputs, before[0])
    assert torch.equal(update.middles, before[1])
    assert all(torch.equal(a, b) for a, b in zip(wrapped.parameters(), weights, strict=True))


def test_the_size_of_updates_is_that_of_their_tensors():
    own = {"one": OwnFactors(torch.zeros(2, 6), torch.zeros(5, 2))}
    assert Updates().nbytes == 0
    assert Updates(("two",), torch.zeros(1, 3, 3), own).nbytes == 4 * (9 + 12 + 10)
    assert np.prod(Updates(("two",), torch.zeros(1, 3, 3)).to(torch.device("cpu")).middles.shape) == 9

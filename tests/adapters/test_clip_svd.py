"""CLIP-SVD: the formula, and that saved values mean the same whatever the decomposition made of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from lowshot.adapters import clip_svd
from lowshot.adapters.clip_svd import BASIS_FILE, add_singular_values, prepare
from lowshot.adapters.lora_xs import basis
from lowshot.adapters.placement import Place
from lowshot.errors import AdapterError
from lowshot.settings import MethodConfig
from refusing import refused

from .conftest import images, take_steps


class Two(nn.Module):
    """Two linear layers of different shapes."""

    def __init__(self, first, second):
        super().__init__()
        for name, weight in (("first", first), ("second", second)):
            linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta").to_empty(device="cpu")
            linear.weight.data, linear.bias.data = weight.clone(), torch.linspace(-1, 1, len(weight))
            setattr(self, name, linear)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def adapted(first, second=None, delta=None):
    model = Two(first, random(8, 20) if second is None else second)
    where = Place({}, (), ("first", "second"), "")
    bases = prepare(model, MethodConfig(method="clip-svd"), where)
    adapter = add_singular_values(model, MethodConfig(method="clip-svd"), where, seed=1, bases=bases)
    assert not bases  # no second copy of them
    if delta is not None:
        model.first.delta.data = delta.clone()
    return adapter


@pytest.mark.parametrize("shape", [(20, 12), (12, 20), (16, 16)])
def test_it_is_the_formula(shape):
    """Against numpy: W' = U diag(s + d) V^T."""
    weight, delta = random(*shape), random(min(shape), seed=1)
    layer = adapted(weight, delta=delta).model.first
    u, s, v = np.linalg.svd(weight.double().numpy(), full_matrices=False)
    expected = u @ np.diag(s + delta.double().numpy()) @ v
    x = random(7, shape[1], seed=2)
    wanted = x.double().numpy() @ expected.T + layer.base_layer.bias.detach().numpy()
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-5)
    np.testing.assert_allclose(layer.merged().weight.detach().numpy(), expected, atol=1e-5)
    np.testing.assert_allclose(layer.singular_values.numpy(), s, atol=1e-12)


def test_a_case_by_hand():
    """W = diag(3, 2): d = (1, -2) makes it diag(4, 0), and the second output is its bias alone."""
    layer = adapted(torch.diag(torch.tensor([3.0, 2.0])), delta=torch.tensor([1.0, -2.0])).model.first
    layer.base_layer.bias.data.zero_()
    torch.testing.assert_close(layer(torch.tensor([[5.0, 7.0]])), torch.tensor([[20.0, 0.0]]), atol=1e-6, rtol=0)


def test_the_gradient_is_that_of_the_singular_values_themselves():
    """Against autograd through a dense U diag(s + d) V^T, and against u_i^T G v_i by hand."""
    weight, x = random(20, 12), random(7, 12, seed=1)
    layer = adapted(weight).model.first
    layer(x).pow(2).sum().backward()
    u, s, v = torch.linalg.svd(weight, full_matrices=False)
    values = s.clone().requires_grad_()
    (x @ (u @ torch.diag(values) @ v).T + layer.base_layer.bias).pow(2).sum().backward()
    torch.testing.assert_close(layer.delta.grad, values.grad, atol=1e-2, rtol=1e-4)
    of_weight = 2 * (x @ weight.T + layer.base_layer.bias).T @ x
    torch.testing.assert_close(
        layer.delta.grad, torch.stack([u[:, i] @ of_weight @ v[i] for i in range(12)]), atol=1e-2, rtol=1e-4
    )


def other_library(turn, outputs):
    """Another decomposition of weights with so many outputs, by what ``turn`` makes of (U, s, V^T)."""

    def basis_of(weight, rank):
        u, s, v = torch.linalg.svd(weight.detach().double(), full_matrices=False)
        u, v = turn(u, v) if len(u) == outputs else (u, v)
        right = s[:, None] * v
        return basis.Basis(
            u.T.float()[:rank].contiguous(), right.float()[:rank], s[: rank + 1], torch.zeros(rank).long()
        )

    return basis_of


@settings(max_examples=20, deadline=None)
@given(signs=st.lists(st.sampled_from([-1.0, 1.0]), min_size=12, max_size=12))
def test_signs_of_the_vectors_do_not_matter(signs, tmp_path_factory):
    folder, weight, delta = tmp_path_factory.mktemp("adapter"), random(20, 12), random(12, seed=1)
    saved = adapted(weight, delta=delta)
    saved.save(folder, "two")
    turned = torch.tensor(signs).double()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "lowshot.adapters.lora_xs.cache.basis_of", other_library(lambda u, v: (u * turned, turned[:, None] * v), 20)
        )
        patch.setenv("LOWSHOT_CACHE", str(tmp_path_factory.mktemp("cache")))
        again = adapted(weight)
    again.load(folder)
    expected, restored = (each.model.first.merged().weight for each in (saved, again))
    torch.testing.assert_close(restored, expected, atol=2e-6, rtol=0)


def with_equal_values():
    """A weight with the singular values 5, 3, 3, 3, 1, 0, 0: five of its pairs are turned by rounding."""
    u, _, v = np.linalg.svd(random(9, 7).double().numpy(), full_matrices=False)
    return torch.from_numpy(u @ np.diag([5.0, 3.0, 3.0, 3.0, 1.0, 0.0, 0.0]) @ v).float()


def turned_within_equals(u, v):
    """Vectors of another library: turned inside the threefold value, and each side by itself in the null space."""
    u, v = u.clone(), v.clone()
    turn, _ = torch.linalg.qr(random(3, 3, seed=9).double())
    u[:, 1:4], v[1:4] = u[:, 1:4] @ turn, turn.T @ v[1:4]
    mine, _ = torch.linalg.qr(random(2, 2, seed=8).double())
    u[:, 5:] = u[:, 5:] @ mine
    return u, v


def test_pairs_that_rounding_decides_travel_with_the_adapter(tmp_path, monkeypatch):
    weight, delta = with_equal_values(), random(7, seed=1)
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "one"))
    saved = adapted(weight, delta=delta)
    assert saved.model.first.open.rows.tolist() == [1, 2, 3, 5, 6]
    (tmp_path / "adapter").mkdir()
    saved.save(tmp_path / "adapter", "two")
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("lowshot.adapters.lora_xs.cache.basis_of", other_library(turned_within_equals, 9))
    again = adapted(weight, delta=delta)
    expected = saved.model.first.merged().weight
    assert (again.model.first.merged().weight - expected).abs().max() > 0.1  # the same d would be another adapter
    again.load(tmp_path / "adapter")
    torch.testing.assert_close(again.model.first.merged().weight, expected, atol=2e-6, rtol=0)
    (tmp_path / "twice").mkdir()
    again.save(tmp_path / "twice", "two")
    twice = adapted(weight)
    twice.load(tmp_path / "twice")
    torch.testing.assert_close(twice.model.first.merged().weight, expected, atol=2e-6, rtol=0)


def test_a_weight_without_equal_values_stores_none(tmp_path):
    adapted(random(20, 12)).save(tmp_path, "two")
    assert set(load_file(tmp_path / BASIS_FILE)) == {"checks"}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(lambda w: 1.001 * w, id="longer"),
        pytest.param(lambda w: w.flip(0), id="rows in another order, and the same singular values"),
        pytest.param(lambda w: random(20, 12, seed=5), id="another"),
    ],
)
def test_another_weight_is_refused_by_the_name_of_its_layer(tmp_path, other):
    adapted(random(20, 12)).save(tmp_path, "two")
    with refused(AdapterError, tmp_path, "singular values", "of first"):
        adapted(other(random(20, 12))).load(tmp_path)


def test_a_pair_in_another_place_is_refused(tmp_path, monkeypatch):
    def exchanged(u, v):
        order = [0, 2, 1, *range(3, 12)]
        return u[:, order], v[order]

    adapted(random(20, 12)).save(tmp_path, "two")
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lowshot.adapters.lora_xs.cache.basis_of", other_library(exchanged, 20))
    other = adapted(random(20, 12))
    with refused(AdapterError, tmp_path, "singular values", "of first"):
        other.load(tmp_path)


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (lambda t: t.pop("checks"), "checks is missing"),
        (lambda t: t.update(more=torch.zeros(1)), "more is unknown"),
        (lambda t: t.pop("left.0"), "left.0 is missing"),
        (lambda t: t.update({"checks": t["checks"][:1]}), "not fit"),
        (lambda t: t["checks"].fill_(torch.nan), "not finite"),
        (lambda t: t["rows.0"].fill_(7), "not fit"),
        (lambda t: t.update({"rows.0": t["rows.0"].int()}), "not fit"),
        (lambda t: t.update({"left.0": t["left.0"][:, :3].contiguous()}), "not fit"),
        (lambda t: t["right.0"].fill_(torch.inf), "not finite"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path, damage, fact):
    adapter = adapted(with_equal_values())
    adapter.save(tmp_path, "two")
    tensors = load_file(tmp_path / BASIS_FILE)
    damage(tensors)
    save_file(tensors, tmp_path / BASIS_FILE, metadata={"basis_version": "1"})
    with refused(AdapterError, tmp_path / BASIS_FILE, "damaged", fact):
        adapter.load(tmp_path)


def test_another_version_and_a_missing_file_are_refused(tmp_path):
    adapter = adapted(random(20, 12))
    adapter.save(tmp_path, "two")
    save_file(load_file(tmp_path / BASIS_FILE), tmp_path / BASIS_FILE, metadata={"basis_version": "99"})
    with refused(AdapterError, tmp_path / BASIS_FILE, "version 99", "reads 1"):
        adapter.load(tmp_path)
    (tmp_path / BASIS_FILE).unlink()
    with refused(AdapterError, f"{BASIS_FILE} is missing"):
        adapter.load(tmp_path)


def test_a_weight_of_zeros_has_nothing_to_train(tmp_path):
    adapter = adapted(torch.zeros(6, 4), delta=torch.ones(4))
    assert torch.equal(adapter.model.first.merged().weight, torch.zeros(6, 4))
    adapter.save(tmp_path, "two")
    adapter.load(tmp_path)


def test_the_factors_are_in_the_type_that_is_computed_in_and_what_is_trained_in_float32(learner_on):
    learner = learner_on("clip-svd", precision="bf16")
    layers = [m for m in learner.backbone.model.modules() if isinstance(m, clip_svd.SingularValueLinear)]
    assert len(layers) == 6 * (2 + 3)
    assert all(each.left.dtype == each.right.dtype == torch.bfloat16 for each in layers)
    assert all(each.delta.dtype == torch.float32 for each in layers)
    assert learner.trainable_parameters == 6 * (2 * 16 + 3 * 24)


def test_what_was_trained_in_float32_is_the_same_in_bfloat16_but_for_rounding(learner_on, tmp_path):
    learner = learner_on("clip-svd", precision="fp32")
    plain = learner.logits(images())
    take_steps(learner, 5)
    learner.save(tmp_path)
    rounded = learner_on("clip-svd", precision="bf16")
    rounded.load(tmp_path)
    update = (learner.logits(images()) - plain).abs().max()
    assert (rounded.logits(images()) - learner.logits(images())).abs().max() < 0.25 * update


def test_judging_computes_with_merged_weights_and_leaves_the_layers_as_they_were(learner_on):
    learner = learner_on("clip-svd", precision="fp32")
    take_steps(learner, 5)
    expected = learner.logits(images())
    layers = [m for m in learner.backbone.model.modules() if isinstance(m, clip_svd.SingularValueLinear)]
    with learner.merged_for_inference():
        assert all(isinstance(vars(each)["forward"].__self__, nn.Linear) for each in layers)
        torch.testing.assert_close(learner.logits(images()), expected, atol=2e-4, rtol=0)
    assert not any("forward" in vars(each) for each in layers)
    assert torch.equal(learner.logits(images()), expected)

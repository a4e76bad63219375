import copy
import dataclasses
import json

import pytest
import torch
from peft import PeftModel, PsoftConfig, get_peft_model, get_peft_model_state_dict
from peft.utils.hotswap import hotswap_adapter
from torch import nn

from lowshot.adapters.lora_xs import basis_of, layer_bases
from lowshot.adapters.lora_xs.layer import SIGMA
from lowshot.adapters.lora_xs.tuner import LoraXsConfig
from lowshot.errors import InputError
from refusing import refused


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


class Two(nn.Module):
    """Two linear layers of different shapes."""

    def __init__(self, generator):
        super().__init__()
        self.first, self.second = nn.Linear(12, 20, device="meta"), nn.Linear(20, 8, device="meta")
        self.to_empty(device="cpu")
        for parameter in self.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator)

    def forward(self, x):
        return self.second(torch.tanh(self.first(x)))


def adapted(base, rank=4, bases=None, **options):
    config = LoraXsConfig(r=rank, lora_alpha=1, use_rslora=True, target_modules=["first", "second"], **options)
    config.bases = bases or {}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return get_peft_model(base, config)


def test_the_basis_spans_the_best_approximation(generator):
    weight = torch.randn(20, 12, generator=generator)
    basis = basis_of(weight, 5)
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    best = u[:, :5] * s[:5] @ v[:5]
    torch.testing.assert_close(basis.left.double().T @ basis.right.double(), best, atol=1e-5, rtol=0)
    torch.testing.assert_close(basis.left @ basis.left.T, torch.eye(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(basis.singular_values, s[:6], atol=1e-6, rtol=0)


def test_signs_are_settled_whatever_the_precision_and_layout(generator):
    weight = torch.randn(40, 24, generator=generator)
    wanted = basis_of(weight, 16)
    for other in (weight.double(), weight.T.contiguous().T, weight.clone().as_strided((40, 24), (24, 1))):
        basis = basis_of(other, 16)
        torch.testing.assert_close(basis.left, wanted.left, atol=1e-5, rtol=0)
        torch.testing.assert_close(basis.right, wanted.right, atol=1e-5, rtol=0)
    assert torch.equal(wanted.anchors, wanted.left.abs().argmax(1))
    assert (wanted.left.gather(1, wanted.anchors[:, None]) > 0).all()


def test_a_smaller_rank_is_a_slice_of_a_larger_one(generator):
    weight = torch.randn(20, 12, generator=generator)
    small, large = basis_of(weight, 3), basis_of(weight, 9).leading(3)
    for field in ("left", "right", "singular_values", "anchors"):
        assert torch.equal(getattr(small, field), getattr(large, field))


def test_rank_beyond_the_matrix_is_refused(generator):
    with refused(InputError, "rank is 13", "(20, 12)", "at most 12"):
        basis_of(torch.randn(20, 12, generator=generator), 13)


SIDES = ("input", "output")
each_side = pytest.mark.parametrize("side", SIDES)


@each_side
def test_the_effect_of_r_is_the_dense_product(generator, side):
    base = Two(generator)
    model = adapted(copy.deepcopy(base), basis_side=side)
    x = torch.randn(7, 12, generator=generator)
    dense = copy.deepcopy(base)
    for name in ("first", "second"):
        layer = model.base_model.model.get_submodule(name)
        r = layer.lora_B["default"].R
        r.data = torch.randn(r.shape, generator=generator)
        u, s, v = (part[..., :4].float() for part in torch.svd(base.get_submodule(name).weight.double()))
        signs = basis_of(base.get_submodule(name).weight, 4).left.mul(u.T).sum(1).sign()  # which a library may turn
        r_s = {"input": r.data * s, "output": s[:, None] * r.data}[side]
        dense.get_submodule(name).weight.data += 4**-0.5 * (u * signs) @ r_s @ (v * signs).T
    torch.testing.assert_close(model(x), dense(x), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.merge_and_unload()(x), dense(x), atol=1e-5, rtol=1e-5)


def test_r_starts_at_almost_nothing_and_is_all_that_is_trained(generator):
    model = adapted(Two(generator))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {name.split(".")[-1] for name in trained} == {"R"}
    values = torch.cat([p.flatten() for p in trained.values()])
    assert values.numel() == 2 * 4 * 4
    assert 0.4 * SIGMA < values.std() < 1.6 * SIGMA


def test_the_checkpoint_holds_r_alone(generator):
    model = adapted(Two(generator))
    tensors = get_peft_model_state_dict(model)
    assert {name.rsplit(".", 1)[1]: tuple(t.shape) for name, t in tensors.items()} == {"R": (4, 4)}
    assert len(tensors) == 2


@each_side
def test_plain_peft_loads_what_was_saved_once_lowshot_is_imported(generator, tmp_path, side):
    base = Two(generator)
    model = adapted(copy.deepcopy(base), basis_side=side)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["peft_type"], config["basis_side"]) == ("LORA_XS", side)
    x = torch.randn(5, 12, generator=generator)
    with torch.random.fork_rng():
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    torch.testing.assert_close(loaded(x), model(x), atol=0, rtol=0)


def test_peft_reads_a_file_older_than_the_side_as_on_the_input(generator, tmp_path):
    adapted(Two(generator)).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    del config["basis_side"]
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    assert LoraXsConfig.from_pretrained(tmp_path).basis_side == "input"


def test_a_side_is_one_of_two():
    with refused(InputError, "basis-side is 'left'", "input or output"):
        LoraXsConfig(basis_side="left")


def test_weights_of_one_side_are_not_swapped_in_for_those_of_the_other(generator, tmp_path):
    base = Two(generator)
    adapted(copy.deepcopy(base)).save_pretrained(tmp_path)
    model = adapted(copy.deepcopy(base), basis_side="output")
    with pytest.raises(ValueError, match="basis_side"):
        hotswap_adapter(model, tmp_path, "default")


@pytest.mark.parametrize("zero", [False, True])
def test_singular_values_change_sides_and_back(generator, zero):
    weight = torch.randn(20, 12, generator=generator)
    if zero:
        weight[:, 3:] = 0
    basis = basis_of(weight, 5)
    moved = basis.with_values_on("output")
    torch.testing.assert_close(moved.left.T @ moved.right, basis.left.T @ basis.right, atol=1e-5, rtol=0)
    norms = (basis.singular_values[:5] > 1e-3).float()
    torch.testing.assert_close(moved.right[: int(norms.sum())].norm(dim=1), norms[norms > 0], atol=1e-6, rtol=0)
    torch.testing.assert_close(moved.left.norm(dim=1).double(), basis.singular_values[:5], atol=1e-5, rtol=0)
    back = moved.with_values_on("input")
    torch.testing.assert_close(back.right, basis.right, atol=1e-6, rtol=0)
    assert basis.with_values_on("input") is basis
    r = torch.randn(3, 3, generator=generator)
    small = moved.leading(3)
    same = basis.leading(3).left.T @ small.on_input_side(r) @ basis.leading(3).right
    torch.testing.assert_close(same, small.left.T @ r @ small.right, atol=1e-5, rtol=0)
    values = basis.singular_values.clone()
    values[4] = 0  # as the last one of a weight that has not its full rank is
    assert dataclasses.replace(moved, singular_values=values).on_input_side(torch.ones(5, 5)).isfinite().all()


def test_a_prepared_basis_is_used_instead_of_the_weight(generator):
    base = Two(generator)
    bases = layer_bases(base, {"first": 6, "second": 6})
    wanted = bases["first"].left[:4].clone()
    base.first.weight.data.zero_()
    layer = adapted(base, bases=bases).base_model.model.first
    assert torch.equal(layer.lora_B["default"].u, wanted.T)


@each_side
def test_all_adapters_of_a_layer_share_its_basis(generator, side):
    base = Two(generator)
    bases = {n: b.with_values_on(side) for n, b in layer_bases(base, {"first": 6, "second": 6}).items()}
    model = adapted(base, bases=bases, basis_side=side)
    with torch.random.fork_rng():
        model.add_adapter("smaller", LoraXsConfig(r=3, lora_alpha=1, target_modules=["first"], basis_side=side))
    layer = base.first
    basis = bases["first"]
    for name in ("default", "smaller"):
        assert layer.lora_A[name].weight.data_ptr() == basis.right.data_ptr()
        assert layer.lora_B[name].u.data_ptr() == basis.left.data_ptr()


def test_adapters_of_both_sides_stand_beside_each_other_on_one_layer(generator):
    base = Two(generator)
    bases = layer_bases(base, {"first": 6, "second": 6})
    model = adapted(base, bases=bases)
    with torch.random.fork_rng():
        other = LoraXsConfig(r=3, lora_alpha=1, target_modules=["first"], basis_side="output")
        model.add_adapter("other", other)
    layer, wanted = base.first, bases["first"].with_values_on("output").leading(3)
    assert layer.basis_side == {"default": "input", "other": "output"}
    assert torch.equal(layer.lora_A["other"].weight, wanted.right)
    assert torch.equal(layer.lora_B["other"].u, wanted.left.T)
    assert torch.equal(layer.lora_A["default"].weight, bases["first"].right[:4])
    model.delete_adapter("other")
    assert layer.basis_side == {"default": "input"}


def test_the_basis_stays_in_float32_on_a_base_in_bfloat16(generator):
    base = Two(generator)
    wanted = basis_of(base.first.weight, 4)
    bases = layer_bases(base, {"first": 4, "second": 4})
    layer = adapted(base.bfloat16(), bases=bases).base_model.model.first
    assert torch.equal(layer.lora_A["default"].weight, wanted.right)
    assert layer.lora_B["default"].R.dtype == torch.float32
    assert layer(torch.randn(3, 12, generator=generator).bfloat16()).dtype == torch.bfloat16


def test_psoft_of_peft_is_an_independent_oracle(generator):
    """PSOFT without orthogonality and magnitudes is W + U S (Q - I) V^T: Q = I + g S^-1 R S gives the same weight."""
    base = Two(generator)
    model = adapted(copy.deepcopy(base))
    config = PsoftConfig(
        r=4, psoft_alpha=4, target_modules=["first", "second"], psoft_orth=False, psoft_mag_a=False, psoft_mag_b=False,
        psoft_svd="full",
    )  # fmt: skip
    with torch.random.fork_rng():
        oracle = get_peft_model(copy.deepcopy(base), config)
    for name in ("first", "second"):
        layer, other = (m.base_model.model.get_submodule(name) for m in (model, oracle))
        r = layer.lora_B["default"].R
        r.data = 0.2 * torch.randn(r.shape, generator=generator)
        basis = basis_of(base.get_submodule(name).weight, 4)
        # PSOFT takes the signs as its own decomposition gives them.
        signs = (other._psoft_A_cache["default"] * basis.right).sum(1).sign()
        s = basis.singular_values[:4].float()
        ours = signs[:, None] * r.data * signs[None, :]
        other.psoft_R["default"].weight.data = torch.eye(4) + 4**-0.5 * ours * s[None, :] / s[:, None]
    x = torch.randn(7, 12, generator=generator)
    assert (model(x) - base(x)).abs().max() > 0.5
    torch.testing.assert_close(oracle(x), model(x), atol=2e-5, rtol=1e-5)


def test_weighted_combination_is_refused_instead_of_silently_wrong(generator):
    model = adapted(Two(generator))
    with pytest.raises(NotImplementedError, match="cannot be combined"):
        model.base_model.add_weighted_adapter(["default"], [1.0], "both")

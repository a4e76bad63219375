import copy
import json

import pytest
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from torch import nn

from lowshot.adapters.lora_xs import LoraXsConfig, attach_bases, basis_of
from lowshot.adapters.lora_xs.basis import ATTRIBUTE
from lowshot.adapters.lora_xs.layer import SIGMA
from lowshot.errors import InputError


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


def adapted(base, rank=4, **options):
    config = LoraXsConfig(r=rank, lora_alpha=1, use_rslora=True, target_modules=["first", "second"], **options)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return get_peft_model(base, config)


def test_the_basis_spans_the_best_approximation(generator):
    weight = torch.randn(20, 12, generator=generator)
    basis = basis_of(weight, 5)
    u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
    torch.testing.assert_close(basis.u.double() @ basis.s_v.double(), u[:, :5] * s[:5] @ v[:5], atol=1e-5, rtol=0)
    torch.testing.assert_close(basis.u.T @ basis.u, torch.eye(5), atol=1e-6, rtol=0)


def test_signs_are_settled_whatever_the_precision_and_layout(generator):
    weight = torch.randn(40, 24, generator=generator)
    wanted = basis_of(weight, 16)
    for other in (weight.double(), weight.T.contiguous().T, weight.clone().as_strided((40, 24), (24, 1))):
        found = basis_of(other, 16)
        torch.testing.assert_close(found.u, wanted.u, atol=1e-5, rtol=0)
        torch.testing.assert_close(found.s_v, wanted.s_v, atol=1e-5, rtol=0)
    assert (wanted.u.gather(0, wanted.u.abs().argmax(0, keepdim=True)) > 0).all()


def test_a_smaller_rank_is_a_slice_of_a_larger_one(generator):
    weight = torch.randn(20, 12, generator=generator)
    assert torch.equal(basis_of(weight, 3).u, basis_of(weight, 9).u[:, :3])


def test_rank_beyond_the_matrix_is_refused(generator):
    with pytest.raises(InputError, match=r"rank is 13, but the weight is \(20, 12\); expected at most 12"):
        basis_of(torch.randn(20, 12, generator=generator), 13)


def test_the_effect_of_r_is_the_dense_product(generator):
    base = Two(generator)
    model = adapted(copy.deepcopy(base))
    x = torch.randn(7, 12, generator=generator)
    dense = copy.deepcopy(base)
    for name in ("first", "second"):
        layer = model.base_model.model.get_submodule(name)
        r = layer.lora_B["default"].R
        r.data = torch.randn(r.shape, generator=generator)
        basis = basis_of(base.get_submodule(name).weight, 4)
        dense.get_submodule(name).weight.data += 4**-0.5 * basis.u @ r.data @ basis.s_v
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


def test_plain_peft_loads_what_was_saved_once_lowshot_is_imported(generator, tmp_path):
    base = Two(generator)
    model = adapted(copy.deepcopy(base))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = torch.randn(parameter.shape, generator=generator)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "LORA_XS"
    x = torch.randn(5, 12, generator=generator)
    with torch.random.fork_rng():
        loaded = PeftModel.from_pretrained(copy.deepcopy(base), tmp_path)
    torch.testing.assert_close(loaded(x), model(x), atol=0, rtol=0)


def test_an_attached_basis_is_used_instead_of_the_weight(generator):
    base = Two(generator)
    attach_bases(base, ["first", "second"], 6)
    wanted = getattr(base.first, ATTRIBUTE).u[:, :4].clone()
    base.first.weight.data.zero_()
    layer = adapted(base).base_model.model.first
    assert torch.equal(layer.lora_B["default"].u, wanted)


def test_weighted_combination_is_refused_instead_of_silently_wrong(generator):
    model = adapted(Two(generator))
    with pytest.raises(NotImplementedError, match="cannot be combined"):
        model.base_model.add_weighted_adapter(["default"], [1.0], "both")

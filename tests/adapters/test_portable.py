"""An adapter that holds R alone is the same function wherever it is loaded, or is refused."""

import copy
import dataclasses
import json
import os
import re
import shutil
import subprocess
import textwrap

import pytest
import scipy.linalg
import torch
from safetensors.torch import load_file, save_file

from lowshot.adapters.adapter import CONFIG_FILE
from lowshot.adapters.lora_xs import BASIS_FILE, basis_of
from lowshot.adapters.lora_xs import cache as cache_module
from lowshot.adapters.lora_xs.basis import DEGENERATE_GAP, Basis
from lowshot.adapters.lora_xs.cache import cached_basis
from lowshot.adapters.lora_xs.portable import TOLERANCE, probes
from lowshot.errors import AdapterError
from lowshot.models import load_backbone
from lowshot.settings import Recipe
from lowshot.training import create_learner
from lowshot.training.placing import adapt
from refusing import refused

from .conftest import PROMPTS, images, take_steps

LAYER = "text_model.encoder.layers.1.self_attn.k_proj"


@pytest.fixture
def no_cache(monkeypatch):
    """Every basis is computed."""
    monkeypatch.setattr(cache_module, "cached_basis", basis_of)


@pytest.fixture(scope="module")
def saved(learner_on, tmp_path_factory):
    """A trained adapter with a sizeable R: its logits, and its folder, to be read only."""
    learner, folder = learner_on("lora-xs"), tmp_path_factory.mktemp("saved")
    take_steps(learner, 3, rate=0.1)
    learner.save(folder)
    return learner.logits(images()), folder


@pytest.fixture
def trained(saved, tmp_path):
    """Its logits, and a folder of the test's own."""
    logits, folder = saved
    return logits, shutil.copytree(folder, tmp_path, dirs_exist_ok=True)


def weight(rows=40, columns=24, seed=0):
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def flipped(basis, *pairs):
    """The same decomposition with the signs of some pairs turned, as if other entries had been the largest."""
    signs = torch.ones(basis.rank)
    signs[list(pairs)] = -1
    left = signs[:, None] * basis.left
    return Basis(left, signs[:, None] * basis.right, basis.singular_values, left.argmax(1))


def elsewhere(driver):
    """A decomposition by other means, without canonical signs."""

    def compute(weight, rank):
        full = weight.detach().double().numpy()
        if driver == "transposed":
            v, s, u = scipy.linalg.svd(full.T, full_matrices=False)
            u, v = u.T, v.T
        elif driver == "float32":
            u, s, v = scipy.linalg.svd(full.astype("float32"), full_matrices=False)
        else:
            u, s, v = scipy.linalg.svd(full, full_matrices=False, lapack_driver=driver)
        left, s, v = (torch.from_numpy(a.copy()).double() for a in (u.T, s, v))
        right = s[:rank, None] * v[:rank]
        return Basis(left[:rank].float(), right.float(), s[: rank + 1], left[:rank].abs().argmax(1))

    return compute


@pytest.mark.parametrize(
    ("driver", "side"), [("gesdd", "input"), ("gesvd", "output"), ("transposed", "output"), ("float32", "input")]
)
def test_a_basis_from_another_driver_precision_or_layout_gives_the_same_logits(
    learner_on, tmp_path, monkeypatch, driver, side
):
    learner = learner_on("lora-xs", basis_side=side)
    take_steps(learner, 3, rate=0.1)
    learner.save(tmp_path)
    monkeypatch.setattr(cache_module, "cached_basis", elsewhere(driver))
    again = learner_on("lora-xs", basis_side=side)
    again.load(tmp_path)
    torch.testing.assert_close(again.logits(images()), learner.logits(images()), atol=1e-4, rtol=0)


def test_an_adapter_of_the_other_side_is_refused(learner_on, trained):
    _, folder = trained
    with refused(AdapterError, folder, "basis_side = 'output'", "lowshot.json says 'input'"):
        learner_on("lora-xs", basis_side="input").load(folder)


def test_an_adapter_older_than_the_side_has_the_singular_values_on_the_input(learner_on, tmp_path):
    """Its files have no word of it, neither PEFT's nor lowshot's."""
    learner = learner_on("lora-xs", basis_side="input")
    take_steps(learner, 3, rate=0.1)
    learner.save(tmp_path)
    config = json.loads((tmp_path / CONFIG_FILE).read_text())
    assert config.pop("basis_side") == "input"
    (tmp_path / CONFIG_FILE).write_text(json.dumps(config))
    recorded = learner.recipe.to_dict()
    del recorded["method"]["basis_side"]
    again = create_learner(load_backbone(learner.recipe.model.model), PROMPTS, Recipe.from_dict(recorded))
    again.load(tmp_path)
    assert torch.equal(again.logits(images()), learner.logits(images()))


def test_some_of_those_bases_really_have_other_signs():
    """Otherwise the test above would show nothing."""
    signs = [(elsewhere(d)(weight(), 16).left * basis_of(weight(), 16).left).sum(1).sign() for d in ("gesdd", "gesvd")]
    assert all((s < 0).any() for s in signs)


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_does_not_matter(threads, tmp_path, forked):
    program = f"""
        import torch
        from lowshot.adapters.lora_xs import basis_of
        from safetensors.torch import save_file
        torch.set_num_threads({threads})
        weight = torch.randn(96, 64, generator=torch.Generator().manual_seed(0))
        save_file({{"left": basis_of(weight, 16).left}}, r"{tmp_path / "left.safetensors"}")
    """
    subprocess.run([*forked, "-c", textwrap.dedent(program)], check=True, env=os.environ)
    left = load_file(tmp_path / "left.safetensors")["left"]
    torch.testing.assert_close(left, basis_of(weight(96, 64), 16).left, atol=1e-5, rtol=0)


def test_flipped_pairs_are_carried_over_into_r(learner_on, trained, monkeypatch):
    logits, folder = trained
    monkeypatch.setattr(cache_module, "cached_basis", lambda w, rank: flipped(basis_of(w, rank), 0, rank - 1))
    again = learner_on("lora-xs")
    again.load(folder)
    torch.testing.assert_close(again.logits(images()), logits, atol=1e-4, rtol=0)
    # What is saved from here on is right in the basis that is here.
    again.save(folder)
    monkeypatch.undo()
    once_more = learner_on("lora-xs")
    once_more.load(folder)
    torch.testing.assert_close(once_more.logits(images()), logits, atol=1e-4, rtol=0)


def test_a_sign_that_is_flipped_on_one_side_only_is_caught(learner_on, trained, monkeypatch):
    def broken(w, rank):
        basis = basis_of(w, rank)
        return Basis(flipped(basis, 2).left, basis.right, basis.singular_values, basis.anchors)

    _, folder = trained
    monkeypatch.setattr(cache_module, "cached_basis", broken)
    with refused(AdapterError, folder, "another basis", "singular vectors") as refusal:
        learner_on("lora-xs").load(folder)
    assert "text_model." in str(refusal.value)  # the first layer of all


@pytest.mark.parametrize(("rank", "decay"), [(8, 0.0), (64, 1.0), (128, 1.0)])
def test_probes_notice_every_flip_and_every_exchange_at_every_rank_and_decay(rank, decay):
    w = weight(192, 160)
    u, s, v = torch.linalg.svd(w, full_matrices=False)
    basis = basis_of((u * torch.arange(1, len(s) + 1.0) ** -decay) @ v if decay else w, rank)
    plain = probes(basis)
    assert plain.abs().median() < 20
    # A probe may be near zero by chance and miss its own pair's flip; flips are what the anchors are for.
    unnoticed = [i for i in range(rank) if (probes(flipped(basis, i)) - plain).abs().max() <= TOLERANCE]
    assert len(unnoticed) <= 0.02 * rank
    for index in range(1, rank):
        order = list(range(rank))
        order[index], order[index - 1] = order[index - 1], order[index]
        exchanged = Basis(basis.left[order], basis.right[order], basis.singular_values, basis.anchors)
        assert (probes(exchanged) - plain).abs().max() > TOLERANCE


def test_one_r_is_the_same_function_on_every_precision_of_the_base(learner_on, trained):
    """The same update on rounded weights: a plain float32 model with those weights and that update agrees."""
    _, folder = trained
    for quantize in ("none", "nf4", "int8"):
        dense = rounded(learner_on, quantize)
        dense.adapter.load(folder)
        dense.adapter.merge()
        for precision, apart in (("fp32", 1e-4), ("bf16", 0.3)):  # bfloat16 has 8 bits, logits are up to 10
            other = learner_on("lora-xs", quantize, precision=precision)
            other.load(folder)
            torch.testing.assert_close(other.logits(images()), dense.logits(images()), atol=apart, rtol=0)


def rounded(learner_on, quantize):
    """A learner on plain float32 layers that hold the values of quantised ones."""
    learner = learner_on("lora-xs")
    learner.backbone = load_backbone(learner.recipe.model.model)
    learner.adapter = adapt(learner.backbone, learner.recipe.replace(quantize=quantize), rounded=True)
    learner._name_classes(learner.class_vectors.texts)  # by the text tower of this backbone
    return learner


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
def test_a_quantised_base_keeps_the_basis_of_the_full_weight(learner_on, quantize):
    factors = []
    for base in ("none", quantize):
        layer = learner_on("lora-xs", base).backbone.model.get_submodule(LAYER)
        factors.append((layer.lora_A["default"].weight, layer.lora_B["default"].u))
    for plain, quantized in zip(*factors, strict=True):
        assert torch.equal(plain, quantized)


def with_weights(learner_on, change, **settings):
    """A learner whose backbone's weights were changed before its bases were taken."""
    recipe = learner_on("lora-xs", **settings).recipe
    backbone = load_backbone(recipe.model.model)
    with torch.no_grad():
        change(backbone.model)
    return create_learner(backbone, PROMPTS, recipe)


def test_another_backbone_of_the_same_shape_is_refused(learner_on, trained):
    def redraw(model):
        w = model.get_submodule(LAYER).weight
        w.copy_(weight(*w.shape, seed=5))

    _, folder = trained
    with refused(AdapterError, folder, "another basis", LAYER):
        with_weights(learner_on, redraw).load(folder)


def test_weights_that_are_a_little_other_are_refused_by_their_singular_values(learner_on, trained):
    def grow(model):
        model.get_submodule(LAYER).weight.mul_(1.05)

    _, folder = trained
    with refused(AdapterError, folder, "another basis", LAYER, "singular values") as refusal:
        with_weights(learner_on, grow).load(folder)
    assert re.search(r" 4\.\d% of the largest", str(refusal.value))


def tied(w):
    """Two equal halves: every singular value but for rounding twice, as an orthogonal matrix has them."""
    w.copy_(torch.linalg.qr(weight(*w.shape))[0])


def with_zero_rows(w):
    w[2:] = 0


def of_zeros(w):
    w.zero_()


def test_a_last_singular_value_of_zero_is_degenerate_where_nothing_lies_beyond_it():
    w = weight(40, 24)
    w[:, 3] = 0
    assert basis_of(w, 24).is_degenerate()
    assert not basis_of(w, 23).is_degenerate()
    assert not basis_of(weight(24, 24), 24).is_degenerate()


@pytest.mark.parametrize(
    ("degenerate", "side"),
    [(tied, "input"), (tied, "output"), (with_zero_rows, "input"), (with_zero_rows, "output"), (of_zeros, "output")],
)
def test_a_degenerate_layer_travels_with_its_factors(learner_on, tmp_path, monkeypatch, degenerate, side):
    def change(model):
        degenerate(model.get_submodule(LAYER).weight)

    def turned(w, rank):
        """Another valid decomposition: vectors of equal singular values mixed by a rotation."""
        basis = basis_of(w, rank)
        if not basis.is_degenerate() or degenerate is not tied:
            return basis
        rotation = torch.linalg.qr(weight(rank, rank, seed=9))[0]
        return Basis(rotation @ basis.left, rotation @ basis.right, basis.singular_values, basis.anchors)

    learner = with_weights(learner_on, change, basis_side=side)
    take_steps(learner, 3, rate=0.1)
    learner.save(tmp_path)
    stored = [name for name in load_file(tmp_path / BASIS_FILE) if "." in name]
    assert len(stored) == 2  # left and right of one layer, and of no other
    monkeypatch.setattr(cache_module, "cached_basis", turned)
    again = with_weights(learner_on, change, basis_side=side)
    again.load(tmp_path)
    torch.testing.assert_close(again.logits(images()), learner.logits(images()), atol=1e-4, rtol=0)
    again.save(tmp_path)  # with the factors it came with, not with those that are here
    monkeypatch.undo()
    once_more = with_weights(learner_on, change, basis_side=side)
    once_more.load(tmp_path)
    torch.testing.assert_close(once_more.logits(images()), learner.logits(images()), atol=1e-4, rtol=0)


def test_random_weights_are_not_degenerate_but_do_not_survive_bfloat16(learner_on, tmp_path):
    """Their singular values lie so close that rounding turns the vectors: caught, not silently another function."""
    basis = basis_of(weight(24, 24), 4)
    gaps = (basis.singular_values[:-1] - basis.singular_values[1:]) / basis.singular_values[0]
    assert gaps.min() > DEGENERATE_GAP
    learner = learner_on("lora-xs", rank=12)
    take_steps(learner, 3, rate=0.1)
    learner.save(tmp_path)

    def round_off(model):
        for parameter in model.parameters():
            parameter.copy_(parameter.to(torch.float16 if parameter.ndim < 2 else torch.bfloat16))

    with refused(AdapterError, tmp_path, "another basis"):
        with_weights(learner_on, round_off, rank=12).load(tmp_path)


def change_facts(folder, name, change):
    facts = load_file(folder / BASIS_FILE)
    facts[name] = change(facts.get(name))
    save_file(facts, folder / BASIS_FILE, {"basis_version": "1"})


@pytest.mark.parametrize(
    ("name", "change", "facts"),
    [
        ("probes", lambda t: t + 1, ("another basis", "probes", "1.000 apart", "0.01 at most")),
        ("probes", lambda t: t * float("nan"), ("another basis", "probes", "nan apart")),
        ("probes", lambda t: t[:, :3].contiguous(), ("damaged", "probes is (15, 3)", "expected (15, 4)")),
        ("probes", lambda t: t.sum(), ("damaged", "probes is ()", "expected (15, 4)")),
        ("anchors", lambda t: t + 1000, ("damaged", "anchors")),
        ("anchors", lambda t: -t - 1, ("damaged", "anchors")),
        ("largest", lambda t: t * 2, ("another basis", "singular values")),
        ("largest", lambda t: t * float("inf"), ("another basis", "singular values", "inf%")),
        ("shares", lambda t: t[:2].contiguous(), ("damaged", "shares is (2, 4)", "expected (15, 4)")),
        ("left.99", lambda t: torch.zeros(1), ("damaged", "left.99 is unknown")),
        ("left.3", lambda t: torch.zeros(4, 16), ("damaged", "right.3 is missing")),
        ("right.3", lambda t: torch.zeros(4, 7), ("damaged", "right.3 is (4, 7)")),
    ],
)
def test_facts_that_were_tampered_with_are_refused(learner_on, trained, name, change, facts):
    _, folder = trained
    change_facts(folder, name, change)
    with refused(AdapterError, folder, *facts):
        learner_on("lora-xs").load(folder)


@pytest.mark.parametrize("keep", [None, 0, 20, -5])
def test_a_missing_or_truncated_file_is_refused(learner_on, trained, keep):
    _, folder = trained
    path = folder / BASIS_FILE
    content = path.read_bytes()
    path.unlink()
    if keep is not None:
        path.write_bytes(content[:keep])
    with refused(AdapterError, folder, BASIS_FILE, "missing" if keep is None else "damaged"):
        learner_on("lora-xs").load(folder)


def test_another_version_of_the_scheme_is_refused(learner_on, trained):
    _, folder = trained
    save_file(load_file(folder / BASIS_FILE), folder / BASIS_FILE, {"basis_version": "2"})
    with refused(AdapterError, folder / BASIS_FILE, "version 2", "reads 1"):
        learner_on("lora-xs").load(folder)


def test_the_facts_are_small(trained):
    _, folder = trained
    per_layer = 4 + 4 * 2 * 3  # the largest singular value; shares of it, anchors and probes in 16 bits each
    assert (folder / BASIS_FILE).stat().st_size < 15 * per_layer + 600


class TestCache:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path))
        self.path = tmp_path / "lora-xs"

    def counted(self, monkeypatch):
        calls = []

        def counting(w, rank):
            calls.append(rank)
            return basis_of(w, rank)

        monkeypatch.setattr(cache_module, "basis_of", counting)
        return calls

    def test_a_weight_is_decomposed_once_and_smaller_ranks_are_read(self, monkeypatch):
        calls = self.counted(monkeypatch)
        first = cached_basis(weight(), 8)
        again, smaller = cached_basis(weight(), 8), cached_basis(weight(), 3)
        assert calls == [8]
        assert torch.equal(first.left, again.left)
        assert torch.equal(first.leading(3).right, smaller.right)
        assert torch.equal(first.leading(3).singular_values, smaller.singular_values)

    def test_a_larger_rank_replaces_the_file(self, monkeypatch):
        calls = self.counted(monkeypatch)
        for rank in (3, 8, 5, 8):
            assert cached_basis(weight(), rank).rank == rank
        assert calls == [3, 8]
        assert len(list(self.path.iterdir())) == 1

    def test_another_weight_has_another_file(self):
        cached_basis(weight(), 4)
        other = weight()
        other[0, 0] += 1e-3
        cached_basis(other, 4)
        assert len(list(self.path.iterdir())) == 2

    @pytest.mark.parametrize(
        "damage", ["truncated", "flipped", "of another weight", "text", "anchors", "few values", "another type"]
    )
    def test_a_damaged_file_is_computed_again(self, monkeypatch, damage):
        wanted = cached_basis(weight(), 4)
        [file] = self.path.iterdir()
        if damage == "truncated":
            file.write_bytes(file.read_bytes()[:200])
        elif damage == "text":
            file.write_text("not tensors")
        else:
            other = {
                "flipped": dataclasses.replace(flipped(wanted, 1), anchors=wanted.anchors),
                "of another weight": basis_of(weight(seed=3), 4),
                "anchors": dataclasses.replace(wanted, anchors=wanted.anchors + 1000),
                "few values": dataclasses.replace(wanted, singular_values=wanted.singular_values[:2]),
                "another type": dataclasses.replace(wanted, left=wanted.left.double()),
            }[damage]
            fields = {n: getattr(other, n).contiguous() for n in ("left", "right", "singular_values", "anchors")}
            save_file(fields, file)
        calls = self.counted(monkeypatch)
        assert torch.equal(cached_basis(weight(), 4).left, wanted.left)
        assert calls == [4]

    def test_a_cache_that_cannot_be_written_costs_time_only(self, monkeypatch, tmp_path):
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "file"))
        assert torch.equal(cached_basis(weight(), 4).left, basis_of(weight(), 4).left)


def test_a_deep_copy_is_the_same_function(learner_on):
    learner = learner_on("lora-xs")
    take_steps(learner)
    twin = copy.deepcopy(learner)
    assert torch.equal(twin.logits(images()), learner.logits(images()))

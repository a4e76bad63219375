"""Devices, and what a Mac's GPU is asked: for its logic alone, since there is none here."""

import types

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lowshot import FewShotClassifier, randomness
from lowshot.errors import InputError, RunError
from lowshot.heads import HEADS
from lowshot.models import backbone as backbone_module
from lowshot.models import resolve_adapter_precision, resolve_precision, set_precision
from lowshot.models.devices import is_out_of_memory, lacking_named, pick_device
from lowshot.training import head_learner, memory
from lowshot.training import step as step_module
from lowshot.training.prompts import ClassPrompts
from lowshot.training.step import Batch, ExactStep, Passes, zero_loss
from meta_device import META
from refusing import refused

from ..training.steps import LABELS, ROWS, learner_on

MPS = torch.device("mps")
CLIP = "openai/clip-vit-base-patch16"


@pytest.fixture
def mac(monkeypatch):
    """A machine that says it has Metal and no CUDA."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("LOCAL_RANK", raising=False)


@pytest.mark.usefixtures("mac")
@pytest.mark.parametrize(
    ("device", "model", "picked"),
    [
        ("mps", None, "mps"),
        ("mps", "builtin", "mps"),
        ("auto", CLIP, "mps"),
        ("auto", "builtin + photos", "mps"),
        ("auto", "builtin", "cpu"),
        ("auto", "photos", "cpu"),
        ("auto", None, "cpu"),
        ("cpu", CLIP, "cpu"),
    ],
)
def test_auto_is_a_macs_gpu_for_models_that_are_not_small(device, model, picked):
    assert pick_device(device, model) == torch.device(picked)


@pytest.mark.usefixtures("mac")
def test_cuda_goes_before_it(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert pick_device("auto", CLIP) == torch.device("cuda")


@pytest.mark.usefixtures("mac")
def test_processes_that_train_together_do_not_share_it(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert pick_device("auto", CLIP) == torch.device("cpu")
    with refused(InputError, "device is 'mps'", "train together", "expected cpu"):
        pick_device("mps")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is one")
def test_without_one_it_is_refused_by_name():
    with refused(InputError, "device is 'mps'", "Mac", "auto or cpu"):
        pick_device("mps")


def test_it_computes_in_float32_unless_something_else_is_asked_for():
    towers = types.SimpleNamespace(device=MPS, half="fp16")
    assert [resolve_precision("none", asked, towers) for asked in ("auto", "fp16")] == ["fp32", "fp16"]
    assert resolve_adapter_precision("auto", MPS) == "fp32"


class _On(torch.nn.Module):
    """A model whose parameters say that they are on a device."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def parameters(self, recurse=True):
        yield types.SimpleNamespace(device=self.device, is_floating_point=lambda: False)


def test_a_quantised_base_is_refused_there():
    with refused(InputError, "quantize nf4", "bitsandbytes", "Mac", "--device cpu"):
        set_precision(_On(MPS), ["a"], quantize="nf4", precision="fp32")


@pytest.mark.parametrize("new", [True, False])
def test_bfloat16_needs_a_macos_that_has_it(monkeypatch, new):
    monkeypatch.setattr(torch.backends.mps, "is_macos_or_newer", lambda major, minor: new)
    if new:
        set_precision(_On(MPS), [], precision="bf16")
    else:
        with refused(InputError, "precision bf16", "macOS 14", "fp16 or fp32"):
            set_precision(_On(MPS), [], precision="bf16")
    set_precision(_On(MPS), [], precision="fp16")


def test_memory_is_asked_of_metal(monkeypatch):
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 300)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 500)
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    with memory.memory_use(MPS) as use:
        pass
    assert (use.static, use.peak, use.reserved) == (300, 500, 500)
    assert memory.free_bytes(MPS) == 700


def test_its_lack_of_memory_and_of_operations_is_told():
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"))
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    missing = NotImplementedError("The operator 'aten::x' is not currently implemented for the MPS device.\nMore.")
    with refused(RunError, "Mac", "'aten::x'", "--device cpu"), lacking_named(MPS):
        raise missing
    with pytest.raises(NotImplementedError), lacking_named(torch.device("cpu")):
        raise missing


def test_draws_that_take_no_generator_are_lent_its_own(monkeypatch):
    theirs = torch.Generator().manual_seed(1)
    before = theirs.get_state()
    monkeypatch.setattr(torch.mps, "_get_default_mps_generator", lambda: theirs)
    draws = randomness._Draws(7)
    draws._generators[MPS] = torch.Generator().manual_seed(7)
    drawn = draws._lent(MPS, lambda: torch.rand(3, generator=theirs))
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert torch.equal(theirs.get_state(), before)


class _Float64OnMeta(TorchDispatchMode):
    """Fails at an operation that gives float64 on the meta device."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.is_meta:
                assert tensor.dtype != torch.float64, operation
        return result


@pytest.fixture
def meta_without_float64(monkeypatch):
    """The meta device in the place of one that has no float64."""

    def has(device):
        return device.type not in ("mps", "meta")

    for module in (backbone_module, step_module, head_learner):
        monkeypatch.setattr(module, "has_float64", has)


@pytest.mark.usefixtures("meta_without_float64")
@pytest.mark.parametrize("method", ["lora", "lora-xs", "dora"])
def test_nothing_of_a_step_is_in_float64_there(tiny_clip, method):
    learner = learner_on(tiny_clip, method, torch.float32)
    learner.backbone.model.to(META)
    vectors = ClassPrompts(learner.backbone, {name: ids.to(META) for name, ids in learner.class_vectors.tokens.items()})
    with _Float64OnMeta(), learner.backbone.training():
        exact = ExactStep(learner.backbone, vectors, learner.keys, Passes(3, 2), learner.vectors_are_trained)
        batch = Batch.of(1, ROWS, LABELS.to(META), lambda rows: torch.zeros(len(rows), 3, 16, 16))
        loss = exact.gradients(batch)
    assert (loss.device, loss.dtype) == (META, torch.float32)
    assert zero_loss(torch.device("cpu")).dtype == torch.float64


@pytest.mark.parametrize("method", ["gda", "proker", "tip-adapter"])
def test_heads_are_fitted_on_the_cpu_where_the_device_has_no_float64(tiny_clip, monkeypatch, method):
    """A head is fitted to features on the CPU, and its tensors are on the model's device."""
    monkeypatch.setattr(head_learner, "has_float64", lambda device: False)
    images = list(np.random.default_rng(1).integers(0, 256, (4, 20, 20, 3), dtype=np.uint8))
    kind, seen = HEADS[method], []
    fit = kind.fit

    def watched(shots, schedule, report):
        seen.extend([shots.features.device, shots.labels.device, shots.text.embeddings.device])
        return fit(shots, schedule, report)

    monkeypatch.setattr(kind, "fit", watched)
    classifier = FewShotClassifier(str(tiny_clip), method=method).fit(images, ["a", "b", "a", "b"])
    assert {device.type for device in seen} == {"cpu"}
    assert classifier.predict_proba(images).shape == (4, 2)

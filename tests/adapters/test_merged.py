"""Judging with merged weights: the same function, and a model that is afterwards what it was before."""

import threading

import pytest
import torch

from lowshot.adapters.peft_types import tuners
from lowshot.methods import METHODS

from .conftest import images, take_steps
from .test_peft_types import ONE_TOWER, OPTIONS

# Of block sizes that do not divide 16, of missing CUDA compilers.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")

IN_THE_MODEL = ("layernorm", "bitfit", "full", "2sfs")
"""They add no layers: nothing to merge."""
LAYERS = [name for name, spec in METHODS.items() if spec.kind == "weights" and name not in IN_THE_MODEL]
MERGEABLE = [*LAYERS, *sorted(set(tuners()) - {"peft:lily"})]  # Lily chooses among its matrices by the input
NOT_IN_FLOAT64 = {"peft:adamss": None, "peft:c3a": 1e-6, "peft:deft": 1e-5}
"""Tuners that compute in float32 whatever they are given, and how far off that is; None where they then fail."""


@pytest.fixture
def trained(shallow_learner_on):
    """A learner after some steps: ``trained("lora", "nf4", precision="bf16")``."""

    def build(method, quantize="none", **settings):
        tuner = {"peft": OPTIONS.get(method, ()), "projections": ("q", "fc1"), **ONE_TOWER.get(method, {})}
        learner = shallow_learner_on(method, quantize, **{**(tuner if method in tuners() else {}), **settings})
        before = learner.logits(images())
        take_steps(learner, 4, rate=2e-2)
        assert not torch.allclose(learner.logits(images()), before, atol=1e-2)
        return learner

    return build


def judged(learner):
    """The logits with merged weights, classes included."""
    learner._classes = None
    with learner.adapter.merged():
        logits = learner.logits(images())
    learner._classes = None
    return logits


def is_merged(learner):
    """Whether the adapter's own parameters are of no influence inside the block."""
    originals = [parameter.detach().clone() for parameter in learner.parameters]
    with learner.adapter.merged():
        before = learner.logits(images())
        for parameter in learner.parameters:
            parameter.data.mul_(-0.5)
        learner._classes = None
        after = learner.logits(images())
        for parameter, values in zip(learner.parameters, originals, strict=True):
            parameter.data.copy_(values)
    learner._classes = None
    return torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize("method", MERGEABLE)
def test_a_merged_layer_is_the_same_function(trained, method):
    learner = trained(method)
    torch.testing.assert_close(judged(learner), learner.logits(images()), atol=1e-5, rtol=0)
    assert is_merged(learner)
    tolerance = NOT_IN_FLOAT64.get(method, 1e-12)
    if tolerance is not None:
        learner.backbone.model.double()
        learner._classes = None
        exact = learner.logits(images())
        assert exact.dtype == torch.float64
        torch.testing.assert_close(judged(learner), exact, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("method", "quantize", "precision"),
    [
        *((method, "none", "fp32") for method in (*IN_THE_MODEL, "peft:lily")),
        *(
            (method, *base)
            for method in LAYERS
            for base in (("none", "bf16"), ("nf4", "bf16"), ("nf4", "fp32"), ("int8", "fp32"))
            if base[0] == "none" or method != "clip-svd"  # which is refused there
        ),
    ],
)
def test_where_merging_would_not_be_exact_nothing_happens(trained, method, quantize, precision):
    learner = trained(method, quantize, precision=precision)
    assert torch.equal(judged(learner), learner.logits(images()))
    assert not is_merged(learner)


@pytest.mark.parametrize("method", [*LAYERS, "peft:oft"])
def test_afterwards_every_tensor_is_the_one_it_was_to_the_last_bit(trained, method):
    learner = trained(method)
    model, logits = learner.backbone.model, learner.logits(images())
    before = {name: (t, t.data_ptr(), t.detach().clone()) for name, t in model.state_dict(keep_vars=True).items()}
    judged(learner)
    with pytest.raises(ZeroDivisionError), learner.adapter.merged():
        raise ZeroDivisionError
    after = model.state_dict(keep_vars=True)
    assert after.keys() == before.keys()
    for name, (tensor, address, values) in before.items():
        assert after[name] is tensor
        assert tensor.data_ptr() == address
        assert torch.equal(tensor, values)
    assert torch.equal(learner.logits(images()), logits)
    assert not is_left_behind(learner)


def is_left_behind(learner):
    return any("forward" in vars(module) for module in learner.backbone.model.modules())


@pytest.mark.parametrize("method", LAYERS)
def test_training_goes_on_as_if_nothing_had_been(trained, method):
    judged_between, straight_on = trained(method), trained(method)
    judged(judged_between)
    for learner in (judged_between, straight_on):
        take_steps(learner)
    for one, other in zip(judged_between.parameters, straight_on.parameters, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("method", LAYERS)
def test_what_is_saved_meanwhile_is_the_adapter(trained, method, tmp_path):
    learner = trained(method)
    for name in ("outside", "inside"):
        (tmp_path / name).mkdir()
    learner.save(tmp_path / "outside")
    with learner.adapter.merged():
        learner.save(tmp_path / "inside")
    for file in (tmp_path / "outside").iterdir():
        assert (tmp_path / "inside" / file.name).read_bytes() == file.read_bytes()


def test_threads_that_judge_at_once_are_all_answered_right(trained):
    learner = trained("lora")
    expected = learner.logits(images())
    wrong = []

    def work():
        for _ in range(8):
            with learner.adapter.merged():
                logits = learner.backbone.logits(learner.backbone.encode_images(images()).detach(), learner._classes)
            wrong.extend([] if torch.allclose(logits, expected, atol=1e-5, rtol=0) else [logits])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert not is_left_behind(learner)


def test_one_block_within_another_changes_nothing(trained):
    learner = trained("dora")
    expected = learner.logits(images())
    with learner.adapter.merged():
        with learner.adapter.merged():
            torch.testing.assert_close(learner.logits(images()), expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(learner.logits(images()), expected, atol=1e-5, rtol=0)
    assert not is_left_behind(learner)


def test_a_layer_whose_forward_pass_somebody_else_replaced_is_left_to_them(trained):
    """As accelerate does, to move what comes in to where the layer is."""
    learner = trained("lora")
    layer = learner.backbone.model.get_submodule("vision_model.encoder.layers.1.self_attn.q_proj")
    calls, forward = [], layer.forward
    layer.forward = lambda x: (calls.append(1), forward(x))[1]
    theirs, expected = vars(layer)["forward"], learner.logits(images())
    torch.testing.assert_close(judged(learner), expected, atol=1e-5, rtol=0)
    assert len(calls) == 2
    assert vars(layer)["forward"] is theirs

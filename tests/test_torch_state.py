"""Whatever state torch is in for the caller, a call computes the same, and leaves that state as it was."""

import contextlib
import threading

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.models import load_backbone
from lowshot.serving import AdapterBank
from lowshot.torch_state import own_torch_state

LABELS = ["cat", "dog", "bird", "dog"]


@contextlib.contextmanager
def default_type(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


STATES = {
    "float64": lambda: default_type(torch.float64),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "device": lambda: torch.device("meta"),
}


def seen():
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_device(),
    )


@pytest.fixture(params=STATES)
def state(request):
    return STATES[request.param]


@pytest.fixture(scope="module")
def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (24, 24, 3), dtype=np.uint8) for _ in LABELS]


def lesson(method, images, folder):
    """Everything a classifier does: what it predicts, before it is saved and after."""
    classifier = FewShotClassifier(method=method, base_steps=1, steps_per_shot=0)
    classifier.fit(images, LABELS)
    classifier.save_pretrained(folder)
    again = FewShotClassifier.from_pretrained(folder)
    return np.stack([classifier.predict_proba(images), again.predict_proba(images)])


@pytest.fixture(scope="module")
def expected(images, tmp_path_factory):
    return {name: lesson(name, images, tmp_path_factory.mktemp("plain") / name) for name in ("lora", "coop")}


def test_inside_a_block_torch_is_as_it_was_imported(state):
    plain = seen()
    with state():
        around = seen()
        with own_torch_state():
            assert seen() == plain
            with own_torch_state():
                assert seen() == plain
        assert seen() == around != plain
        with pytest.raises(KeyError), own_torch_state():
            raise KeyError
        assert seen() == around


@pytest.mark.parametrize("method", ["lora", "coop"])
def test_a_classifier_learns_and_predicts_the_same_in_any_state(method, state, images, expected, tmp_path):
    with state():
        before = seen()
        found = lesson(method, images, tmp_path / "adapter")
        assert seen() == before

    assert np.array_equal(found, expected[method])


@pytest.mark.parametrize("method", ["clip-svd", "2sfs", "clip-adapter", "zero-shot"])
def test_methods_that_build_layers_of_their_own_do_not_take_the_callers_type(method, images, tmp_path):
    steps = {} if method in ("clip-adapter", "zero-shot") else {"base_steps": 2, "steps_per_shot": 0}
    tables = []
    for state in (contextlib.nullcontext, STATES["float64"]):
        with state():
            classifier = FewShotClassifier(method=method, **steps).fit(images, LABELS)
            tables.append(classifier.predict_proba(images))

    assert np.array_equal(*tables)


def test_a_bank_and_a_backbone_do_not_take_the_callers_state(state, images, tmp_path):
    classifier = FewShotClassifier(method="zero-shot").fit(images, LABELS)
    classifier.save_pretrained(tmp_path / "bank" / "one")
    plain = [answer.probabilities for answer in AdapterBank(tmp_path / "bank").predict(images, "one")]
    with state():
        found = [answer.probabilities for answer in AdapterBank(tmp_path / "bank").predict(images, "one")]
        parameter = next(load_backbone("builtin").model.parameters())

    assert np.array_equal(found, plain)
    assert (parameter.dtype, parameter.device.type, parameter.is_inference()) == (torch.float32, "cpu", False)


def test_the_default_type_is_given_back_when_the_last_of_several_threads_is_done():
    inside, leave, types = threading.Event(), threading.Event(), []

    def work():
        with own_torch_state():
            inside.set()
            leave.wait(10)
            types.append(torch.ones(1).dtype)

    with default_type(torch.float64):
        with own_torch_state():
            thread = threading.Thread(target=work)
            thread.start()
            inside.wait(10)
        types.append(torch.ones(1).dtype)  # the other one still works
        leave.set()
        thread.join()
        types.append(torch.ones(1).dtype)

    assert types == [torch.float32, torch.float32, torch.float64]


def test_a_type_that_is_set_while_a_call_is_under_way_is_given_back_after_the_last_one():
    begun, go_on = threading.Event(), threading.Event()

    def long_call():
        with own_torch_state():
            begun.set()
            go_on.wait(10)

    thread = threading.Thread(target=long_call)
    thread.start()
    begun.wait(10)
    with default_type(torch.float64):
        with own_torch_state():
            assert torch.get_default_dtype() == torch.float32
        go_on.set()
        thread.join()
        assert torch.get_default_dtype() == torch.float64

"""``--shrinkage``: of what was learnt the share shots/(shots + shrinkage) is kept."""

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.errors import InputError
from refusing import refused

STEPS = {"base_steps": 4, "steps_per_shot": 0, "learning_rate": 1e-2}
PICTURES = np.random.default_rng(0).integers(0, 255, (6, 20, 20, 3), dtype=np.uint8)
LABELS = [name for name in "abc" for _ in range(2)]


def updates(classifier):
    """The adapter's update of each weight, by layer."""
    model = classifier._fitted[1].adapter.model
    return {
        name: layer.get_delta_weight("default") for name, layer in model.named_modules() if hasattr(layer, "lora_B")
    }


def fitted(model, **settings):
    return FewShotClassifier(str(model), **{**STEPS, **settings}).fit(list(PICTURES), LABELS)


@pytest.mark.parametrize(
    ("method", "shrinkage", "share"), [("lora", 2.0, 0.5), ("lora-xs", 0.5, 0.8), ("lora", 0.0, 1.0)]
)
def test_of_each_update_that_share_is_kept(tiny_clip, method, shrinkage, share):
    whole, shrunk = (updates(fitted(tiny_clip, method=method, rank=4, shrinkage=s)) for s in (0.0, shrinkage))
    assert whole
    assert all(update.abs().max() > 0 for update in whole.values())
    for name, update in whole.items():
        torch.testing.assert_close(shrunk[name], share * update)


def test_what_is_saved_is_what_was_kept_and_is_not_shrunk_again(tiny_clip, tmp_path):
    classifier = fitted(tiny_clip, method="lora", rank=4, shrinkage=1.0)
    classifier.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    assert np.array_equal(loaded.predict_proba(list(PICTURES)), classifier.predict_proba(list(PICTURES)))
    for name, update in updates(classifier).items():
        assert torch.equal(updates(loaded)[name], update)


def test_a_run_that_goes_on_from_its_state_is_shrunk_once(tiny_clip, tmp_path):
    state = tmp_path / "state.safetensors"
    settings = {"method": "lora", "rank": 4, "shrinkage": 1.0, "checkpoint_seconds": 0.0}
    first = FewShotClassifier(str(tiny_clip), **STEPS, **settings).fit(list(PICTURES), LABELS, checkpoint=state)
    again = FewShotClassifier(str(tiny_clip), **STEPS, **settings).fit(list(PICTURES), LABELS, checkpoint=state)
    for name, update in updates(first).items():
        assert torch.equal(updates(again)[name], update)


@pytest.mark.parametrize("method", ["dora", "layernorm", "clip-svd", "task-res"])
def test_methods_whose_update_is_not_linear_in_one_factor_refuse_it(method):
    with refused(InputError, f"method {method}", "no shrinkage"):
        FewShotClassifier(method=method, shrinkage=1.0)


@pytest.mark.parametrize("value", [-1.0, float("inf"), float("nan")])
def test_values_that_are_no_amount_are_refused(value):
    with refused(InputError, f"shrinkage is {value}", "0 or more"):
        FewShotClassifier(method="lora", shrinkage=value)

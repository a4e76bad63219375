"""Ranks by depth: another distribution of the same number of parameters."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot import FewShotClassifier
from lowshot.adapters.ranks import ranks_by_depth
from lowshot.conversion import export
from lowshot.errors import AdapterError, InputError
from refusing import refused

from .conftest import images, take_steps

INCREASING = {"rank_by_depth": "increasing"}


@given(st.integers(1, 200), st.integers(1, 60))
def test_the_mean_is_the_rank_and_depth_decides_the_order(rank, layers):
    ranks = ranks_by_depth("increasing", rank, layers)
    assert sum(ranks) == rank * layers
    assert list(ranks) == sorted(ranks)
    assert min(ranks) >= 1
    assert ranks_by_depth("decreasing", rank, layers) == ranks[::-1]
    assert ranks_by_depth("uniform", rank, layers) == (rank,) * layers
    # No further from the straight line than rounding takes it.
    assert all(abs(r - 1 - (rank - 1) * (2 * i + 1) / layers) < 1 for i, r in enumerate(ranks))


@pytest.mark.parametrize(
    ("rank", "layers", "expected"),
    [
        (2, 12, (1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 3, 3)),
        (8, 4, (3, 6, 10, 13)),  # 2.75, 6.25, 9.75, 13.25: two are rounded up
        (5, 1, (5,)),
        (1, 3, (1, 1, 1)),
    ],
)
def test_by_hand(rank, layers, expected):
    assert ranks_by_depth("increasing", rank, layers) == expected


def adapters_of(model):
    """Dotted name of a tower and its layer's number -> the adapted layers in it."""
    adapted = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            tower, _, rest = name.partition(".encoder.layers.")
            adapted.setdefault((tower, int(rest.split(".")[0])), []).append(module)
    return adapted


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_each_tower_has_ranks_by_its_own_depth_and_each_layer_the_scaling_of_its_rank(learner_on, method):
    learner = learner_on(method, alpha=3.0, **INCREASING)
    adapted = adapters_of(learner.backbone.model)
    ranks = {place: {layer.r["default"] for layer in layers} for place, layers in adapted.items()}
    text, vision = ("text_model", "vision_model")
    assert ranks == {(text, 0): {2}, (text, 1): {6}, (vision, 0): {2}, (vision, 1): {4}, (vision, 2): {6}}
    for layers in adapted.values():
        for layer in layers:
            rank = layer.r["default"]
            assert layer.lora_A["default"].weight.shape[0] == layer.lora_B["default"].weight.shape[1] == rank
            assert layer.scaling["default"] == pytest.approx(3.0 / rank**0.5)


@pytest.mark.parametrize("course", ["increasing", "decreasing"])
@pytest.mark.parametrize("method", ["lora", "dora"])
def test_there_are_as_many_parameters_as_with_one_rank(learner_on, method, course):
    learner = learner_on(method, rank_by_depth=course)
    assert learner.trainable_parameters == learner_on(method).trainable_parameters


def test_a_chosen_position_counts_its_own_layers(learner_on):
    adapted = adapters_of(learner_on("lora", position="0,2", encoder="vision", **INCREASING).backbone.model)
    assert {place: layers[0].r["default"] for place, layers in adapted.items()} == {
        ("vision_model", 0): 2,
        ("vision_model", 2): 6,
    }


@pytest.mark.parametrize("method", ["lora", "dora", "qlora"])
def test_it_is_saved_and_comes_back_the_same_and_nothing_else_fits(learner_on, method, tmp_path):
    learner = learner_on(method.removeprefix("q"), "nf4" if method == "qlora" else "none", **INCREASING)
    take_steps(learner)
    learner.save(tmp_path)
    again = learner_on(method.removeprefix("q"), "nf4" if method == "qlora" else "none", seed=9, **INCREASING)
    again.load(tmp_path)
    assert torch.equal(again.logits(images()), learner.logits(images()))
    other = learner_on(method.removeprefix("q"), "nf4" if method == "qlora" else "none", rank_by_depth="decreasing")
    with refused(AdapterError, tmp_path, "rank_pattern"):
        other.load(tmp_path)


def test_plain_peft_loads_what_is_exported(tiny_clip, tmp_path):
    """``export`` reads it back by PEFT alone, and compares the probabilities."""
    shots = np.random.default_rng(0).integers(0, 255, (6, 20, 20, 3), dtype=np.uint8)
    classifier = FewShotClassifier(
        str(tiny_clip), method="lora", rank=4, base_steps=3, steps_per_shot=0, learning_rate=1e-2, **INCREASING
    )
    classifier.fit(list(shots), [name for name in "abc" for _ in range(2)])
    classifier.save_pretrained(tmp_path / "adapter")
    made = export(tmp_path / "adapter", tmp_path / "peft", format="peft")
    assert made.largest_difference < 1e-5


def test_lora_xs_and_rank_one_are_refused(learner_on):
    with refused(InputError, "method lora-xs", "no rank_by_depth"):
        learner_on("lora-xs", **INCREASING)
    with refused(InputError, "rank is 1", "2 or more", "rank-by-depth increasing"):
        learner_on("lora", rank=1, **INCREASING)
    with refused(InputError, "rank-by-depth is 'up'", "increasing or decreasing"):
        learner_on("lora", rank_by_depth="up")


def test_a_deep_layer_whose_rank_is_beyond_its_weight_is_refused_by_name(learner_on):
    with refused(InputError, "rank is 18", "text_model.encoder.layers.1.self_attn.q_proj", "16 x 16", "at most 16"):
        learner_on("lora", rank=12, **INCREASING)

"""Adapters on every family of backbone: the same contract in short, since nothing in the rooms may know the family."""

import pytest
import torch

from lowshot.errors import InputError
from lowshot.models import load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.placing import count_parameters
from refusing import refused

from .conftest import PROMPTS, images, take_steps

METHODS = ("lora", "lora-xs", "dora", "layernorm", "bitfit", "full", "peft:oft")


def learner_on(model, method, quantize="none", encoder="both"):
    settings = {"rank": 4, "dropout": 0.0} if method in ("lora", "lora-xs", "dora") else {}
    options = {"peft": ("oft_block_size=4",)} if method == "peft:oft" else {}
    recipe = preset_recipe("paper", method).replace(
        model=str(model), quantize=quantize, encoder=encoder, **settings, **options
    )
    prompts = [prompt[-20:] for prompt in PROMPTS]
    return create_learner(load_backbone(str(model)), prompts, recipe)


CASES = [*((m, "none") for m in METHODS), ("lora", "nf4"), ("lora-xs", "nf4"), ("layernorm", "int8")]
OF_LAYER_NORMS = ("layernorm", "2sfs")
FEW = [("lora", "none"), ("lora-xs", "nf4")]
"""For models whose blocks are those of another, before which every method is tried."""
EVERY_CASE = [
    *(
        (model, *case)
        for model in ("tiny_siglip", "tiny_chinese_clip", "tiny_pe_core", "tiny_mobileclip")
        for case in CASES
    ),
    *((model, *case) for model in ("tiny_siglip2", "tiny_naflex", "tiny_metaclip2", "tiny_altclip") for case in FEW),
]


@pytest.mark.parametrize(("model", "method", "quantize"), EVERY_CASE)
def test_both_towers_train_and_the_adapter_comes_back(model, method, quantize, tmp_path, request):
    folder = request.getfixturevalue(model)
    encoder = "text" if model == "tiny_mobileclip" and method in OF_LAYER_NORMS else "both"
    learner = learner_on(folder, method, quantize, encoder)
    assert count_parameters(learner.recipe).trainable_parameters == learner.trainable_parameters
    before = [p.detach().clone() for p in learner.parameters]
    take_steps(learner, 3)
    # A softmax over keys does not see their bias: its gradient is zero but for rounding.
    still = [b.shape for p, b in zip(learner.parameters, before, strict=True) if torch.equal(p.detach(), b)]
    assert not still
    learner.save(tmp_path)
    again = learner_on(folder, method, quantize, encoder)
    again.load(tmp_path)
    assert torch.equal(again.logits(images()), learner.logits(images()))


@pytest.mark.parametrize("method", OF_LAYER_NORMS)
@pytest.mark.parametrize("encoder", ["both", "vision"])
def test_layer_norms_of_a_tower_that_has_none_are_refused(tiny_mobileclip, method, encoder):
    """They trained those of the text tower alone, and nothing at all."""
    with refused(InputError, f"method {method}", "no layer norms", "encoder text"):
        learner_on(tiny_mobileclip, method, encoder=encoder)

"""What is the same in every step or in every prompt is computed once, and the gradient stays what it was."""

import pytest
import torch

from lowshot.adapters import rows_are_alike
from lowshot.models import blocks, load_backbone
from lowshot.models.blocks import _mix_by_products
from lowshot.training.prompts import ClassPrompts
from lowshot.training.step import Passes

from .steps import CUTS, LABELS, PROMPTS, ROWS, WHOLE, assert_same, crops, gradients, learner_on

IN_COMMON = len("<aphotoof")  # the tokenizer spells, and a start token comes first
PLAIN = {"shared_prefix": False, "partway": False}
DEPTHS = {"text": 2, "vision": 3}
METHODS = ("lora", "lora-xs", "dora", "clip-svd", "layernorm", "bitfit", "full", "qlora")


def without_dropout(method):
    return {"dropout": 0.0} if method in ("lora", "lora-xs", "dora", "qlora") else {}


def prompts_of(learner, **levers):
    return learner.class_vectors.in_steps(**levers)


IN_FLOAT64 = [(method, torch.float64, 1e-10) for method in METHODS if method != "qlora"]  # bitsandbytes has none
IN_FLOAT32 = [(method, torch.float32, 1e-5) for method in METHODS]


@pytest.mark.parametrize(("method", "dtype", "tolerance"), [*IN_FLOAT64, *IN_FLOAT32])
def test_a_shared_prefix_leaves_the_gradient_alone_however_the_prompts_are_cut(tiny_clip, method, dtype, tolerance):
    learner = learner_on(tiny_clip, method, dtype, **without_dropout(method))
    assert prompts_of(learner).shared == IN_COMMON
    whole = gradients(learner, WHOLE, **PLAIN)
    assert all(g.abs().max() > 0 for g in whole[1])
    for passes in (WHOLE, *CUTS):
        assert_same(gradients(learner, passes), whole, tolerance)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_so_it_does_with_attention_written_out_and_with_checkpointing(tiny_clip, monkeypatch, checkpointing):
    learner = learner_on(tiny_clip, dropout=0.0)
    whole = gradients(learner, WHOLE, **PLAIN)
    assert_same(gradients(learner, Passes(3, 2), checkpointing=checkpointing), whole, 1e-10)
    monkeypatch.setattr(blocks, "_mix_fused", _mix_by_products)
    assert_same(gradients(learner, Passes(3, 2), checkpointing=checkpointing), whole, 1e-10)


def test_in_bfloat16_both_ways_are_as_near_to_float32(tiny_clip):
    exact = gradients(learner_on(tiny_clip, dtype=torch.float32, dropout=0.0), WHOLE, **PLAIN)
    rounded = learner_on(tiny_clip, dtype=torch.float32, dropout=0.0, precision="bf16")
    plain, shared = (distance(gradients(rounded, WHOLE, **levers), exact) for levers in (PLAIN, {}))
    assert shared < 1.5 * plain


def distance(found, expected):
    pairs = zip(found[1], expected[1], strict=True)
    return torch.cat([(one - other).flatten() for one, other in pairs]).norm()


def test_masks_that_tell_prompts_apart_forbid_a_shared_prefix(tiny_clip):
    learner = learner_on(tiny_clip, dropout=0.25)
    assert prompts_of(learner).shared == 0
    assert_same(gradients(learner, WHOLE), gradients(learner, WHOLE, **PLAIN), 0)


def test_dropout_above_what_is_begun_forbids_it_and_in_frozen_blocks_there_is_none(tiny_clip):
    assert prompts_of(learner_on(tiny_clip, position="1", dropout=0.25)).shared == 0
    assert prompts_of(learner_on(tiny_clip, encoder="vision", dropout=0.25)).shared == IN_COMMON


@pytest.mark.parametrize("method", ["peft:lily", "peft:pvera", "peft:vera", "peft:lokr"])
def test_tuners_that_may_look_at_rows_forbid_it(tiny_clip, method):
    learner = learner_on(tiny_clip, method, torch.float32)
    assert not rows_are_alike(learner.backbone.model.text_model.encoder)
    assert prompts_of(learner).shared == 0


def test_a_single_prompt_shares_nothing(tiny_clip):
    learner = learner_on(tiny_clip, dropout=0.0)
    one = {name: ids[:1] for name, ids in learner.class_vectors.tokens.items()}
    assert ClassPrompts(learner.backbone, one).shared == 0


@pytest.mark.parametrize(("method", "dtype", "tolerance"), [c for c in [*IN_FLOAT64, IN_FLOAT32[-1]] if c[0] != "full"])
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_beginning_at_the_first_trained_block_leaves_the_gradient_alone(tiny_clip, method, dtype, tolerance, dropout):
    chosen = {"dropout": dropout} if without_dropout(method) else {}
    learner = learner_on(tiny_clip, method, dtype, position="half-up", **chosen)
    assert prompts_of(learner).stage == 1
    whole = gradients(learner, WHOLE, **PLAIN)
    for passes in (WHOLE, *CUTS):
        assert_same(gradients(learner, passes), whole, tolerance)
    assert_same(gradients(learner, Passes(3, 2), checkpointing=True), whole, tolerance)


def test_every_family_can_begin_partway(any_tiny_model):
    learner = learner_on(any_tiny_model, position="1")
    assert prompts_of(learner).stage == 1
    assert_same(gradients(learner, Passes(2, 2)), gradients(learner, WHOLE, **PLAIN), 1e-10)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("position", ["all", "1", "half-up"])
def test_no_training_changes_what_comes_before_the_first_trained_stage(tiny_clip, method, position):
    if method == "full":
        position = "all"
    learner = learner_on(tiny_clip, method, torch.float32, position=position, **without_dropout(method))
    backbone = learner.backbone
    stages = {tower: backbone.first_trained_stage(tower) for tower in DEPTHS}
    expected = {"all": (0, 0), "1": (1, 1), "half-up": (1, 2)}[position]
    assert (stages["text"], stages["vision"]) == expected
    before = {tower: around(learner, tower, stage) for tower, stage in stages.items()}
    for parameter in learner.parameters:
        parameter.data = parameter.data + 0.5
    for tower, stage in stages.items():
        entering, leaving = around(learner, tower, stage)
        assert stage == 0 or torch.equal(entering, before[tower][0])
        assert not torch.allclose(leaving, before[tower][1])


def around(learner, tower, stage):
    """What enters a stage and what leaves it."""
    backbone = learner.backbone
    with torch.no_grad():
        begun = (
            backbone.embed_prompts(learner.class_vectors.tokens)
            if tower == "text"
            else backbone.embed_images(crops(ROWS))
        )
        entering = backbone.advance(begun, stage)
        return entering.hidden, backbone.advance(entering, stage + 1).hidden


@pytest.mark.parametrize(("chosen", "once", "every_step"), [({"position": "1"}, 1, 1), ({"encoder": "vision"}, 2, 0)])
def test_frozen_blocks_are_run_once_for_all_steps(tiny_clip, monkeypatch, chosen, once, every_step):
    learner = learner_on(tiny_clip, **chosen)
    exact = learner.exact_step(WHOLE)
    of_text, calls, forward = set(learner.backbone.model.text_model.encoder.layers), [], blocks.run_block
    monkeypatch.setattr(blocks, "run_block", lambda layer, *rest: (calls.append(layer), forward(layer, *rest))[1])
    with learner.backbone.training():
        for number in range(3):
            exact.accumulate(number, ROWS, LABELS, crops)
    assert sum(layer in of_text for layer in calls) == once + 3 * every_step


def test_a_frozen_text_tower_gives_the_same_as_one_that_is_run_in_every_step(tiny_clip):
    learner = learner_on(tiny_clip, encoder="vision")
    assert prompts_of(learner).stage == DEPTHS["text"] + 1
    for passes in (WHOLE, Passes(2, 2)):
        assert_same(gradients(learner, passes), gradients(learner, WHOLE, partway=False), 1e-10)


def test_many_prompts_are_begun_in_parts(tiny_clip, monkeypatch):
    monkeypatch.setattr("lowshot.training.prompts._AT_ONCE", 2)
    learner = learner_on(tiny_clip, position="1", dropout=0.0)
    assert_same(gradients(learner, Passes(7, 3)), gradients(learner, WHOLE, **PLAIN), 1e-10)


@pytest.mark.parametrize("position", ["all", "1"])
def test_what_is_kept_is_known_beforehand(tiny_clip, position):
    prompts = prompts_of(learner_on(tiny_clip, position=position, dropout=0.0))
    told = prompts.cached_bytes
    kept = 0 if prompts.of(range(5)) is None or prompts._cached is None else prompts._cached.hidden.nbytes
    assert told == kept
    assert (told > 0) == (position == "1")


def test_prompts_of_a_model_that_was_never_adapted_are_embeddings(tiny_clip):
    backbone = load_backbone(str(tiny_clip))
    tokens = backbone.tokenize(PROMPTS)
    found = ClassPrompts(backbone, tokens).of(range(1, 4)).hidden
    with torch.no_grad():
        torch.testing.assert_close(found, backbone.encode_prompts(tokens)[1:4], atol=1e-6, rtol=0)

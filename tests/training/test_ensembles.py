"""Several prompts of a class are averaged in feature space, and training goes through the average exactly."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowshot.data import task_of_arrays
from lowshot.errors import InputError, LongPromptError
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.passes import Needs
from lowshot.training.planning import plan
from lowshot.training.processes import Processes
from lowshot.training.prompts import Owners, encode_classes, tokenized
from lowshot.training.step import ExactStep, Passes
from refusing import refused

from .steps import LABELS, PROMPTS, ROWS, assert_same, crops

SEVERAL = (
    ("a photo of cats.", "art of cats.", "they purr"),
    ("a photo of dogs.",),
    ("a photo of long names.", "art of long names."),
    ("x", "a photo of x.", "art of x.", "what x is"),
    ("a photo of horse.", "art of horse."),
)
COUNT = sum(map(len, SEVERAL))
CUTS = [Passes(len(ROWS), COUNT), Passes(1, COUNT), Passes(3, 5), Passes(7, 2), Passes(2, 1), Passes(100, 100)]


def learner_of(model, prompts=SEVERAL, dtype=torch.float64, **chosen):
    recipe = preset_recipe("paper", "lora").replace(model=str(model), **{"rank": 4, "precision": "fp32", **chosen})
    learner = create_learner(load_backbone(str(model)), prompts, recipe)
    for index, parameter in enumerate(learner.parameters):
        generator = torch.Generator().manual_seed(index)
        parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
    if dtype != torch.float32:
        learner.backbone.model.to(dtype)
    return learner


def gradients(learner, passes, processes=None):
    exact = learner.exact_step(passes)
    exact.processes = processes or Processes()
    for parameter in learner.parameters:
        parameter.grad = None
    with learner.backbone.training():
        loss = exact.accumulate(3, ROWS, LABELS, crops)
    return loss, [p.grad for p in learner.parameters]


def class_by_class(embeddings, prompts):
    """The average as the paper has it, written out: mean of unit embeddings, and unit length again."""
    parts = iter(embeddings)
    means = [torch.stack(list(itertools.islice(parts, len(said)))).mean(0) for said in prompts]
    return torch.stack([mean / mean.norm() for mean in means])


def plain(learner, prompts=SEVERAL):
    """Loss and gradients by autograd, everything in one graph."""
    backbone = learner.backbone
    with backbone.training():
        texts = backbone.encode_prompts(backbone.tokenize([prompt for said in prompts for prompt in said]))
        scores = backbone.logits(backbone.encode_images(crops(ROWS)), class_by_class(texts, prompts))
        loss = functional.cross_entropy(scores, LABELS)
        return loss.item(), torch.autograd.grad(loss, learner.parameters, allow_unused=True)


@pytest.mark.parametrize("passes", CUTS, ids=str)
def test_the_gradient_is_that_of_autograd_however_the_prompts_are_cut(tiny_clip, passes):
    learner = learner_of(tiny_clip, dropout=0.0)
    expected = plain(learner)
    assert all(g.abs().max() > 0 for g in expected[1])
    assert_same(gradients(learner, passes), expected, 1e-10)


def test_so_it_is_for_every_family(any_tiny_model):
    learner = learner_of(any_tiny_model, dropout=0.0)
    assert_same(gradients(learner, Passes(3, 5)), plain(learner), 1e-10)


def test_so_it_is_where_the_text_tower_begins_partway_or_is_frozen(tiny_clip):
    for chosen in ({"position": "1"}, {"encoder": "vision"}, {"encoder": "text"}):
        learner = learner_of(tiny_clip, dropout=0.0, **chosen)
        for passes in (CUTS[0], Passes(3, 5)):
            assert_same(gradients(learner, passes), plain(learner), 1e-10)


def test_masks_of_dropout_do_not_depend_on_the_cuts(tiny_clip):
    learner = learner_of(tiny_clip, dropout=0.25)
    whole = gradients(learner, CUTS[0])
    for passes in CUTS[1:]:
        assert_same(gradients(learner, passes), whole, 1e-10)


def test_one_prompt_each_is_what_it_was_before_there_could_be_several_to_the_last_bit(tiny_clip):
    one_each, texts = (learner_of(tiny_clip, prompts) for prompts in ([(p,) for p in PROMPTS], PROMPTS))
    found = gradients(one_each, Passes(3, 2))
    plainly = ExactStep(texts.backbone, texts.class_vectors.in_steps(), texts.keys, Passes(3, 2), True)
    with texts.backbone.training():
        assert plainly.accumulate(3, ROWS, LABELS, crops) == found[0]
    assert all(torch.equal(p.grad, g) for p, g in zip(texts.parameters, found[1], strict=True))


class OneOfTwo(Processes):
    """A process whose sums with the other are made by hand: ``others`` are what the other adds, in turn."""

    def add_up(self, *tensors):
        for tensor in tensors:
            self.log.append(tensor.clone())
            if self.others:
                tensor += self.others.pop(0)


def process(index, others):
    made = OneOfTwo(index, 2)
    object.__setattr__(made, "log", [])
    object.__setattr__(made, "others", list(others))
    return made


def test_two_processes_have_the_gradient_of_one(tiny_clip):
    """What one adds depends on the sums before, so each sum is found by a run of its own; gradients are added last."""
    learner = learner_of(tiny_clip, dropout=0.0)
    expected = gradients(learner, CUTS[0])
    added = ([], [])
    for _ in range(3):  # embeddings, their gradient, the loss
        runs = [process(index, added[1 - index]) for index in (0, 1)]
        parts = [gradients(learner, Passes(3, 2), run)[1] for run in runs]
        added = tuple(run.log for run in runs)
    assert [len(log) for log in added] == [3, 3]
    total = [sum(g for g in pair if g is not None) for pair in zip(*parts, strict=True)]
    assert_same((expected[0], total), expected, 1e-10)


def test_what_is_predicted_is_the_mean_of_the_prompts_after_training_too(tiny_clip):
    for method in ("zero-shot", "lora"):
        recipe = preset_recipe("paper", method).replace(model=str(tiny_clip), precision="fp32")
        learner = create_learner(load_backbone(str(tiny_clip)), SEVERAL, recipe)
        backbone, images = learner.backbone, crops(ROWS).float()
        with torch.no_grad():
            texts = backbone.encode_prompts(backbone.tokenize([prompt for said in SEVERAL for prompt in said]))
            expected = backbone.logits(backbone.encode_images(images), class_by_class(texts, SEVERAL))
        torch.testing.assert_close(learner.logits(images), expected, atol=1e-5, rtol=0)
        apart = learner.logits(images) - create_learner(
            load_backbone(str(tiny_clip)), [said[0] for said in SEVERAL], recipe
        ).logits(images)
        assert apart.abs().max() > 1e-2


def test_class_embeddings_do_not_depend_on_how_many_prompts_go_at_once(tiny_clip):
    backbone = load_backbone(str(tiny_clip))
    backbone.model.double()
    tokens, owners = tokenized(backbone, SEVERAL)
    with torch.no_grad():
        whole, in_parts = (encode_classes(backbone, tokens, owners, at_once) for at_once in (COUNT, 3))
    torch.testing.assert_close(in_parts, whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(whole.norm(dim=1), torch.ones(len(SEVERAL), dtype=torch.float64))


def test_prompts_that_point_opposite_ways_leave_no_number_behind():
    unit = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    averaged = Owners(torch.tensor([0, 0, 1]), 2).averaged(unit)
    assert torch.equal(averaged, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(10)]
    return task_of_arrays(images, [name for name in "abcde" for _ in range(2)]).train


def test_a_run_with_its_prompts_grouped_otherwise_is_another_run(tiny_clip, examples, tmp_path):
    quick = {"steps_per_shot": 0, "base_steps": 2, "checkpoint_seconds": 0.0}
    learner_of(tiny_clip, dtype=torch.float32, **quick).fit(examples, 2, silent, tmp_path / "state")
    moved = (SEVERAL[0][:2], (SEVERAL[0][2], *SEVERAL[1]), *SEVERAL[2:])
    with refused(InputError, "of another run", "prompts"):
        learner_of(tiny_clip, moved, torch.float32, **quick).fit(examples, 2, silent, tmp_path / "state")


def test_a_prompt_that_is_too_long_is_known_by_itself(tiny_clip):
    recipe = preset_recipe("paper", "zero-shot").replace(model=str(tiny_clip))
    with pytest.raises(LongPromptError) as raised:
        create_learner(load_backbone(str(tiny_clip)), [("a",), ("b", "z" * 90)], recipe)
    assert raised.value.prompt == "z" * 90


def test_memory_is_planned_for_prompts_and_not_for_classes(tiny_clip, tmp_path, monkeypatch):
    counted, peak = [], Needs.peak
    monkeypatch.setattr(Needs, "peak", lambda self, passes, n: (counted.append(n), peak(self, passes, n))[1])
    recipe = preset_recipe("paper", "lora").replace(model=str(tiny_clip), dropout=0.0, shots=1)
    one = plan(recipe, classes=5, shots=1)
    assert (one.prompts, one.passes.prompts) == (5, 5)
    assert set(counted) == {5}
    counted.clear()
    (tmp_path / "d.json").write_text(json.dumps({"cat": ["It purrs.", "It sleeps."], "dog": ["It barks."]}))
    several = recipe.replace(template=["a {}", "coop"], descriptions=tmp_path / "d.json")
    made = plan(several, classes=5, shots=1)
    assert (made.prompts, made.passes.prompts) == (13, 13)
    assert set(counted) == {13}
    with refused(InputError, "classes is 1", 2, "prompts' files"):
        plan(several, classes=1, shots=1)

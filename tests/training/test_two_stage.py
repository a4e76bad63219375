"""2SFS: layer norms, then a classifier; two stages that are one run."""

import copy
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from lowshot.data import task_of_arrays
from lowshot.data.crops import batches, random_crops
from lowshot.errors import AdapterError, InputError
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.step import Passes
from lowshot.training.steps import learning_rate, stage_at
from lowshot.training.two_stage import ClassifierStep
from refusing import refused

from .steps import interrupted_before

STEPS, FIRST = 5, 3
PROMPTS = ("a blue", "a green", "a red")


@pytest.fixture(scope="module")
def examples():
    generator = np.random.default_rng(0)
    images = [generator.integers(0, 255, (20, 20, 3), dtype=np.uint8) for _ in range(9)]
    return task_of_arrays(images, ["red", "green", "blue"] * 3).train


def learner_of(folder, prompts=PROMPTS, method="2sfs", **chosen):
    quick = {"steps_per_shot": 0, "base_steps": STEPS, "batch_size": 4, "checkpoint_seconds": 0.0}
    recipe = preset_recipe("paper", method).replace(
        model=str(folder), **{"learning_rate": 1e-2, "precision": "fp32", **quick, **chosen}
    )
    return create_learner(load_backbone(str(folder)), prompts, recipe)


def values(learner):
    return [p.detach().clone() for p in learner.parameters]


def images(count=5):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def by_hand(learner, examples):
    """The paper's algorithm in plain torch: all at once, two optimisers, two schedules of torch's own."""
    backbone, config = learner.backbone, learner.recipe.training
    labels, tokens = torch.from_numpy(examples.labels), backbone.tokenize(list(PROMPTS))
    order = list(batches(len(examples), config.batch_size, STEPS, config.seed))

    def crops_of(step):
        rows = order[step].tolist()
        keys = [(config.seed, step, row) for row in rows]
        made = random_crops(
            (examples.images[row] for row in rows),
            backbone.image_size,
            crop_minimum=config.crop_minimum,
            flip=config.flip,
            keys=keys,
            device=backbone.device,
        )
        return made, labels[rows]

    def optimizer_of(parameters, steps):
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
        end = config.minimum_learning_rate
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=end)

    def descend(optimizer, schedule, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()

    scale = backbone.logit_scale
    optimizer, schedule = optimizer_of(learner.adapter.parameters(), FIRST)
    for step in range(FIRST):
        crops, truth = crops_of(step)
        scores = scale * backbone.encode_images(crops) @ backbone.encode_prompts(tokens).T
        descend(optimizer, schedule, functional.cross_entropy(scores, truth))
    with torch.no_grad():
        classifier = backbone.encode_prompts(tokens).clone()
    classifier.requires_grad_()
    optimizer, schedule = optimizer_of([classifier], STEPS - FIRST)
    for step in range(FIRST, STEPS):
        crops, truth = crops_of(step)
        with torch.no_grad():
            embeddings = backbone.encode_images(crops)
        rows = classifier / classifier.norm(dim=-1, keepdim=True)
        descend(optimizer, schedule, functional.cross_entropy(scale * embeddings @ rows.T, truth))
    return [p.detach() for p in learner.adapter.parameters()], classifier.detach()


def test_it_is_the_papers_algorithm(tiny_clip, examples):
    learner, plain = learner_of(tiny_clip), learner_of(tiny_clip)
    norms, classifier = by_hand(plain, examples)
    outcome = learner.fit(examples, 1, silent)
    assert outcome.steps == STEPS
    for found, expected in zip(learner.adapter.parameters(), norms, strict=True):
        torch.testing.assert_close(found.detach(), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(learner.classifier.detach(), classifier, atol=1e-4, rtol=0)
    with torch.no_grad():
        embeddings = plain.backbone.encode_images(images())
    expected = plain.backbone.logit_scale * embeddings @ functional.normalize(classifier, dim=-1).T
    torch.testing.assert_close(learner.logits(images()), expected, atol=2e-3, rtol=0)


def test_the_first_stage_is_layernorm_and_the_second_leaves_the_towers_alone(tiny_clip, examples):
    """The same steps, with a cosine over them alone."""
    both = learner_of(tiny_clip)
    both.fit(examples, 1, silent)
    first = learner_of(tiny_clip, method="layernorm", base_steps=FIRST)
    first.fit(examples, 1, silent)
    norms = both.adapter.tensors()
    assert norms.keys() == first.adapter.tensors().keys()
    # The order of images beyond the sixth step is drawn after it.
    assert all(torch.equal(norms[name], tensor) for name, tensor in first.adapter.tensors().items())
    assert not torch.equal(both.classifier.detach(), both.with_prompts(["a blue one", *PROMPTS[1:]]).encode_classes())


@pytest.mark.parametrize(("steps", "share", "first"), [(4800, 0.6, 2880), (300, 0.6, 180), (1, 0.6, 0), (5, 0.7, 3)])
def test_steps_are_split_as_published(tiny_clip, steps, share, first):
    stages = learner_of(tiny_clip, first_stage=share).stages(steps, Passes(1, 1))
    assert [stage.steps for stage in stages] == [first, steps - first]


def test_published_settings():
    recipe = preset_recipe("paper", "2sfs")
    training = recipe.training
    assert recipe.steps(16) == 300 * 16
    assert (recipe.method.first_stage, training.learning_rate, training.weight_decay) == (0.6, 2e-4, 1e-2)
    assert (training.batch_size, training.minimum_learning_rate) == (32, 1e-6)


def test_the_learning_rate_begins_anew_with_the_classifier(tiny_clip):
    learner = learner_of(tiny_clip)
    config, stages = learner.recipe.training, learner.stages(STEPS, Passes(4, 3))
    places = [stage_at(stages, step) for step in range(STEPS)]
    found = [stage.learning_rate(step - first, config) for step, (stage, first) in enumerate(places)]
    assert found[0] == found[FIRST] == config.learning_rate
    assert found[:FIRST] == [learning_rate(step, FIRST, config) for step in range(FIRST)]
    assert found[FIRST:] == [learning_rate(step, STEPS - FIRST, config) for step in range(STEPS - FIRST)]


@pytest.mark.parametrize("step", [2, FIRST, FIRST + 1])
@pytest.mark.parametrize("chosen", [{}, {"views": 2, "images_per_pass": 3, "prompts_per_pass": 2, "position": "up"}])
def test_a_run_that_is_interrupted_in_either_stage_goes_on_to_the_same_weights(
    tiny_clip, examples, tmp_path, step, chosen
):
    if chosen:
        chosen = {**chosen, "encoder": "vision"}
    whole = learner_of(tiny_clip, **chosen)
    whole.fit(examples, 1, silent)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        learner_of(tiny_clip, **chosen).fit(examples, 1, interrupted_before(step), path)
    again = learner_of(tiny_clip, **chosen)
    outcome = again.fit(examples, 1, silent, path)
    assert outcome.begun_at_step == step
    assert all(torch.equal(one, other) for one, other in zip(values(again), values(whole), strict=True))
    assert torch.equal(again.logits(images()), whole.logits(images()))
    done = learner_of(tiny_clip, **chosen)
    assert done.fit(examples, 1, silent, path).begun_at_step == STEPS  # a state of a run that was over
    assert torch.equal(done.logits(images()), whole.logits(images()))


def test_what_is_saved_comes_back_the_same_and_is_norms_and_classifier(tiny_clip, examples, tmp_path):
    learner = learner_of(tiny_clip)
    learner.fit(examples, 1, silent)
    learner.save(tmp_path)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert tensors.keys() == {*learner.adapter.tensors(), "classifier"}
    assert sum(t.numel() for t in tensors.values()) == learner.trainable_parameters
    assert (tmp_path / "adapter_model.safetensors").stat().st_size == learner.adapter_bytes
    again = learner_of(tiny_clip)
    again.load(tmp_path)
    assert torch.equal(again.logits(images()), learner.logits(images()))


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (lambda t: t.pop("classifier"), ("lacks 1 tensor(s)", "classifier")),
        (lambda t: t.update(classifier=t["classifier"][:2].contiguous()), ("classifier is",)),
        (lambda t: t["classifier"].fill_(torch.nan), ("classifier", "not finite")),
        (lambda t: t.update(more=torch.zeros(1)), ("1 unknown tensor(s)", "more")),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tiny_clip, tmp_path, damage, facts):
    learner, path = learner_of(tiny_clip), tmp_path / "adapter_model.safetensors"
    learner.save(tmp_path)
    tensors = load_file(path)
    damage(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    with refused(AdapterError, *facts):
        learner.load(tmp_path)


def test_what_was_never_trained_is_the_backbone_also_from_a_file(tiny_clip, tmp_path):
    learner, plain = learner_of(tiny_clip), learner_of(tiny_clip, method="zero-shot")
    assert torch.equal(learner.logits(images()), plain.logits(images()))
    learner.save(tmp_path)
    again = learner_of(tiny_clip)
    again.load(tmp_path)
    torch.testing.assert_close(again.logits(images()), plain.logits(images()), atol=1e-4, rtol=0)


def test_classes_without_a_row_are_judged_by_the_trained_text_tower(tiny_clip, examples):
    """Selective inference: rows for what was learnt, the text tower of the first stage for the others, in any order."""
    learner = learner_of(tiny_clip)
    learner.fit(examples, 1, silent)
    rows = functional.normalize(learner.classifier.detach(), dim=-1)
    first = learner_of(tiny_clip, method="layernorm", base_steps=FIRST)
    first.fit(examples, 1, silent)
    text = first.with_prompts(["a black", ["a white", "a pale"]]).encode_classes()
    mixed = learner.with_prompts(["a black", "a red", ("a white", "a pale"), ["a blue"]]).encode_classes()
    torch.testing.assert_close(mixed, torch.stack([text[0], rows[2], text[1], rows[0]]), atol=1e-6, rtol=0)
    assert torch.equal(learner.encode_classes(), rows)  # this learner stays as it is


def test_a_loss_that_is_no_number_leaves_the_last_good_weights(tiny_clip, examples, monkeypatch):
    """In the first step of the second stage: no classifier was trained, so the prompts judge."""
    learner = learner_of(tiny_clip)
    monkeypatch.setattr(ClassifierStep, "gradients", lambda *_: torch.tensor(math.nan))
    outcome = learner.fit(examples, 1, silent)
    assert outcome.stopped.startswith(f"training diverged at step {FIRST + 1} of {STEPS}")
    assert outcome.steps <= FIRST
    text = learner.with_prompts(["a red", "a blue"])  # in another order, which a classifier would follow
    torch.testing.assert_close(learner.logits(images())[:, [2, 0]], text.logits(images()), atol=1e-4, rtol=0)
    torch.testing.assert_close(learner.encode_classes().norm(dim=1), torch.ones(3))


def test_fitting_again_begins_anew(tiny_clip, examples):
    learner = learner_of(tiny_clip)
    learner.fit(examples, 1, silent)
    start = copy.deepcopy(learner.with_prompts(["a black"]))
    assert start.logits(images()).isfinite().all()
    learner.fit(examples, 1, silent)
    assert learner.logits(images()).isfinite().all()


def test_a_share_that_leaves_no_stage_is_refused():
    for share in (0.0, 1.0, -1.0):
        with refused(InputError, "first-stage", share, "share above 0"):
            preset_recipe("paper", "2sfs").replace(first_stage=share)

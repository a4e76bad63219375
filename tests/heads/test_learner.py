"""Heads on a backbone: the pass over the shots, what is saved, and what the classifier makes of it."""

import functools
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.conversion import export
from lowshot.data import Examples, Task
from lowshot.errors import AdapterError, DataError, InputError
from lowshot.heads import HEADS
from lowshot.models import Backbone, load_backbone
from lowshot.settings import preset_recipe
from lowshot.training import create_learner
from lowshot.training.placing import count_parameters
from lowshot.training.planning import plan
from refusing import refused

COLOURS = ("blue", "green", "red")
FAST = {
    "tip-adapter-f": {"learning_rate": 3e-2},
    "clip-adapter": {"learning_rate": 3e-2},
    "task-res": {"learning_rate": 0.5},
}
"""The papers' learning rates are for models a thousand times as large."""
every = pytest.mark.parametrize("method", HEADS)


class Pictures:
    """Images as a sequence that can be watched."""

    def __init__(self, count, seed=0):
        self._images = np.random.default_rng(seed).integers(0, 60, (count, 20, 20, 3), dtype=np.uint8)
        for index, image in enumerate(self._images):
            image[..., (2, 1, 0)[index % 3]] += 150

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        return self._images[index]


def coloured(count, seed=0):
    return Examples(Pictures(count, seed), np.arange(count) % 3, tuple(f"{seed}-{i}" for i in range(count)))


@pytest.fixture(scope="module")
def task():
    return Task("colours", COLOURS, train=coloured(12), test=coloured(30, seed=1))


@pytest.fixture(scope="module")
def four():
    """A task of as many classes as can be parted into old and new."""
    labels = np.arange(24) % 4
    train, test = (Examples(Pictures(24, seed), labels, tuple(f"{seed}-{i}" for i in range(24))) for seed in (0, 1))
    return Task("four", ("blue", "green", "red", "cat"), train=train, test=test)


@pytest.fixture(scope="module")
def classifier(tiny_clip):
    def build(method, **settings):
        crops = {} if method == "zero-shot" else {"crop_minimum": 0.5}
        return FewShotClassifier(str(tiny_clip), method=method, **{**FAST.get(method, {}), **crops, **settings})

    return build


@pytest.fixture(scope="module")
def learnt(classifier, task):
    """A classifier that has learnt the task with a method, and its measures; each learns once."""

    @functools.cache
    def learn(method):
        fitted = classifier(method).fit(task, shots=4)
        return fitted, fitted.evaluate(task)

    return learn


@every
def test_it_learns_colours_from_four_images_of_each(learnt, method):
    (fitted, metrics), (_, without) = learnt(method), learnt("zero-shot")
    found, plain = metrics["acc1"], without["acc1"]
    assert found > plain
    assert found >= (0.6 if method in ("tip-adapter", "clip-adapter") else 0.9)
    record = fitted.record_
    assert (record.shots, len(record.draw), len(record.learnt)) == (4, 12, 12)
    assert record.train_seconds > 0
    assert record.peak_memory_bytes >= record.static_memory_bytes > 0
    assert fitted.warnings_ == []


@every
def test_what_is_saved_comes_back_the_same_and_has_the_size_that_was_counted(learnt, task, method, tmp_path):
    fitted, _ = learnt(method)
    fitted.save_pretrained(tmp_path / "adapter")
    images = [task.test.images[i] for i in range(5)]
    again = saved_adapter(tmp_path / "adapter")
    assert np.array_equal(again.predict_proba(images), fitted.predict_proba(images))
    record = json.loads((tmp_path / "adapter" / "lowshot.json").read_text())
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    counted = count_parameters(fitted.recipe.replace(shots=4), classes=3)
    assert record["adapter_bytes"] == size == counted.adapter_bytes
    assert record["trainable_parameters"] == counted.trainable_parameters
    assert record["chosen"] == fitted.record_.chosen
    assert bool(record["chosen"]) == (method in ("tip-adapter", "gda", "proker", "linear-probe"))


@every
def test_a_file_that_is_not_exactly_its_own_is_refused_by_name(learnt, method, tmp_path):
    learnt(method)[0].save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    whole = load_file(path)
    for name, tensor in whole.items():
        rest = {n: t for n, t in whole.items() if n != name}
        save_file(rest or {"other": tensor}, path)
        with pytest.raises(AdapterError, match=rf"lacks 1 tensor\(s\), such as {name}"):
            saved_adapter(tmp_path / "adapter")
        save_file({**rest, name: torch.stack([tensor, tensor])}, path)
        with pytest.raises(AdapterError, match="expected"):
            saved_adapter(tmp_path / "adapter")
    save_file({**whole, "more": torch.ones(1)}, path)
    with refused(AdapterError, 1, "unknown tensor", "more"):
        saved_adapter(tmp_path / "adapter")
    path.unlink()
    with refused(AdapterError, "adapter_model.safetensors", "missing"):
        saved_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_of_no_class_are_refused(classifier, task, tmp_path, label):
    classifier("tip-adapter").fit(task, shots=1).save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({**load_file(path), "labels": torch.tensor([0, 1, label])}, path)
    with refused(AdapterError, "labels", "0 to 2"):
        saved_adapter(tmp_path / "adapter")


@pytest.mark.parametrize("method", ["nearest-mean", "linear-probe"])
def test_a_method_without_class_prompts_is_refused_other_classes_before_training(classifier, four, method, passes):
    with refused(InputError, method, "cannot judge others"):
        classifier(method, protocol="base-to-new").fit(four, shots=2)
    assert passes == []


@pytest.mark.parametrize("method", sorted(set(HEADS) - {"nearest-mean", "linear-probe", "clip-adapter"}))
def test_classes_without_shots_are_judged_by_their_prompts_alone(classifier, task, method):
    others = Task("others", ("cat", "dog", "cow"), train=task.train, test=task.test)
    found, plain = (
        classifier(name).fit(task, shots=2).evaluate(others, new_classes=True) for name in (method, "zero-shot")
    )
    assert found == plain


def test_clip_adapters_bottleneck_judges_classes_without_shots_too(tiny_clip, task):
    recipe = preset_recipe("paper", "clip-adapter").replace(model=str(tiny_clip), learning_rate=3e-2)
    learner = create_learner(load_backbone(str(tiny_clip)), COLOURS, recipe)
    learner.fit(task.train, 4, lambda items, **_: iter(items))
    images = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    again = learner.with_prompts(COLOURS)
    assert torch.equal(again.logits(images), learner.logits(images))
    others = learner.with_prompts(("cat", "dog"))
    assert others.logits(images).shape == (5, 2)
    assert learner.logits(images).shape == (5, 3)
    with torch.no_grad():
        plain = learner.backbone.logits(learner.backbone.encode_images(images), others.classes)
    assert not torch.allclose(others.logits(images), plain, atol=1e-3)


def test_base_to_new_has_both_accuracies(classifier, four):
    metrics = classifier("gda", protocol="base-to-new").fit(four, shots=4).evaluate(four)
    assert {"acc1", "harmonic_mean", "others"} <= set(metrics)


def test_the_shots_of_one_draw_are_encoded_once_for_all_methods_with_the_same_views(classifier, passes):
    task = Task("colours", COLOURS, train=coloured(12, seed=5), test=coloured(3, seed=6))
    for method in ("tip-adapter", "gda", "tip-adapter-f"):
        classifier(method).fit(task, shots=2)
    assert passes == [10 * 6]
    classifier("gda", seed=2).fit(task, shots=2)
    classifier("gda", shots=1).fit(task)
    classifier("gda", views=3).fit(task, shots=2)
    assert passes == [60, 60, 30, 18]
    for method in ("nearest-mean", "linear-probe"):
        classifier(method).fit(task, shots=2)
    assert passes == [60, 60, 30, 18, 6]
    classifier("nearest-mean", quantize="nf4").fit(task, shots=2)
    assert passes == [60, 60, 30, 18, 6, 6]


def test_who_finds_the_shots_encoded_counts_the_time_it_took(classifier, monkeypatch):
    import time

    encode = Backbone.encode_images

    def slow(self, images):
        time.sleep(0.3)
        return encode(self, images)

    monkeypatch.setattr(Backbone, "encode_images", slow)
    task = Task("colours", COLOURS, train=coloured(12, seed=7), test=coloured(3, seed=8))
    seconds = [classifier("gda").fit(task, shots=1).record_.train_seconds for _ in range(2)]
    assert min(seconds) >= 0.3


def test_crops_and_views_and_seed_are_obeyed(classifier, task):
    def means(**settings):
        return classifier("nearest-mean", **settings).fit(task, shots=1)._fitted[1].head.means

    usual = means(views=2)
    for change in ({"views": 3}, {"crop_minimum": 0.2}, {"flip": False}, {"views": None}):
        assert not torch.allclose(means(**{"views": 2, **change}), usual, atol=1e-5), change
    assert torch.equal(means(views=2), usual)


def test_without_views_shots_are_seen_as_they_are_judged(classifier, task):
    fitted = classifier("nearest-mean").fit(task, shots=1)
    rows = [task.train.identities.index(name) for name in fitted.record_.draw]
    table = fitted.predict_proba([task.train.images[row] for row in rows])
    learner = fitted._fitted[1]
    means = learner.head.means
    scores = learner.backbone.logit_scale * means @ means.T  # each image is its own class's mean
    np.testing.assert_allclose(
        table, torch.softmax(scores, 1).numpy()[[int(task.train.labels[row]) for row in rows]], atol=1e-5
    )


@pytest.mark.parametrize("quantize", ["nf4", "int8"])
@pytest.mark.parametrize("method", ["tip-adapter", "task-res"])
def test_a_quantised_backbone_will_do(classifier, task, method, quantize, tmp_path):
    fitted = classifier(method, quantize=quantize).fit(task, shots=4)
    fitted.save_pretrained(tmp_path / "adapter")
    images = [task.test.images[i] for i in range(5)]
    assert np.array_equal(saved_adapter(tmp_path / "adapter").predict_proba(images), fitted.predict_proba(images))


def test_no_state_of_training_is_kept_and_one_of_another_run_is_refused(classifier, task, tmp_path):
    path = tmp_path / "state.safetensors"
    classifier("gda").fit(task, shots=2, checkpoint=path)
    assert not path.exists()
    path.write_bytes(b"")
    with refused(InputError, "of another run", "gda"):
        classifier("gda").fit(task, shots=2, checkpoint=path)


@pytest.mark.parametrize("views", [None, 2])
def test_a_head_that_is_computed_is_calibrated_on_one_shot_of_every_class_at_a_time(classifier, task, views):
    """They are judged in the middle by what the views of all others teach; a class's only one is not judged."""
    settings = {"views": views, "crop_minimum": 1.0, "flip": False}  # a crop of all of it is the same in every draw
    some = Task("colours", COLOURS, train=task.train.subset([0, 1, 2, 3, 4, 6]))
    fitted = classifier("nearest-mean", calibration_folds=2, **settings).fit(some)
    expected = []
    for held in ([0, 1], [3, 4], [5]):
        rest = [row for row in range(6) if row not in held]
        without = classifier("nearest-mean", **settings).fit(Task("rest", COLOURS, train=some.train.subset(rest)))
        table = without.predict_proba([some.train.images[row] for row in held]).astype(np.float64)
        table **= 1 / fitted.record_.temperature
        expected += (1 - table[np.arange(len(held)), some.train.labels[held]] / table.sum(1)).tolist()
    assert fitted.calibration.folds == 3
    np.testing.assert_allclose(fitted.calibration.scores, sorted(expected), atol=2e-5)


def test_a_head_that_is_trained_is_calibrated_in_folds(classifier, task):
    fitted = classifier("lp++", calibration_folds=2).fit(task, shots=4)
    assert fitted.calibration.folds == 2
    assert len(fitted.calibration.scores) == 12


def test_one_image_of_each_class_is_said_to_have_decided_nothing(classifier, task):
    fitted = classifier("gda").fit(task, shots=1)
    assert fitted.warnings_ == [
        "one image of each class leaves none to hold out: alpha 0.01, the default, was not chosen on the shots"
    ]
    assert fitted.record_.chosen == {"alpha": 0.01}


def test_a_class_that_is_named_twice_is_refused(classifier, task):
    images = [task.train.images[i] for i in range(4)]
    with refused(DataError, "differ only in case"):
        classifier("gda").fit(images, ["red", "Red", "red", "Red"])


def test_plan_and_export_say_why_not(classifier, task, tmp_path):
    with refused(InputError, "gda", "nothing to plan"):
        plan(preset_recipe("paper", "gda"), classes=3, shots=4)
    classifier("gda").fit(task, shots=1).save_pretrained(tmp_path / "adapter")
    with refused(InputError, "gda", "merged", "--format onnx"):
        export(tmp_path / "adapter", tmp_path / "merged", format="merged")

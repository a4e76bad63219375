import json
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data import layouts
from lowshot import FewShotClassifier
from lowshot.data import Examples, MemoryImages, Task, base_and_new, builtin_task, draw_from, load_task
from lowshot.errors import DataError, InputError
from lowshot.evaluation import with_others
from lowshot.training.weights import WeightsLearner
from refusing import refused

FEW_STEPS = {"base_steps": 3, "steps_per_shot": 0, "batch_size": 4, "learning_rate": 1e-2}


def noise(name="things", classes=4, per_class=3, splits=("train", "test"), template=None):
    """A task of pictures in which there is nothing to see: every one is another, and so is every measure."""
    labels = np.tile(np.arange(classes), per_class)
    parts = {}
    for split in splits:
        generator = np.random.default_rng(list(f"{name} {split}".encode()))
        pixels = generator.integers(0, 256, (len(labels), 16, 16, 3), dtype=np.uint8)
        parts[split] = Examples(MemoryImages(pixels), labels, tuple(f"{split}/{i}" for i in range(len(labels))))
    names = tuple(f"{name} {'abcdefgh'[number]}" for number in range(classes))
    return Task(name, names, template=template, **parts)


@pytest.fixture
def fit(tiny_clip):
    """Fit the tiny CLIP for a few steps: ``fit(task, "lora", protocol="base-to-new")``."""

    def fit(task, method="lora", **settings):
        steps = {} if method == "zero-shot" else FEW_STEPS
        classifier = FewShotClassifier(str(tiny_clip), method=method, **{"shots": 2, **steps, **settings})
        return classifier.fit(task)

    return fit


@pytest.fixture
def untrained(monkeypatch):
    """Fails the test where anything is trained."""

    def trained(*arguments, **options):
        raise AssertionError("trained")

    monkeypatch.setattr(WeightsLearner, "fit", trained)


# -- one way of judging ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("per_class", [3, 80], ids=["few images", "as many as weights are merged for"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("zero-shot", {}),
        ("lora", {}),
        ("lora", {"encoder": "text"}),
        ("lora", {"encoder": "vision"}),
        ("qlora", {}),
        ("lora", {"template": ("a photo of a {}.", "a drawing of a {}.")}),
        ("lora", {"calibration_folds": 2}),
    ],
    ids=str,
)
def test_judged_as_if_they_were_new_its_own_classes_are_judged_the_same_to_the_last_bit(
    fit, method, settings, per_class
):
    task = noise(per_class=per_class)
    classifier = fit(task, method, **settings)
    assert classifier.evaluate(task, new_classes=True) == classifier.evaluate(task)


def test_other_classes_are_judged_by_what_was_learnt_as_if_it_had_been_learnt_for_them(fit, tiny_clip, tmp_path):
    """The same adapter in a folder that names the other classes judges them the same."""
    first, second = noise("things"), noise("beings", classes=3)
    classifier = fit(first)
    classifier.save_pretrained(tmp_path / "adapter")
    record = json.loads((tmp_path / "adapter" / "lowshot.json").read_text())
    record["classes"] = list(second.class_names)
    record["prompts"] = [[f"a photo of a {name}."] for name in second.class_names]
    (tmp_path / "adapter" / "lowshot.json").write_text(json.dumps(record))
    other = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    judged = classifier.evaluate(second, new_classes=True)
    assert judged == other.evaluate(second)
    assert judged["nll"] != fit(second, "zero-shot").evaluate(second)["nll"]


def test_other_classes_are_judged_the_same_before_and_after_its_own(fit):
    task, other = noise(), noise("beings", classes=6)
    classifier = fit(task)
    before = classifier.evaluate(other, new_classes=True)
    classifier.evaluate(task)
    assert classifier.evaluate(other, new_classes=True) == before


def test_what_was_judged_in_other_classes_leaves_the_classifier_as_it_was(fit):
    task = noise()
    classifier = fit(task)
    classifier.evaluate(task)
    record, before = classifier.record_, classifier.predict_proba(list(task.test.images))
    classifier.evaluate(noise("beings"), new_classes=True)
    assert classifier.record_ == record
    np.testing.assert_array_equal(classifier.predict_proba(list(task.test.images)), before)


def test_new_classes_are_put_into_the_adapters_own_template(fit):
    task, other = noise(), noise("beings")
    plain, worded = (fit(task, "zero-shot", template=t) for t in ("a photo of a {}.", "look, a {} there"))
    assert plain.evaluate(other, new_classes=True) != worded.evaluate(other, new_classes=True)
    assert worded.evaluate(other, new_classes=True) == worded.fit(other).evaluate(other)


def test_the_template_coop_is_that_of_the_data_that_are_judged(fit):
    classifier = fit(noise(template="{} texture."), "zero-shot", template="coop")
    other = noise("beings", template="a bit of {}")
    as_written = fit(noise(), "zero-shot", template="a bit of {}")
    assert classifier.evaluate(other, new_classes=True) == as_written.evaluate(other, new_classes=True)
    with refused(DataError, "template coop", "beings"):
        classifier.evaluate(noise("beings"), new_classes=True)


def test_files_of_words_are_for_the_classes_that_were_taught(fit, tmp_path):
    task, words = noise(), tmp_path / "names.json"
    words.write_text(json.dumps({task.class_names[0]: "a first thing"}))
    classifier = fit(task, "zero-shot", class_names=str(words))
    as_named = classifier.evaluate(task, new_classes=True)
    words.unlink()
    assert classifier.evaluate(task, new_classes=True) == as_named == fit(task, "zero-shot").evaluate(task)
    assert classifier.evaluate(task)["nll"] != as_named["nll"]


def test_sets_of_classes_are_those_that_were_taught(fit):
    task = noise()
    with refused(InputError, "coverage", "new-classes"):
        fit(task, "zero-shot", calibration_folds=2).evaluate(task, new_classes=True, coverage=0.5)


def test_other_data_are_refused_with_the_way_to_judge_them_all_the_same(fit):
    with refused(DataError, "beings", "other classes", "--new-classes"):
        fit(noise()).evaluate(noise("beings"))


# -- base-to-new -------------------------------------------------------------------------------------------------------


def test_base_to_new_learns_the_first_half_of_the_letters_and_judges_both(tmp_path):
    letters = builtin_task("letters")
    settings = {**FEW_STEPS, "shots": 2, "protocol": "base-to-new"}
    classifier = FewShotClassifier("builtin", method="lora-xs", **settings).fit("letters")
    assert classifier.classes_.tolist() == list(letters.class_names[:13])
    assert classifier.record_.task == "letters (base)"
    drawn = draw_from(letters, 2, 1).indices
    base_shots = [i for i in drawn if letters.train.labels[i] < 13]
    assert classifier.record_.draw == tuple(letters.train.identities[i] for i in base_shots)

    metrics = classifier.evaluate("letters")
    base, new = base_and_new(letters)
    assert set(metrics["others"]) == {"new"}
    assert metrics["others"]["new"] == classifier.evaluate(new, new_classes=True)
    assert {name: metrics[name] for name in metrics["others"]["new"]} == classifier.evaluate(base, new_classes=True)
    accuracies = metrics["acc1"], metrics["others"]["new"]["acc1"]
    assert metrics["harmonic_mean"] == pytest.approx(2 * accuracies[0] * accuracies[1] / sum(accuracies))
    assert (metrics["images"], metrics["others"]["new"]["images"]) == (520, 520)
    assert min(accuracies) > 2 / 13  # it reads letters before it has learnt anything

    classifier.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    assert loaded.record_.metrics == metrics
    assert loaded.evaluate("letters") == metrics
    with refused(DataError, "digits (base)", "other classes"):
        loaded.evaluate("digits")
    assert set(loaded.predict([letters.test.images[-1]])) <= set(letters.class_names[:13])


def test_new_classes_are_judged_as_a_task_of_their_own(fit):
    task = noise(classes=5)
    metrics = fit(task, "zero-shot", protocol="base-to-new").evaluate(task)
    base, new = base_and_new(task)
    assert metrics["others"]["new"] == fit(new, "zero-shot").evaluate(new)
    assert metrics["images"] == len(base.test)


def test_images_of_new_classes_are_all_unseen_where_there_is_no_test_split(fit):
    task = noise(splits=("train",))
    metrics = fit(task, protocol="base-to-new", shots=2).evaluate(task)
    base_images, new_images = metrics["images"], metrics["others"]["new"]["images"]
    assert (base_images, metrics["split"]) == (2 * (3 - 2), "unseen")
    assert (new_images, metrics["others"]["new"]["split"]) == (2 * 3, "unseen")


def test_a_draw_like_coops_is_made_before_the_classes_are_parted(fit):
    task = noise(per_class=6)
    reverse = np.arange(len(task.train))[::-1]  # the new classes come first, and take from the stream
    task = Task("things", task.class_names, task.train.subset(reverse), test=task.test)
    drawn = draw_from(task, 2, 1, "coop").indices
    base_only = draw_from(base_and_new(task)[0], 2, 1, "coop").indices
    learnt = fit(task, protocol="base-to-new", draw="coop").record_.draw
    assert set(learnt) == {task.train.identities[i] for i in drawn if task.train.labels[i] < 2}
    assert set(learnt) != {base_and_new(task)[0].train.identities[i] for i in base_only}


def test_names_to_say_and_descriptions_are_for_both_halves(fit, tmp_path):
    task = noise()
    words = {task.class_names[0]: "a first thing", task.class_names[3]: "quite another thing"}
    (tmp_path / "names.json").write_text(json.dumps(words))
    settings = {"protocol": "base-to-new", "class_names": str(tmp_path / "names.json")}
    plain, worded = (fit(task, "zero-shot", **s).evaluate(task) for s in ({"protocol": "base-to-new"}, settings))
    assert plain["nll"] != worded["nll"]
    assert plain["others"]["new"]["nll"] != worded["others"]["new"]["nll"]
    (tmp_path / "names.json").write_text(json.dumps({**words, "nothing": "x"}))
    with refused(DataError, "'nothing'", "things"):
        fit(task, "zero-shot", **settings)


def test_base_to_new_of_too_few_classes_is_refused_before_anything_is_trained(fit, untrained):
    with refused(DataError, "things", "3 classes", "base-to-new", 4):
        fit(noise(classes=3), protocol="base-to-new")


def test_an_empty_test_split_of_the_base_classes_is_refused_in_words(fit):
    task = noise()
    only_new = task.test.subset(np.flatnonzero(task.test.labels >= 2))
    task = Task("things", task.class_names, task.train, test=only_new)
    with refused(DataError, "things (base)", "no images", "test"):
        fit(task, protocol="base-to-new").evaluate(task)


# -- transfers ---------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_what_learnt_letters_is_judged_on_digits_and_greek_in_their_own_classes(tmp_path):
    settings = {**FEW_STEPS, "shots": 1, "protocol": "cross-dataset", "targets": ("digits", "greek")}
    classifier = FewShotClassifier("builtin", method="lora", **settings).fit("letters")
    metrics = classifier.evaluate("letters")
    others = metrics["others"]
    assert [(name, other["classes"], other["images"]) for name, other in others.items()] == [
        ("digits", 10, 901),
        ("greek", 33, 990),
    ]
    for name, other in others.items():
        assert other == classifier.evaluate(name, new_classes=True)
        assert other["acc1"] > 0.3
    assert metrics["mean_of_others"] == statistics.fmean(other["acc1"] for other in others.values())
    assert (metrics["classes"], metrics["images"]) == (26, 1040)

    classifier.save_pretrained(tmp_path / "adapter")
    assert FewShotClassifier.from_pretrained(tmp_path / "adapter").evaluate("letters") == metrics
    fewer = FewShotClassifier.from_pretrained(tmp_path / "adapter", targets=("greek",)).evaluate("letters")
    assert fewer["others"] == {"greek": others["greek"]}


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A root with ImageNet and its four shifts in miniature."""
    for name in ("imagenet", "imagenetv2", "imagenet_sketch", "imagenet_a", "imagenet_r"):
        layouts.install(name, tmp_path, monkeypatch)
    return tmp_path


def test_imagenets_shifts_are_judged_each_in_its_classes_without_being_named(fit, imagenet):
    settings = {"protocol": "domain-generalisation", "root": str(imagenet)}
    metrics = fit(load_task("imagenet", root=imagenet), **settings).evaluate(load_task("imagenet", root=imagenet))
    sizes = {name: (other["classes"], other["images"], other["split"]) for name, other in metrics["others"].items()}
    assert sizes == {
        "imagenetv2": (3, 9, "test"),
        "imagenet_sketch": (3, 9, "test"),
        "imagenet_a": (2, 6, "test"),
        "imagenet_r": (2, 6, "test"),
    }
    assert metrics["mean_of_others"] == statistics.fmean(other["acc1"] for other in metrics["others"].values())


def test_every_target_is_judged_with_its_own_template_where_that_is_asked_for(fit, imagenet, monkeypatch):
    for name in ("dtd", "eurosat"):
        layouts.install(name, imagenet, monkeypatch)
    settings = {"protocol": "cross-dataset", "targets": ("dtd", "eurosat"), "root": str(imagenet)}
    task = load_task("imagenet", root=imagenet)
    others = fit(task, "zero-shot", template="coop", **settings).evaluate(task)["others"]
    for name, template in (("dtd", "{} texture."), ("eurosat", "a centered satellite photo of {}.")):
        target = load_task(name, root=imagenet)
        assert others[name] == fit(target, "zero-shot", template=template).evaluate(target)


def test_targets_that_are_not_there_are_named_before_anything_is_trained(fit, imagenet, untrained):
    task = load_task("imagenet", root=imagenet)
    with refused(DataError, "10 of 10 targets", "caltech101"):
        fit(task, protocol="cross-dataset", root=str(imagenet))
    with refused(InputError, "cross-dataset", "targets"):
        fit(noise(), protocol="cross-dataset")


def test_classes_of_a_target_that_cannot_be_tokenize_are_named_before_anything_is_trained(fit, imagenet, untrained):
    settings = {"protocol": "domain-generalisation", "root": str(imagenet), "targets": ("imagenet_a",)}
    names = imagenet / "imagenet-adversarial" / "imagenet-a" / "classnames.txt"
    task = load_task("imagenet", root=imagenet)
    names.write_text(f"n01440764 tench\nn03773504 {'very ' * 30}long\n")
    with refused(DataError, "class 'very very", "expected at most 48"):
        fit(task, **settings)


def test_a_target_that_cannot_be_judged_leaves_what_was_judged_before(fit, imagenet):
    classifier = fit(load_task("imagenet", root=imagenet), protocol="domain-generalisation", root=str(imagenet))
    next((imagenet / "imagenet-sketch").rglob("*.JPEG")).write_bytes(b"no image")
    with pytest.raises(DataError, match="is not an image"):
        classifier.evaluate("imagenet")
    assert classifier.record_.metrics["images"] == 9
    assert "others" not in classifier.record_.metrics


def test_other_targets_do_not_make_a_checkpoint_another_run(fit, tiny_clip, tmp_path, monkeypatch):
    task, other = noise(), ("digits",)
    settings = {**FEW_STEPS, "shots": 2, "protocol": "cross-dataset"}
    state = tmp_path / "state.safetensors"
    for targets in (other, ("digits", "greek")):
        classifier = FewShotClassifier(str(tiny_clip), method="lora", **settings, targets=targets)
        classifier.fit(task, checkpoint=state)
    assert state.exists()


@pytest.mark.parametrize(("method", "settings"), [("zero-shot", {}), ("lora", {"encoder": "text"})], ids=str)
def test_images_are_encoded_once_however_many_label_spaces_they_are_judged_in(fit, passes, method, settings):
    task, same_images = noise("things"), noise("beings")
    same_images = Task("beings", same_images.class_names, task.train, test=task.test)
    classifier = fit(task, method, **settings)
    passes.clear()
    classifier.evaluate(task)
    first = len(passes)
    classifier.evaluate(same_images, new_classes=True)
    assert (first, len(passes)) == (1, 1)


# -- what figures come to ----------------------------------------------------------------------------------------------

fractions = st.floats(0, 1)


@given(fractions, fractions)
def test_the_harmonic_mean_is_symmetric_and_between_the_two_nearer_the_lower(one, other):
    def mean(base, new):
        return with_others({"acc1": base}, {"new": {"acc1": new}}, "base-to-new")["harmonic_mean"]

    assert mean(one, other) == pytest.approx(mean(other, one))
    assert min(one, other) - 1e-9 <= mean(one, other) <= (one + other) / 2 + 1e-9
    if one + other > 1e-3:
        assert mean(one, other) == pytest.approx(2 * one * other / (one + other))


def test_the_harmonic_mean_with_nothing_right_is_nothing():
    assert with_others({"acc1": 0.0}, {"new": {"acc1": 0.9}}, "base-to-new")["harmonic_mean"] == 0


@given(st.dictionaries(st.text(min_size=1), fractions, min_size=1))
def test_every_target_counts_alike(accuracies):
    others = {name: {"acc1": accuracy, "images": 10**i} for i, (name, accuracy) in enumerate(accuracies.items())}
    metrics = with_others({"acc1": 0.5}, others, "cross-dataset")
    assert metrics["mean_of_others"] == pytest.approx(np.mean(list(accuracies.values())))
    assert (metrics["acc1"], metrics["others"]) == (0.5, others)


def test_without_others_there_is_nothing_to_add():
    assert with_others({"acc1": 0.5}, {}, "few-shot") == {"acc1": 0.5}

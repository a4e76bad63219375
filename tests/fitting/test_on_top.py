"""Classes on top of adapted towers: what they are made of, what is told of them, and that they are ordinary classes."""

import dataclasses

import numpy as np
import pytest
import torch

from coloured import as_folder, labelled, pictures
from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.conversion import export
from lowshot.conversion.source import as_input, open_source
from lowshot.conversion.trained import trained_model
from lowshot.errors import DataError, InputError
from lowshot.fitting.class_rows import Evidence
from lowshot.on_top import OnTop, Recognised
from refusing import refused
from tiny_models import write_image_encoder

LORA = {"method": "lora", "rank": 2, "steps_per_shot": 2, "base_steps": 0, "crop_minimum": 0.5}
TEST = labelled("blue", "green", "red", "white", seed=7)[0]


@pytest.fixture
def fitted(tiny_clip):
    def fit(*names, **settings):
        return FewShotClassifier(str(tiny_clip), **{**LORA, **settings}).fit(*labelled(*(names or ("blue", "red"))))

    return fit


def alike(one, other, tolerance=1e-5):
    return np.abs(one.predict_proba(TEST) - other.predict_proba(TEST)).max() < tolerance


def test_a_class_on_top_leaves_the_scores_of_the_others_as_they_are(fitted, tmp_path):
    grown = fitted()
    before, draw = grown.predict_proba(TEST), grown.record_.draw
    grown.add(*labelled("white"))
    assert list(grown.classes_) == ["blue", "red", "white"]
    after = grown.predict_proba(TEST)[:, :2]
    np.testing.assert_allclose(after / after.sum(1, keepdims=True), before, atol=1e-5)
    assert grown.record_.draw[: len(draw)] == draw
    assert len(grown.record_.draw) == len(grown.record_.learnt) == 9
    told = OnTop.from_dict(grown.record_.on_top, 3)
    assert (told.classes, told.images, told.new.images, told.known) == (1, 3, 3, None)
    assert "how well the classes from before are still recognised is not known" in grown.warnings_[-1]
    grown.save_pretrained(tmp_path / "a")
    again = saved_adapter(tmp_path / "a")
    assert np.array_equal(again.predict_proba(TEST), grown.predict_proba(TEST))
    assert "on top" in (tmp_path / "a" / "README.md").read_text()
    assert alike(again.remove("white"), fitted())
    again.save_pretrained(tmp_path / "b")
    assert not (tmp_path / "b" / "classifier.safetensors").exists()
    assert saved_adapter(tmp_path / "b").record_.draw == draw
    assert alike(saved_adapter(tmp_path / "b"), fitted())


def test_images_that_the_towers_were_not_trained_on_tell_of_the_other_classes(fitted):
    one, other = fitted(), fitted()
    old = one.task(*labelled("blue", "red", count=6))  # three of each are those that were learnt
    one.add(*labelled("white"), old=old)
    told = OnTop.from_dict(one.record_.on_top, 3)
    assert (told.known_images, told.known.images) == (6, 6)
    assert len(one.record_.learnt) == 6 + 3 + 6
    images, labels = labelled("blue", "red", "white", count=6)
    rows = [row for row, label in enumerate(labels) if label != "white" or row % 6 < 3]
    other.add([images[row] for row in rows], [labels[row] for row in rows])  # a whole folder comes to the same
    assert alike(one, other)
    assert other.record_.on_top == one.record_.on_top
    with refused(DataError, "no images", "training and validation", "leave old out"):
        fitted().add(*labelled("white"), old=one.task(*labelled("blue", "red")))


def test_two_classes_one_after_the_other_come_to_both_at_once(fitted, tmp_path):
    old = fitted().task(*labelled("blue", "red", count=6))
    one = fitted().add(*labelled("white"), old=old)
    one.save_pretrained(tmp_path / "a")
    one = saved_adapter(tmp_path / "a").add(*labelled("green"))
    both = fitted().add(*labelled("white", "green"), old=old)
    assert list(one.classes_) == ["blue", "red", "white", "green"]
    columns = [list(both.classes_).index(name) for name in one.classes_]
    np.testing.assert_allclose(one.predict_proba(TEST), both.predict_proba(TEST)[:, columns], atol=1e-5)
    assert one.record_.on_top["classes"] == 2
    assert one.record_.on_top["known"] == both.record_.on_top["known"]
    more = one.add(*labelled("white", seed=3))
    assert more.record_.on_top["images"] == 9
    left = more.remove("white", "blue").predict_proba(TEST)
    more.save_pretrained(tmp_path / "b")
    again = saved_adapter(tmp_path / "b")
    assert np.array_equal(again.predict_proba(TEST), left)
    assert (again.record_.on_top["images"], again.record_.on_top["known_images"]) == (3, 3)
    again.rename("green", "lime").add(*labelled("white"))
    assert list(again.classes_) == ["red", "lime", "white"]


def test_a_calibration_in_between_changes_nothing_of_it(fitted):
    old = fitted().task(*labelled("blue", "red", count=6))
    one, both = (fitted(calibration_folds=3) for _ in range(2))
    one.add(*labelled("white"), old=old).add(*labelled("green"))
    both.add(*labelled("white", "green"), old=old)
    columns = [list(both.classes_).index(name) for name in one.classes_]
    np.testing.assert_allclose(one.predict_proba(TEST), both.predict_proba(TEST)[:, columns], atol=1e-5)
    assert one.record_.temperature == pytest.approx(both.record_.temperature, rel=1e-5)


def test_an_adapter_that_does_not_know_its_shots_says_what_the_figures_rest_on(fitted):
    grown = fitted()
    grown._answer_with(grown._fitted[1], dataclasses.replace(grown.record_, draw=(), learnt=()))
    old = grown.task(*labelled("blue", "red", seed=5))
    assert grown.add(*labelled("white"), old=old).record_.on_top["known_images"] == 6
    assert any("does not know which images it was taught with" in line for line in grown.warnings_)


def test_a_temperature_that_goes_with_the_last_class_on_top_is_said_to(fitted):
    grown = fitted(calibration_folds=3).add(*labelled("white"))
    grown.remove("white")
    assert grown.record_.temperature == 1.0
    assert "the calibration is dropped" in grown.warnings_[-1]


def test_none_of_these_that_goes_with_a_class_more_or_fewer_is_said_to(fitted):
    asked = {"reject": 0.2, "calibration_folds": 3}
    grown, left = fitted(**asked).add(*labelled("white")), fitted("blue", "red", "white", **asked).remove("white")
    for changed in (grown, left):
        assert changed.record_.belonging == {}
        assert any("images of none of the classes" in line for line in changed.warnings_)


def test_known_images_of_which_none_can_be_held_out_are_not_asked_for_again(fitted):
    grown = fitted()
    grown.add(*labelled("white"), old=grown.task(*labelled("blue", "red", count=1, seed=5)))
    assert (grown.record_.on_top["known_images"], grown.record_.on_top["known"]) == (2, None)
    assert "2 or more of every class" in grown.warnings_[-1]
    assert "tell nothing of new images" not in grown.warnings_[-1]


def test_it_is_calibrated_anew_where_every_class_has_images_for_it(fitted):
    grown = fitted(calibration_folds=3)
    before = grown.record_.temperature
    plain = fitted(calibration_folds=3).add(*labelled("white"))
    assert plain.record_.temperature == before
    assert plain.record_.calibration == {}
    assert any("sets of classes are not to be had" in line for line in plain.warnings_)
    grown.add(*labelled("white"), old=grown.task(*labelled("blue", "red", count=6)))
    assert grown.record_.calibration["images"] == 9
    assert grown.predict_sets(TEST, 0.8)
    assert grown.remove("white").record_.calibration == {}


def test_all_is_taught_anew_with_the_images_of_classes_on_top(fitted, tmp_path):
    grown = fitted().add(*labelled("white"))
    whole = fitted("blue", "red", "white")
    known, every = (grown.task(*labelled(*names)) for names in (("blue", "red"), ("blue", "red", "white")))
    grown.save_pretrained(tmp_path / "a")
    assert alike(saved_adapter(tmp_path / "a").add(*labelled("white"), refit=known), whole)
    anew = saved_adapter(tmp_path / "a").add(*labelled("white"), refit=every)
    assert alike(anew, whole)
    assert anew.record_.on_top == {}
    assert anew.record_.draw == whole.record_.draw
    with refused(DataError, "none of the shots", "'white'"):
        saved_adapter(tmp_path / "a").add(*labelled("green"), refit=known)
    assert alike(saved_adapter(tmp_path / "a").remove("white", refit=known), fitted())


def test_what_stands_on_nothing_is_refused(fitted, tmp_path):
    grown = fitted()
    with refused(InputError, "no class more", "--refit DATA"):
        grown.add(*labelled("red", seed=3))
    with refused(InputError, "old", "on top", "leave it out"):
        grown.add(
            *labelled("white"), old=grown.task(*labelled("blue", "red")), refit=grown.task(*labelled("blue", "red"))
        )
    with refused(DataError, "every image", "learnt already"):
        grown.add(pictures("blue", 3), ["white"] * 3)
    grown.add(*labelled("white", "green"))
    with refused(InputError, "no class", "towers", "lowshot fit DATA"):
        grown.remove("red", "blue")
    grown.save_pretrained(tmp_path / "a")
    (tmp_path / "a" / "shots.safetensors").unlink()
    alone = saved_adapter(tmp_path / "a")
    assert np.array_equal(alone.predict_proba(TEST), grown.predict_proba(TEST))
    with refused(InputError, "without the images", "shots.safetensors", "--refit DATA"):
        alone.add(*labelled("violet"))
    assert list(alone.remove("green").classes_) == ["blue", "red", "white"]


def test_what_leaves_has_the_rows_or_says_why_not(fitted, tmp_path):
    fitted().add(*labelled("white")).save_pretrained(tmp_path / "a")
    source = open_source(tmp_path / "a")
    table = trained_model(source).probabilities(as_input(source.probes))
    np.testing.assert_allclose(table, source.probabilities, atol=1e-5)
    for name in ("peft", "merged"):
        with refused(InputError, name, "rows of a classifier"):
            export(tmp_path / "a", tmp_path / "out", format=name)


@pytest.mark.parametrize("method", ["dora", "coop"])
def test_it_goes_for_whatever_gives_each_class_a_vector(tiny_clip, tmp_path, method):
    few = {"steps_per_shot": 1, "base_steps": 0, "crop_minimum": 0.5}
    grown = FewShotClassifier(str(tiny_clip), method=method, **few).fit(*labelled("blue", "red", count=1))
    before = grown.predict_proba(TEST)
    grown.add(*labelled("white")).save_pretrained(tmp_path / "a")
    again = saved_adapter(tmp_path / "a").predict_proba(TEST)
    assert np.array_equal(again, grown.predict_proba(TEST))
    np.testing.assert_allclose(again[:, :2] / again[:, :2].sum(1, keepdims=True), before, atol=1e-5)


def test_an_encoder_that_reads_no_names_gets_the_means_of_the_shots(tmp_path):
    grown = FewShotClassifier(str(write_image_encoder(tmp_path / "encoder", "dinov2")), **LORA).fit(
        *labelled("blue", "red")
    )
    before = grown.predict_proba(TEST)
    assert grown.add(*labelled("white")).record_.on_top["blend"] == 1.0
    grown.save_pretrained(tmp_path / "a")
    again = saved_adapter(tmp_path / "a")
    assert np.array_equal(again.predict_proba(TEST), grown.predict_proba(TEST))
    left = again.remove("white")
    np.testing.assert_allclose(left.predict_proba(TEST), before, atol=1e-5)
    left.save_pretrained(tmp_path / "b")
    np.testing.assert_allclose(saved_adapter(tmp_path / "b").predict_proba(TEST), before, atol=1e-5)
    assert left.add(pictures("white", 1), ["white"]).record_.on_top["new"] is None


@pytest.mark.parametrize("method", ["2sfs", "plot++"])
def test_methods_whose_classes_are_no_vectors_say_so(fitted, method):
    settings = {"method": method, "steps_per_shot": 1, "base_steps": 0, "crop_minimum": 0.5}
    classifier = FewShotClassifier(fitted().recipe.model.model, **settings).fit(*labelled("blue", "red", count=1))
    with refused(InputError, "--refit DATA", "set on top"):
        classifier.add(*labelled("white"))


def test_a_single_image_is_its_prompt_and_tells_nothing(fitted):
    grown = fitted().add(pictures("white", 1), ["white"])
    assert grown.record_.on_top["new"] is None
    learner = grown._fitted[1]
    prompts = learner.with_prompts(grown.record_.prompts).encode_classes()
    torch.testing.assert_close(learner.encode_classes(), prompts)


def test_a_single_image_is_its_prompt_where_known_images_tell_the_length():
    first, second, third = np.eye(3)
    prompt = (first + third) / np.sqrt(2)
    images = np.stack([third, first, second])  # the first known image is nearer to the prompt than to the new image
    evidence = Evidence(np.stack([first, second]), prompt[None], images, np.asarray([2, 0, 1]), 20.0)
    [row] = evidence.placed(np.ones(3, dtype=np.bool_)).rows
    np.testing.assert_allclose(row / np.linalg.norm(row), prompt)


def test_known_images_alone_do_not_shorten_the_row_of_a_single_image(tmp_path):
    grown = FewShotClassifier(str(write_image_encoder(tmp_path / "encoder", "dinov2")), **LORA).fit(
        *labelled("blue", "red")
    )
    old = grown.task(*labelled("blue", "red", count=6))
    image = pictures("white", 1)
    assert list(grown.add(image, ["white"], old=old).predict(image)) == ["white"]
    row = grown._fitted[1].encode_classes()[-1]
    assert row.norm().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("copied", ["green", "white"])  # the first new class, and the last
def test_a_class_whose_every_image_is_learnt_as_another_is_named(fitted, copied):
    grown = fitted()
    before = grown.record_
    images = [image for name in ("green", "white") for image in pictures("blue" if name == copied else name, 3)]
    with refused(DataError, f"'{copied}'", "learnt already"):
        grown.add(images, ["green"] * 3 + ["white"] * 3)
    assert grown.record_ is before


def test_known_images_are_told_from_shots_by_what_they_show_and_not_by_their_names(fitted, tmp_path):
    learnt, old = (as_folder(tmp_path / f"{seed}", *labelled("blue", "red", seed=seed)) for seed in (0, 5))
    grown = FewShotClassifier(fitted().recipe.model.model, **LORA).fit(learnt)
    assert grown.add(*labelled("white"), old=old).record_.on_top["known_images"] == 6


@pytest.mark.parametrize(
    "change",
    [{"classes": 3}, {"images": -1}, {"blend": 2.0}, {"temperature": 0.0}, {"known": {"images": 1}}, {"more": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_record_that_is_damaged_is_refused(change):
    values = OnTop(1, 3, 2, 0.65, 1.0, Recognised(3, 2), Recognised(2, 1, 2)).to_dict()
    assert OnTop.from_dict(values, 3).to_dict() == values
    with refused(InputError, "on_top", "a blend"):
        OnTop.from_dict({**values, **change}, 3)

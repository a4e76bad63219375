"""Classes more and classes fewer: what is learnt then is what fitting all shots together learns."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from coloured import labelled, pictures
from lowshot import FewShotClassifier
from lowshot.classifier import saved_adapter
from lowshot.errors import AdapterError, DataError, InputError, NotFittedError, UnknownNameError
from lowshot.heads import HEADS, KEPT_SHOTS_FILE, kept_shots, tensors_of
from lowshot.heads.descent import descend
from refusing import refused

every = pytest.mark.parametrize("method", HEADS)

TEST = labelled("blue", "green", "red", "white", seed=7)[0]
SHOTS = "blue", "green", "red"


@pytest.fixture
def fitted(tiny_clip):
    def fit(method, *names, **settings):
        crops = {"views": 2, "crop_minimum": 0.5} if method in HEADS else {}
        classifier = FewShotClassifier(str(tiny_clip), method=method, **{**crops, **settings})
        return classifier.fit(*labelled(*(names or SHOTS)))

    return fit


@pytest.fixture
def quick(monkeypatch):
    """Few steps: how long a head is trained is not what is asked."""
    monkeypatch.setattr("lowshot.heads.lp_plus_plus.EPOCHS", 10)
    monkeypatch.setattr("lowshot.heads.tip_adapter.EPOCHS", 2)
    monkeypatch.setattr("lowshot.heads.linear_probe.MOST_STEPS", 10)
    monkeypatch.setattr("lowshot.heads.task_res.descend", lambda *args, **more: descend(*args, **{**more, "epochs": 3}))
    monkeypatch.setattr("lowshot.heads.clip_adapter.epochs_by_shots", lambda _: 3)


def alike(one, other):
    return np.abs(one.predict_proba(TEST) - other.predict_proba(TEST)).max() < 1e-6


@every
def test_a_class_more_comes_to_what_fitting_all_shots_comes_to(fitted, quick, method, tmp_path, passes):
    fitted(method).save_pretrained(tmp_path / "adapter")
    grown = saved_adapter(tmp_path / "adapter")
    passes.clear()
    assert grown.add(*labelled("white")) is grown
    assert sum(passes) == 2 * 3  # two views of the new images, and nothing of the others
    whole = fitted(method, *SHOTS, "white")
    assert list(grown.classes_) == list(whole.classes_) == [*SHOTS, "white"]
    assert alike(grown, whole)
    for name, tensor in tensors_of(whole._fitted[1].head).items():
        torch.testing.assert_close(tensors_of(grown._fitted[1].head)[name], tensor, atol=1e-6, rtol=1e-6)
    for field in ("classes", "prompts", "draw", "learnt", "shots", "chosen", "adapter_bytes", "trainable_parameters"):
        assert getattr(grown.record_, field) == getattr(whole.record_, field), field
    grown.save_pretrained(tmp_path / "grown")
    assert alike(saved_adapter(tmp_path / "grown"), grown)
    assert alike(saved_adapter(tmp_path / "grown").remove("white"), saved_adapter(tmp_path / "adapter"))


def test_images_more_of_a_class_are_learnt_and_those_that_are_known_passed_over(fitted):
    grown = fitted("gda")
    images, labels = labelled("red", seed=1)
    known, names = labelled("blue")
    grown.add([*known, *images], [*names, *labels])
    assert grown.record_.shots == 6
    assert len(grown.record_.draw) == 12
    assert "3 of 6 images are learnt already and left out" in grown.warnings_
    with refused(DataError, "learnt already", "images of a class more"):
        grown.add(images, labels)
    with refused(DataError, "'crimson'", "learnt already"):
        grown.add([*images, *pictures("white", 3)], ["crimson"] * 3 + ["white"] * 3)
    assert list(grown.classes_) == [*SHOTS]


def test_the_calibration_is_that_of_all_shots(fitted):
    grown = fitted("nearest-mean", calibration_folds=3).add(*labelled("white"))
    whole = fitted("nearest-mean", *SHOTS, "white", calibration_folds=3)
    assert grown.record_.calibration == whole.record_.calibration
    without = fitted("nearest-mean", calibration_folds=3)
    assert grown.remove("white").record_.calibration == without.record_.calibration


def test_measures_of_other_classes_are_dropped(fitted):
    grown = fitted("nearest-mean")
    grown.evaluate(grown.task(*labelled(*SHOTS, seed=3)))
    assert grown.record_.metrics
    assert grown.add(*labelled("white")).record_.metrics == {}


def test_shots_are_drawn_as_the_adapter_s_were(fitted):
    grown = fitted("nearest-mean", shots=2)
    grown.add(*labelled("white", count=5))
    assert len(grown.record_.draw) == 8
    grown.add(*labelled("violet", count=5), shots=4)
    assert len(grown.record_.draw) == 12


def test_an_adapter_without_its_shots_is_taught_anew_by_the_images(fitted, tmp_path):
    old = fitted("gda")
    old.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / KEPT_SHOTS_FILE).unlink()
    grown = saved_adapter(tmp_path / "adapter")
    with refused(InputError, "without its shots", "--refit DATA"):
        grown.add(*labelled("white"))
    known = grown.task(*labelled(*SHOTS))
    assert alike(grown.add(*labelled("white"), refit=known), fitted("gda", *SHOTS, "white"))
    with refused(DataError, "3 of 12"):
        grown.add(*labelled("violet"), refit=known)


def test_adapted_towers_are_taught_anew_or_judge_what_is_left(fitted, tmp_path):
    lora = {"rank": 2, "steps_per_shot": 2, "base_steps": 0, "crop_minimum": 0.5}
    grown = fitted("lora", **lora)
    known = grown.task(*labelled(*SHOTS))
    grown.add(*labelled("white"), refit=known)
    whole = fitted("lora", *SHOTS, "white", **lora)
    assert alike(grown, whole)
    left = whole.remove("green").predict_proba(TEST)
    whole.save_pretrained(tmp_path / "adapter")
    assert np.array_equal(saved_adapter(tmp_path / "adapter").predict_proba(TEST), left)
    kept = grown.predict_proba(TEST)[:, [0, 2, 3]]
    np.testing.assert_allclose(left, kept / kept.sum(1, keepdims=True), atol=1e-5)
    assert whole.record_.draw == grown.record_.draw  # the towers have learnt from them


def test_zero_shot_needs_names_alone(fitted):
    grown = fitted("zero-shot").add(*labelled("white"))
    assert alike(grown, fitted("zero-shot", *SHOTS, "white"))
    assert alike(grown.remove("white"), fitted("zero-shot"))


def test_a_class_by_another_name_answers_as_before(fitted):
    classifier = fitted("nearest-mean", calibration_folds=3)
    before, record = classifier.predict_proba(TEST), classifier.record_
    classifier.rename("green", "lime")
    assert list(classifier.classes_) == ["blue", "lime", "red"]
    assert np.array_equal(classifier.predict_proba(TEST), before)
    assert (classifier.record_.prompts, classifier.record_.calibration) == (record.prompts, record.calibration)
    for wrong in ("Blue", " ", "\udcff"):
        with pytest.raises(DataError):
            classifier.rename("red", wrong)
    with refused(UnknownNameError, "'gren'"):
        classifier.rename("gren", "grass")


def test_classes_that_are_numbers_stay_numbers(fitted, tiny_clip):
    images, _ = labelled(*SHOTS)
    classifier = FewShotClassifier(str(tiny_clip), method="gda", views=2).fit(images, [0, 0, 0, 1, 1, 1, 2, 2, 2])
    more, names = labelled("white")
    with refused(DataError, "int and str"):
        classifier.add(more, names)
    assert classifier.add(more, [7, 7, 7]).classes_.tolist() == [0, 1, 2, 7]
    assert classifier.remove("1").classes_.tolist() == [0, 2, 7]
    with refused(InputError, "labels such as 0"):
        classifier.rename("0", "zero")


def test_what_cannot_be_is_refused_and_changes_nothing(fitted, tiny_clip):
    with pytest.raises(NotFittedError):
        FewShotClassifier(str(tiny_clip), method="gda").add(*labelled("white"))
    classifier = fitted("gda")
    before = classifier.predict_proba(TEST)
    with refused(UnknownNameError, "'gren'", "did you mean green"):
        classifier.remove("gren")
    with pytest.raises(InputError, match="1 class"):
        classifier.remove("green", "red")
    with refused(DataError, "differ only in case"):
        classifier.add(pictures("white", 2), ["Red", "Red"])
    assert np.array_equal(classifier.predict_proba(TEST), before)


def test_shots_that_are_not_those_of_the_head_are_refused(fitted, tmp_path):
    fitted("gda").save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / KEPT_SHOTS_FILE
    whole = load_file(path)
    for wrong in (
        {"labels": whole["labels"] + 1},
        {"labels": whole["labels"][:-1]},
        {"features": whole["features"][..., :-1]},
        {"features": whole["features"] * torch.nan},
        {"features": whole["features"].double()},
        {"central": whole["features"]},
        {"more": torch.ones(1)},
    ):
        save_file({name: tensor.contiguous().clone() for name, tensor in {**whole, **wrong}.items()}, path)
        with pytest.raises(AdapterError, match=KEPT_SHOTS_FILE):
            saved_adapter(tmp_path / "adapter")


def test_more_shots_than_may_be_kept_are_not_and_that_is_said(fitted, monkeypatch, tmp_path):
    monkeypatch.setattr("lowshot.training.head_learner.MOST_BYTES", 100)
    classifier = fitted("gda")
    assert "for a class more this adapter must be fitted anew" in classifier.warnings_[-1]
    classifier.save_pretrained(tmp_path / "adapter")
    assert not (tmp_path / "adapter" / KEPT_SHOTS_FILE).exists()
    assert kept_shots.MOST_BYTES > 100

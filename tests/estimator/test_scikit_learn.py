"""What scikit-learn does with estimators, it does with the classifier."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.validation import check_is_fitted

from lowshot import FewShotClassifier, errors


def test_it_is_a_classifier_that_is_fitted_once_it_was(classifier, pictures):
    assert is_classifier(classifier)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
    check_is_fitted(classifier.fit(*pictures()))


def test_before_fit_it_raises_lowshots_error_that_is_scikit_learns_too(classifier, pictures):
    with pytest.raises(NotFittedError) as raised:
        classifier.predict(pictures()[0])
    assert isinstance(raised.value, errors.NotFittedError)
    assert raised.value.code == "not_fitted"
    again = pickle.loads(pickle.dumps(raised.value))
    assert (type(again), again.args) == (type(raised.value), raised.value.args)


def test_it_is_cross_validated(classifier, pictures):
    images, labels = pictures(24)
    assert cross_val_score(classifier, images, labels, cv=2, error_score="raise").min() == 1
    assert cross_val_score(classifier, list(images), list(labels), cv=2, scoring="neg_log_loss").shape == (2,)
    table = cross_val_predict(classifier, images, labels, cv=2, method="predict_proba")
    assert log_loss(labels, table) < 1


def test_a_grid_over_methods_gives_each_the_settings_of_its_own(classifier, pictures):
    grid = GridSearchCV(classifier, {"method": ["gda", "proker"], "views": [np.int64(1)]}, cv=2, error_score="raise")
    grid.fit(*pictures(24))
    assert grid.best_score_ == 1
    assert grid.best_estimator_.recipe.method.method in ("gda", "proker")
    searched = FewShotClassifier(method="lora", alpha=3.0)
    assert clone(searched).set_params(method="lora-xs").recipe == FewShotClassifier(method="lora-xs", alpha=3.0).recipe


def test_it_is_the_end_of_a_pipeline(classifier, pictures):
    images, labels = pictures()
    pipeline = make_pipeline(FunctionTransformer(lambda images: images[:, ::2]), classifier)
    pipeline.set_params(fewshotclassifier__views=2).fit(images, labels)
    assert pipeline.named_steps["fewshotclassifier"].recipe.training.views == 2
    assert pipeline.score(images, labels) == 1
    assert "FewShotClassifier" in pipeline._repr_html_()


def test_it_is_calibrated_and_it_votes(classifier, pictures):
    images, labels = pictures(24)
    calibrated = CalibratedClassifierCV(classifier, cv=2).fit(images, labels)
    assert calibrated.predict_proba(images).shape == (24, 3)
    voting = VotingClassifier([("one", classifier), ("other", clone(classifier))], voting="soft").fit(images, labels)
    assert (voting.predict(images) == labels).all()


def test_parameters_are_those_of_the_constructor_as_they_were_given():
    given = {"method": "qlora", "rank": np.int64(3), "learning_rate": np.float32(0.5), "template": ["a {}"]}
    classifier = FewShotClassifier(**given)
    params = classifier.get_params()
    assert all(params[name] is value for name, value in given.items())
    assert params["preset"] is None
    assert {"model", "shots", "seed", "verbose"} <= set(params)
    assert FewShotClassifier().get_params()["method"] is None
    copy = clone(classifier)
    assert copy.get_params() == params
    assert copy.recipe == classifier.recipe


def test_scalars_and_arrays_of_numpy_are_settings():
    classifier = FewShotClassifier(
        method="lora",
        rank=np.int64(4),
        learning_rate=np.float32(0.25),
        gradient_checkpointing=np.bool_(True),
        seed=np.array(3),
        projections=np.array(["q", "v"]),
    )
    recipe = classifier.recipe
    assert (recipe.method.rank, recipe.training.learning_rate, recipe.training.seed) == (4, 0.25, 3)
    assert (recipe.engine.gradient_checkpointing, recipe.method.projections) == (True, ("q", "v"))
    assert {type(value) for value in (recipe.method.rank, recipe.training.seed)} == {int}
    with pytest.raises(errors.InputError, match="rank is 0"):
        FewShotClassifier(method="lora", rank=np.int64(0))


def test_a_refused_parameter_changes_none(classifier):
    before = classifier.get_params()
    with pytest.raises(errors.InputError):
        classifier.set_params(views=2, seed=-1)
    assert classifier.get_params() == before


def test_a_clone_reads_the_backbone_where_the_original_would(classifier, pictures):
    from lowshot.models import load_backbone

    asked = []

    def load(model, device):
        asked.append(model)
        return load_backbone(model, device)

    clone(FewShotClassifier.from_recipe(classifier.recipe, load)).fit(*pictures())
    assert asked == [classifier.recipe.model.model]


def test_pipelines_are_told_that_it_classifies_images_and_not_rows_of_numbers():
    tags = FewShotClassifier().__sklearn_tags__()
    assert (tags.estimator_type, tags.target_tags.required, tags.no_validation) == ("classifier", True, False)
    told = tags.input_tags
    shapes = told.one_d_array, told.two_d_array, told.three_d_array
    assert (shapes, told.string, told.sparse) == ((True, False, True), True, False)

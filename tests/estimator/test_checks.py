"""scikit-learn's own checks of estimators, those that apply to images: rows of numbers are drawn as pictures."""

import warnings

import numpy as np
import pytest
from sklearn.utils import InputTags
from sklearn.utils.estimator_checks import estimator_checks_generator

from lowshot import FewShotClassifier
from lowshot.models import KeptBackbone

pytestmark = pytest.mark.filterwarnings("ignore")

_SIZES = "images may be of any size, each of another: there is no number of features to compare"
_ROWS = "it is about tables; the pictures drawn here cannot show it"
DO_NOT_APPLY = {
    "check_fit_score_takes_y": "labels are called labels; scikit-learn's own code passes them by position",
    "check_do_not_raise_errors_in_init_or_set_params": "what can never be right is refused at once, not at fit",
    "check_n_features_in_after_fitting": _SIZES,
    "check_n_features_in": _SIZES,
    "check_classifiers_train": _SIZES,
    "check_transformer_general": _SIZES,
    "check_transformer_data_not_an_array": _SIZES,
    "check_complex_data": _ROWS,
    "check_estimators_empty_data_messages": _ROWS,
    "check_estimators_nan_inf": _ROWS,
    "check_estimator_sparse_tag": _ROWS,
    "check_estimator_sparse_array": _ROWS,
    "check_estimator_sparse_matrix": _ROWS,
    "check_fit1d": _ROWS,
    "check_fit2d_predict1d": _ROWS,
    "check_classifiers_regression_target": "a number such as 0.5 is a class as good as any",
    "check_supervised_y_2d": "a column of labels is taken for what it is, without a warning",
    "check_requires_y_none": "lowshot's own sentence says what is missing",
}
"""Check -> why it is not for a classifier of images."""


class OfRows(FewShotClassifier):
    """The classifier, shown each row of a table as a picture of its numbers."""

    def fit(self, table, labels=None):
        return super().fit(drawn(table), labels)

    def predict_proba(self, table):
        return super().predict_proba(drawn(table))

    def transform(self, table):
        return super().transform(drawn(table))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags = InputTags()
        tags.classifier_tags.poor_score = True  # a random CLIP sees little in blobs
        return tags


def drawn(table):
    rows = 1 / (1 + np.exp(-np.asarray(table, dtype=np.float64)))
    return np.repeat(np.repeat(rows[:, None, :, None], rows.shape[1], axis=1), 3, axis=3)


def name_of(check):
    return getattr(check, "func", check).__name__


def checks():
    with warnings.catch_warnings(action="ignore"):
        every = estimator_checks_generator(OfRows(method="nearest-mean", views=1), legacy=True, mark=None)
        return [check for _, check in every]


@pytest.fixture(scope="module")
def load():
    return KeptBackbone().load


@pytest.mark.parametrize("check", [c for c in checks() if name_of(c) not in DO_NOT_APPLY], ids=name_of)
def test_a_check_of_scikit_learn(check, tiny_clip, load):
    recipe = OfRows(str(tiny_clip), method="nearest-mean", views=1).recipe
    check(OfRows.from_recipe(recipe, load))


def test_every_check_that_does_not_apply_is_one_of_scikit_learn():
    assert set(DO_NOT_APPLY) <= {name_of(check) for check in checks()}

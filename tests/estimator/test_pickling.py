"""Classifiers go to other processes and into files: by pickle, joblib, torch.save and copy."""

import copy
import io
import pickle
import shutil

import joblib
import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.errors import InputError


def by_torch(classifier):
    file = io.BytesIO()
    torch.save(classifier, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)


def by_joblib(classifier):
    file = io.BytesIO()
    joblib.dump(classifier, file)
    return joblib.load(io.BytesIO(file.getvalue()))


@pytest.mark.parametrize("through", [by_torch, by_joblib, copy.deepcopy, copy.copy])
def test_what_was_learnt_arrives(classifier, pictures, through):
    images, labels = pictures()
    classifier.set_params(calibration_folds=2).fit(images, labels)
    again = through(classifier)
    assert again.classes_.tolist() == classifier.classes_.tolist()
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))
    assert again.fit(images[:6], labels[:6]).is_fitted


def test_an_unfitted_one_arrives_with_its_parameters(classifier):
    again = pickle.loads(pickle.dumps(classifier))
    assert (again.is_fitted, again.get_params()) == (False, classifier.get_params())


class Named(FewShotClassifier):
    """One of somebody's own."""


def test_one_of_a_class_of_ones_own_keeps_what_it_has(classifier, pictures):
    own = Named(**classifier._given).fit(*pictures())
    own.note = "mine"
    again = pickle.loads(pickle.dumps(own))
    assert (type(again), again.note, again.is_fitted) == (Named, "mine", True)


def test_where_its_backbone_is_gone_it_says_so(classifier, pictures, tiny_clip, tmp_path):
    moved = shutil.copytree(tiny_clip, tmp_path / "clip")
    pickled = pickle.dumps(classifier.set_params(model=str(moved)).fit(*pictures()))
    shutil.rmtree(moved)
    with pytest.raises(InputError, match="clip"):
        pickle.loads(pickled)

"""Sets of classes with a guarantee: the formulas against regressions solved anew, and what they cover."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional

from lowshot.errors import InputError
from lowshot.evaluation import GuaranteedSets
from lowshot.heads import FullConformal, full_conformal
from lowshot.heads.proker import ProKeR, published
from refusing import refused

from .conftest import unit


def shots_of(made_up, has_words=True, **shape):
    """Shots in one view, whose scores differ by little more than a few."""
    shots = made_up(views=1, **{"classes": 5, "per_class": 4, "width": 8, **shape})
    text = dataclasses.replace(shots.text, scale=3.0, has_words=has_words)
    if not has_words:
        text = dataclasses.replace(text, embeddings=torch.zeros_like(text.embeddings))
    return dataclasses.replace(shots, text=text)


def log_odds(scores, label):
    others = torch.cat([scores[:, :label], scores[:, label + 1 :]], dim=1)
    return scores[:, label] - others.logsumexp(1)


@pytest.mark.parametrize("has_words", [True, False])
def test_p_values_are_those_of_regressions_that_are_solved_anew_for_every_image_class_and_shot(
    made_up, monkeypatch, has_words
):
    monkeypatch.setattr(full_conformal, "_MOST_NUMBERS", 250)  # two images at once
    shots, images = shots_of(made_up, has_words), unit(5, 8, seed=5)
    shots = shots.subset(torch.arange(20) != 7)  # classes of different sizes
    found = FullConformal(shots).p_values(images)
    for first in (0, 1):
        classes = torch.arange(first, 5, 2)
        beta, penalty = full_conformal._chosen_beside(shots, classes)
        plain = ProKeR.solved(shots, beta, penalty).scores(images, shots.text)
        for label in classes.tolist():
            rows = (shots.labels == label).nonzero().flatten()
            for image, of_image in enumerate(log_odds(plain, label)):
                no_better = 0
                for row in rows:
                    features = shots.features.clone()
                    features[0, row] = images[image]
                    head = ProKeR.solved(dataclasses.replace(shots, features=features), beta, penalty)
                    of_shot = log_odds(head.scores(shots.features[0, row, None], shots.text), label)
                    no_better += bool(of_shot <= of_image)
                assert found[image, label] == pytest.approx((1 + no_better) / (1 + len(rows)))


def test_an_image_that_is_one_of_the_shots_fits_as_well_as_it_does(made_up):
    shots = shots_of(made_up)
    p_values = FullConformal(shots).p_values(shots.features[0])
    assert (p_values[np.arange(20), shots.labels] >= 2 / 5).all()


def test_hyper_parameters_of_a_class_do_not_depend_on_its_shots(made_up):
    """Else the new image, which is in no choice, would not be exchangeable with them."""
    shots, classes = shots_of(made_up), torch.tensor([0, 2, 4])
    other = shots.features.clone()
    other[0, torch.isin(shots.labels, classes)] = unit(12, 8, seed=3)
    moved = dataclasses.replace(shots, features=other)
    assert full_conformal._chosen_beside(moved, classes) == full_conformal._chosen_beside(shots, classes)
    two = shots_of(made_up, classes=2)
    assert full_conformal._chosen_beside(two, torch.tensor([0])) == published(two)


def test_images_of_every_class_are_covered_as_stated_where_shots_and_images_are_drawn_alike(made_up, monkeypatch):
    """At 4 of 5 by 4 shots just so many, since no two fit alike: over 150 draws of shots and images."""
    monkeypatch.setattr(full_conformal, "_chosen_beside", lambda shots, classes: (1.7, 0.1))
    made, covered = shots_of(made_up, classes=3, per_class=5, width=4, noise=0.0), np.zeros(3)
    for draw in range(150):
        seen = functional.normalize(made.features[0] + unit(15, 4, seed=draw), dim=1)
        shots = dataclasses.replace(made, features=seen[None, :12], labels=made.labels[:12])
        covered += np.diag(FullConformal(shots).p_values(seen[12:])) > 0.2 + 1e-9
    assert (np.abs(covered / 150 - 0.8) < 3 * np.sqrt(0.8 * 0.2 / 150)).all(), covered / 150


def test_a_set_has_the_classes_above_what_may_be_missed_and_the_most_probable_one():
    p_values = np.array([[0.1, 0.2, 0.5], [0.1, 0.1, 0.1]])
    sets = GuaranteedSets(lambda embeddings: p_values, np.array([9, 9, 1]), 0.9)
    table = np.array([[0.2, 0.3, 0.5], [0.2, 0.7, 0.1]])
    assert sets.members(table, lambda: torch.zeros(2, 1)).tolist() == [[False, True, True], [False, True, False]]


@pytest.mark.parametrize(
    ("coverage", "facts"),
    [
        (0.95, ("coverage is 0.95", "16 shots", "at most 0.941", "19 shots")),
        (90.0, ("coverage is 90.0", "between 0 and 1")),
    ],
)
def test_what_cannot_be_guaranteed_is_refused(coverage, facts):
    with refused(InputError, *facts):
        GuaranteedSets(lambda embeddings: embeddings, np.array([16, 3]), coverage)


def test_more_shots_than_each_image_can_be_compared_with_are_refused(made_up, monkeypatch):
    monkeypatch.setattr(full_conformal, "MOST_CHOSEN_WITH", 19)
    with refused(InputError, "20 shots", "at most 19"):
        FullConformal(shots_of(made_up))

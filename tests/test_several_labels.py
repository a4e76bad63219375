"""Several labels an image: what is held out, offsets, average precision, and what is saved."""

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, label_ranking_average_precision_score

from lowshot.errors import InputError
from lowshot.evaluation import presence_of, several_measures
from lowshot.several_labels import Presence, average_precisions, dealt, ranking_precisions, solved_offsets
from refusing import refused


def made_up(images=60, classes=4, seed=0, ties=False):
    """Scores that know something of the truth, and the truth."""
    generator = np.random.default_rng(seed)
    shown = (generator.random((images, classes)) < np.linspace(0.1, 0.6, classes)).astype(np.int64)
    scores = 4 * shown + generator.normal(0, 3, shown.shape) + np.linspace(20, 30, classes)
    return np.round(scores) if ties else scores, shown


@pytest.mark.parametrize("ties", [False, True])
def test_measures_are_those_of_scikit_learn(ties):
    scores, shown = made_up(ties=ties)
    shown[:, 2] = 0
    present = scores > 24
    present[:, 3] = shown[:, 3]
    figures = several_measures(scores, shown, present)
    precisions = [average_precision_score(shown[:, c], scores[:, c]) for c in (0, 1, 3)]
    assert figures["class_ap"] == pytest.approx([*precisions[:2], None, precisions[2]])
    assert figures["map"] == pytest.approx(np.mean(precisions))
    assert figures["micro_f1"] == pytest.approx(f1_score(shown, present, average="micro"))
    assert figures["macro_f1"] == pytest.approx(f1_score(shown, present, average="macro", zero_division=np.nan))
    assert figures["exact_match"] == pytest.approx((shown == present).all(1).mean())
    nobody = np.zeros_like(present)
    assert several_measures(scores, np.zeros_like(shown), nobody)["macro_f1"] == 0.0
    assert several_measures(scores, np.zeros_like(shown), nobody)["exact_match"] == 1.0
    for wrong in ((scores[:0], shown[:0], present[:0]), (scores, shown[:1], present)):
        with pytest.raises(ValueError, match=r"shapes are|no images"):
            several_measures(*wrong)


def test_a_class_that_no_image_shows_has_no_average_precision():
    scores, shown = made_up(images=6)
    assert average_precisions(scores, np.zeros_like(shown)) == [None] * 4


@pytest.mark.parametrize("ties", [False, True])
def test_the_ranking_of_an_images_labels_is_scikit_learns(ties):
    scores, shown = made_up(ties=ties)
    shown[0] = 0
    found = ranking_precisions(scores, shown)
    assert np.isnan(found[0])
    with_labels = shown.sum(1) > 0
    expected = label_ranking_average_precision_score(shown[with_labels], scores[with_labels])
    assert found[with_labels].mean() == pytest.approx(expected)


def test_offsets_give_each_class_the_frequency_that_it_has():
    scores, shown = made_up()
    shown[:, 0] = 0
    offsets = solved_offsets(scores, shown)
    likely = 1 / (1 + np.exp(-(scores + offsets)))
    np.testing.assert_allclose(likely.mean(0), (shown.sum(0) + 0.5) / 61, atol=1e-9)
    assert np.isfinite(offsets).all()


@pytest.mark.parametrize("parts", [2, 4])
def test_each_part_has_its_share_and_the_only_image_of_a_class_is_in_none(parts):
    _, shown = made_up()
    shown[:, 0] = 0
    shown[7, 0] = 1
    part = dealt(shown, parts)
    assert part[7] == -1 and (part[np.arange(60) != 7] >= 0).all()
    sizes = np.bincount(part[part >= 0])
    assert len(sizes) == parts and sizes.max() - sizes.min() <= 1
    rarest = shown[:, 1:].sum(0).argmin() + 1
    shares = np.bincount(part[(shown[:, rarest] == 1) & (part >= 0)], minlength=parts)
    assert shares.max() - shares.min() <= 1


def test_probabilities_of_held_out_images_are_as_sure_as_they_may_be():
    """Scores times any number, plus any number for each class, say the same."""
    scores, shown = made_up(1000)
    one = presence_of(scores, shown, 4)
    other = presence_of(0.01 * scores + np.arange(4), shown, 4)
    assert one.slope == pytest.approx(0.01 * other.slope, rel=1e-3)
    assert one.thresholds == pytest.approx(other.thresholds, abs=1e-3)
    likely = 1 / (1 + np.exp(-(one.slope * scores + one.offsets)))
    for low in (0.1, 0.4, 0.7):  # among those called as likely as that, as many are shown
        some = (likely > low) & (likely < low + 0.2)
        assert shown[some].mean() == pytest.approx(likely[some].mean(), abs=0.06)


def test_thresholds_give_each_class_the_largest_f1():
    """Of calibrated probabilities: on others of the same kind no other threshold is much better."""
    presence = presence_of(*made_up(1200), 4)
    scores, shown = made_up(1200, seed=1)
    likely = 1 / (1 + np.exp(-(presence.slope * scores + presence.offsets)))
    for label in range(4):
        best = max(f1_score(shown[:, label], likely[:, label] > low) for low in np.linspace(0.1, 0.9, 9))
        assert f1_score(shown[:, label], presence.present(likely)[:, label]) > best - 0.03
    assert presence.thresholds[0] < presence.thresholds[3] <= 0.5


def test_images_that_are_all_told_apart_have_finite_probabilities():
    _, shown = made_up()
    presence = presence_of(10.0 * shown, shown, 2)
    assert all(map(math.isfinite, (presence.slope, *presence.offsets)))
    assert (presence.present(1 / (1 + np.exp(-(presence.slope * 10.0 * shown + presence.offsets)))) == shown).all()


def test_what_is_saved_is_read_strictly():
    presence = presence_of(*made_up(), 4)
    values = presence.to_dict()
    assert Presence.from_dict(values, 4) == presence
    for name, wrong in (
        ("folds", 1),
        ("images", -1),
        ("slope", 0.0),
        ("slope", math.inf),
        ("offsets", [0.0] * 3),
        ("offsets", [0.0, 0.0, 0.0, math.nan]),
        ("thresholds", [0.5, 0.5, 0.5, 1.0]),
        ("thresholds", "0.5"),
        ("more", 1),
    ):
        with refused(InputError, "presence", "4 classes"):
            Presence.from_dict({**values, name: wrong}, 4)
    with pytest.raises(InputError, match="presence"):
        Presence.from_dict({}, 4)

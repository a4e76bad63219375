import dataclasses
import json

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lowshot.calibration import Calibration
from lowshot.data import Examples
from lowshot.errors import DataError, InputError, RunError
from lowshot.evaluation import calibration, fold_of_each
from lowshot.evaluation.calibration import calibrated, fitted_temperature, held_out_scores
from lowshot.progress import silent
from lowshot.training import TrainingOutcome
from lowshot.training.company import member_here
from refusing import refused

labellings = st.lists(st.integers(0, 5), min_size=2, max_size=60).map(np.asarray)


def softmax(scores):
    exact = np.exp(scores - scores.max(1, keepdims=True))
    return exact / exact.sum(1, keepdims=True)


def drawn(count=6000, classes=5, seed=0):
    """Class scores, and labels that are drawn with the probabilities that they give."""
    generator = np.random.default_rng(seed)
    scores = generator.normal(scale=2, size=(count, classes))
    sums = softmax(scores).cumsum(1)
    return scores, (sums < generator.random((count, 1))).sum(1)


@given(labellings, st.integers(2, 8))
def test_every_class_and_every_fold_has_its_equal_share_held_out(labels, folds):
    counts = np.bincount(labels)
    several = counts[labels] > 1
    assume(several.sum() >= folds)
    fold_of = fold_of_each(labels, folds)
    np.testing.assert_array_equal(fold_of >= 0, several)  # the only image of a class is always learnt from
    assert np.ptp(np.bincount(fold_of[several], minlength=folds)) <= 1
    for label in set(labels[several].tolist()):
        assert np.ptp(np.bincount(fold_of[labels == label], minlength=folds)) <= 1
        for fold in range(folds):
            assert (fold_of[labels == label] != fold).any()  # no fold has to do without a class


@pytest.mark.parametrize(
    ("labels", "folds", "facts"),
    [
        ([0, 1, 2], 2, ("more than one", "2 shots", "calibration-folds")),
        ([0, 0, 1, 1, 2], 5, ("calibration-folds is 5", "at most 4")),
    ],
)
def test_folds_that_cannot_be_are_refused(labels, folds, facts):
    with refused(DataError, *facts):
        fold_of_each(np.array(labels), folds)


@pytest.mark.parametrize("scale", [0.01, 0.25, 0.5, 1.0, 2.0, 6.0, 230.0, 40_000.0])
def test_the_temperature_of_scaled_scores_is_found(scale):
    """1 where they are calibrated already."""
    scores, labels = drawn()
    assert fitted_temperature(scores * scale, labels) == pytest.approx(scale, rel=0.05)


@given(st.integers(0, 50), st.floats(0.2, 5))
def test_no_other_temperature_has_a_better_likelihood(seed, scale):
    scores, labels = drawn(60, 4, seed)
    scores = scores * scale
    assume((scores.argmax(1) != labels).any())

    def likelihood(temperature):
        return np.log(softmax(scores / temperature)[np.arange(len(labels)), labels]).mean()

    best = fitted_temperature(scores, labels)
    others = np.geomspace(0.05, calibration.LARGEST_TEMPERATURE, 400)
    assert likelihood(best) >= max(map(likelihood, others)) - 1e-9


def test_log_probabilities_have_the_temperature_of_the_scores():
    scores, labels = drawn(500)
    assert fitted_temperature(np.log(softmax(3 * scores)), labels) == pytest.approx(
        fitted_temperature(3 * scores, labels), rel=1e-4
    )


def test_without_a_mistake_nothing_is_made_surer():
    scores, _ = drawn(50)
    assert fitted_temperature(scores, scores.argmax(1)) == 1.0


def test_scores_that_know_nothing_have_the_largest_temperature_and_not_an_endless_one():
    scores, _ = drawn(50)
    found = calibrated(scores, scores.argmin(1), 4)
    assert found.temperature == pytest.approx(calibration.LARGEST_TEMPERATURE, rel=1e-3)
    assert found.knows_nothing
    assert not calibrated(*drawn(50), 4).knows_nothing


def test_scores_are_kept_at_the_temperature():
    scores, labels = drawn(400)
    found = calibrated(4 * scores, labels, 5)
    expected = np.sort(1 - softmax(4 * scores / found.temperature)[np.arange(400), labels])
    np.testing.assert_allclose(found.scores, expected, atol=2e-6)
    assert found.folds == 5
    assert found.right == (scores.argmax(1) == labels).sum()
    assert found.temperature == pytest.approx(4, rel=0.2)


def test_a_calibration_survives_json():
    found = calibrated(*drawn(30), 3)
    values = json.loads(json.dumps(found.to_dict()))
    assert values["images"] == 30
    assert Calibration.from_dict(values) == found


@pytest.mark.parametrize(
    "change",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"folds": 1},
        {"folds": True},
        {"scores": [0.5, 0.25]},
        {"scores": [0.1, 1.5]},
        {"scores": ["a", "b"]},
        {"scores": "ab"},
        {"scores": []},
        {"images": 3},
        {"right": 3},
        {"right": -1},
        {"right": True},
        {"surprise": 1},
    ],
    ids=str,
)
def test_what_is_no_calibration_is_refused(change):
    values = {"folds": 2, "temperature": 1.5, "scores": [0.25, 0.5], "images": 2}
    assert Calibration.from_dict(values).right is None  # as it was written before this was kept
    assert Calibration.from_dict({**values, "right": 2}).right == 2
    with refused(InputError, "calibration", "temperature"):
        Calibration.from_dict({**values, **change})
    for name in values:
        with refused(InputError, "calibration", "temperature"):
            Calibration.from_dict({key: value for key, value in values.items() if key != name})


LABELS = np.array([0] * 5 + [1] * 5 + [2] * 1 + [3] * 4)
EXAMPLES = Examples(
    [np.full((2, 2, 3), i, np.uint8) for i in range(15)], LABELS, tuple(f"image {i}" for i in range(15))
)


@dataclasses.dataclass
class Fake:
    """A learner that notes what it learns from."""

    trainable_parameters: int = 1
    stopped: str = ""
    fitted: tuple | None = None

    def fit(self, examples, shots, track, checkpoint=None, contents=()):
        self.fitted = examples, shots, checkpoint, contents
        list(track(range(3), what="training", total=3))
        return TrainingOutcome(steps=3, stopped=self.stopped)


@pytest.fixture
def scored(monkeypatch):
    """(learner, identities of the images it scored) of each scoring."""
    seen = []

    def class_scores(learner, images, *, track):
        numbers = [int(images[i][0, 0, 0]) for i in range(len(images))]
        seen.append((learner, [f"image {number}" for number in numbers]))
        return np.log(np.tile([0.4, 0.3, 0.2, 0.1], (len(images), 1))).astype(np.float32)

    monkeypatch.setattr(calibration, "class_scores", class_scores)
    return seen


def test_no_image_is_scored_by_a_classifier_that_learnt_from_it(scored, tmp_path):
    fold_of, contents = fold_of_each(LABELS, 3), [f"hash {i}" for i in range(15)]
    file = tmp_path / "run.training.safetensors"
    table, labels = held_out_scores(Fake, EXAMPLES, fold_of, track=silent, checkpoint=file, contents=contents)
    assert (table.shape, len(scored)) == ((14, 4), 3)
    together = [identity for _, identities in scored for identity in identities]
    assert sorted(together) == sorted(f"image {i}" for i in range(15) if i != 10)
    np.testing.assert_array_equal(labels, [LABELS[int(identity.split()[1])] for identity in together])
    for number, (learner, identities) in enumerate(scored, start=1):
        examples, shots, checkpoint, learnt = learner.fitted
        assert not set(examples.identities) & set(identities)
        assert set(examples.identities) | set(identities) == set(EXAMPLES.identities)
        assert shots == np.bincount(examples.labels).max() < 5
        assert [text.removeprefix("hash ") for text in learnt] == [name.split()[1] for name in examples.identities]
        assert checkpoint == tmp_path / f"run.training.fold-{number}.safetensors"


@pytest.mark.parametrize(("asked", "apart"), [({}, False), ({"together": 1}, False), ({"together": None}, True)])
def test_folds_are_side_by_side_only_where_they_are_to_be_together(scored, asked, apart):
    members = []

    def fresh():
        members.append(member_here())
        return Fake()

    held_out_scores(fresh, EXAMPLES, fold_of_each(LABELS, 3), track=silent, **asked)
    assert [member is not None for member in members] == [apart] * 3


def test_a_method_that_learns_nothing_scores_all_shots_at_once(scored):
    scores, labels = held_out_scores(Fake, EXAMPLES, None, track=silent)
    [(learner, identities)] = scored
    assert identities == list(EXAMPLES.identities)
    assert learner.fitted is None
    assert len(scores) == len(labels) == 15


def test_progress_says_which_fold_it_is_of(scored):
    seen = []

    def track(items, /, *, what, total):
        seen.append((what, total))
        yield from items

    held_out_scores(Fake, EXAMPLES, fold_of_each(LABELS, 2), track=track)
    assert seen == [("fold 1 of 2: training", 3), ("fold 2 of 2: training", 3)]


def test_a_fold_that_diverges_is_named(scored):
    def fresh():
        return Fake(stopped="training diverged at step 2 of 3" if scored else "")

    with refused(RunError, "fold 2 of 3", "step 2 of 3"):
        held_out_scores(fresh, EXAMPLES, fold_of_each(LABELS, 3), track=silent)

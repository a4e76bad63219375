"""Images of none of the classes: the score of belonging, the rule that decides by it, and what a fit learns of them."""

import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot import FewShotClassifier
from lowshot.belonging import BELONGING_FILE, RIDGE, Belonging, Gaussians, HeldOutBelonging, pooled
from lowshot.data import Examples, Task
from lowshot.errors import AdapterError, DataError, InputError, NotFittedError
from lowshot.evaluation import BelongingEvidence, accepted_share, roc_area
from lowshot.evaluation.belonging import WEIGHTS
from lowshot.fitting.belonging import refuse_reject
from lowshot.settings import preset_recipe
from refusing import refused

COLOURS = ("blue", "green", "red", "white")
LEVELS = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0], [1, 1, 1]])


def pictures(count, seed=0):
    """Noisy pictures of a colour each, and their labels."""
    generator = np.random.default_rng(seed)
    numbers = np.arange(count) % len(COLOURS)
    noise = generator.integers(0, 60, (count, 20, 20, 3))
    return list((noise + 180 * LEVELS[numbers][:, None, None]).astype(np.uint8)), [COLOURS[n] for n in numbers]


def strangers(count, seed=9):
    """Chequered pictures."""
    generator = np.random.default_rng(seed)
    board = 255 * ((np.indices((20, 20)).sum(0) // 3) % 2)[None, :, :, None]
    return list(np.clip(board + generator.integers(0, 60, (count, 20, 20, 3)), 0, 255).astype(np.uint8))


def embeddings(count, classes, width=12, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    means = generator.normal(size=(classes, width))
    rows = means[labels] + 0.5 * generator.normal(size=(count, width)) * np.linspace(0.2, 2, width)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


@pytest.mark.parametrize("count", [8, 60])  # fewer images than numbers of an embedding, and more
def test_the_ratio_is_the_relative_mahalanobis_distance(count):
    rows, labels = embeddings(count, 4)
    images, _ = embeddings(7, 4, seed=1)
    exact = rows.astype(np.float64)
    means = np.stack([exact[labels == label].mean(0) for label in range(4)])

    def distances(points, centred):
        covariance = centred.T @ centred / len(centred)
        ridge = RIDGE * np.trace(covariance) / len(covariance)
        precision = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
        apart = images[:, None] - points
        return np.einsum("bpi,ij,bpj->bp", apart, precision, apart)

    centre = exact.mean(0)
    expected = distances(centre[None], exact - centre)[:, 0] - distances(means, exact - means[labels]).min(1)
    ratio = Gaussians.of(rows, labels, 4).ratio(torch.from_numpy(images))
    np.testing.assert_allclose(ratio.numpy(), expected, rtol=1e-3, atol=1e-3)


def test_images_that_are_all_alike_give_numbers():
    rows = np.ones((6, 4), dtype=np.float32) / 2
    ratio = Gaussians.of(rows, np.arange(6) % 2, 2).ratio(torch.from_numpy(rows))
    assert ratio.isfinite().all()


def test_several_embeddings_of_an_image_count_as_their_mean():
    several = torch.nn.functional.normalize(torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert torch.equal(pooled(several[:, 0]), several[:, 0])
    assert torch.allclose(pooled(several).norm(dim=-1), torch.ones(3))


@given(st.lists(st.integers(-5, 5), min_size=20, max_size=40), st.sampled_from([0.05, 0.1, 0.25, 0.9]))
def test_of_exchangeable_scores_no_larger_share_is_turned_away_than_stated(scores, reject):
    """Each of n + 1 scores is the new one once: the guarantee is one over these draws, ties or not."""
    away = 0
    for place, score in enumerate(scores):
        others = tuple(sorted(map(float, scores[:place] + scores[place + 1 :])))
        held_out = HeldOutBelonging(reject, 0.5, (1.0, 1.0), others)
        [p_value] = held_out.p_values(np.array([score], dtype=np.float32))
        assert p_value == (1 + sum(other <= score for other in others)) / len(scores)
        away += held_out.none_of_these(p_value)
    assert away <= reject * len(scores) + 1e-9


@pytest.mark.parametrize(
    ("share", "images", "facts"), [(0.05, 18, ("18", "no less than 0.053")), (1.5, 100, ("1.5", "above 0"))]
)
def test_shares_that_the_held_out_images_do_not_allow_are_refused(share, images, facts):
    with refused(InputError, *facts):
        HeldOutBelonging(share, 0.5, (1.0, 1.0), tuple(map(float, range(images))))
    HeldOutBelonging(0.05, 0.5, (1.0, 1.0), tuple(map(float, range(19))))


def evidence_of(rows, labels, cosines, classes):
    evidence = BelongingEvidence(classes)
    for fold in range(2):
        held = np.arange(len(rows)) // classes % 2 == fold
        of_held = None if cosines is None else cosines[held]
        evidence.add(rows[~held], labels[~held], rows[held], labels[held], of_held)
    return evidence


def test_prompts_weigh_what_they_tell_of_classes_that_were_left_out():
    rows, labels = embeddings(160, 8)
    generator = np.random.default_rng(3)
    noise = generator.normal(size=(160, 8)).astype(np.float32)
    telling = np.where(np.eye(8, dtype=bool)[labels], 1.0, 0.0).astype(np.float32) + 0.01 * noise
    weights = [evidence_of(rows, labels, table, 8).told(0.05).weight for table in (telling, noise)]
    assert weights[0] >= 0.5 > weights[1]


@pytest.mark.parametrize(("classes", "words", "weight"), [(3, True, WEIGHTS[0]), (8, False, 0.0)])
def test_where_there_is_nothing_to_choose_by_there_is_no_choice(classes, words, weight):
    rows, labels = embeddings(60, classes)
    told = evidence_of(rows, labels, rows[:, :classes] if words else None, classes).told(0.1)
    assert (told.weight, len(told.scores)) == (weight, 60)
    assert list(told.scores) == sorted(told.scores)


def test_the_area_and_the_accepted_share_are_those_of_all_pairs():
    generator = np.random.default_rng(0)
    known, unknown = generator.integers(0, 9, 40) + 2.0, generator.integers(0, 9, 30) * 1.0
    pairs = np.sign(known[:, None] - unknown[None]) / 2 + 0.5
    assert roc_area(known, unknown) == pytest.approx(pairs.mean())
    assert np.isnan(roc_area(known, unknown[:0]))
    least = max(level for level in known if (known >= level).mean() >= 0.95)
    assert accepted_share(known, unknown) == (unknown >= least).mean()


@pytest.fixture(scope="module")
def telling(tiny_clip):
    return FewShotClassifier(str(tiny_clip), method="gda", reject=0.05).fit(*pictures(40))


def test_images_unlike_all_shots_are_of_none_of_these(telling):
    known, _ = pictures(40, seed=5)
    assert telling.none_of_these(strangers(8)).all()
    assert telling.none_of_these(known).mean() < 0.2
    p_values = telling.p_values(known)
    assert ((p_values > 0) & (p_values <= 1)).all()
    assert (telling.none_of_these(known) == (p_values <= 0.05)).all()
    assert telling.p_values([]).shape == (0,)


def test_the_share_that_may_be_turned_away_decides(telling):
    more = FewShotClassifier(**{**telling.get_params(), "reject": 0.5}).fit(*pictures(40))
    known, _ = pictures(40, seed=5)
    assert more.none_of_these(known).sum() > telling.none_of_these(known).sum()
    np.testing.assert_array_equal(more.p_values(known), telling.p_values(known))


def test_it_changes_no_prediction_and_is_not_learnt_unasked(telling, tiny_clip):
    images, _ = pictures(12, seed=3)
    plain = FewShotClassifier(str(tiny_clip), method="gda").fit(*pictures(40))
    np.testing.assert_array_equal(plain.predict_proba(images), telling.predict_proba(images))
    assert "belonging" not in plain.record_.to_dict()
    assert not plain.tells_none
    for ask in (lambda: plain.p_values(images), lambda: plain.evaluate("digits", unknown=images)):
        with refused(InputError, "not learnt", "reject"):
            ask()
    with pytest.raises(NotFittedError):
        FewShotClassifier().none_of_these(images)


def test_saved_loaded_and_pickled_it_tells_the_same(telling, tmp_path):
    telling.save_pretrained(tmp_path / "adapter")
    images = [*pictures(8, seed=2)[0], *strangers(2)]
    for copy in (FewShotClassifier.from_pretrained(tmp_path / "adapter"), pickle.loads(pickle.dumps(telling))):
        np.testing.assert_array_equal(copy.p_values(images), telling.p_values(images))
        assert copy.record_ == telling.record_
    assert "is said to be none of these" in (tmp_path / "adapter" / "README.md").read_text()


def test_streamed_judgements_are_the_same_one_by_one(telling):
    images = [*pictures(8, seed=2)[0], *strangers(2)]
    streamed = list(telling.stream_judgements(images))
    np.testing.assert_allclose([each.p_value for each in streamed], telling.p_values(images), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"spreads": [1.0, 0.0]}, ("belonging", "spreads")),
        ({"scores": [1.0]}, ("1", "no less")),
        (None, (BELONGING_FILE,)),
    ],
    ids=str,
)
def test_damaged_parts_are_refused(telling, tmp_path, change, facts):
    telling.save_pretrained(tmp_path / "adapter")
    if change is None:
        (tmp_path / "adapter" / BELONGING_FILE).write_bytes(b"nothing")
    else:
        file = tmp_path / "adapter" / "lowshot.json"
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "belonging": {**record["belonging"], **change}}))
    with refused(AdapterError, *facts):
        FewShotClassifier.from_pretrained(tmp_path / "adapter")


def test_evaluation_tells_known_images_from_others(telling):
    images, labels = pictures(40, seed=4)
    numbers = np.array([COLOURS.index(label) for label in labels])
    test = Examples(images, numbers, tuple(map(str, range(40))))
    task = Task("colours", COLOURS, train=test, test=test)
    told = telling.evaluate(task, unknown=strangers(10))["unknown"]
    assert (told["images"], told["reject"], told["turned_away"]) == (10, 0.05, 1.0)
    assert told["auroc"] > 0.95
    assert told["known_turned_away"] == telling.none_of_these(images).mean()
    assert telling.record_.metrics["unknown"] == told
    with pytest.raises(DataError, match="no unknown images"):
        telling.evaluate(task, unknown=[])
    with pytest.raises(InputError, match="leave it out"):
        telling.evaluate(task, unknown=images, new_classes=True)


@pytest.fixture(scope="module")
def quick(tiny_clip):
    return {"model": str(tiny_clip), "rank": 4, "base_steps": 3, "steps_per_shot": 0, "learning_rate": 1e-3}


def test_a_method_that_trains_the_towers_tells_by_the_folds_of_its_calibration(quick, tmp_path):
    with refused(InputError, "calibration-folds is 0", "calibration-folds 4"):
        FewShotClassifier(method="lora", **quick, reject=0.1).fit(*pictures(24))
    classifier = FewShotClassifier(method="lora", **quick, reject=0.1, calibration_folds=2).fit(*pictures(24))
    assert len(classifier.record_.belonging["scores"]) == len(classifier.record_.calibration["scores"]) == 24
    assert classifier.none_of_these(strangers(4)).all()
    classifier.save_pretrained(tmp_path / "adapter")
    images, _ = pictures(8, seed=2)
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    np.testing.assert_array_equal(loaded.p_values(images), classifier.p_values(images))


def test_a_method_of_several_embeddings_tells_too(tiny_clip):
    settings = {"model": str(tiny_clip), "base_steps": 2, "steps_per_shot": 0, "context": 2}
    classifier = FewShotClassifier(method="plot++", **settings, reject=0.1, calibration_folds=2).fit(*pictures(24))
    assert classifier.p_values(strangers(3)).shape == (3,)


@pytest.mark.parametrize("method", ["zero-shot", "auto"])
def test_what_learns_nothing_or_chooses_tells_too(tiny_clip, method):
    settings = {} if method == "zero-shot" else {"time_budget": 20.0}
    classifier = FewShotClassifier(str(tiny_clip), method=method, **settings, reject=0.1).fit(*pictures(24))
    assert len(classifier.record_.belonging["scores"]) == 24
    assert len(classifier.record_.learnt) == 24  # they do not count as unseen


@pytest.mark.parametrize(
    ("count", "names", "error", "facts"),
    [
        (4, "abcd", DataError, ("reject", "one image", "2 shots")),
        (12, "abcdefghijkl", InputError, ("12 held-out images", "no less than 0.077")),
        (8, "aabbccdd", DataError, ("reject", "several times")),
    ],
)
def test_too_few_shots_are_refused(count, names, error, facts):
    images, labels = pictures(count)
    numbers = np.array([COLOURS.index(label) for label in labels])
    recipe = preset_recipe("paper", "gda").replace(reject=0.05)
    with refused(error, *facts):
        refuse_reject(SimpleNamespace(recipe=recipe, examples=Examples(images, numbers, tuple(names))))


def test_scores_on_another_precision_are_numbers(telling):
    belonging = Belonging(telling.belonging.gaussians, telling.belonging.held_out)
    images = torch.nn.functional.normalize(torch.eye(3, belonging.gaussians.centre.numel()), dim=-1).half()
    assert belonging.scores(images, None).dtype == torch.float32

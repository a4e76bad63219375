"""What every head must do, with embeddings that are made up."""

import dataclasses
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lowshot.errors import InputError, RunError
from lowshot.heads import (
    HEADS,
    Shots,
    blank_tensors,
    gda,
    left_out,
    linear_probe,
    lp_plus_plus,
    proker,
    tensors_of,
    tip_adapter,
    trained_numbers,
)
from lowshot.heads.cross_validation import choose, held_out, parts_of
from lowshot.progress import UNREPORTED
from lowshot.training.memory import memory_use
from refusing import refused

from .conftest import SCHEDULE, unit

TRAINED = {"tip-adapter-f", "clip-adapter", "task-res"}
"""By gradient descent over batches."""
DECIDED = {"tip-adapter", "gda", "proker", "linear-probe"}
"""A hyper-parameter is chosen on the shots."""
every = pytest.mark.parametrize("method", HEADS)


def fit(method, shots, **schedule):
    return HEADS[method].fit(shots, dataclasses.replace(SCHEDULE, **schedule), UNREPORTED)


@every
def test_it_recognises_images_that_it_has_not_seen(made_up, method):
    shots, others = made_up(classes=5, per_class=8, width=12), made_up(classes=5, per_class=40, views=1, width=12)
    head = fit(method, shots).head
    images = others.features[0][40:]  # the first are the shots' own noise
    scores = head.scores(images, shots.text)
    assert scores.shape == (160, 5)
    assert scores.dtype == torch.float32
    assert scores.isfinite().all()
    right = (scores.argmax(1) == others.labels[40:]).float().mean()
    plain = (shots.text.logits(images).argmax(1) == others.labels[40:]).float().mean()
    assert right > plain
    assert right > 0.75


@every
def test_the_same_shots_give_the_same_head_to_the_last_bit(made_up, method):
    one, other = (tensors_of(fit(method, made_up()).head) for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)


@every
@pytest.mark.parametrize("per_class", [1, 2, 3])
def test_few_images_are_enough_and_what_was_not_chosen_is_said(made_up, method, per_class):
    made = fit(method, made_up(per_class=per_class))
    assert made.head.scores(unit(3, 6, seed=9), made_up().text).isfinite().all()
    alone = "one image of each class leaves none to hold out: "
    assert [note.startswith(alone) for note in made.notes] == [True] * (per_class == 1 and method in DECIDED)
    assert bool(made.chosen) == (method in DECIDED)


@every
def test_its_tensors_are_those_it_declares(made_up, method):
    shots = made_up(classes=4, per_class=3, views=2, width=6)
    made = fit(method, shots)
    tensors = tensors_of(made.head)
    declared = blank_tensors(HEADS[method], classes=4, width=6, images=12, views=2)
    assert {n: (t.shape, t.dtype) for n, t in tensors.items()} == {n: (t.shape, t.dtype) for n, t in declared.items()}
    assert not any(tensor.requires_grad for tensor in tensors.values())
    expected = {"linear-probe": 4 * 6 + 4, "lp++": 4 * 6 + 4, "tip-adapter-f": 72, "clip-adapter": 12, "task-res": 24}
    assert trained_numbers(HEADS[method], tensors) == expected.get(method, 0)
    assert (made.steps > 0) == (method in expected)
    assert (made.final_loss is not None) == (method in TRAINED | {"lp++"})


@every
def test_a_permutation_of_the_classes_permutes_the_scores(made_up, method):
    shots, order = made_up(seed=1), torch.tensor([2, 0, 3, 1])
    text = dataclasses.replace(shots.text, embeddings=shots.text.embeddings[order], lengths=shots.text.lengths[order])
    renamed = dataclasses.replace(shots, labels=order.argsort()[shots.labels], text=text)
    images = unit(5, 6, seed=1)
    found = fit(method, renamed).head.scores(images, text)
    torch.testing.assert_close(
        found, fit(method, shots).head.scores(images, shots.text)[:, order], atol=2e-3, rtol=1e-3
    )


@given(seed=st.integers(0, 100))
@settings(max_examples=3)
@pytest.mark.parametrize("method", sorted(set(HEADS) - TRAINED))
def test_the_order_of_the_images_does_not_matter_where_nothing_is_chosen_and_no_batches_are_drawn(
    made_up, method, seed
):
    """Folds are dealt in the order of the draw; so with one image of each class, of which there are none."""
    shots = made_up(per_class=1, views=3, seed=seed)
    turned = shots.subset(torch.randperm(4, generator=torch.Generator().manual_seed(seed)))
    images = unit(5, 6, seed=seed)
    found, expected = (fit(method, some).head.scores(images, shots.text) for some in (turned, shots))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


@every
def test_every_view_counts(made_up, method):
    shots = made_up(views=3)
    less = dataclasses.replace(shots, features=shots.features[:1])
    images = unit(5, 6, seed=9)
    found, expected = (fit(method, some).head.scores(images, shots.text) for some in (shots, less))
    assert not torch.allclose(found, expected, atol=1e-4)


@pytest.mark.slow
@every
def test_what_a_thousand_classes_take_is_bounded(made_up, method, monkeypatch):
    """1,000 classes of 16 images; few steps and one candidate, since the time is not what is asked."""
    monkeypatch.setattr(lp_plus_plus, "EPOCHS", 2)
    monkeypatch.setattr(tip_adapter, "EPOCHS", 1)
    monkeypatch.setattr(linear_probe, "MOST_STEPS", 1)
    for module in (tip_adapter, gda, linear_probe):
        monkeypatch.setattr(module, "CANDIDATES", module.CANDIDATES[:1])
    monkeypatch.setattr("lowshot.heads.clip_adapter.epochs_by_shots", lambda _: 1)
    monkeypatch.setattr("lowshot.heads.cross_validation.FOLDS", 2)
    monkeypatch.setattr(proker, "MOST_CHOSEN_WITH", 0)
    per_class = 4 if method == "proker" else 16  # 16,000 are solved for in 2 GB and a minute
    shots = made_up(classes=1000, per_class=per_class, views=1, width=8)
    if method == "task-res":  # 200 passes over fewer images
        shots = shots.subset(torch.arange(2000))
    with memory_use(torch.device("cpu")) as memory:
        scores = fit(method, shots).head.scores(shots.features[0][:256], shots.text)
    assert scores.shape == (256, 1000)
    assert scores.isfinite().all()
    assert memory.peak - memory.static < 900e6


def test_proker_refuses_what_it_cannot_solve_and_says_when_it_cannot_choose(made_up, monkeypatch):
    monkeypatch.setattr(proker, "MOST_ROWS", 20)
    with refused(InputError, "proker", 24, 20):
        fit("proker", made_up())
    monkeypatch.setattr(proker, "MOST_ROWS", 24)
    monkeypatch.setattr(proker, "MOST_CHOSEN_WITH", 20)
    made = fit("proker", made_up())
    assert made.chosen == {"beta": 2.6, "lambda": 0.05}  # for 2 images of each class: 3 have none of their own
    assert made.notes == (
        "24 embeddings are too many to choose with: proker takes its authors' beta 2.6 and lambda 0.05",
    )


def test_gda_without_any_spread_is_zero_shot_and_says_so(made_up):
    shots = made_up(per_class=1, views=1)
    made = fit("gda", shots)
    images = unit(5, 6, seed=9)
    assert torch.equal(made.head.scores(images, shots.text), shots.text.logits(images))
    assert "there is no covariance: gda judges as zero-shot" in made.notes[1]


@pytest.mark.parametrize("method", sorted(TRAINED))
def test_a_training_that_diverges_is_an_error_that_names_the_step(made_up, method):
    with refused(RunError, "smaller learning-rate") as refusal:
        fit(method, made_up(), learning_rate=float("inf"), weight_decay=0.0)
    assert re.search(r"loss is (nan|inf) at step \d+ of \d+", str(refusal.value))


@pytest.mark.parametrize("method", sorted(TRAINED))
def test_learning_rate_decay_batches_and_seed_are_obeyed(made_up, method):
    shots = made_up()
    usual = tensors_of(fit(method, shots).head)
    for change in (
        {"learning_rate": 3e-3},
        {"minimum_learning_rate": 5e-3},
        {"weight_decay": 0.5},
        {"batch_size": 5},
        {"seed": 2},
    ):
        other = tensors_of(fit(method, shots, **change).head)
        assert not all(torch.equal(usual[name], other[name]) for name in usual), change


@pytest.mark.parametrize("method", sorted(TRAINED))
def test_an_epoch_shows_every_image_once(made_up, method):
    taken = []

    class Report:
        def step(self, step):
            taken.append(step.images)

    shots = made_up()
    made = HEADS[method].fit(shots, dataclasses.replace(SCHEDULE, batch_size=5), Report())
    assert taken[:6] == [5, 10, 12, 17, 22, 24]
    assert made.steps == 3 * fit(method, shots).steps


@pytest.mark.parametrize("method", sorted(TRAINED | {"lp++"}))
def test_every_step_is_reported(made_up, method):
    taken = []

    class Report:
        def step(self, step):
            taken.append(step)

    made = HEADS[method].fit(made_up(), SCHEDULE, Report())
    assert [step.step for step in taken] == list(range(1, made.steps + 1))
    assert {step.steps for step in taken} == {made.steps}
    assert made.final_loss == pytest.approx(
        sum(step.loss for step in taken[-(made.steps // 10) :]) / (made.steps // 10)
    )
    assert made.final_loss < taken[0].loss


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("method", sorted(method for method, kind in HEADS.items() if "again" in vars(kind)))
def test_shots_that_are_left_out_are_scored_by_a_head_that_never_saw_them(made_up, method, views):
    """One of every class at a time, with all of its views; the hyper-parameters are those of all shots."""
    shots = made_up(classes=3, per_class=4, views=views, width=8).subset(torch.arange(11))
    images, made = unit(11, 8, seed=9), fit(method, shots)
    found, part = left_out(HEADS[method], shots, images, made.chosen)
    assert part.tolist() == [row // 3 for row in range(11)]
    for place in range(4):
        rows = torch.arange(11) // 3 == place
        head = HEADS[method].again(shots.subset(~rows), made.chosen)
        assert torch.equal(found[rows], head.scores(images[rows], shots.text))
    whole = HEADS[method].again(shots, made.chosen)
    assert all(torch.equal(tensors_of(whole)[name], tensor) for name, tensor in tensors_of(made.head).items())


def test_of_many_shots_several_of_a_class_are_left_out_at_a_time(made_up, monkeypatch):
    monkeypatch.setattr("lowshot.heads.cross_validation.MOST_PARTS", 2)
    shots = made_up(classes=2, per_class=4)
    learnt = []

    class Counts:
        @staticmethod
        def again(some, chosen):
            learnt.append((len(some.labels), chosen))
            return HEADS["nearest-mean"].again(some, chosen)

    left_out(Counts, shots, shots.features[0], {})
    assert learnt == [(4, {}), (4, {})]
    monkeypatch.setattr("lowshot.heads.cross_validation.MANY", 7)
    monkeypatch.setattr("lowshot.heads.cross_validation.FOLDS", 4)
    assert left_out(Counts, shots, shots.features[0], {})[1].max() == 3


def test_images_are_held_out_in_turn_and_lone_ones_never():
    labels = torch.tensor([0, 1, 0, 2, 0, 1])
    masks = torch.stack(list(held_out(parts_of(Shots(torch.zeros(1, 6, 2), labels, None), 5))))
    assert masks.int().sum(0).tolist() == [1, 1, 1, 0, 1, 1]
    assert masks.int().tolist() == [[1, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 0]]


def test_of_equal_candidates_the_first_is_chosen_and_no_held_out_image_is_learnt_from(made_up):
    shots = made_up(per_class=2)
    seen = []

    class Says:
        def __init__(self, right):
            self.right = right

        def scores(self, images, text):
            return text.logits(images) if self.right else -text.logits(images)

    def heads_of(learnt):
        seen.append(learnt.labels.tolist())
        return [Says(False), Says(True), Says(True)]

    assert choose("abc", heads_of, shots) == ("b", True)
    assert seen == [[0, 1, 2, 3], [0, 1, 2, 3]]
    assert choose("abc", heads_of, made_up(per_class=1)) == ("a", False)

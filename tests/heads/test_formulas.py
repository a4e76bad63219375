"""Each head against its formula written differently: loops, scikit-learn, torch's own layers and schedules."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.nn import functional

from lowshot.heads import Text, gda, lp_plus_plus
from lowshot.heads.clip_adapter import ClipAdapter
from lowshot.heads.gda import GaussianDiscriminant
from lowshot.heads.linear_probe import LinearProbe
from lowshot.heads.lp_plus_plus import LinearProbePlusPlus
from lowshot.heads.nearest_mean import NearestMean
from lowshot.heads.proker import ProKeR
from lowshot.heads.task_res import TaskRes
from lowshot.heads.tip_adapter import TipAdapter, TipAdapterF
from lowshot.progress import UNREPORTED

from .conftest import SCHEDULE, unit

IMAGES = unit(7, 6, seed=9)


def linear(inputs, outputs):
    """Torch's layer, without a draw from the global random state."""
    return nn.utils.skip_init(nn.Linear, inputs, outputs, bias=False)


def fitted(kind, shots, **schedule):
    return kind.fit(shots, dataclasses.replace(SCHEDULE, **schedule), UNREPORTED).head


def views_of(shots):
    return shots.features.flatten(0, 1).numpy().astype(np.float64), shots.labels.repeat(len(shots.features)).numpy()


def test_nearest_mean_by_hand():
    """Two classes on the axes: 3, 4 and the like have cosines that can be read off."""
    features = torch.tensor([[[1.0, 0.0], [0.8, 0.6], [0.8, -0.6], [0.0, 1.0]]])
    shots = dataclasses.replace(shots_of(features, [0, 0, 0, 1]), text=Text(torch.eye(2), 10.0, torch.ones(2)))
    head = fitted(NearestMean, shots)
    torch.testing.assert_close(head.means, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    scores = head.scores(torch.tensor([[0.6, 0.8]]), shots.text)
    torch.testing.assert_close(scores, torch.tensor([[6.0, 8.0]]))


def shots_of(features, labels):
    from lowshot.heads import Shots

    classes = max(labels) + 1
    return Shots(features, torch.tensor(labels), Text(torch.eye(classes), 10.0, torch.ones(classes)))


def test_tip_adapter_is_equations_3_and_4(made_up):
    shots = made_up()
    head = TipAdapter.cache(shots, alpha=1.7, beta=2.3)
    found = head.scores(IMAGES, shots.text).numpy()
    keys = shots.features.mean(0).numpy()
    keys /= np.linalg.norm(keys, axis=1, keepdims=True)
    for image, row in zip(IMAGES.numpy(), found, strict=True):
        for label in range(shots.classes):
            cached = sum(
                np.exp(-2.3 * (1 - image @ key))
                for key, of in zip(keys, shots.labels.tolist(), strict=True)
                if of == label
            )
            assert row[label] == pytest.approx(
                30 * image @ shots.text.embeddings[label].numpy() + 1.7 * cached, abs=1e-4
            )


def test_gda_is_scikit_learns_discriminant_analysis_of_that_shrinkage(made_up):
    """The ridge estimator is the shrinkage D / (n - 1 + D) of the pooled covariance, up to a factor."""
    shots = made_up(per_class=5)
    features, labels = views_of(shots)
    count, width = features.shape
    shrinkage = width / (count - 1 + width)
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(features, labels)
    factor = width * (1 - shrinkage) / count
    head = GaussianDiscriminant.estimated(shots, alpha=0.3)
    np.testing.assert_allclose(head.weights.numpy(), factor * analysis.coef_, rtol=1e-4, atol=1e-5)
    plain = (30 * IMAGES @ shots.text.embeddings.T).numpy()
    gaussians = factor * (analysis.decision_function(IMAGES.numpy()) + np.log(shots.classes))
    np.testing.assert_allclose(head.scores(IMAGES, shots.text).numpy(), plain + 0.3 * gaussians, atol=1e-4)


def test_proker_is_scikit_learns_kernel_ridge_regression_of_the_residuals_times_lambda(made_up):
    shots = made_up()
    features, labels = views_of(shots)
    text = shots.text.embeddings.double().numpy()
    residuals = np.eye(shots.classes)[labels] - features @ text.T
    # Of unit vectors the squared distance is 2 - 2 <f, g>.
    regression = KernelRidge(kernel="rbf", gamma=1.3 / 2, alpha=0.2).fit(features, residuals)
    images = IMAGES.double().numpy()
    expected = 30 * (images @ text.T + 0.2 * regression.predict(images))
    head = ProKeR.solved(shots, beta=1.3, penalty=0.2)
    np.testing.assert_allclose(head.scores(IMAGES, shots.text).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_linear_probe_gives_scikit_learns_probabilities(made_up, classes):
    shots = made_up(classes=classes)
    expected = LogisticRegression(C=10.0, max_iter=1000).fit(*views_of(shots)).predict_proba(IMAGES.double().numpy())
    head, steps = LinearProbe.regressed(shots, 10.0)
    np.testing.assert_allclose(torch.softmax(head.scores(IMAGES, shots.text), 1).numpy(), expected, atol=1e-5)
    assert 1 <= steps <= 1000


def test_lp_plus_plus_is_gradient_descent_with_those_step_sizes(made_up, monkeypatch):
    """So few steps that it is still on its way: at the end many roads meet."""
    monkeypatch.setattr(lp_plus_plus, "EPOCHS", 25)
    shots = made_up(views=1)
    features, labels = shots.features[0], shots.labels
    cosines = features @ shots.text.embeddings.T
    probe = linear(6, 4)
    probe.weight.data = torch.stack([features[labels == label].sum(0) for label in range(4)])
    own = torch.stack([cosines[labels == label, label].mean() for label in range(4)]).mean()
    alpha = (250 * own).repeat(4).requires_grad_()
    rate = 4 * len(features) / float(np.linalg.eigvalsh((features.T @ features).numpy())[-1])
    alpha_rate = len(features) / (4 * float((cosines**2).sum(0).max()))
    optimizer = torch.optim.SGD(probe.parameters(), rate, momentum=0.9)
    for epoch in range(1, 26):
        optimizer.zero_grad()
        alpha.grad = None
        functional.cross_entropy(probe(features) + alpha * cosines, labels).backward()
        optimizer.step()
        if epoch % 10 == 0:
            alpha.data -= alpha_rate * alpha.grad
    head = fitted(LinearProbePlusPlus, shots)
    torch.testing.assert_close(head.weights, probe.weight.detach(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(head.alpha, alpha.detach(), atol=1e-4, rtol=1e-4)


def test_tip_adapter_f_is_torchs_adamw_and_cosine_on_a_linear_layer(made_up):
    shots = made_up(views=1)
    features, labels = shots.features[0], shots.labels
    adapter = linear(6, len(labels))
    adapter.weight.data = features.clone()
    values = functional.one_hot(labels).float()
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-2, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20)
    for _ in range(20):
        cached = torch.exp(-1.0 * (1 - adapter(features))) @ values
        loss = functional.cross_entropy(30 * features @ shots.text.embeddings.T + 1.17 * cached, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    head = fitted(TipAdapterF, shots)
    torch.testing.assert_close(head.keys, adapter.weight.detach(), atol=1e-5, rtol=0)
    assert not torch.allclose(head.keys, features, atol=1e-2)


def test_clip_adapter_is_two_linear_layers_after_embeddings_of_any_length(made_up):
    shots = made_up(width=8)
    head = ClipAdapter(unit(2, 8, seed=3), unit(8, 2, seed=4))
    layers = nn.Sequential(linear(8, 2), nn.ReLU(), linear(2, 8), nn.ReLU())
    layers[0].weight.data, layers[2].weight.data = head.down, head.up
    images = unit(7, 8, seed=9)
    raw = 11.0 * images  # as the authors' tower gives them
    with torch.no_grad():
        adapted = 0.2 * layers(raw) + 0.8 * raw
        expected = 30 * functional.cosine_similarity(adapted[:, None], shots.text.embeddings[None], dim=-1)
    torch.testing.assert_close(head.scores(images, shots.text), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(expected, shots.text.logits(images), atol=1e-2)


def test_task_res_adds_half_of_a_residual_to_an_embedding_as_long_as_the_tower_makes_it(made_up):
    text = made_up().text
    head = TaskRes(unit(4, 6, seed=3))
    expected = torch.empty(7, 4)
    for label in range(4):
        whole = text.lengths[label] * text.embeddings[label] + 0.5 * head.residuals[label]
        expected[:, label] = 30 * functional.cosine_similarity(IMAGES, whole[None])
    torch.testing.assert_close(head.scores(IMAGES, text), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(TaskRes(torch.zeros(4, 6)).scores(IMAGES, text), text.logits(IMAGES), atol=1e-4, rtol=0)


def test_task_res_is_torchs_adam_with_a_first_pass_at_1e_5(made_up):
    shots = made_up(views=1)
    residuals = torch.zeros(4, 6, requires_grad=True)
    optimizer = torch.optim.Adam([residuals], weight_decay=1e-2)
    for step in range(100):
        rate = 1e-5 if step == 0 else 1e-2 * (1 + np.cos(np.pi * step / 100)) / 2
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        functional.cross_entropy(TaskRes(residuals).scores(shots.features[0], shots.text), shots.labels).backward()
        optimizer.step()
    head = fitted(TaskRes, shots)
    torch.testing.assert_close(head.residuals, residuals.detach(), atol=1e-4, rtol=0)
    assert float(head.residuals.abs().max()) > 0.05


# -- without class prompts ---------------------------------------------------------------------------------------------


def wordless(shots):
    """The same shots where no text tower says anything of the classes."""
    nothing = Text(torch.zeros_like(shots.text.embeddings), 20.0, torch.zeros(shots.classes), has_words=False)
    return dataclasses.replace(shots, text=nothing)


def test_gda_without_prompts_is_scikit_learns_analysis_and_as_sure_as_held_out_shots_allow(made_up):
    shots = wordless(made_up(per_class=8, width=12, noise=2.0))
    made = GaussianDiscriminant.fit(shots, SCHEDULE, UNREPORTED)
    features, labels = views_of(shots)
    count, width = features.shape
    analysis = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=width / (count - 1 + width)).fit(features, labels)
    images = unit(50, 12, seed=9)
    assert (made.head.scores(images, shots.text).argmax(1).numpy() == analysis.predict(images.numpy())).all()

    def held_out_loss(alpha):
        loss = 0.0
        for fold in range(5):
            held = torch.arange(len(shots.labels)) // shots.classes % 5 == fold
            head = GaussianDiscriminant.estimated(shots.subset(~held), alpha)
            rows, truth = shots.subset(held).every_view()
            loss += functional.cross_entropy(head.scores(rows, shots.text), truth, reduction="sum").item()
        return loss

    assert made.chosen["alpha"] == min(gda.CANDIDATES, key=held_out_loss)


def test_proker_without_prompts_is_scikit_learns_kernel_ridge_regression_of_the_labels(made_up):
    shots = wordless(made_up())
    features, labels = views_of(shots)
    regression = KernelRidge(kernel="rbf", gamma=1.3 / 2, alpha=0.2).fit(features, np.eye(shots.classes)[labels])
    head = ProKeR.solved(shots, beta=1.3, penalty=0.2)
    expected = 20 * regression.predict(IMAGES.double().numpy())
    np.testing.assert_allclose(head.scores(IMAGES, shots.text).numpy(), expected, atol=1e-4)


def test_a_linear_probe_on_fewer_images_than_numbers_is_scikit_learns(made_up):
    shots = made_up(classes=3, per_class=2, views=1, width=40)
    features, labels = views_of(shots)
    expected = LogisticRegression(C=10.0, max_iter=1000).fit(features, labels)
    images = unit(7, 40, seed=9)
    head, _ = LinearProbe.regressed(shots, 10.0)
    scores = torch.softmax(head.scores(images, shots.text), 1).numpy()
    np.testing.assert_allclose(scores, expected.predict_proba(images.double().numpy()), atol=1e-5)


# -- several labels ----------------------------------------------------------------------------------------------------


def of_several(shots):
    """The same images, each showing its class, and every third the next one too."""
    table = functional.one_hot(shots.labels, shots.classes)
    table[::3] |= table[::3].roll(1, dims=1)
    return dataclasses.replace(shots, labels=table)


@pytest.mark.parametrize("width", [6, 40])
def test_a_linear_probe_of_several_labels_is_scikit_learns_of_each_class(made_up, width):
    shots = of_several(made_up(classes=4, per_class=6, width=width))
    features, labels = (tensor.numpy() for tensor in shots.every_view())
    head, _ = LinearProbe.regressed(shots, 1.0)
    images = unit(7, width, seed=9)
    scores = head.scores(images, shots.text)
    for label in range(4):
        plain = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(features.astype(np.float64), labels[:, label])
        np.testing.assert_allclose(scores[:, label], plain.decision_function(images.numpy()), atol=5e-3)


def test_a_linear_probe_has_finite_log_odds_of_a_class_that_all_or_no_images_show(made_up):
    shots = of_several(made_up())
    table = shots.labels.clone()
    table[:, 0], table[:, 1] = 0, 1
    head, _ = LinearProbe.regressed(dataclasses.replace(shots, labels=table), 100.0)
    scores = head.scores(IMAGES, shots.text)
    assert (scores[:, 0] < -3).all() and (scores[:, 1] > 3).all()
    # Half an image of a hundred is of the other kind.
    shares = head.scores(shots.features[0], shots.text)[:, :2].sigmoid().mean(0)
    np.testing.assert_allclose(shares, [0.005, 0.995], atol=1e-3)


def test_proker_of_several_labels_is_a_kernel_ridge_regression_of_each(made_up):
    shots = of_several(made_up())
    features, labels = shots.every_view()
    head = ProKeR.solved(shots, 2.0, 0.5)
    residuals = labels.numpy() - shots.text.cosines(features).numpy()
    kernel = lambda one, other: np.exp(-2.0 * (1 - one @ other.T))  # noqa: E731
    ridge = KernelRidge(alpha=0.5, kernel="precomputed")
    ridge.fit(kernel(features.numpy(), features.numpy()), residuals)
    predicted = 0.5 * ridge.predict(kernel(IMAGES.numpy(), features.numpy()))
    expected = shots.text.scale * (shots.text.cosines(IMAGES).numpy() + predicted)
    np.testing.assert_allclose(head.scores(IMAGES, shots.text), expected, atol=1e-3)


def test_the_mean_of_a_class_is_that_of_all_images_that_show_it(made_up):
    shots = of_several(made_up())
    head = fitted(NearestMean, shots)
    for label in range(shots.classes):
        mean = shots.mean_views()[shots.labels[:, label] == 1].mean(0)
        torch.testing.assert_close(head.means[label], functional.normalize(mean, dim=0))


@pytest.mark.parametrize("kind", [LinearProbe, ProKeR])
def test_what_is_chosen_where_images_have_several_labels_ranks_held_out_images_best(made_up, kind):
    shots = of_several(made_up(classes=4, per_class=8, noise=1.5))
    fit = kind.fit(shots, SCHEDULE, UNREPORTED)
    assert fit.chosen and not fit.notes
    one = dataclasses.replace(shots, labels=torch.eye(4, dtype=torch.int64), features=shots.features[:, :4])
    assert kind.fit(one, SCHEDULE, UNREPORTED).notes  # one image of each class leaves none to hold out

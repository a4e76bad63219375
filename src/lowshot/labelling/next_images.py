"""Which images to label next, from embeddings alone: typical ones at first, then unsure ones that stand for many."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20
"""Nearest images by which it is told how typical an image is, and how near is near."""
LEAST_CLUSTER = 5
"""Images of a cluster that is typical of anything."""
MOST_CLUSTERS = 500


class Next(NamedTuple):
    """An image to label."""

    row: int
    """Its number among the unlabelled ones."""
    is_typical: bool
    """Whether it was chosen as a typical one, and not as an unsure one."""


def next_images(
    unlabelled: NDArray[np.floating],
    labelled: NDArray[np.floating],
    unsure: NDArray[np.floating],
    classes: int,
    count: int,
    seed: int,
) -> list[Next]:
    """Choose images to label: typical ones while there are fewer labels than classes, unsure ones from then on.

    Args:
        unlabelled: Unit embeddings ``(N, D)``.
        labelled: The same of images with a label, ``(L, D)``.
        unsure: How unsure the classifier is of each unlabelled image, ``(N,)``, from 0 to 1.
        classes: How many there are.
        count: Images to choose; all if there are fewer.
        seed: Of the clusters.
    """
    count = min(count, len(unlabelled))
    if not count:
        return []
    if len(labelled) < classes:
        return [Next(row, True) for row in typical(unlabelled, labelled, count, seed)]
    return [Next(row, False) for row in standing_for_many(unlabelled, labelled, unsure, count)]


def typical(unlabelled: NDArray[np.floating], labelled: NDArray[np.floating], count: int, seed: int) -> list[int]:
    """The most typical image of each of the largest clusters without a label (TypiClust, arXiv 2202.02794).

    All images are parted into as many clusters as there will be labels. The most typical image is the one with the
    least mean distance to its 20 nearest in the cluster. Clusters with fewer labels come first, then larger ones.

    Args are those of ``next_images``.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    images = np.concatenate([unlabelled, labelled]).astype(np.float64)
    clusters = min(len(labelled) + count, MOST_CLUSTERS, len(images))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # images that are there twice make fewer clusters
        cluster_of = KMeans(clusters, n_init=1, random_state=seed).fit_predict(images)
    labels = np.bincount(cluster_of[len(unlabelled) :], minlength=clusters)
    sizes = np.bincount(cluster_of, minlength=clusters)
    waiting = {}
    for cluster in range(clusters):
        members = np.flatnonzero(cluster_of == cluster)
        order = np.argsort(_mean_distance(images[members]), kind="stable")
        waiting[cluster] = [int(row) for row in members[order] if row < len(unlabelled)]
    chosen: list[int] = []
    while len(chosen) < count:
        left = [cluster for cluster in range(clusters) if waiting[cluster]]
        best = min(left, key=lambda cluster: (sizes[cluster] < LEAST_CLUSTER, labels[cluster], -sizes[cluster]))
        chosen.append(waiting[best].pop(0))
        labels[best] += 1
    return chosen


def _mean_distance(images: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each image to its nearest others, ``(N,)``."""
    nearest = min(NEIGHBOURS, len(images) - 1)
    if nearest < 1:
        return np.zeros(len(images))
    squares = np.maximum(2 - 2 * images @ images.T, 0)
    np.fill_diagonal(squares, 0)
    distances: NDArray[np.float64] = np.sqrt(np.partition(squares, nearest, axis=1)[:, : nearest + 1]).sum(1) / nearest
    return distances


def standing_for_many(
    unlabelled: NDArray[np.floating], labelled: NDArray[np.floating], unsure: NDArray[np.floating], count: int
) -> list[int]:
    """Images that the most uncertainty lies near, and near no label: a facility location, greedily.

    With the likeness ``s_ij = max(0, (<f_i, f_j> - t) / (1 - t))``, t the median over images of the cosine to the 20th
    nearest, a set of labels A is worth ``sum_i u_i max_{j in A} s_ij``. Each image is the one that adds most to it.

    Args are those of ``next_images``.
    """
    images = np.concatenate([unlabelled, labelled]).astype(np.float32)
    cosines = images[: len(unlabelled)] @ images.T
    nearest = min(NEIGHBOURS, len(images) - 1)
    threshold = float(np.median(-np.partition(-cosines, nearest, axis=1)[:, nearest]))
    likeness = np.maximum(0, (cosines - threshold) / max(1 - threshold, 1e-6))
    likeness, of_labelled = likeness[:, : len(unlabelled)], likeness[:, len(unlabelled) :]
    covered = of_labelled.max(1) if of_labelled.shape[1] else np.zeros(len(unlabelled), dtype=np.float32)
    weights = np.asarray(unsure, dtype=np.float32)
    chosen: list[int] = []
    for _ in range(count):
        gains = weights @ np.maximum(likeness - covered[:, None], 0)
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, likeness[:, chosen[-1]])
    return chosen

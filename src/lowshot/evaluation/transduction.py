"""Many images judged together: what a classifier says of each, corrected by what is said of those that are like it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..progress import Track, silent

NEIGHBOURS = 3
"""Nearest images that an image's class should agree with."""
CONFIDENT = 8
"""Images that a class's first mean is of: those that are most probably of it."""
ROUNDS = 10
_ROUNDS_INSIDE = 5
_GAUSSIAN = 1 / 50
"""Most weight of the log-density of the Gaussians; it is the authors'."""
_AT_ONCE = 1024
_MOST_COSINES = 1 << 24  # that are in memory at once
_LEAST = 1e-30


def transduced(
    probabilities: NDArray[np.floating], embeddings: NDArray[np.floating], *, track: Track = silent
) -> NDArray[np.float32]:
    """Judge images together (TransCLIP, Zanella et al., NeurIPS 2024, arXiv 2406.01837, without labelled images).

    With the probabilities ``y_i`` of a classifier and the unit embeddings ``f_i`` of N images, the assignments ``z_i``,
    the means ``mu_k`` and the diagonal covariance ``S`` that all classes share are those of the least
    ``-1/T sum_ik z_ik log N(f_i; mu_k, S) - sum_ij w_ij z_i . z_j + sum_i KL(z_i || y_i)``. Its three parts are a
    Gaussian mixture, a Laplacian by which near images agree, and the classifier. ``w_ij`` is the cosine to the nearest
    three images and from them, by six. Blocks are updated in turn (majorise-minimise)::

        z_ik  <-  y_ik exp(log N(f_i; mu_k, S) / T + sum_j w_ij z_jk), normalised over k; five times
        mu_k  <-  sum_i z_ik f_i, of length 1
        S     <-  sum_ik z_ik (f_i - mu_k)^2 / N

    ``1/T`` is the authors' 1/50 where each class has as many images as an embedding has numbers, and is less by the
    square root of their ratio where it has fewer: Gaussians of few images are those of their noise. Chosen on
    validation splits; with 1/50 throughout, photographs of 1,280 numbers lose much.

    There is nothing drawn. Memory is that of the two tables and of a few more of their sizes.

    Args:
        probabilities: What a classifier says of each image alone, ``(N, C)``.
        embeddings: Of length 1, ``(N, D)``.
        track: Shows progress.

    Returns:
        The assignments ``z``, ``(N, C)``, as probabilities.
    """
    from scipy.special import softmax

    (count, width), classes = embeddings.shape, probabilities.shape[1]
    if count <= NEIGHBOURS:
        return np.asarray(probabilities, dtype=np.float32)
    images = np.asarray(embeddings, dtype=np.float32)
    affinity = _affinity(images, track)
    alone = np.log(np.maximum(probabilities, _LEAST, dtype=np.float32))
    together = np.asarray(probabilities, dtype=np.float32)
    # The first means are of the images that are most probably of each class.
    best = np.argsort(-together, axis=0, kind="stable")[:CONFIDENT]
    weights = np.take_along_axis(together, best, axis=0).astype(np.float64)
    means = _unit(np.einsum("mc,mcd->cd", weights, images[best]))
    variances = np.full(width, 1 / width)
    weight = np.float32(_GAUSSIAN * min(1.0, count / (classes * width)) ** 0.5)
    squares = (images.astype(np.float64) ** 2).sum(0)
    for _ in track(range(ROUNDS + 1), what="judging together", total=ROUNDS + 1):
        fixed = alone + weight * _log_density(images, means, variances)
        for _ in range(_ROUNDS_INSIDE):
            together = softmax(fixed + affinity @ together, axis=1)
        sizes, sums = together.sum(0, dtype=np.float64), (together.T @ images).astype(np.float64)
        means = _unit(sums)
        spread = squares - 2 * (means * sums).sum(0) + (sizes[:, None] * means**2).sum(0)
        variances = np.maximum(spread / count, _LEAST)
    return together


def _affinity(images: NDArray[np.float32], track: Track) -> Any:
    """Of each image to its nearest ones, and of those to it: cosines by twice ``NEIGHBOURS``, sparse ``(N, N)``."""
    from scipy import sparse

    count = len(images)
    step = max(1, min(_AT_ONCE, _MOST_COSINES // count))
    columns = np.empty((count, NEIGHBOURS), dtype=np.int64)
    values = np.empty((count, NEIGHBOURS), dtype=np.float32)
    starts = range(0, count, step)
    for start in track(starts, what="finding like images", total=len(starts)):
        cosines = images[start : start + step] @ images.T
        rows = np.arange(len(cosines))
        cosines[rows, start + rows] = -np.inf
        nearest = np.argpartition(-cosines, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        columns[start : start + step] = nearest
        values[start : start + step] = np.maximum(np.take_along_axis(cosines, nearest, axis=1), 0)
    ends = np.arange(count + 1) * NEIGHBOURS
    nearest_ones = sparse.csr_matrix((values.ravel(), columns.ravel(), ends), shape=(count, count))
    return (nearest_ones + nearest_ones.T).tocsr() * np.float32(0.5 / NEIGHBOURS)


def _log_density(
    images: NDArray[np.float32], means: NDArray[np.float64], variances: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Of each image by each class's Gaussian, but for what is the same for all classes, ``(N, C)``."""
    scaled = means / variances
    offsets = 0.5 * (means * scaled).sum(1)
    parts = (images[start : start + _AT_ONCE] @ scaled.T - offsets for start in range(0, len(images), _AT_ONCE))
    return np.concatenate([part.astype(np.float32) for part in parts])


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    units: NDArray[np.float64] = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _LEAST)
    return units

"""Whether an image is of one of the classes at all: a score of belonging, and the one rule that decides by it.

Probabilities are shares among the classes: an image of none of them has a most probable class too, and often a sure
one. The score of belonging compares images with what the classes' own images are like instead. It is

``ratio(f) / s_ratio + weight * max_c <f, t_c> / s_fit``

of an image's unit embedding f, with the class prompts' unit embeddings t_c. The ratio is the relative Mahalanobis
distance (Ren et al., arXiv 2106.09022), with its sign turned: how much better f fits the Gaussian of the nearest class,
all of one covariance (Lee et al., arXiv 1807.03888), than one Gaussian of all images. The weight and the two spreads
are learnt from held-out shots, see ``evaluation.belonging``; where no text tower reads prompts the weight is 0.

The rule is that of conformal prediction (Vovk, Gammerman and Shafer, 2005). With the scores of n held-out images the
p-value of a new image of score s is ``(1 + number of them that are at most s) / (n + 1)``. An image is of none of the
classes where its p-value is at most the share of known images that may be turned away. Where the score of an image of
a known class and those held out are exchangeable, that share is turned away at most, on average over draws of all of
them. It is no promise for one class or one draw. Held-out scores are those of the classifiers of folds, each of which
has learnt from fewer images than the one that is used: then nothing is guaranteed, and the share is what one measures.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from .errors import AdapterError, InputError
from .tensor_file import read_tensors, serialized

BELONGING_FILE = "belonging.safetensors"
"""The Gaussians in an adapter's folder."""
DIRECTIONS = 64
"""Directions in which a covariance is kept at most: those of the largest spread. In others it is the ridge alone."""
RIDGE = 2.0
"""Times the mean of a covariance's eigenvalues: what is added to each of them. Chosen on validation splits of the
built-in tasks; a tenth and ten times of it do nearly as well."""
_LEAST_SPREAD = 1e-12
_SPARE_DIRECTIONS, _ITERATIONS = 16, 2


def pooled(embeddings: Tensor) -> Tensor:
    """One unit embedding of each image or class, ``(B, D)``: the mean where there are several, ``(B, M, D)``."""
    return embeddings if embeddings.ndim == 2 else functional.normalize(embeddings.mean(1), dim=-1)


@dataclasses.dataclass(frozen=True, eq=False)
class Gaussians:
    """The classes' Gaussians, which have one covariance, and the Gaussian of all images.

    A covariance is the ridge in every direction, and more in those that are kept. With their unit vectors u and
    eigenvalues e the distance of f from m is ``(|f - m|^2 - sum <f - m, sqrt(e / (e + ridge)) u>^2) / ridge``.

    Args:
        means: Of each class, ``(C, D)``.
        centre: Mean of all images, ``(D,)``.
        within: Directions within classes, each times ``sqrt(e / (e + ridge))``, ``(K, D)``; zero beyond those there
            are.
        overall: The same of all images.
        ridges: That within classes, and that of all images, ``(2,)``.
    """

    means: Tensor
    centre: Tensor
    within: Tensor
    overall: Tensor
    ridges: Tensor

    @classmethod
    def of(cls, embeddings: NDArray[np.floating[Any]], labels: NDArray[np.int64], classes: int) -> Gaussians:
        """Those of unit embeddings ``(N, D)`` with labels ``(N,)``; every class has an image."""
        exact = embeddings.astype(np.float64)
        means = np.stack([exact[labels == label].mean(0) for label in range(classes)])
        centre = exact.mean(0)
        ridge, within = _covariance(exact - means[labels])
        ridge_overall, overall = _covariance(exact - centre)
        arrays = means, centre, within, overall, np.array([ridge, ridge_overall])
        return cls(*(torch.from_numpy(array.astype(np.float32)) for array in arrays))

    def ratio(self, images: Tensor) -> Tensor:
        """How much nearer each image's ``(B, D)`` class is than all images are, ``(B,)``; in squared spreads."""
        nearest = _distances(images, self.means, self.within, self.ridges[0]).amin(1)
        return _distances(images, self.centre[None], self.overall, self.ridges[1])[:, 0] - nearest

    def tensors(self) -> dict[str, Tensor]:
        """Tensors that are saved, by name."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def to(self, device: torch.device) -> Gaussians:
        """The same on another device."""
        return Gaussians(**{name: tensor.to(device) for name, tensor in self.tensors().items()})


def _covariance(centred: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """The ridge, and the directions ``(K, D)`` of ``Gaussians``, of images about their means ``(N, D)``.

    The directions are found by subspace iteration (Halko et al., arXiv 0909.4061, algorithm 4.4) from a fixed start. A
    decomposition of the whole covariance would take far longer for a CLIP, and a fit needs dozens of them.
    """
    count, width = centred.shape
    most, there = min(DIRECTIONS, width), min(DIRECTIONS, width, count)
    directions = np.zeros((most, width))
    ridge = RIDGE * float((centred**2).sum()) / (count * width)
    if ridge < _LEAST_SPREAD:
        return 1.0, directions
    spare = min(there + _SPARE_DIRECTIONS, width, count)
    rows = centred.astype(np.float32)
    basis = np.random.default_rng(0).normal(size=(width, spare)).astype(np.float32)
    for _ in range(_ITERATIONS):
        basis = np.linalg.qr(rows.T @ (rows @ basis))[0]
    _, lengths, vectors = np.linalg.svd(rows @ basis, full_matrices=False)
    values = lengths[:there] ** 2 / count
    directions[:there] = (vectors[:there] @ basis.T) * np.sqrt(values / (values + ridge))[:, None]
    return ridge, directions


def _distances(images: Tensor, points: Tensor, directions: Tensor, ridge: Tensor) -> Tensor:
    """Squared distances ``(B, P)`` of images ``(B, D)`` and points ``(P, D)`` in spreads of a Gaussian."""
    return (_squares(images, points) - _squares(images @ directions.T, points @ directions.T)) / ridge


def _squares(rows: Tensor, points: Tensor) -> Tensor:
    return (rows * rows).sum(1, keepdim=True) - 2 * rows @ points.T + (points * points).sum(1)


@dataclasses.dataclass(frozen=True)
class HeldOutBelonging:
    """The numbers that held-out shots gave.

    Args:
        reject: Share of known images that may be turned away.
        weight: Of the fit to the class prompts.
        spreads: Standard deviations of the ratio and of the fit, which they are divided by.
        scores: Of the held-out images, ascending.
    """

    reject: float
    weight: float
    spreads: tuple[float, float]
    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        refuse_share(self.reject, len(self.scores))

    def p_values(self, scores: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        """The p-values ``(B,)`` of images with these scores: above 0, at most 1."""
        below = np.searchsorted(np.asarray(self.scores), scores.astype(np.float64), side="right")
        return (1.0 + below) / (len(self.scores) + 1)

    def none_of_these(self, p_value: float) -> bool:
        """Whether an image with this p-value is of none of the classes: the one place where that is decided."""
        return round(p_value * (len(self.scores) + 1)) <= self.last_place

    @property
    def last_place(self) -> int:
        """The last place among the held-out images and itself, from 1, at which an image is of none of the classes."""
        return math.floor(Fraction(str(self.reject)) * (len(self.scores) + 1))  # 0.05 is meant, not the binary number

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a record."""
        return {**dataclasses.asdict(self), "spreads": list(self.spreads), "scores": list(self.scores)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> HeldOutBelonging:
        """Read what ``to_dict`` gave.

        Raises:
            InputError: It is something else.
        """
        reject, weight, spreads, scores = (values.get(name) for name in ("reject", "weight", "spreads", "scores"))
        sound = (
            set(values) == {"reject", "weight", "spreads", "scores"}
            and _numbers([reject, weight])
            and isinstance(spreads, list)
            and _numbers(spreads)
            and len(spreads) == 2
            and min(spreads) > 0
            and isinstance(scores, list)
            and _numbers(scores)
            and scores == sorted(scores)
            and len(scores) > 0
        )
        if not sound:
            raise InputError("belonging is not what lowshot writes: reject, weight, two spreads and ascending scores")
        return cls(
            values["reject"], values["weight"], (values["spreads"][0], values["spreads"][1]), tuple(scores or ())
        )


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, float) and math.isfinite(value) for value in values)


def refuse_share(share: float, images: int) -> None:
    """Refuse a share of known images to be turned away for which too few images were held out.

    Args:
        share: ``reject``.
        images: Held-out images.

    Raises:
        InputError: It is none between 0 and 1, or no p-value of so many images can be as small.
    """
    if not 0 < share < 1:
        raise InputError(f"reject is {share}; expected a share above 0 and below 1, such as 0.05")
    wanted = Fraction(str(share))  # 0.05 is meant, not the binary number beside it
    if wanted * (images + 1) < 1:
        least = math.ceil(1000 / (images + 1)) / 1000
        raise InputError(
            f"reject is {share}, but {images} held-out images allow no less than {least:g}; allow more, or learn from "
            f"{math.ceil(1 / wanted) - 1} images or more (--shots)"
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Belonging:
    """All that tells images of the classes from images of none.

    Args:
        gaussians: Of the embeddings of all shots.
        held_out: What held-out shots told.
    """

    gaussians: Gaussians
    held_out: HeldOutBelonging

    def scores(self, images: Tensor, cosines: Tensor | None) -> Tensor:
        """The scores of belonging ``(B,)``, on the images' device; nothing is read back.

        Args:
            images: Unit embeddings ``(B, D)``, or ``(B, M, D)`` of a method that sees an image several times.
            cosines: Similarities ``(B, C)`` to the class prompts; None where there are none.
        """
        ratio = self.gaussians.to(images.device).ratio(pooled(images).float())
        return combined(ratio, None if cosines is None else cosines.float().amax(1), self.held_out)

    def to(self, device: torch.device) -> Belonging:
        """The same with its Gaussians on another device."""
        return dataclasses.replace(self, gaussians=self.gaussians.to(device))

    @property
    def nbytes(self) -> int:
        """Memory of the Gaussians."""
        return sum(tensor.nbytes for tensor in self.gaussians.tensors().values())


def combined(ratio: Tensor, fit: Tensor | None, held_out: HeldOutBelonging) -> Tensor:
    """The score ``(B,)`` of a ratio and the fit to the nearest class prompt, where there is one."""
    scaled, fitted = held_out.spreads
    score = ratio / scaled
    return score if fit is None else score + held_out.weight / fitted * fit


def write_belonging(folder: Path, belonging: Belonging) -> None:
    """Write the Gaussians into an adapter's folder; the numbers are in its record."""
    (folder / BELONGING_FILE).write_bytes(serialized(belonging.gaussians.tensors()))


def read_belonging(folder: Path, values: Mapping[str, Any], *, classes: int, width: int) -> Belonging | None:
    """Read what ``write_belonging`` wrote; None for an adapter without it.

    Args:
        folder: The adapter's.
        values: ``belonging`` of its record.
        classes: C.
        width: D, numbers of an embedding.

    Raises:
        AdapterError: The file is missing or damaged, or is of other classes or another model.
    """
    if not values:
        return None
    spread = min(DIRECTIONS, width), width
    shapes = {"means": (classes, width), "centre": (width,), "within": spread, "overall": spread}
    expected = {name: torch.empty(shape, device="meta") for name, shape in {**shapes, "ridges": (2,)}.items()}
    path = folder / BELONGING_FILE
    gaussians = Gaussians(**read_tensors(path, expected))
    if not bool((gaussians.ridges > 0).all()):
        raise AdapterError(f"adapter file {path}: ridges are {gaussians.ridges.tolist()}; expected numbers above 0")
    return Belonging(gaussians, HeldOutBelonging.from_dict(values))

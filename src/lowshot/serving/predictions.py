"""Answers of a bank about images and about adapters."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ..calibration import Calibration
from ..methods import method_spec
from ..records import RunRecord
from ..settings import MethodConfig


@dataclasses.dataclass(frozen=True, eq=False)
class Prediction:
    """Classes and probabilities of one image by one adapter."""

    adapter: str
    classes: tuple[str, ...]
    """Class names in the adapter's order."""
    probabilities: NDArray[np.float32]
    """``(C,)``, in the order of ``classes``; of a calibrated adapter those at its temperature."""
    embedding: NDArray[np.float32]
    """Unit embedding ``(D,)`` of the image by the vision tower with what the adapter learnt in it."""
    p_value: float | None = None
    """Conformal p-value of belonging to one of the classes; None of an adapter that has not learnt to tell."""
    none_of_these: bool | None = None
    """Whether the image is of none of the classes, as far as the adapter tells; None as before."""
    labels: tuple[str, ...] | None = None
    """All labels of the image, the most probable first, where images have several; None where they have one."""

    @property
    def best(self) -> str:
        """The most probable class."""
        return self.classes[int(self.probabilities.argmax())]


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Recognition of shots by classifiers made like an adapter, each of which had not learnt from them."""

    right: int
    """Shots whose class was recognised,"""
    images: int
    """of so many."""
    best_of: int
    """Methods that were compared by these shots; of several the best one has a figure that flatters it a little."""


@dataclasses.dataclass(frozen=True)
class Summary:
    """An adapter in a few words, as in a list of many."""

    name: str
    method: str
    rank: int | None
    """None for a method without one."""
    classes: int
    """Their number."""
    shots: int
    """Images per class; 0 where nothing was learnt from images."""
    adapter_bytes: int
    """Size of the saved tensors."""
    trainable_parameters: int
    created: str | None
    """When, as the record has it."""
    is_calibrated: bool
    accuracy: float | None
    """Fraction of the test images in [0, 1]; None where there were none."""
    held_out: HeldOut | None
    """What held-out shots say of it; None where none were held out."""


def summary_of(name: str, record: RunRecord, method: MethodConfig) -> Summary:
    """An adapter in a few words, by its record."""
    accuracy, created = record.metrics.get("acc1"), record.provenance.get("date")
    held_out = None
    calibration = Calibration.from_dict(record.calibration) if record.calibration else None
    if calibration is not None and calibration.right is not None:
        compared = sum(trial["acc1"] is not None for trial in record.choice.get("tried", ()))
        held_out = HeldOut(calibration.right, len(calibration.scores), best_of=max(1, compared))
    return Summary(
        name=name,
        method=method.method,
        rank=method.rank if "rank" in method_spec(method.method).settings else None,
        classes=len(record.classes),
        shots=record.shots,
        adapter_bytes=record.adapter_bytes,
        trainable_parameters=record.trainable_parameters,
        created=created if isinstance(created, str) else None,
        is_calibrated=bool(record.calibration) or bool(record.presence.get("images")),
        accuracy=float(accuracy) if isinstance(accuracy, int | float) else None,
        held_out=held_out,
    )


@dataclasses.dataclass(frozen=True)
class Description:
    """The record of an adapter, and its state in a bank."""

    summary: Summary
    classes: tuple[str, ...]
    """Class names in the order of the probabilities."""
    temperature: float
    """Divisor of class scores; 1 where it is not calibrated."""
    resident_bytes: int
    """Memory that it takes, classes included; 0 while it is not there."""
    notes: tuple[str, ...]
    """Warnings for people: training that ended early, weights rounded otherwise."""
    record: RunRecord

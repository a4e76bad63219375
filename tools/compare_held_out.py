"""Compare ways of holding shots out for the calibration of computed heads, on validation splits of glyph tasks.

    .venv/bin/python tools/compare_held_out.py

Folds that choose their own hyper-parameters, each shot left out by itself, and one shot of every class at a time, both
with the hyper-parameters of all shots. The table has for each head the means over tasks, shots and draws: calibration
error, negative log-likelihood, and how far the accuracy on the held-out shots is from that on the validation split.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

from lowshot import FewShotClassifier
from lowshot.data import builtin_task
from lowshot.evaluation import calibrated, fold_of_each, measures
from lowshot.heads import HEADS, Computed, Schedule, Shots, Text, left_out
from lowshot.progress import UNREPORTED

SCHEDULE = Schedule(learning_rate=0.0, minimum_learning_rate=0.0, weight_decay=0.0, batch_size=1, seed=1)
FOLDS = 4
HELD_OUT = "four folds that choose", "each shot by itself", "one of every class"


@dataclasses.dataclass(frozen=True)
class Arguments:
    """Cells to run."""

    tasks: tuple[str, ...] = ("greek", "letters", "digits-wild")
    shots: tuple[int, ...] = (2, 4, 8, 16)
    draws: int = 3


@dataclasses.dataclass(frozen=True)
class Seen:
    """A task's images as the built-in model sees them."""

    train: NDArray[np.float32]
    train_labels: NDArray[np.int64]
    judged: torch.Tensor
    labels: NDArray[np.int64]
    text: Text

    @classmethod
    def of(cls, name: str) -> Seen:
        """Encode the images that are learnt from, and the validation split."""
        task = builtin_task(name)
        assert task.validation is not None
        classifier = FewShotClassifier(method="zero-shot").fit(task)
        train, judged = (classifier.transform(split.images) for split in (task.train, task.validation))
        backbone, learner = classifier._ready()
        vectors = learner.classes  # type: ignore[attr-defined]
        text = Text(vectors, backbone.logit_scale, torch.ones(len(vectors)))
        return cls(train, task.train.labels, torch.from_numpy(judged), task.validation.labels, text)

    def drawn(self, shots: int, seed: int) -> Shots:
        """So many shots of each class, in an order by chance."""
        generator, classes = np.random.default_rng(seed), range(int(self.train_labels.max()) + 1)
        rows = [generator.permutation(np.flatnonzero(self.train_labels == label))[:shots] for label in classes]
        chosen = generator.permutation(np.concatenate(rows))
        return Shots(torch.from_numpy(self.train[chosen])[None], torch.from_numpy(self.train_labels[chosen]), self.text)


def held_out(kind: type[Any], shots: Shots, chosen: Mapping[str, float]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Scores and labels of held-out shots, for each of ``HELD_OUT``."""
    images, labels = shots.features[0], shots.labels
    fold_of = torch.from_numpy(fold_of_each(labels.numpy(), min(FOLDS, shots.per_class)))
    parts = [fold_of == fold for fold in range(int(fold_of.max()) + 1)]
    heads = [kind.fit(shots.subset(~part), SCHEDULE, UNREPORTED).head for part in parts]
    scores = [head.scores(images[part], shots.text) for head, part in zip(heads, parts, strict=True)]
    yield torch.cat(scores), torch.cat([labels[part] for part in parts])
    rows = torch.arange(len(labels))
    alone = [kind.again(shots.subset(rows != row), chosen).scores(images[row, None], shots.text) for row in rows]
    yield torch.cat(alone), labels
    yield left_out(cast("type[Computed]", kind), shots, images, chosen)[0], labels


def cell(method: str, seen: Seen, shots: Shots) -> list[tuple[float, float, float]]:
    """Calibration error, negative log-likelihood and distance of the accuracy, for each of ``HELD_OUT``."""
    kind = HEADS[method]
    fit = kind.fit(shots, SCHEDULE, UNREPORTED)
    scores, rows = fit.head.scores(seen.judged, shots.text).double(), []
    accuracy = float((scores.argmax(1).numpy() == seen.labels).mean())
    for of_held_out, labels in held_out(kind, shots, fit.chosen):
        calibration = calibrated(of_held_out.numpy(), labels.numpy(), 2)
        table = torch.softmax(scores / calibration.temperature, dim=-1).float().numpy()
        values, right = measures(table, seen.labels), float((of_held_out.argmax(1) == labels).double().mean())
        rows.append((values["ece"], values["nll"], abs(right - accuracy)))
    return rows


def main(arguments: Arguments) -> None:
    """Run all cells, then print the table."""
    torch.set_num_threads(1)
    tasks = {name: Seen.of(name) for name in arguments.tasks}
    heads = [method for method, kind in HEADS.items() if not kind.TRAINED]
    head: Sequence[str] = [
        *("| head ", *(f"| {name} " for name in HELD_OUT), "|\n|:--|", *("--:|" for _ in HELD_OUT)),
    ]
    print("".join(head), flush=True)
    for method in heads:
        cells = [
            cell(method, seen, seen.drawn(shots, seed))
            for seen, shots, seed in itertools.product(tasks.values(), arguments.shots, range(arguments.draws))
        ]
        means = [[statistics.fmean(values) for values in zip(*way, strict=True)] for way in zip(*cells, strict=True)]
        row = [f"{100 * ece:.1f} %, {nll:.3f}, {100 * apart:.1f}" for ece, nll, apart in means]
        print(f"| `{method}` | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Arguments))

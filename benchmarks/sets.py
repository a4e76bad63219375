"""Sets of classes: what those by held-out shots and those with a guarantee cover, and how large they are.

    .venv/bin/python benchmarks/sets.py [--json] [--smoke] [--tasks letters greek]

Shots and judged images are drawn alike, from all images of a built-in task, anew for each draw: that is what a
guarantee assumes. Prints a line for each case and writes benchmarks/results/<date>-<hardware>-sets.json,
with the tasks in its name where not all are measured.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from measuring import Output, finish, part_of
from numpy.typing import NDArray

from lowshot import FewShotClassifier
from lowshot.data import builtin_task
from lowshot.data.builtin import BUILTIN_TASKS
from lowshot.evaluation import GuaranteedSets, HeldOutSets, Sets, calibrated
from lowshot.heads import HEADS, FullConformal, Schedule, Shots, Text, left_out
from lowshot.progress import UNREPORTED

SHOTS, JUDGED, DRAWS = 16, 400, 20
COVERAGES = (0.8, 0.9)
_SCHEDULE = Schedule(learning_rate=0.0, minimum_learning_rate=0.0, weight_decay=0.0, batch_size=1, seed=1)


@dataclasses.dataclass(frozen=True)
class Arguments(Output):
    """The cases to measure."""

    tasks: tuple[str, ...] = tuple(BUILTIN_TASKS)
    """Tasks to measure on."""


@dataclasses.dataclass(frozen=True)
class Seen:
    """All images of a task, as the frozen tower sees them."""

    embeddings: NDArray[np.float32]
    labels: NDArray[np.int64]
    text: Text

    @classmethod
    def of(cls, name: str) -> Seen:
        """Encode them."""
        task = builtin_task(name)
        classifier = FewShotClassifier(method="zero-shot").fit(task)
        splits = [split for split in (task.train, task.validation, task.test) if split is not None]
        embeddings = np.concatenate([classifier.transform(split.images) for split in splits])
        backbone, learner = classifier._ready()
        text = Text(learner.classes, backbone.logit_scale, torch.ones(len(task.class_names)))
        return cls(embeddings, np.concatenate([split.labels for split in splits]), text)

    def drawn(self, seed: int) -> tuple[Shots, NDArray[np.int64]]:
        """Shots, and the numbers of the images that are judged."""
        generator, classes = np.random.default_rng(seed), range(int(self.labels.max()) + 1)
        rows = [generator.permutation(np.flatnonzero(self.labels == label))[:SHOTS] for label in classes]
        shots = np.concatenate(rows)
        others = generator.permutation(np.setdiff1d(np.arange(len(self.labels)), shots))[:JUDGED]
        features, labels = torch.from_numpy(self.embeddings[shots])[None], torch.from_numpy(self.labels[shots])
        return Shots(features, labels, self.text), others


def rules(shots: Shots, images: torch.Tensor) -> tuple[NDArray[np.float64], Iterator[tuple[str, float, Sets]]]:
    """The probabilities of images, and the rules by which sets are made of them."""
    kind = HEADS["proker"]
    fit = kind.fit(shots, _SCHEDULE, UNREPORTED)
    scores, _ = left_out(kind, shots, shots.features[0], fit.chosen)
    calibration = calibrated(scores.numpy(), shots.labels.numpy(), SHOTS)
    table = torch.softmax(fit.head.scores(images, shots.text).double() / calibration.temperature, dim=-1).numpy()
    conformal = FullConformal(shots)
    p_values = conformal.p_values(images)  # the same at every coverage

    def all_rules() -> Iterator[tuple[str, float, Sets]]:
        for coverage in COVERAGES:
            yield "held-out", coverage, HeldOutSets(calibration.threshold(coverage))
            yield "guaranteed", coverage, GuaranteedSets(lambda _: p_values, conformal.counts, coverage)

    return table, all_rules()


def measured(name: str, draws: int) -> list[dict[str, Any]]:
    """A row for each rule: the means over the draws, and the deviations of what is covered and of the size.

    ``least_covered`` is the share of the class that is covered least in the mean over the draws.
    """
    seen, hits, sizes = Seen.of(name), dict[Any, Any](), dict[Any, Any]()
    for seed in range(draws):
        shots, rows = seen.drawn(seed)
        images, truth = torch.from_numpy(seen.embeddings[rows]), seen.labels[rows]
        table, every = rules(shots, images)
        for rule, coverage, sets in every:
            members = sets.members(table, lambda images=images: images)  # type: ignore[misc]
            hit = members[np.arange(len(truth)), truth]
            counts = np.bincount(truth, minlength=table.shape[1])
            by_class = np.bincount(truth, hit, table.shape[1]) / np.where(counts, counts, np.nan)
            hits.setdefault((rule, coverage), []).append((hit.mean(), by_class))
            sizes.setdefault((rule, coverage), []).append(members.sum(1).mean())
    cases = []
    for (rule, coverage), shares in hits.items():
        covered, by_class = np.array([share for share, _ in shares]), np.array([each for _, each in shares])
        size = np.array(sizes[rule, coverage])
        cases.append(
            {
                "variant": f"{name} --coverage {coverage:g} {rule}",
                **{"task": name, "rule": rule, "coverage": coverage, "draws": draws, "classes": by_class.shape[1]},
                "covered": [round(float(covered.mean()), 4), round(float(covered.std()), 4)],
                "least_covered": round(float(np.nanmean(by_class, axis=0).min()), 4),
                "mean_set_size": [round(float(size.mean()), 3), round(float(size.std()), 3)],
            }
        )
    return cases


def main(arguments: Arguments) -> dict[str, Any]:
    """Measure every task (for a smoke run a draw of the first), print the figures and write them."""
    torch.set_num_threads(1)
    rows = []
    for name in arguments.tasks[: 1 if arguments.smoke else None]:
        rows += measured(name, 1 if arguments.smoke else DRAWS)
        arguments.say(*rows[-4:])
    part = part_of(arguments.tasks, BUILTIN_TASKS)
    return finish({"benchmark": "sets", "shots": SHOTS, "images": JUDGED, "rows": rows, **part}, arguments)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Arguments))

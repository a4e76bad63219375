"""Other label spaces than the one that was learnt: their learners, and one figure over all."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping
from typing import Any

from ..data import Task, long_prompts_named, prompts_for
from ..settings import DataConfig
from ..training.learner import Learner
from ..training.prompts import refuse_alike


def learners_for(learner: Learner, task: Task, others: Mapping[str, Task], config: DataConfig) -> dict[str, Learner]:
    """The learner as it judges each of the other tasks, by name: its towers, and that task's classes put into words.

    Nothing is trained and, but for ``zero-shot``, nothing computed: asked before training, it says what would be
    refused after it.

    Args:
        learner: Trained, or about to be.
        task: What it learnt.
        others: Tasks with other classes.
        config: How classes are put into words. The files it names may speak of the classes of all of these tasks.

    Raises:
        DataError: A task's classes cannot be put into words, or not in as few tokens as the text tower takes, or it
            cannot tell two of them apart.
    """
    everywhere = set(itertools.chain(task.class_names, *(other.class_names for other in others.values())))
    learners = {}
    for name, other in others.items():
        prompts = prompts_for(other.class_names, config, data=other.name, template=other.template, others=everywhere)
        with long_prompts_named(other.class_names, prompts):
            refuse_alike(learner.backbone, other.class_names, prompts)
            learners[name] = learner.with_prompts(prompts)
    return learners


def with_others(learnt: Mapping[str, Any], others: Mapping[str, Mapping[str, Any]], protocol: str) -> dict[str, Any]:
    """The metrics of a record: those of the learnt classes, those of ``others`` by name, and one figure over all.

    base-to-new
        ``harmonic_mean`` of both accuracies, 2 b n / (b + n) (CoCoOp, arXiv 2203.05557, section 4.1): nearer the lower
        one, and 0 if one is 0.
    cross-dataset, domain-generalisation
        ``mean_of_others``: the plain mean of the targets' accuracies, each target counting alike, however many images
        it has.

    Args:
        learnt: Measures of the learnt classes.
        others: Measures of each other label space; none under few-shot.
        protocol: Which of them it is.
    """
    if not others:
        return dict(learnt)
    accuracies = [other["acc1"] for other in others.values()]
    metrics = {**learnt, "others": {name: dict(other) for name, other in others.items()}}
    if protocol == "base-to-new":
        return {**metrics, "harmonic_mean": statistics.harmonic_mean([learnt["acc1"], *accuracies])}
    return {**metrics, "mean_of_others": statistics.fmean(accuracies)}

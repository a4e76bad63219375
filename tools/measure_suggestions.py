"""The labels that `lowshot suggest` saves against drawing images at random: the table of docs/how-to/labels.md.

`python tools/measure_suggestions.py`, about ten minutes on one core; the rule was chosen by `--split validation`.
Every seed draws four fifths of a task's training images, which are labelled 20 at a time (60 of `symbols`), until there
are twelve for each class on average. `gda` learns from them and judges the split.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lowshot.data import Task, load_task, prompts_for
from lowshot.evaluation import embeddings_of
from lowshot.heads import Text
from lowshot.labelling.guesses import Guess, class_probabilities
from lowshot.labelling.next_images import next_images
from lowshot.models import load_backbone
from lowshot.models.classes import embedded
from lowshot.settings import preset_recipe
from lowshot.training import create_learner

TASKS = {"digits": 20, "letters": 20, "greek": 20, "symbols": 60}
"""Task -> images that are labelled at a time."""
PER_CLASS = (4, 8, 12)
SEEDS = range(1, 6)


def curve(
    embeddings: dict[str, NDArray[np.float32]], task: Task, text: Text, split: str, batch: int, seed: int, suggest: bool
) -> list[float]:
    """Accuracy on a split after each batch of labels."""
    generator, train = np.random.default_rng(seed), task.train.labels
    pool = np.sort(generator.permutation(len(train))[: len(train) * 4 // 5])
    features, labels, classes = embeddings["train"][pool], train[pool], len(task.class_names)
    rows: list[int] = []
    accuracies = []
    for _ in range(-(-max(PER_CLASS) * classes // batch)):
        free = np.setdiff1d(np.arange(len(pool)), rows)
        known = torch.from_numpy(features[rows]), torch.from_numpy(labels[rows])
        if suggest:
            unsure = Guess(class_probabilities(torch.from_numpy(features[free]), *known, text)).unsure
            chosen = next_images(features[free], features[rows], unsure, classes, batch, seed)
            rows += free[[each.row for each in chosen]].tolist()
        else:
            rows += generator.permutation(free)[:batch].tolist()
        known = torch.from_numpy(features[rows]), torch.from_numpy(labels[rows])
        judged = class_probabilities(torch.from_numpy(embeddings[split]), *known, text)
        accuracies.append(float((judged.argmax(1) == task.splits()[split].labels).mean()))
    return accuracies


def labels_for(accuracies: list[float], level: float, batch: int) -> float | None:
    """Labels at which the mean curve reaches a level first, between two batches by a straight line."""
    place = next((index for index, accuracy in enumerate(accuracies) if accuracy >= level), None)
    if place is None:
        return None
    if place == 0:
        return float(batch)
    before, after = accuracies[place - 1], accuracies[place]
    return batch * (place + (level - before) / (after - before))


def measured(name: str, batch: int, split: str) -> list[dict[str, float | None]]:
    """Labels that suggestions need for what random drawing comes to, as a share of its labels."""
    task, backbone = load_task(name), load_backbone("builtin", "cpu")
    recipe = preset_recipe("builtin", "zero-shot")
    prompts = prompts_for(task.class_names, recipe.data, data=name, template=task.template)
    learner = create_learner(backbone, prompts, recipe)
    embeddings = {part: embeddings_of(learner, task.splits()[part].images) for part in ("train", split)}
    classes, lengths = embedded(backbone, prompts)
    text = Text(classes, backbone.logit_scale, lengths)
    means = {
        suggest: np.mean([curve(embeddings, task, text, split, batch, seed, suggest) for seed in SEEDS], axis=0)
        for suggest in (False, True)
    }
    rows = []
    for per_class in PER_CLASS:
        count = per_class * len(task.class_names)
        place = batch * np.arange(1, len(means[False]) + 1)
        random, suggested = (float(np.interp(count, place, means[each])) for each in (False, True))
        needed = labels_for(means[True].tolist(), random, batch)
        share = None if needed is None else needed / count
        rows.append({"labels": count, "random": random, "suggested": suggested, "share": share})
    return rows


def main() -> None:
    """Print the table, and write the figures where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--split", default="test", choices=("validation", "test"))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    curves = {}
    print("| task | labels | at random | suggested | labels needed for the same |")
    print("|:--|--:|--:|--:|--:|")
    for name, batch in TASKS.items():
        curves[name] = measured(name, batch, given.split)
        for row in curves[name]:
            share = "-" if row["share"] is None else f"{row['share']:.2f}"
            print(
                f"| `{name}` | {row['labels']} | {row['random']:.1%} | {row['suggested']:.1%} | {share} |", flush=True
            )
    if given.out:
        given.out.write_text(json.dumps({"split": given.split, "tasks": curves}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""The share of labels set wrong that `lowshot doubt` finds on built-in tasks: the table of docs/how-to/labels.md.

`python tools/doubt_flipped_labels.py`, about two minutes on one core.
"""

import dataclasses

import numpy as np

from lowshot.data import load_task
from lowshot.labelling import doubted_labels
from lowshot.settings import preset_recipe

SHOTS, SHARE, SEEDS = 16, 0.1, (1, 2, 3)
TASKS = ("digits", "greek", "symbols", "letters")

COLUMNS = "recognised, held out", "estimated to be wrong", "wrong labels, doubted", "doubted labels, wrong"

print(f"| task | {' | '.join(COLUMNS)} |")
print("|:--|--:|--:|--:|--:|")
for name in TASKS:
    task, figures = load_task(name), []
    for seed in SEEDS:
        generator = np.random.default_rng(seed)
        classes = len(task.class_names)
        rows = [generator.permutation(np.flatnonzero(task.train.labels == each))[:SHOTS] for each in range(classes)]
        shots = task.train.subset(np.concatenate(rows).tolist())
        labels = shots.labels.copy()
        wrong = generator.permutation(len(labels))[: round(SHARE * len(labels))]
        labels[wrong] = (labels[wrong] + generator.integers(1, classes, len(wrong))) % classes
        flipped = dataclasses.replace(task, train=dataclasses.replace(shots, labels=labels))
        doubted = doubted_labels(flipped, preset_recipe("builtin", "gda").replace(views=None))
        hits = len({each.index for each in doubted.doubts} & set(wrong.tolist()))
        figures.append((doubted.agreement, doubted.rate, hits / len(wrong), hits / max(1, len(doubted.doubts))))
    cells = [
        f"{100 * mean:.0f} % ± {100 * spread:.0f}"
        for mean, spread in zip(np.mean(figures, 0), np.std(figures, 0, ddof=1), strict=True)
    ]
    print(f"| `{name}` | {' | '.join(cells)} |", flush=True)

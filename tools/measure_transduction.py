"""The worth of `--transductive`: the table of docs/how-to/folders.md.

`python tools/measure_transduction.py`, some minutes on one core: the test images of built-in tasks are judged alone and
together, by `zero-shot` and by `gda` on 1, 4 and 16 shots. With `--folder FOLDER` they are photographs of one's own, by
`nearest-mean` on the model `photos`; a third of them is judged where they have no test split.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from lowshot import FewShotClassifier
from lowshot.data import Examples, Task, load_task
from lowshot.evaluation import transduced

TASKS = ("digits", "letters", "greek", "symbols", "cyrillic")
SHOTS = (0, 1, 4, 16)
SEEDS = (1, 2, 3)


def split_off(task: Task) -> Task:
    """The same task with a third of its images as the test split."""
    order = np.random.default_rng(1).permutation(len(task.train))
    test, train = np.sort(order[: len(order) // 3]), np.sort(order[len(order) // 3 :])
    return Task(task.name, task.class_names, task.train.subset(train), None, task.train.subset(test))


def accuracies(task: Task, test: Examples, model: str, method: str, shots: int) -> Iterator[tuple[float, float]]:
    """Accuracy of images that are judged alone, and together, for each seed."""
    images = [test.images[row] for row in range(len(test))]
    for seed in SEEDS if shots else SEEDS[:1]:
        settings = {"method": method, "shots": shots, "seed": seed} if shots else {"method": "zero-shot"}
        judged = list(FewShotClassifier(model, **settings, views=None).fit(task).stream_judgements(images))
        alone = np.stack([each.probabilities for each in judged])
        together = transduced(alone, np.stack([each.embedding for each in judged]))
        yield tuple(float((table.argmax(1) == test.labels).mean()) for table in (alone, together))


def main() -> None:
    """Print the table, a row for each task and number of shots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print("| task | shots | alone | together | difference |")
    print("|:--|--:|--:|--:|--:|")
    for name in given.tasks if given.folder is None else (given.folder,):
        task = load_task(name)
        task = task if task.test is not None else split_off(task)
        assert task.test is not None
        model, method = ("builtin", "gda") if given.folder is None else ("photos", "nearest-mean")
        for shots in SHOTS if given.folder is None else SHOTS[1:]:
            table = np.asarray(list(accuracies(task, task.test, model, method, shots)))
            alone, together = table.mean(0)
            gain = f"{100 * (together - alone):+.1f}".replace("-", "−")
            print(f"| `{task.name}` | {shots} | {alone:.1%} | {together:.1%} | {gain} |", flush=True)


if __name__ == "__main__":
    main()

"""One job of a server that teaches, in a process of its own: ``python -m lowshot.teaching FOLDER``.

The server writes the job's folder (``job.json`` and the images) and starts this; it reads standard output, one JSON
object a line, and takes over ``FOLDER/adapter`` once this has ended well. So training has its own
memory, can be stopped at any moment, and leaves nothing behind outside its folder. When the server dies, however it
dies, standard input ends, and so does this.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .classifier import FewShotClassifier, saved_adapter
from .errors import LowshotError
from .progress import StepTaken
from .serving.examples import carry_examples, write_examples
from .serving.jobs import ADAPTER_FOLDER, JOB_FILE
from .wording.quantities import on_top_line

NICENESS = 5
"""Added to the process's own: whoever asks for predictions goes first."""
_SECONDS_BETWEEN_LINES = 0.1
_Item = TypeVar("_Item")


def main(folder: Path) -> int:
    """Learn from the images of a folder's job; returns the exit status."""
    threading.Thread(target=end_with_the_server, daemon=True).start()
    sys.argv[:] = ["lowshot", "serve"]  # the command in the record: no path of this machine
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    try:
        teach(folder)
    except LowshotError as error:
        bank = f"{folder.absolute().parents[1]}{os.sep}"  # an adapter goes by its name
        tell(error=" ".join(str(error).replace(bank, "").split()))
        return error.exit_status
    except OSError as error:
        tell(error=f"training failed: {error.strerror or error}")
        return 1
    tell(done=True)
    return 0


def teach(folder: Path) -> None:
    """Learn from the images of a job, and save the adapter with pictures of what it was taught with.

    Raises:
        InputError: Images or settings cannot be used.
        RunError: Training failed.
    """
    job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    if "change" in job:
        change(folder, job)
        return
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in job["settings"].items()
    }
    paths = [folder / image["file"] for image in job["images"]]
    labels = [image["class"] for image in job["images"]]
    tell(what="loading the model")
    classifier = FewShotClassifier(job["model"], **settings)
    progress = Progress()
    classifier.fit(paths, labels, track=progress, report=progress)
    # Nobody who asks the server knows its folders: an image goes by its place in the request.
    tell(notes=[line.replace(f"{folder}{os.sep}", "image ") for line in classifier.warnings_])
    adapter = folder / ADAPTER_FOLDER
    classifier.save_pretrained(adapter)
    write_examples(adapter, paths, labels)


def change(folder: Path, job: Mapping[str, Any]) -> None:
    """Save another adapter of the bank with classes more, fewer, or by another name.

    Raises:
        InputError: It cannot be had with these.
        AdapterError: It is gone, or damaged.
    """
    of, kind, progress = Path(job["change"]["adapter"]), job["change"]["what"], Progress()
    tell(what="loading the model")
    classifier = saved_adapter(of, model=job["model"])
    names = {name: name for name in classifier.record_.classes}
    if kind == "add":
        paths, labels = [folder / image["file"] for image in job["images"]], [image["class"] for image in job["images"]]
        classifier.add(paths, labels, track=progress, report=progress)
    elif kind == "remove":
        classifier.remove(*job["classes"], track=progress, report=progress)
        names = {name: name for name in classifier.record_.classes}
    else:
        classifier.rename(job["old"], job["new"])
        names[job["old"]] = job["new"]
    notes = [line.replace(f"{folder}{os.sep}", "image ") for line in classifier.warnings_]
    if kind == "add" and classifier.record_.on_top:
        notes[:0] = [
            "new classes are set on top of the towers, which stay as they are",
            on_top_line(classifier.record_.on_top),
        ]
    tell(notes=notes)
    adapter = folder / ADAPTER_FOLDER
    classifier.save_pretrained(adapter)
    carry_examples(of, adapter, names, classifier.added_images())


class Progress:
    """A ``Track`` and a ``Report`` for the server: a line now and then."""

    def __init__(self) -> None:
        self._loss: dict[str, float] = {}

    def __call__(self, items: Iterable[_Item], /, *, what: str, total: int) -> Iterator[_Item]:
        """The same items; tells how many are done, and the loss of the last step."""
        last = 0.0
        for done, item in enumerate(items):
            if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                tell(what=what, step=done, steps=total, **self._loss)
            yield item
        tell(what=what, step=total, steps=total, **self._loss)

    def begin(self, run: str, losses: Sequence[float]) -> None:
        """Tell nothing yet: there is no step."""

    def step(self, taken: StepTaken) -> None:
        """Keep the loss for the next line."""
        self._loss = {"loss": taken.loss}


def tell(**values: Any) -> None:
    """Write one line to the server."""
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


def end_with_the_server() -> None:
    """Wait for the end of standard input, then end this process."""
    while os.read(0, 1):  # not sys.stdin: Python aborts if a thread is inside of that when it ends
        pass
    os._exit(1)  # from a thread nothing else ends a process that computes


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

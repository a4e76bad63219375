"""The files beside an output in which training keeps its state, so that the same command goes on where it was ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from .printing import note


def beside(out: Path, suffix: str) -> Path:
    """A file beside an output folder, which may be ``.`` and then has no name of its own."""
    out = out.absolute()
    return out.parent / f"{out.name}.{suffix}"


def furthest(states: Sequence[Path]) -> Path | None:
    """Last of the states that there is: those before it are of folds that are done."""
    return next((state for state in reversed(states) if state.exists()), None)


@contextlib.contextmanager
def interruption_told(states: Sequence[Path]) -> Iterator[None]:
    """Tell where the state of training is, if the block is interrupted and there is one."""
    try:
        yield
    except KeyboardInterrupt:
        if state := furthest(states):
            note(f"the state of training is in {state}: the same command goes on from it")
        raise

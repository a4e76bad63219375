"""Runs in this process: one after the other, or several with their steps computed together."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

from ...progress import Track
from ...runs_folder import Claim
from ...threads import cpu_threads
from ..grid import Cell
from . import Result


class LocalEngine:
    """The plain loop, over one run at a time or over as many as their recipes let be together."""

    places = 1

    def run(
        self, cells: Sequence[Cell], take: Callable[[Cell], Claim | None], say: Callable[[str], None], track: Track
    ) -> Generator[Result, None, None]:
        """See ``Engine.run``."""
        from ...training.company import Company
        from ..worker import Worker  # brings torch, which nobody needs where all is done

        del say  # there is nothing to tell
        worker = Worker()

        def works(group: Iterable[Cell]) -> Iterator[Callable[[], Result]]:
            for cell in group:
                if (claim := take(cell)) is not None:
                    yield functools.partial(worker.do, cell, claim.state, track)

        def alike(cell: Cell) -> tuple[int, int | None]:
            return cell.recipe.engine.together or 1, cell.recipe.engine.threads

        for (most, threads), group in itertools.groupby(cells, alike):
            with cpu_threads(threads):  # each run asks for them too, and gives them back while others need them
                yield from Company[Result](most).results(works(group))

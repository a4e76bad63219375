"""Images that a saved adapter was taught with, of which embeddings alone are left."""

from __future__ import annotations

import dataclasses

from ..data.task import Images, Pixels
from ..errors import DataError
from ..heads import KeptShots


@dataclasses.dataclass(frozen=True, eq=False)
class KeptImages:
    """Shots that are known by their embeddings, and behind them images that are at hand.

    Args:
        shots: What an adapter has kept of the images that it was taught with.
        more: Other images.
    """

    shots: KeptShots
    more: Images

    def __len__(self) -> int:
        return len(self.shots) + len(self.more)

    def __getitem__(self, index: int) -> Pixels:
        """One of the other images.

        Raises:
            DataError: It is one of the shots.
        """
        if index < len(self.shots):
            raise DataError(f"image {index} of the adapter's shots is not at hand: its embedding alone was kept")
        return self.more[index - len(self.shots)]

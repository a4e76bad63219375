"""The files of a model: those of a folder, or of a repository on the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, first_line
from ..files import from_home, is_spelt_as_path
from ..repositories import repository_file

EXAMPLES = "openai/clip-vit-base-patch16, laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K or google/siglip2-base-patch16-224"


@dataclasses.dataclass(frozen=True)
class CheckpointFiles:
    """Where a model's files are.

    Args:
        model: What the user calls it, for messages.
        source: A folder's path, or a Hub id.
        on_hub: Whether it is a Hub id, even where a folder is called so.
    """

    model: str
    source: str
    on_hub: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder they are in; None where they are on the Hub."""
        folder = from_home(self.source)
        return folder.resolve() if folder.is_dir() and not self.on_hub else None

    @property
    def place(self) -> str:
        """The folder's full path, or the Hub id."""
        return str(self.folder or self.source)

    def path(self, name: str) -> Path:
        """One of the files, fetched from the Hub if need be.

        Raises:
            FileNotFoundError: There is no such file.
            InputError: There is no such folder or repository, or the Hub cannot be reached.
        """
        if self.folder:
            path = self.folder / name
            if not path.exists():
                raise FileNotFoundError(name)
            return path
        if is_spelt_as_path(self.source) or self.source.count("/") > 1:
            raise InputError(f"model {self.model!r}: there is no such folder")
        if "/" not in self.source:
            raise InputError(
                f"unknown model {self.model!r}; expected builtin, photos, a folder, or a Hub id such as "
                "openai/clip-vit-base-patch16"
            )
        from huggingface_hub.errors import EntryNotFoundError

        try:
            return repository_file(self.source, name)
        except Exception as error:  # no such repository, no network, not in the cache while offline, ...
            if isinstance(error, EntryNotFoundError):
                raise FileNotFoundError(name) from error
            raise InputError(f"model {self.model!r} cannot be had from the Hub: {first_line(error)}") from error

    def first(self, *names: str) -> Path | None:
        """The first of these files that can be had; None where none is there.

        Without a network nobody knows whether a file that is not in the cache exists: the others are tried first.

        Raises:
            InputError: None can be had, and at least one may exist: see ``path``.
        """
        refusal = None
        for name in names:
            try:
                return self.path(name)
            except FileNotFoundError:
                continue
            except InputError as error:
                refusal = error
        if refusal:
            raise refusal
        return None

    def weights(self, names: Sequence[str], whose: str) -> Path:
        """The first of these files that can be had; one must be there.

        Raises:
            InputError: None can be had.
        """
        path = self.first(*names)
        if path is None:
            raise InputError(f"there is none of {' and '.join(names)}; expected {whose} weights")
        return path

    def commit_of(self, path: Path) -> str | None:
        """The commit on the Hub that one of the files is of; None where they lie in a folder."""
        commit = "" if self.folder else path.parent.name
        return commit if re.fullmatch("[0-9a-f]{40}", commit) else None

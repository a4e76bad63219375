"""Adapters on the Hugging Face Hub: fetched as files that are only ever read, and pushed as a folder."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from .errors import AdapterError, InputError, first_line
from .records import CARD_FILE, RECORD_FILE, TENSOR_FILES
from .repositories import repository_file

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILES = (*TENSOR_FILES, CARD_FILE, RECORD_FILE)


def fetched_adapter(repository: str, revision: str | None = None, unanswered: list[str] | None = None) -> Path | None:
    """Return the adapter in a repository, as a folder in the Hub's cache; JSON, safetensors and the card, nothing else.

    The Hub's own settings hold: ``HF_HUB_OFFLINE``, ``HF_TOKEN``, ``HF_HOME``.

    Args:
        repository: ``owner/name``.
        revision: A commit, tag or branch; ``main`` if not given.
        unanswered: Receives a line on why the Hub could not say whether there is one.

    Returns:
        None where that is no repository's name, or there is no adapter in it as far as the Hub or its cache can say.

    Raises:
        InputError: There is one, and it cannot be fetched.
    """
    if not _REPOSITORY.fullmatch(repository):
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        record = repository_file(repository, RECORD_FILE, revision)
    except (EntryNotFoundError, RepositoryNotFoundError, RevisionNotFoundError, HFValidationError):
        return None
    except Exception as error:  # the Hub's client lets through what its HTTP client raises, such as a proxy's refusal
        if unanswered is not None:
            unanswered.append(f"the Hub could not be asked for {repository}: {first_line(error)}")
        return None
    commit = record.parent.name  # all files of one commit, whatever is pushed meanwhile
    try:
        return Path(snapshot_download(repository, revision=commit, allow_patterns=list(_FILES)))
    except Exception as error:
        raise InputError(
            f"adapter {repository} cannot be fetched from the Hub: {first_line(error)}; try again"
        ) from error


def here(source: str | os.PathLike[str], revision: str | None = None, unanswered: list[str] | None = None) -> Path:
    """Return a folder on this machine, or the copy of a repository's adapter here, or else the path as it is given.

    Args:
        source: A folder's path, or ``owner/name``.
        revision: As for ``fetched_adapter``.
        unanswered: As for ``fetched_adapter``.

    Raises:
        InputError: There is such a repository, and it cannot be fetched.
    """
    path = Path(source)
    return path if path.exists() else fetched_adapter(str(source), revision, unanswered) or path


def is_adapter(folder: Path) -> bool:
    """Tell whether a folder has the record of an adapter, or PEFT's configuration of one."""
    return (folder / RECORD_FILE).exists() or (folder / "adapter_config.json").exists()


def adapter_folder(source: str | os.PathLike[str]) -> Path:
    """Return the folder of an adapter's files: the folder itself, or this machine's copy of a repository on the Hub.

    Raises:
        AdapterError: There is no adapter in this folder or repository.
        InputError: It cannot be fetched.
    """
    unanswered: list[str] = []
    path = here(source, unanswered=unanswered)
    if not path.exists():
        names = [folder.name for folder in path.parent.glob("*") if is_adapter(folder)]
        nearest = [str(path.parent / name) for name in difflib.get_close_matches(path.name, names)]
        hints = [f"did you mean {' or '.join(nearest)}?"] if nearest else unanswered
        raise AdapterError("; ".join([f"adapter {path} does not exist", *hints]))
    if not path.is_dir():
        raise AdapterError(f"adapter {path} is a file; expected a folder")
    if not is_adapter(path):
        raise AdapterError(f"adapter {path} holds no adapter: {RECORD_FILE} is missing")
    return path


def push_folder(folder: Path, repository: str, *, private: bool) -> str:
    """Upload a folder to a repository, which is made if it is not there, and return the commit's address.

    Args:
        folder: With an adapter.
        repository: ``owner/name``.
        private: Whether a repository that is made here is private.

    Raises:
        InputError: The Hub refuses, or cannot be reached.
    """
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repository, folder_path=folder))
    except Exception as error:
        raise InputError(f"pushing to {repository!r} failed: {error}") from error

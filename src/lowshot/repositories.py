"""Files of repositories on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from .errors import first_line


def why_unreachable(data_set: str) -> str:
    """The reason why the Hub cannot be asked for a data set; empty if it answers, whatever that is.

    It is asked once, where ``datasets`` asks for half a minute. Whether the data set exists is for ``datasets`` to say.

    Args:
        data_set: ``owner/name``, or ``name`` alone.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        get_hf_file_metadata(hf_hub_url(data_set, "README.md", repo_type="dataset"))
    except (HfHubHTTPError, OfflineModeIsEnabled):  # an answer; or datasets looks into its cache alone, at once
        return ""
    except Exception as error:  # no network, a proxy that refuses, no such name for a repository, ...
        return first_line(error)
    return ""


def repository_file(repository: str, name: str, revision: str | None = None) -> Path:
    """Return a file of a repository, fetched into the Hub's cache if need be.

    The Hub is asked once whether there is such a file. Where there is no network its client asks six times, with a line
    each, and a folder's name with a mistake in it would be refused after half a minute.

    Args:
        repository: ``owner/name``.
        name: The file's path in the repository.
        revision: A commit, tag or branch; ``main`` if not given.

    Raises:
        RevisionNotFoundError: The Hub has no such revision.
        RemoteEntryNotFoundError: The Hub has the repository, and no such file is in it.
        Exception: There is no such repository, or the Hub cannot be asked, and the file is not in the cache; whatever
            the Hub's client raises.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError, RevisionNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(repository, name, revision=revision))
    except (EntryNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:  # no network, a proxy that refuses, a gated repository, offline by a setting, ...
        try:
            return Path(hf_hub_download(repository, name, revision=revision, local_files_only=True))
        except LocalEntryNotFoundError:
            raise error from None
    return Path(hf_hub_download(repository, name, revision=revision))

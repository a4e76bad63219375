"""An adapter as one file to download."""

from __future__ import annotations

import contextlib
import tempfile
import zipfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from ..records import CARD_FILE, RECORD_FILE, TENSOR_FILES

_FILES = (*TENSOR_FILES, RECORD_FILE, CARD_FILE)


def zipped(folder: Path) -> Response:
    """An adapter's files, as they are, in one file that is gone when it is sent."""
    with contextlib.ExitStack() as stack:
        temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="lowshot-", ignore_cleanup_errors=True))
        path = Path(temporary, f"{folder.name}.zip")
        with zipfile.ZipFile(path, "w") as archive:
            for name in _FILES:
                is_plain = name != CARD_FILE or not (folder / name).is_symlink()  # nothing checks what a card links to
                if is_plain and (folder / name).is_file():
                    archive.write(folder / name, f"{folder.name}/{name}")
        gone = BackgroundTask(stack.pop_all().close)
    return FileResponse(path, media_type="application/zip", filename=path.name, background=gone)

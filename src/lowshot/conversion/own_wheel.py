"""This very copy of lowshot as a wheel, for a machine that can fetch it from nowhere.

lowshot is on no package registry. What is installed here, from a clone, a wheel or a URL, goes along as a file instead:
the package's own files, and the metadata that they were installed with
(https://packaging.python.org/en/latest/specifications/binary-distribution-format/).
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import zipfile
from pathlib import Path

from ..errors import RunError
from ..extras import DISTRIBUTION

_PACKAGE = Path(__file__).parents[1]
_WHEEL = "Wheel-Version: 1.0\nGenerator: lowshot\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_YEAR_1980 = (1980, 1, 1, 0, 0, 0)  # the first that a ZIP file knows: the same files make the same wheel


def write_wheel(folder: Path) -> str:
    """Write the wheel into a folder; returns the file's name.

    Raises:
        RunError: lowshot runs from its source without having been installed, so that nobody knows what it needs.
    """
    try:
        installed = importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        raise RunError("lowshot was never installed here; expected pip install -e . in its clone first") from None
    name = f"{DISTRIBUTION}-{installed.version}"
    contents = {
        path.relative_to(_PACKAGE.parent).as_posix(): path.read_bytes()
        for path in sorted(_PACKAGE.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    information = {file: installed.read_text(file) or "" for file in ("METADATA", "entry_points.txt")}
    for file, text in {**information, "WHEEL": _WHEEL}.items():
        contents[f"{name}.dist-info/{file}"] = text.encode()
    record = f"{name}.dist-info/RECORD"
    lines = []
    for file, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{file},sha256={digest},{len(content)}\n")
    contents[record] = "".join([*lines, f"{record},,\n"]).encode()
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as archive:
        for file, content in contents.items():
            archive.writestr(zipfile.ZipInfo(file, _YEAR_1980), content, zipfile.ZIP_DEFLATED)
    return f"{name}-py3-none-any.whl"

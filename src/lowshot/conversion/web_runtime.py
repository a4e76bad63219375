"""The runtime of an ONNX file in a browser: onnxruntime-web, which is fetched once and is no part of lowshot.

Its package has 33 MB, of which a page needs a script and a WebAssembly binary. npm's registry publishes the package's
SHA-512; the SHA-256 below is of the file that has it.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

from ..data.catalogue.download import fetch, verify
from ..data.catalogue.facts import Download
from ..errors import DataError, InputError, RunError
from ..files import cache_folder
from ..progress import Track, silent

VERSION = "1.30.0"
PACKAGE = Download(
    file=f"onnxruntime-web-{VERSION}.tgz",
    places={},
    urls=(f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz",),
    size=33_106_585,
    sha256="d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
)
SCRIPT, BINARY = "package/dist/ort.wasm.bundle.min.mjs", "package/dist/ort-wasm-simd-threaded.wasm"


def web_runtime(given: Path | None = None, track: Track = silent) -> tuple[bytes, bytes]:
    """The script and the binary.

    Args:
        given: npm's package as a file; else the one in the user's cache, where it is fetched to if need be.
        track: Shows how the fetching goes.

    Raises:
        InputError: The given file is another.
        RunError: It cannot be fetched.
    """
    path = given or cache_folder() / PACKAGE.file
    try:
        if given is not None and not path.is_file():
            raise InputError(
                f"onnxruntime-web {path} is no file; expected what npm pack onnxruntime-web@{VERSION} makes"
            )
        if given is None and not path.exists():
            fetch(PACKAGE, path.parent, track)
        verify(PACKAGE, path, silent)
        with tarfile.open(path) as package:
            return _member(package, SCRIPT), _member(package, BINARY)
    except (RunError, DataError, OSError, tarfile.TarError) as error:
        if given is not None:
            raise InputError(
                f"onnxruntime-web {path} cannot be used: {error}; expected version {VERSION}, as npm pack "
                f"onnxruntime-web@{VERSION} writes it"
            ) from error
        raise RunError(
            f"onnxruntime-web {VERSION}, which runs a page, cannot be had: {error}; where there is a network run npm "
            f"pack onnxruntime-web@{VERSION}, and give the file: --onnxruntime-web {PACKAGE.file}"
        ) from error


def _member(package: tarfile.TarFile, name: str) -> bytes:
    try:
        file = package.extractfile(name)
    except KeyError:
        file = None
    if file is None:
        raise DataError(f"it has no {name}")
    return file.read()

"""Run the notebooks and write what they print into them.

    .venv/bin/python tools/run_notebooks.py

They run in an empty folder, without a network, on the built-in model.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = ("first-steps", "papers-table")


@contextmanager
def _alone() -> Iterator[str]:
    """An empty folder, with the commands of this environment and no GPU."""
    before = dict(os.environ)
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield folder
    finally:
        os.environ.clear()
        os.environ.update(before)


def executed(name: str) -> Any:
    """A notebook with what its cells print now.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    with _alone() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times of day
    return notebook


if __name__ == "__main__":
    for name in NOTEBOOKS:
        nbformat.write(executed(name), FOLDER / f"{name}.ipynb")

"""The notebooks run from the first cell to the last, and are committed with what they print."""

import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NAMES = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def committed(name):
    return nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)


def printed(notebook):
    """All that the cells printed."""
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", ()))
    return "".join(output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools" / "run_notebooks.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    return tool


def test_all_notebooks_are_run(tool):
    assert sorted(tool.NOTEBOOKS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_committed_as_it_ran(name):
    notebook = committed(name)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert {kind for output in outputs for kind in output.get("data", {})} <= {"text/plain", "image/png"}
    assert not re.search(r"/tmp/|/root/|/home/|Traceback|Warning", printed(notebook))
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 100_000


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_installs_lowshot_where_it_is_not(name):
    first = next(cell for cell in committed(name).cells if cell.cell_type == "code").source
    assert 'find_spec("lowshot") is None' in first
    assert "%pip install" in first


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name, tool):
    text = printed(tool.executed(name))
    if name == "first-steps":
        before, after = map(float, re.search(r"([\d.]+)% became ([\d.]+)%", text).groups())
        assert after > before + 5
    else:
        assert re.search(r"^qlora, checkpointing +9\d\.\d%", text, re.MULTILINE)

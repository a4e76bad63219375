"""The list of tests that take long names tests that there are: a renamed one would be long for everybody again."""

import ast
from pathlib import Path

from long_tests import is_left_out

TESTS = Path(__file__).parent


def test_every_test_that_is_listed_as_long_is_there():
    listed = (TESTS / "long.txt").read_text(encoding="utf-8").split()
    assert listed == sorted(set(listed))
    for name in listed:
        path, function = name.split("::")
        tree = ast.parse((TESTS.parent / path).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def test_a_file_without_a_test_that_is_asked_for_is_not_read(tmp_path):
    texts = {
        "some": "@pytest.mark.long\ndef test_it(): ...\n",
        "none": "pytestmark = pytest.mark.usefixtures('long')\n",
        "all": "pytestmark = pytest.mark.long\n",
        "all_of_several": "pytestmark = [\n    pytest.mark.browser,\n    pytest.mark.long,  # Chromium\n]\n",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)

    def left_out(asked):
        return {name for name in texts if is_left_out(tmp_path / f"{name}.py", asked)}

    assert left_out("long and not slow and not gpu") == {"none"}
    assert left_out("not long and not slow and not gpu") == {"all", "all_of_several"}
    assert left_out("") == left_out("slow") == left_out("gpu") == set()
    assert not any(is_left_out(TESTS / "test_classifier.py", asked) for asked in ("long", "not long"))  # it is listed

"""The tree of errors: what a program may rely on."""

import ast
import pickle
import re
from pathlib import Path

import pytest

from lowshot import errors
from lowshot.serving.refusals import refusal_of
from refusing import refused

TESTS, FEW_WORDS = Path(__file__).parent, 4
PAGE = TESTS.parent / "docs" / "reference" / "errors.md"
ERRORS = {
    errors.LowshotError: ("said",),
    errors.InputError: ("said",),
    errors.UnknownNameError: ("method", "lorra", ["lora", "gda"]),
    errors.DataError: ("said",),
    errors.ImageError: ("said",),
    errors.LongPromptError: ("a photo of a cat.", 99, 77),
    errors.AdapterError: ("said",),
    errors.OutputError: ("said",),
    errors.OutputExistsError: (Path("photos"),),
    errors.OutputBusyError: (Path("photos"), "process 7 on host"),
    errors.MissingExtraError: ("onnx", "onnx", "format onnx"),
    errors.NotFittedError: ("said",),
    errors.RunError: ("said",),
}
"""Every class of the tree, in its order, and what one is made of."""
BUILTINS = {errors.InputError: {ValueError}, errors.NotFittedError: {ValueError, AttributeError}}


def depth(kind):
    return sum(issubclass(kind, parent) for parent in ERRORS) - 1


def test_the_documentation_has_every_class_with_its_code_exit_status_and_http_status():
    rows = re.findall(r"^\| ((?:- )*)`(\w+)` \| `(\w+)` \| (\d) \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert rows == [
        ("- " * depth(kind), kind.__name__, kind.code, str(kind.exit_status), str(refusal_of(kind(*made)).status))
        for kind, made in ERRORS.items()
    ]


def test_no_class_is_missing_here_or_in_the_tree_of_the_docstring():
    every = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert every == set(ERRORS)
    drawn = re.findall(r"^(?:[│ ]*[├└]── )?(\w+Error) +(\w+)", errors.__doc__, re.MULTILINE)
    assert drawn == [(kind.__name__, kind.code) for kind in ERRORS]


def test_an_error_is_the_builtin_that_callers_expect():
    for kind in ERRORS:
        for parent, builtins in BUILTINS.items():
            assert not issubclass(kind, parent) or all(issubclass(kind, builtin) for builtin in builtins)


def test_a_server_answers_with_the_code_of_the_class():
    assert {refusal_of(kind(*made)).code for kind, made in ERRORS.items()} == {kind.code for kind in ERRORS}


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_an_error_passes_between_processes_with_its_message_and_facts(kind):
    error = kind(*ERRORS[kind])
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))


def test_an_unknown_name_knows_what_it_is_the_known_names_and_the_nearest():
    error = errors.UnknownNameError("method", "lorra", ["lora", "gda"])
    assert (error.kind, error.name, error.known, error.nearest) == ("method", "lorra", ("gda", "lora"), ("lora",))
    assert "did you mean lora?" in str(error)
    assert "known: gda, lora" in str(errors.UnknownNameError("method", "x", ["lora", "gda"]))
    assert "there is none yet" in str(errors.UnknownNameError("adapter", "x", []))


def test_facts_stand_in_the_message_too():
    long, extra = errors.LongPromptError("x" * 300, 99, 77), errors.MissingExtraError("onnx", "onnx", "format onnx")
    assert (long.tokens, long.limit, len(long.prompt)) == (99, 77, 300)
    assert "99" in str(long)
    assert "77" in str(long)
    assert "x" * 201 not in str(long)
    assert (extra.package, extra.extra) == ("onnx", "onnx")
    assert str(extra).startswith("format onnx needs the package onnx: pip install ")
    assert "photos" in str(errors.OutputExistsError(Path("photos")))


@pytest.mark.parametrize(
    ("kind", "facts", "complaint"),
    [
        (errors.DataError, ["a.jpg", 16, "--shots"], None),
        (errors.InputError, [], "DataError instead of InputError"),
        (errors.DataError, [1], "'1' is not stated"),
        (errors.DataError, ["a.jp"], "'a.jp' is not stated"),
    ],
)
def test_a_refusal_is_of_its_class_and_states_each_fact(kind, facts, complaint):
    def refuse():
        with refused(kind, *facts):
            raise errors.DataError("a.jpg has 12 pixels; expected 16: see --shots")

    if complaint is None:
        refuse()
    else:
        with pytest.raises(AssertionError, match=complaint):
            refuse()


def test_no_test_pins_the_sentence_of_an_error():
    """Four words are a fact and what it is a fact of."""
    sentences = []
    for file in sorted(TESTS.rglob("*.py")):
        for call in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "attr", None) == "raises":
                patterns = [keyword.value for keyword in call.keywords if keyword.arg == "match"]
                texts = [node.value for each in patterns for node in ast.walk(each) if isinstance(node, ast.Constant)]
                if any(len(re.findall("[a-z]{2,}", text)) > FEW_WORDS for text in texts):
                    sentences.append(f"{file.relative_to(TESTS)}:{call.lineno}")
    assert not sentences, f"use refusing.refused, which takes facts: {', '.join(sentences)}"

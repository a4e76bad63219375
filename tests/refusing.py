"""Errors, tested by their class and the facts that they state, whatever the sentence is."""

import re
from contextlib import contextmanager

import pytest


@contextmanager
def refused(kind, *facts):
    """Expect an error of exactly this class whose message states every fact.

    Args:
        kind: The class; one derived from it is another error, with another code.
        facts: Names, figures, paths and flags as they stand in the message, none as a part of a longer word.
    """
    with pytest.raises(kind) as caught:
        yield caught
    message = str(caught.value)
    assert type(caught.value) is kind, f"{type(caught.value).__name__} instead of {kind.__name__}: {message}"
    assert_states(message, *facts)


def assert_states(message, *facts):
    """Check that a message states every fact, as ``refused`` has them."""
    for fact in map(str, facts):
        assert re.search(rf"(?<!\w){re.escape(fact)}(?!\w)", message), f"{fact!r} is not stated in: {message}"

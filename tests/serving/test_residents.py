"""Which adapters are in memory, and what they take together."""

import threading

import torch
from hypothesis import given
from hypothesis import strategies as st

from lowshot.errors import AdapterError
from lowshot.serving.mixing import Updates
from lowshot.serving.residents import ClassTable, Resident, Residents
from refusing import refused

BUDGET = 100
TABLES = [ClassTable(("a", "b"), torch.zeros(size, dtype=torch.uint8), torch.zeros(0)) for size in (10, 20, 30)]


def adapter(name, size=10, table=None, state=0):
    """An adapter of so many bytes, beside those of its classes."""
    middles = torch.zeros(1, 1, size, dtype=torch.uint8)
    classes = ClassTable(("a",), torch.zeros(0), torch.zeros(0)) if table is None else table
    return Resident(name, ((state, 0),), classes, torch.ones(()), Updates(("layer",), middles))


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abcdef"), st.integers(1, 40), st.integers(0, 2), st.sampled_from(("ask", "end", "drop"))
    ),
    max_size=40,
)


@given(STEPS)
def test_the_budget_is_kept_and_what_is_in_use_stays_whatever_happens(steps):
    residents, in_use, state = Residents(BUDGET), [], {}
    for name, size, table, what in steps:
        if what == "drop":
            residents.drop(name)
            state.pop(name, None)
        elif what == "end" and in_use:
            residents.release([in_use.pop(0)])
        elif what == "ask":
            resident = residents.get(name, state[name].stamp) if name in state else None
            if resident is None:
                resident = adapter(name, size, TABLES[table], state=size)
                if not residents.admit(resident, may_wait=False):
                    state.pop(name, None)
                    assert in_use, "there is room where nothing is in use"
                    continue
                state[name] = resident
            assert resident is state[name]
            in_use.append(resident)
        remaining = [residents._by_name[each] for each in residents.names()]
        held = {id(part): part.nbytes for each in (*remaining, *in_use) for part in (each.classes, each.updates)}
        assert residents.used_bytes == sum(held.values()) <= BUDGET
        # What is in use is still there, unless a newer state took its name or it was dropped.
        assert all(each in remaining for each in in_use if state.get(each.name) is each)
    residents.release(in_use)
    for name in residents.names():
        residents.drop(name)
    assert residents.used_bytes == 0
    assert not residents._in_use and not residents._holders


def test_what_was_asked_for_longest_ago_goes_first():
    residents = Residents(BUDGET)
    for name in "abc":
        each = adapter(name, 30)
        residents.admit(each, may_wait=False)
        residents.release([each])
    residents.release([residents.get("a", ((0, 0),))])
    residents.admit(adapter("d", 30), may_wait=False)
    assert residents.names() == ["c", "a", "d"]


def test_another_state_of_an_adapter_is_not_what_was_asked_for():
    residents = Residents(BUDGET)
    residents.admit(adapter("a"), may_wait=False)
    assert residents.get("a", ((1, 0),)) is None
    assert residents.get("b", ((0, 0),)) is None
    assert residents.bytes_of("a") == 10
    assert residents.bytes_of("b") == 0


def test_what_is_larger_than_the_budget_is_refused_and_nothing_goes_for_it():
    residents = Residents(BUDGET)
    residents.admit(adapter("a"), may_wait=False)
    with refused(AdapterError, "adapter b", 101, 100):
        residents.admit(adapter("b", 101), may_wait=True)
    assert residents.names() == ["a"]


def test_who_may_wait_waits_until_there_is_room():
    residents, first = Residents(BUDGET), adapter("a", 80)
    residents.admit(first, may_wait=False)
    assert not residents.admit(adapter("b", 50), may_wait=False)
    taken_in = threading.Event()

    def ask():
        residents.admit(adapter("b", 50), may_wait=True)
        taken_in.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert not taken_in.wait(0.1)
    residents.release([first])
    assert taken_in.wait(10)
    thread.join()
    assert residents.names() == ["b"]

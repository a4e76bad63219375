"""The load test on a few clients: its figures mean nothing, its rows are what it promises."""

import pytest

pytestmark = pytest.mark.long


def test_every_client_is_answered_and_memory_is_watched(program):
    load = program("load")
    result = load.main(load.Arguments(smoke=True, json=True))
    one, many = result["rows"]
    assert (one["variant"], one["clients"], many["variant"], many["clients"]) == ("one-client", 1, "all-clients", 8)
    for row in (one, many):
        assert row["faults"] == 0 and row["statuses"]["200"] > 0, row["statuses"]
        assert 0 < row["p50_seconds"] <= row["p95_seconds"] <= row["p99_seconds"] <= row["max_seconds"]
        assert len(row["resident_bytes"]) == 20 and min(row["resident_bytes"]) > 0


def test_an_answer_that_is_neither_done_nor_busy_is_a_fault(program):
    load = program("load")
    seen = load.Seen()
    seen.statuses.update({"200": 3, "429": 2, "500": 1, "broken": 1})
    seen.seconds += [0.1, 0.2, 0.3]
    row = load.row_of("x", 1, 1.0, seen, [10] * 5 + [20] * 5 + [30] * 5 + [25] * 5)
    assert row["faults"] == 2 and row["p50_seconds"] == 0.2 and row["growth_bytes"] == 5

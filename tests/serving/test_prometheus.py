"""Figures of a server in Prometheus' text format."""

from lowshot.serving.prometheus import Metrics


def test_a_gauge_is_written_whole_however_large_it_is():
    gauges = {"a": 0.25, "b": 999_999, "c": 1_000_000, "d": 123_456_789_012}
    lines = dict(line.split() for line in Metrics().text(gauges).splitlines() if line.startswith("lowshot_"))
    assert [float(lines[f"lowshot_{name}"]) for name in gauges] == list(gauges.values())
    assert not any("e+" in lines[f"lowshot_{name}"] for name in gauges)

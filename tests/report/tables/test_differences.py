from __future__ import annotations

from lowshot.errors import UnknownNameError
from lowshot.report.tables.differences import difference_tables, differences_from
from refusing import refused

from ..factory import record

ELSEWHERE = {"model": {"id": "openai/clip-vit-base-patch16"}}


def test_a_backbone_on_which_the_reference_was_not_judged_does_not_refuse_the_others():
    judged = [record(), record("dora", accuracy=0.9)]
    not_judged = [record(accuracy=None, **ELSEWHERE), record("dora", accuracy=0.9, **ELSEWHERE)]

    ((section, differences),) = differences_from([*judged, *not_judged], "lora")

    assert section.model == "builtin"
    assert [difference.method for difference in differences] == ["dora"]


def test_a_reference_that_was_judged_nowhere_is_refused():
    with refused(UnknownNameError, "method of these runs", "'lora'", "dora"):
        differences_from([record(accuracy=None), record("dora")], "lora")


def test_a_reference_that_stands_alone_has_no_table_of_differences():
    assert difference_tables([record(seed=1), record(seed=2)], "lora") == []

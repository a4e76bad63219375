import sys

import pytest
import torch

from lowshot.training.memory import memory_use, resident_bytes

MEGABYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set the high-water mark back")
def test_an_earlier_larger_block_does_not_count():
    cpu = torch.device("cpu")
    with memory_use(cpu) as large:
        held = torch.ones(200 * MEGABYTE // 4)
    del held
    with memory_use(cpu) as small:
        held = torch.ones(20 * MEGABYTE // 4)
    assert held.sum() > 0
    assert large.peak - small.peak > 150 * MEGABYTE


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel is not asked")
def test_what_was_there_before_is_told_apart():
    held = torch.ones(100 * MEGABYTE // 4)
    with memory_use(torch.device("cpu")) as use:
        more = torch.ones(50 * MEGABYTE // 4)
    assert held.sum() + more.sum() > 0
    assert use.static > 100 * MEGABYTE
    assert 40 * MEGABYTE < use.peak - use.static < 90 * MEGABYTE
    assert use.reserved == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel is not asked")
def test_what_earlier_work_freed_is_neither_there_before_nor_forgotten():
    small = [torch.ones(1000) for _ in range(50_000)]  # below the size that is mapped by itself
    last = torch.ones(1000)  # keeps the heap from shrinking by itself
    taken = resident_bytes(torch.device("cpu"))
    del small
    with memory_use(torch.device("cpu")) as use:
        again = [torch.ones(1000) for _ in range(25_000)]
    assert len(again) + len(last) > 0
    assert use.static < taken - 150 * MEGABYTE
    assert use.peak - use.static > 90 * MEGABYTE

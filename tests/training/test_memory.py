import sys

import pytest
import torch

from lowshot.training.memory import peak_memory

MEGABYTE = 1 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can set the high-water mark back")
def test_an_earlier_larger_block_does_not_count():
    cpu = torch.device("cpu")
    with peak_memory(cpu) as large:
        held = torch.ones(200 * MEGABYTE // 4)
    del held
    with peak_memory(cpu) as small:
        held = torch.ones(20 * MEGABYTE // 4)
    assert held.sum() > 0
    assert large.bytes - small.bytes > 150 * MEGABYTE

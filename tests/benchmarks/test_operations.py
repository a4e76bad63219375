"""What makes a step fast on a GPU, shown without one: few kernels, no copy from the host, nothing read back.

The numbers may only fall. An H200 launched 3,217 kernels for the step of `lora` before it was made for a GPU.
"""

import json
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.long

TOGETHER = {"lora": (1147, 2425), "qlora": (1429, 2707), "lora-xs": (1095, 2373)}
"""Kernels of one run's gradients, and of those of sixteen."""
KERNELS = {"lora": 1163, "qlora": 1445, "lora-xs": 1111, "dora": 4270, "layernorm": 1377, "full": 2459}


@pytest.fixture(scope="module")
def operations(program):
    return program("operations")


@pytest.mark.parametrize("method", KERNELS)
def test_a_step_launches_no_more_kernels_than_it_did_and_never_meets_the_host(operations, method):
    counted = operations.counted(operations.METHODS[method]).row()
    assert counted == {"kernels": counted["kernels"], "from_host": 0, "read_back": 0}
    assert counted["kernels"] <= KERNELS[method]


def test_the_published_method_stays_below_1200_kernels():
    assert KERNELS["lora"] <= 1200


def test_the_page_has_these_numbers():
    page = (Path(__file__).parents[2] / "docs/concepts/exact-and-fast.md").read_text(encoding="utf-8")
    for method, kernels in KERNELS.items():
        assert f"| `{method}` | {kernels:,} | 0 | 0 |" in page
    for method, (one, sixteen) in TOGETHER.items():
        assert f"| `{method}` | {one:,} | {sixteen:,} |" in page


@pytest.mark.parametrize("method", TOGETHER)
def test_runs_together_share_their_kernels_and_never_meet_the_host(operations, method):
    for runs, most in zip((1, 16), TOGETHER[method], strict=True):
        counted = operations.counted_together(operations.METHODS[method], runs).row()
        assert counted == {"kernels": counted["kernels"], "from_host": 0, "read_back": 0}
        assert counted["kernels"] <= most


@pytest.mark.parametrize(
    "settings",
    [{"images_per_pass": 2}, {"encoder": "vision"}, {"encoder": "text"}, {"projections": ("q", "fc1")}],
    ids=str,
)
def test_other_recipes_never_meet_the_host_either(operations, settings):
    counted = operations.counted(settings, "smoke", 4, 4).row()
    assert counted["kernels"] > 0
    assert (counted["from_host"], counted["read_back"]) == (0, 0)


def test_what_a_graph_cannot_hold_is_seen(operations):
    on_device = torch.ones(4, device="meta")
    seen = operations.Operations()
    with seen, operations.HostTensors(seen):
        torch.tensor([1.0, 2.0], device="meta")
        on_device[[0, 2]]
        on_device.copy_(torch.ones(4))
        with pytest.raises(RuntimeError):
            on_device.sum().item()
        with pytest.raises(RuntimeError):
            on_device.nonzero()
        with pytest.raises(RuntimeError):
            on_device[on_device > 0]
        on_device.view(2, 2)[0].add_(1)
    assert seen.from_host.total() == 3
    assert seen.read_back.total() >= 3
    assert seen.kernels["add_"] == 1


def test_it_prints_one_object(operations, capsys):
    operations.main(operations.Arguments(json=True, methods=("lora",), smoke=True))
    assert set(json.loads(capsys.readouterr().out)["lora"]) == {"kernels", "from_host", "read_back"}


def test_of_runs_together_it_prints_one_and_all(operations):
    rows = operations.main(operations.Arguments(json=True, methods=("lora", "dora"), smoke=True, together=3))
    assert list(rows) == ["1 x lora", "3 x lora"]
    assert rows["3 x lora"]["kernels"] < 2 * rows["1 x lora"]["kernels"]

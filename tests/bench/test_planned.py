"""``lowshot plan`` of a grid."""

import json

import pytest

from lowshot.bench import planned
from lowshot.cli import main
from lowshot.training.planning import Plan
from lowshot.training.step import Passes
from refusing import assert_states


@pytest.fixture
def grid(tmp_path):
    path = tmp_path / "grid.toml"
    path.write_text(
        """
        [grid]
        data = ["digits", "letters"]
        shots = [1, 4]
        seed = [1, 2]
        [[grid.variants]]
        method = ["zero-shot", "auto"]
        [[grid.variants]]
        method = "lora"
        rank = [2, 4]
        [training]
        steps_per_shot = 10
        base_steps = 0
        """,
        encoding="utf-8",
    )
    return path


@pytest.fixture
def asked(monkeypatch):
    """What was planned, instead of planning it."""
    seen = []

    def plan(recipe, *, classes, shots):
        seen.append((recipe.method.rank, classes, shots))
        return Plan(Passes(4, 26), 26, 2_000_000_000, 1_000_000_000, 0.5, recipe.steps(shots))

    monkeypatch.setattr(planned, "plan", plan)
    return seen


def test_each_kind_of_run_is_planned_once_at_its_largest(grid, asked, capsys):
    assert main(["plan", str(grid), "--json"]) == 0
    kinds = {kind["label"]: kind for kind in json.loads(capsys.readouterr().out)}
    assert {label: kind["runs"] for label, kind in kinds.items()} == {
        "zero-shot": 2,
        "auto": 8,
        "lora, rank 2": 8,
        "lora, rank 4": 8,
    }
    assert asked == [(2, 26, 4), (4, 26, 4)]
    assert kinds["lora, rank 2"]["train_seconds"] == 0.5 * 2 * 2 * (10 + 40)
    assert kinds["zero-shot"]["plan"] is None


def test_the_sum_is_printed_below_a_line_for_each_kind(grid, asked, capsys):
    assert main(["plan", "--recipe", str(grid)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2].split() == ["8", "2.00", "0.5", "1", "min", "40", "s", "lora,", "rank", "4"]
    assert lines[-1].startswith("26 runs, ")


def test_a_grid_takes_no_settings_and_is_no_recipe_for_fit(grid, asked, capsys, tmp_path):
    assert main(["plan", str(grid), "--rank", "4"]) == 2
    assert_states(capsys.readouterr().err, "Unrecognized options", "--rank", 4)
    assert main(["fit", "digits", "--recipe", str(grid), "--out", str(tmp_path / "x")]) == 2
    assert_states(capsys.readouterr().err, f"{grid} is a grid", f"lowshot bench {grid}")

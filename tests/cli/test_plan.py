"""``lowshot plan``."""

import json

import pytest

from lowshot.cli import main
from refusing import assert_states


def test_it_predicts_memory_time_and_cuts(capsys, tiny_clip):
    assert main(["plan", "--model", str(tiny_clip), "--classes", "7", "--shots", "4", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["passes"] == {"images": 28, "prompts": 7}
    assert answer["steps"] == 2000
    assert 50_000_000 < answer["resident_bytes"] <= answer["peak_bytes"]
    assert answer["train_seconds"] == pytest.approx(2000 * answer["step_seconds"])
    assert main(["plan", "--model", str(tiny_clip), "--images-per-pass", "3", "--prompts-per-pass", "2"]) == 0
    assert "3 images at once, 2 prompts at once, forward twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--memory-budget", "1MB"], ["memory-budget 1MB", "too small"]),
        (["--memory-budget", "much"], ["memory-budget is 'much'", "2GB"]),
        (["--method", "zero-shot"], ["method zero-shot", "trains nothing"]),
        (["--classes", "1"], ["classes is 1", "2 or more"]),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(capsys, tiny_clip, arguments, facts):
    assert main(["plan", "--model", str(tiny_clip), *arguments]) == 2
    error = capsys.readouterr().err
    assert_states(error, *facts)
    assert error.count("\n") == 1


def test_a_prompt_learner_is_planned_like_any_other(capsys, tiny_clip):
    arguments = ["--method", "plot++", "--context", "3", "--classes", "7", "--shots", "4", "--json"]
    assert main(["plan", "--model", str(tiny_clip), *arguments]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["prompts"], answer["steps"]) == (7 * 4, 4000)
    assert answer["step_seconds"] > 0


def test_the_trainings_of_a_calibration_are_counted(capsys, tiny_clip):
    recipe = ["--model", str(tiny_clip), "--classes", "7", "--shots", "4", "--calibration-folds", "2"]
    assert main(["plan", *recipe, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["steps"], answer["calibration_steps"]) == (2000, 2 * 1000)
    assert answer["calibration_seconds"] == pytest.approx(2000 * answer["step_seconds"])
    assert main(["plan", *recipe]) == 0
    assert " for 2,000 steps of 2 folds to calibrate on\n" in capsys.readouterr().out

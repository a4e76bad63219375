"""The states of training that a command leaves beside its output when it is interrupted."""

import pytest

from lowshot.cli.states import beside, furthest, interruption_told
from refusing import assert_states


def test_an_interruption_names_the_furthest_state_that_there_is(tmp_path, capsys):
    """`add` named the last one of all, also while only a fold before it had left one."""
    states = [beside(tmp_path / "out", f"{name}.safetensors") for name in ("fold0", "fold1", "training")]
    with pytest.raises(KeyboardInterrupt), interruption_told(states):
        raise KeyboardInterrupt
    assert (furthest(states), capsys.readouterr().err) == (None, "")
    for state in states[:2]:
        state.touch()
    with pytest.raises(KeyboardInterrupt), interruption_told(states):
        raise KeyboardInterrupt
    assert_states(capsys.readouterr().err, states[1], "same command")


def test_a_state_lies_beside_a_folder_without_a_name_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert beside(tmp_path / "." / "out", "x.json") == tmp_path / "out.x.json"
    assert beside(tmp_path.relative_to(tmp_path), "x.json") == tmp_path.with_name(f"{tmp_path.name}.x.json")

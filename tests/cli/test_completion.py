"""``lowshot completion``."""

import re
import shutil
import subprocess

import pytest

from lowshot.cli import COMMANDS, completion, main


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("re",), ["recipes", "report"]),
        (("fit", "--sho"), ["--shots"]),
        (("data", "pre"), ["prepare"]),
        (("data", "prepare", "--fr"), ["--from"]),
        (("predict", "adapter", "im"), ["image.png"]),
    ],
)
def test_bash_completes_commands_flags_and_files(run, tmp_path, words, completed):
    (tmp_path / "image.png").touch()
    script = run("completion", "bash")[1]
    typed = f'COMP_WORDS=(lowshot {" ".join(words)}); COMP_CWORD={len(words)}; _lowshot; echo "${{COMPREPLY[@]}}"'
    said = subprocess.run(
        ["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert said.stdout.split() == completed


@pytest.mark.parametrize("command", ["demo", "serve", "predict"])
def test_the_flags_are_those_of_the_help(run, capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    assert {flag for flag in completion._flags_of(command) if not flag.startswith("--no-")} <= listed


def test_every_shell_knows_every_command(run):
    for shell in ("bash", "zsh", "fish"):
        status, script, _ = run("completion", shell)
        assert status == 0
        assert all(command in script for command in COMMANDS)
    assert run("completion", "tcsh")[0] == 2

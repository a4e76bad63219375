"""``lowshot completion``."""

import importlib
import os
import re
import select
import shutil
import subprocess

import pytest

from lowshot.cli import COMMANDS, completion, main

PATIENCE = 60
"""Seconds that a shell may say nothing."""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (("re",), [command for command in COMMANDS if command.startswith("re")]),
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
    printed = subprocess.run(
        ["bash", "-c", f"{script}\n{typed}"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert printed.stdout.split() == completed


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_zsh_completes_what_is_typed(run, tmp_path):
    """Typed into a terminal: after the word a tab, then what makes the line one that prints itself."""
    import pty

    (tmp_path / "image.png").touch()
    (tmp_path / "script").write_text(run("completion", "zsh")[1], encoding="utf-8")
    typed = ["lowshot rep", "lowshot --ver", "lowshot fit --sho", "lowshot data pre", "lowshot predict adapter im"]
    typed += ["lowshot completion fi"]
    terminal, its_end = pty.openpty()
    settings = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TERM": "dumb"}
    ends = dict.fromkeys(("stdin", "stdout", "stderr"), its_end)
    shell = subprocess.Popen(["zsh", "-f", "-i"], cwd=tmp_path, env=settings, start_new_session=True, **ends)
    begin, last = "unsetopt zle_bracketed_paste promptcr; PS1=; source script\n", "print -r -- THE''END; exit\n"
    os.write(terminal, (begin + "".join(f"{line}\t\x01print -r -- done \n" for line in typed) + last).encode())
    printed = ""
    while "THEEND" not in printed:
        assert select.select([terminal], [], [], PATIENCE)[0], printed
        printed += os.read(terminal, 1 << 16).decode()
    shell.wait()
    os.close(terminal)
    os.close(its_end)
    completed = [line.removeprefix("done ").strip() for line in printed.splitlines() if line.startswith("done ")]
    expected = ["lowshot report", "lowshot --version", "lowshot fit --shots", "lowshot data prepare"]
    assert completed == [*expected, "lowshot predict adapter image.png", "lowshot completion fish"]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_what_is_typed(run, tmp_path):
    (tmp_path / "image.png").touch()
    (tmp_path / "script").write_text(run("completion", "fish")[1], encoding="utf-8")
    expected = {
        "lowshot rep": ["report"],
        "lowshot --ver": ["--version"],
        "lowshot fit --sho": ["--shots"],
        "lowshot data ": ["check", "draw", "list", "prepare"],
        "lowshot data prepare --fr": ["--from"],
        "lowshot predict adapter im": ["image.png"],
        "lowshot completion ": ["bash", "fish", "zsh"],
    }
    asked = "\n".join(f"complete -C '{line}'; echo END" for line in expected)
    printed = subprocess.run(
        ["fish", "--no-config", "-c", f"source script\n{asked}"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        check=True,
    )
    completed = [
        [line.partition("\t")[0] for line in answer.splitlines() if line] for answer in printed.stdout.split("END\n")
    ]
    assert dict(zip(expected, completed, strict=False)) == expected


@pytest.mark.parametrize("command", ["demo", "serve", "predict"])
def test_the_flags_are_those_of_the_help(run, capsys, command):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    listed = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    words = completion.words_of(importlib.import_module(f"lowshot.cli.{command}"))
    assert {word for word in words if word.startswith("--") and not word.startswith("--no-")} <= listed


def test_every_shell_knows_every_command(run):
    for shell in ("bash", "zsh", "fish"):
        status, script, _ = run("completion", shell)
        assert status == 0
        assert all(command in script for command in COMMANDS)
    assert run("completion", "tcsh")[0] == 2

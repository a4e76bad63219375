"""Help, flags, presets and recipes of commands, and arguments that are missing or misspelt."""

import dataclasses
import importlib
import json
import subprocess
import sys

import pytest

from lowshot import __version__
from lowshot.cli import COMMANDS, main
from lowshot.cli.arguments import refuse_below
from lowshot.cli.parsing import parse, parse_with_recipe
from lowshot.errors import InputError, UnknownNameError
from lowshot.settings import preset_recipe
from refusing import refused


def test_help_lists_every_command():
    done = subprocess.run([sys.executable, "-m", "lowshot", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(command in done.stdout for command in COMMANDS)


def test_help_imports_nothing_heavy():
    program = "import sys; from lowshot.cli import main; main(['--help']); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "tyro", "matplotlib"} & set(eval(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_says_what_it_does(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"usage: lowshot {command}" in capsys.readouterr().out


def test_help_of_fit_has_every_setting(capsys):
    from lowshot.settings import SETTINGS

    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    printed = capsys.readouterr().out
    assert all(f"--{setting.replace('_', '-')}" in printed for setting in SETTINGS)


@pytest.mark.parametrize(
    ("arguments", "shown", "absent"),
    [
        ([], "Rank r of the update. (default: that of the chosen method)", "0.0002"),
        (["--method", "lora"], "Learning rate at the first step; a cosine brings it down. (default: 0.008)", "chosen"),
        (["--method", "gda"], "Rank r of the update. (not used by gda)", "(default: 9)"),
        (["--method", "lora", "--preset", "paper"], "Rank r of the update. (default: 2)", "(default: 9)"),
    ],
)
def test_help_of_fit_shows_the_settings_that_would_be_used(arguments, shown, absent, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help", *arguments])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert shown in printed
    assert absent not in printed


def test_version(run):
    assert run("--version") == (0, f"lowshot {__version__}\n", "")


def test_flags_win_over_the_recipe_which_wins_over_the_preset(fit, tmp_path):
    (tmp_path / "recipe.toml").write_text('[method]\nmethod = "lora-xs"\nrank = 6\nalpha = 2.0\n')
    status, out, err = fit("--recipe", tmp_path / "recipe.toml", "--alpha", "3", "--json")
    assert status == 0, err
    method = json.loads(out)["recipe"]["method"]
    assert (method["method"], method["rank"], method["alpha"], method["dropout"]) == ("lora-xs", 6, 3.0, 0.25)


def test_a_flag_wins_also_where_it_gives_the_dataclass_default(fit, tmp_path):
    (tmp_path / "recipe.toml").write_text("[method]\nrank = 6\n")
    status, out, _ = fit("--recipe", tmp_path / "recipe.toml", "--rank", "2", "--json")
    assert status == 0
    assert json.loads(out)["recipe"]["method"]["rank"] == 2


def test_presets_follow_the_method(tiny_clip):
    from lowshot.cli.fit import Arguments

    for method, rank in (("lora", 2), ("lora-xs", 32)):
        arguments = ["photos", "--out", "x", "--model", str(tiny_clip), "--method", method]
        assert parse_with_recipe(Arguments, "fit", arguments).settings.method.rank == rank
    of_builtin = parse_with_recipe(Arguments, "fit", ["photos", "--out", "x", "--method=lora-xs"]).settings
    assert of_builtin == preset_recipe("builtin", "lora-xs")


VALUES_OF_LISTS = {
    "openings": ("a photo of a", "a sketch"),
    "peft": ("r=4", "alpha=8"),
    "projections": ("q", "v"),
    "targets": ("digits", "letters"),
    "template": ("a {}.", "the {}."),
    "methods": ("lora", "dora"),
    "shots": ("2", "3"),
    "seeds": ("4", "5"),
    "only": ("seed=1", "shots=4"),
    "against": ("lora", "dora"),
}


@pytest.mark.parametrize(
    ("command", "given", "kind", "facts"),
    [
        ("predict", ("a", "b.png", "--json", "--out", f"/{'long' * 40}.csv"), InputError, (f"/{'long' * 40}.csv",)),
        ("serve", ("--demo", "--model", "m" * 150), InputError, ("demo", "m" * 150)),
        ("demo", ("--methods", "n" * 150), UnknownNameError, (f"method '{'n' * 150}'",)),
        ("bench", ("g.toml", "--out", "x", "--address", "auto"), InputError, ("--engine ray",)),
        ("evaluate", ("a", "b", "--new-classes", "--targets", "letters"), InputError, ("new-classes", "targets")),
        ("plan", ("--classes", "1"), InputError, ("classes is 1", "2 or more")),
        ("params", ("builtin", "--classes", "1"), InputError, ("classes is 1", "2 or more")),
    ],
)
def test_arguments_that_do_not_go_together_are_refused_by_class_with_what_was_typed_whole(command, given, kind, facts):
    """Inside of tyro they would be usage errors, broken into lines."""
    with refused(kind, *facts):
        importlib.import_module(f"lowshot.cli.{command}").run(given)


def test_the_least_of_a_count_is_one_and_below_it_none_is():
    refuse_below(1, count=1, limit=None)
    with refused(InputError, "count is 0", "1 or more"):
        refuse_below(1, limit=3, count=0)


LISTS_OF_COMMANDS = [
    ("fit", ("digits", "--out", "x"), ("openings", "peft", "projections", "targets", "template")),
    ("plan", (), ("peft", "projections", "template")),
    ("demo", (), ("methods", "shots", "seeds")),
    ("evaluate", ("adapter", "digits"), ("targets",)),
    ("bench", ("grid.toml", "--out", "x"), ("only",)),
    ("report", ("runs",), ("against",)),
]


@pytest.mark.parametrize(
    ("command", "others", "flag"), [(c, others, flag) for c, others, flags in LISTS_OF_COMMANDS for flag in flags]
)
def test_a_list_flag_that_is_given_several_times_has_all_its_values(command, others, flag):
    """``--projections q --projections v`` trained v alone, and no word was said."""
    kind = importlib.import_module(f"lowshot.cli.{command}").Arguments
    first, second = VALUES_OF_LISTS[flag]
    needed = {
        "openings": ("--method", "coop"),
        "peft": ("--method", "peft:loha"),
        "projections": ("--method", "lora"),
        "targets": ("--protocol", "cross-dataset") if command == "fit" else (),
    }

    def parsed(*given):
        return parse(kind, command, [*others, *needed.get(flag, ()), *given])

    together = parsed(f"--{flag}", first, second)
    assert together == parsed(f"--{flag}={first}", second) != parsed(f"--{flag}", second)
    for apart in (
        (f"--{flag}", first, f"--{flag}", second),
        (f"--{flag}={first}", f"--{flag}={second}"),
        (f"--{flag}", first, "--json", f"--{flag}={second}"),
    ):
        expected = dataclasses.replace(together, json=True) if "--json" in apart else together
        assert parsed(*apart) == expected


def test_what_stands_between_the_flags_of_a_list_keeps_its_meaning():
    kind = importlib.import_module("lowshot.cli.fit").Arguments
    several = ["--projections=q", "digits", "--rank", "4", "--projections=v", "--rank", "3", "--out", "x"]
    parsed = parse(kind, "fit", ["--method", "lora", *several])
    assert (parsed.data, parsed.settings.method.projections, parsed.settings.method.rank) == ("digits", ("q", "v"), 3)
    after = parse(kind, "fit", ["--out", "x", "--template", "a {}.", "--template", "the {}.", "--", "digits"])
    assert (after.data, after.settings.data.template) == ("digits", ("a {}.", "the {}."))


def test_fit_says_what_a_preset_changes(fit, tmp_path):
    status, _, err = fit("--preset", "fast")
    assert status == 0
    assert "preset fast: steps-per-shot 5 (not 500), learning-rate 0.01 (not 0.0002)\n" in err
    status, _, err = fit("--preset", "fast", "--learning-rate", "2e-4", out=tmp_path / "other")
    assert status == 0
    assert "preset fast: steps-per-shot 5 (not 500)\n" in err


def test_aliases_set_the_precision(fit):
    status, out, _ = fit("--method", "qlora", "--json")
    assert status == 0
    record = json.loads(out)
    assert (record["method"], record["quantize"]) == ("lora", "nf4")


def test_each_argument_that_is_missing_has_a_line(run):
    """Both ran together with their explanations in one."""
    status, _, err = run("bench")
    assert status == 2
    lines = err.splitlines()
    assert [line.partition("bench: ")[2].split()[0] for line in lines] == ["RECIPE", "--out"]
    assert all(line.startswith("lowshot: error: Missing from lowshot bench: ") for line in lines)
    assert lines[-1].endswith("(lowshot bench --help lists the arguments)")


def test_what_a_misspelt_flag_may_mean_is_named_without_its_explanation(run):
    status, _, err = run("fit", "digits", "--out", "x", "--shot", "3")
    assert status == 2
    assert "Unrecognized options: --shot, 3; " in err
    assert "--shots" in err
    assert "Images per class" not in err


def test_only_near_names_are_offered(run):
    assert "did you mean" not in run("fit", "nofolder", "--out", "x")[2]
    assert "did you mean oxford_pets" in run("fit", "pets", "--out", "x")[2]

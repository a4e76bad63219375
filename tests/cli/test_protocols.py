"""Protocols as a user meets them."""

import csv
import json

import pytest

from refusing import assert_states

FAST = ("--method", "lora", "--base-steps", "2", "--steps-per-shot", "0", "--shots", "1")


@pytest.fixture(scope="module")
def parted(tmp_path_factory):
    """An adapter of base-to-new, and what fit said of it."""
    from contextlib import redirect_stdout
    from io import StringIO

    from lowshot.cli import main

    folder, printed = tmp_path_factory.mktemp("parted") / "adapter", StringIO()
    with redirect_stdout(printed):
        assert main(["fit", "letters", "--protocol", "base-to-new", "--out", str(folder), *FAST]) == 0
    return folder, printed.getvalue()


def rows(printed):
    """The table's rows: first cell -> the numbers after it."""
    lines = printed.splitlines()
    start = next(i for i, line in enumerate(lines) if "accuracy %" in line)
    table = {}
    for line in lines[start + 1 :]:
        name, *cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        if not cells:
            break
        table[name] = cells
    return table


def test_fit_prints_base_new_and_their_harmonic_mean(parted):
    folder, printed = parted
    metrics = json.loads((folder / "lowshot.json").read_text())["metrics"]
    table = rows(printed)
    assert "learnt 13 images of 13 classes from letters (base)" in printed
    assert table["base"][0] == f"{100 * metrics['acc1']:.1f}"
    assert table["base"][2:] == table["new"][2:] == ["520", "test", "13"]
    assert table["new"][0] == f"{100 * metrics['others']['new']['acc1']:.1f}"
    assert table["harmonic mean"] == [f"{100 * metrics['harmonic_mean']:.1f}"]


def test_evaluate_judges_both_halves_from_the_saved_adapter(parted, run):
    folder, _ = parted
    status, out, err = run("evaluate", folder, "letters", "--json")
    assert status == 0, err
    recorded = json.loads((folder / "lowshot.json").read_text())["metrics"]
    assert json.loads(out) == {"adapter": str(folder), "data": "letters", **recorded}
    assert {"base", "new", "harmonic mean"} <= set(rows(run("evaluate", folder, "letters")[1]))


def test_evaluate_gives_a_line_of_csv_for_each_label_space(parted, run):
    folder, _ = parted
    recorded = json.loads((folder / "lowshot.json").read_text())["metrics"]
    status, out, err = run("evaluate", folder, "letters", "--format", "csv")
    assert status == 0, err
    base, new = csv.DictReader(out.splitlines())
    for line, name, figures in ((base, "letters", recorded), (new, "new", recorded["others"]["new"])):
        assert (line["data"], line["split"], int(line["images"])) == (name, "test", figures["images"])
        assert [float(line[column]) for column in ("acc1", "ece", "nll")] == [
            figures[column] for column in ("acc1", "ece", "nll")
        ]
        assert [float(line["acc1_low"]), float(line["acc1_high"])] == figures["acc1_interval"]
        assert line["coverage"] == line["covered"] == ""
    assert run("evaluate", folder, "letters", "--format", "csv", "--json")[0] == 2


def test_the_card_has_the_table(parted):
    card = (parted[0] / "README.md").read_text()
    assert "of `letters (base)`, for this one seed." in card
    assert "| `new` | " in card
    assert "| `harmonic mean` | " in card


def test_any_adapter_judges_any_data_in_their_own_classes(parted, run):
    status, out, err = run("evaluate", parted[0], "digits", "--new-classes", "--json")
    assert status == 0, err
    judged = json.loads(out)
    assert (judged["images"], judged["classes"], judged["split"]) == (901, 10, "test")
    assert "others" not in judged
    status, out, _ = run("evaluate", parted[0], "digits", "--new-classes")
    assert out.startswith(f"accuracy {100 * judged['acc1']:.1f} %")


@pytest.mark.long
def test_a_transfer_prints_a_row_for_every_target(run, tmp_path):
    transfer = ("--protocol", "cross-dataset", "--targets", "digits", "greek")
    status, out, err = run("fit", "letters", *transfer, "--out", tmp_path / "adapter", *FAST)
    assert status == 0, err
    assert list(rows(out)) == ["letters", "digits", "greek", "mean of the others"]
    status, out, err = run("evaluate", tmp_path / "adapter", "letters", "--targets", "greek")
    assert status == 0, err
    assert list(rows(out)) == ["letters", "greek", "mean of the others"]


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--protocol", "few-shots"], ["--protocol", "few-shots"]),
        (["--targets", "digits"], ["targets", "protocol few-shot", "no use"]),
        (["--protocol", "base-to-new", "--targets", "digits"], ["targets", "protocol base-to-new", "no use"]),
        (["--protocol", "cross-dataset"], ["protocol cross-dataset", "--targets"]),
        (["--protocol", "domain-generalisation"], ["letters", "only imagenet"]),
        (["--protocol", "cross-dataset", "--targets", "digits", "digits"], ["targets", "once"]),
        (
            ["--protocol", "cross-dataset", "--targets", "digits", "{tmp}/none", "greec"],
            ["2 of 3 targets", "{tmp}/none", "greec"],
        ),
        (["--protocol", "cross-dataset", "--targets", "digits", "greec"], ["1 of 2 targets", "--targets digits"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_cannot_be_judged_is_one_line_before_training(run, tmp_path, arguments, facts):
    arguments, facts = ([word.replace("{tmp}", str(tmp_path)) for word in words] for words in (arguments, facts))
    status, out, err = run("fit", "letters", "--out", tmp_path / "adapter", *arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["digits"], ["digits (base)", "other classes", "--new-classes"]),
        (["letters", "--targets", "digits"], ["targets", "protocol base-to-new", "no use"]),
        (["letters", "--new-classes", "--targets", "digits"], ["new-classes", "DATA alone", "targets"]),
        (["letters", "--new-classes", "--coverage", "0.9"], ["coverage", "taught"]),
    ],
    ids=str,
)
def test_evaluations_that_make_no_sense_are_refused_in_one_line(parted, run, arguments, facts):
    status, out, err = run("evaluate", parted[0], *arguments)
    assert (status, out) == (2, "")
    assert_states(err, *facts)
    assert err.count("\n") == 1

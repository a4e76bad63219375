"""The command ``lowshot report``."""

import csv
import io
import json

import pytest

from lowshot.files import canonical_json
from lowshot.records import RunRecord


def record_of(task, method, seed, accuracy):
    return RunRecord(
        task=task,
        method=method,
        quantize="none",
        shots=4,
        seed=seed,
        recipe={"method": {"method": method, "rank": 2}},
        classes=("a", "b"),
        model={"id": "openai/clip-vit-base-patch16"},
        draw=(),
        trainable_parameters=184_320,
        total_parameters=149_600_000,
        adapter_bytes=740_000,
        steps=2000,
        train_seconds=60.0,
        peak_memory_bytes=1_000_000,
        metrics={"acc1": accuracy, "images": 1692, "split": "test"},
    )


@pytest.fixture
def runs(tmp_path):
    """A folder as ``lowshot bench`` leaves it, with one run that failed."""
    folder = tmp_path / "runs"
    for part in ("done", "failed", "partial"):
        (folder / part).mkdir(parents=True)
    number = 0
    for task in ("dtd", "ucf101"):
        for method, accuracy in (("lora", 0.63), ("lora-xs", 0.6)):
            for seed in (1, 2, 3):
                record = record_of(task, method, seed, accuracy + seed / 100)
                (folder / "done" / f"{number:016x}.json").write_text(canonical_json(record.to_dict()))
                number += 1
    (folder / "failed" / "ffff.json").write_text('{"error": "no"}')
    return folder


def test_differences_from_a_method_are_added_with_their_intervals(run, runs):
    status, out, _ = run("report", runs, "--against", "lora")

    assert status == 0
    assert "Differences from lora in points" in out
    row = next(line.split() for line in out.partition("Differences")[2].splitlines() if line.startswith("lora-xs"))
    assert row == ["lora-xs", "-3.0", "-3.0", "to", "-3.0", "6", "0.031"]


def test_differences_are_in_the_json_too(run, runs):
    _, out, _ = run("report", runs, "--against", "lora", "--json")

    (difference,) = json.loads(out)["differences"]
    assert (difference["method"], difference["reference"], difference["pairs"]) == ("lora-xs", "lora", 6)
    assert difference["difference"] == pytest.approx(-0.03)


def test_a_reference_that_is_not_there_is_named(run, runs):
    status, _, err = run("report", runs, "--against", "dora")

    assert status == 2
    assert "unknown method of these runs 'dora'" in err


def test_it_prints_the_tables_and_what_is_missing(run, runs):
    status, out, err = run("report", runs)

    assert (status, err) == (0, "")
    assert "Accuracy in percent, ViT-B/16 (openai/clip-vit-base-patch16)" in out
    assert "65.0 ± 1.0" in out
    assert "CLIP-LoRA, quoted" in out
    assert "1 failed; lowshot bench with the same recipe goes on" in " ".join(out.split())


def test_the_terminals_width_is_kept(run, runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")

    out = run("report", runs)[1]

    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize(("style", "start"), [("markdown", "### Accuracy"), ("latex", "% \\usepackage{booktabs}")])
def test_other_formats(run, runs, style, start):
    status, out, _ = run("report", runs, "--format", style)

    assert status == 0
    assert out.startswith(start)


def test_csv_on_standard_output_is_csv_alone(run, runs):
    status, out, err = run("report", runs, "--format", "csv")
    lines = list(csv.DictReader(io.StringIO(out)))

    assert status == 0
    assert {line["kind"] for line in lines} >= {"measured", "quoted"}
    assert "1 failed" in err


def test_json_has_figures_comparisons_and_notes(run, runs):
    status, out, _ = run("report", runs, "--json")
    printed = json.loads(out)

    assert status == 0
    assert (printed["records"], printed["failed"], printed["under_way"], printed["written"]) == (12, 1, 0, [])
    (comparison,) = printed["comparisons"]
    assert (comparison["best"], comparison["other"], comparison["pairs"]) == ("lora", "lora-xs", 6)
    assert comparison["p"] == comparison["p_holm"] == 2 / 2**6
    assert len([figure for figure in printed["figures"] if figure["kind"] == "measured"]) == 6
    assert any("1 failed" in note for note in printed["notes"])


def test_out_has_the_page_and_a_file_of_each_format(run, runs, tmp_path):
    out = tmp_path / "made" / "report"

    status, printed, err = run("report", runs, "--out", out)

    assert (status, err) == (0, "")
    assert sorted(path.name for path in out.iterdir()) == ["index.html", "results.csv", "results.md", "results.tex"]
    assert str(out / "index.html") in printed
    for style, name in (("markdown", "results.md"), ("csv", "results.csv"), ("latex", "results.tex")):
        assert (out / name).read_text() == run("report", runs, "--format", style)[1]


def test_several_folders_are_joined(run, runs, tmp_path):
    other = tmp_path / "other" / "done"
    other.mkdir(parents=True)
    (other / "k.json").write_text(canonical_json(record_of("dtd", "dora", 1, 0.7).to_dict()))

    assert json.loads(run("report", runs, other.parent, "--json")[1])["records"] == 13


def test_bad_input_ends_with_status_2_and_one_line(run, runs, tmp_path):
    (runs / "done" / "0bad.json").write_text("{")
    file = tmp_path / "file"
    file.write_text("")

    for arguments in (
        ("report",),
        ("report", tmp_path / "nowhere"),
        ("report", tmp_path),
        ("report", runs),
        ("report", runs, "--format", "html"),
    ):
        status, out, err = run(*arguments)
        assert (status, out) == (2, ""), arguments
        assert err.startswith("lowshot: error: ")
        assert err.count("\n") == 1


def test_a_place_that_cannot_be_written_is_refused(run, runs, tmp_path):
    file = tmp_path / "file"
    file.write_text("")

    status, _, err = run("report", runs, "--out", file / "report")

    assert status == 2
    assert "cannot be written" in err

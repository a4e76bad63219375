"""Images of several labels from end to end: learnt, saved, judged and said; each surface works or refuses by name."""

import csv
import dataclasses
import importlib.util
import io
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from lowshot import FewShotClassifier
from lowshot.cli import main
from lowshot.conversion import export
from lowshot.errors import AdapterError, DataError, InputError, NotFittedError
from lowshot.heads import linear_probe, tensors_of
from lowshot.labelling import Unlabelled, doubted_labels, suggested_images
from lowshot.methods import METHODS
from lowshot.records import RunRecord
from lowshot.report.page import write_report
from lowshot.report.tables.comparison import comparison_tables
from lowshot.report.tables.formats import in_markdown
from lowshot.report.tables.long_format import in_csv
from lowshot.settings import Recipe
from refusing import refused

COLOURS = ("red", "green", "blue")
SEVERAL = {"labels_per_image": "several"}


def pictures(count=18, seed=0):
    """Pictures with a stripe of each colour that they show, and the colours."""
    generator = np.random.default_rng(seed)
    images, labels = [], []
    for number in range(count):
        image = generator.integers(0, 60, (20, 21, 3), dtype=np.uint8)
        shown = [c for c in range(3) if (1 << c) & (number % 8)]
        for colour in shown:
            image[:, 7 * colour : 7 * colour + 7, colour] += 180
        images.append(image)
        labels.append([COLOURS[c] for c in shown])
    return images, labels


@pytest.fixture(scope="module")
def fitted(tiny_clip):
    return FewShotClassifier(str(tiny_clip), method="proker", **SEVERAL).fit(*pictures(24))


@pytest.fixture(scope="module")
def adapter(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("several") / "adapter"
    fitted.evaluate(fitted.task(*pictures(32, seed=1)))
    fitted.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with a cell of labels for each image, and images to ask about."""
    folder = tmp_path_factory.mktemp("table")
    rows = ["file_name,label,split"]
    for number, (image, labels) in enumerate(zip(*pictures(48), strict=True)):
        Image.fromarray(image).save(folder / f"{number}.png")
        rows.append(f"{number}.png,{'|'.join(labels)},{'train' if number < 24 else 'test'}")
    (folder / "colours.csv").write_text("\n".join(rows) + "\n")
    return folder / "colours.csv"


def test_it_learns_and_says_all_labels_of_an_image(fitted):
    images, labels = pictures(32, seed=1)
    assert fitted.classes_.tolist() == sorted(COLOURS)
    table = fitted.predict_proba(images)
    assert ((table > 0) & (table < 1)).all() and not np.allclose(table.sum(1), 1)
    said = fitted.predict(images)
    assert np.mean([set(one) == set(other) for one, other in zip(said, labels, strict=True)]) > 0.6
    for row, one in zip(table, said, strict=True):
        likely = [fitted.classes_.tolist().index(label) for label in one]
        assert row[likely].tolist() == sorted(row[likely], reverse=True)
    assert () in said
    precision = fitted.evaluate(fitted.task(images, labels))["map"]
    assert precision > 0.8 and fitted.score(images, labels) == pytest.approx(precision)


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("zero-shot", {}),
        ("nearest-mean", {}),
        ("linear-probe", {}),
        ("lora", {"rank": 4, "base_steps": 2, "steps_per_shot": 0}),
        ("lora-xs", {"rank": 4, "base_steps": 3, "steps_per_shot": 0, "calibration_folds": 2}),
        ("dora", {"rank": 4, "base_steps": 2, "steps_per_shot": 0}),
        ("layernorm", {"base_steps": 2, "steps_per_shot": 0}),
        ("bitfit", {"base_steps": 2, "steps_per_shot": 0}),
        ("full", {"base_steps": 2, "steps_per_shot": 0}),
        ("clip-svd", {"base_steps": 2, "steps_per_shot": 0}),
        ("coop", {"base_steps": 2, "steps_per_shot": 0, "context": 4}),
        ("peft:loha", {"base_steps": 2, "steps_per_shot": 0}),
    ],
)
def test_every_method_that_can_is_saved_and_read_to_the_same_answers(tiny_clip, tmp_path, method, settings):
    classifier = FewShotClassifier(str(tiny_clip), method=method, **SEVERAL, **settings).fit(*pictures())
    presence, folds = classifier.presence, settings.get("calibration_folds")
    assert presence.folds == (
        folds or (0 if METHODS.get(method, METHODS["lora"]).kind != "features" else presence.folds)
    )
    told = method in ("zero-shot", "nearest-mean", "linear-probe") or folds
    assert bool(told) == (presence.images > 0)
    assert bool(told) != any("no shot was held out" in line for line in classifier.warnings_)
    classifier.save_pretrained(tmp_path / "adapter")
    images, _ = pictures(8, seed=2)
    again = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    assert np.allclose(again.predict_proba(images), classifier.predict_proba(images), atol=1e-6)
    assert again.predict(images) == classifier.predict(images)


def test_the_methods_that_cannot_say_which_can(tiny_clip):
    unable = [name for name, row in METHODS.items() if not row.learns_several]
    assert {"gda", "tip-adapter", "2sfs", "plot++"} <= set(unable)
    for method in unable:
        with refused(InputError, method, "lora"):
            FewShotClassifier(str(tiny_clip), method=method, **SEVERAL).fit(*pictures())


def test_training_pulls_the_labels_apart(tiny_clip):
    settings = {"method": "lora", "rank": 4, "learning_rate": 1e-2, "crop_minimum": 1.0, "flip": False, **SEVERAL}
    short = FewShotClassifier(str(tiny_clip), base_steps=1, steps_per_shot=0, **settings).fit(*pictures())
    long = FewShotClassifier(str(tiny_clip), base_steps=25, steps_per_shot=0, **settings).fit(*pictures())
    assert long.record_.final_loss < 0.8 * short.record_.final_loss
    assert long.score(*pictures()) > short.score(*pictures())


def test_the_record_is_read_strictly(adapter, tmp_path):
    record = json.loads((adapter / "lowshot.json").read_text())
    assert record["presence"]["folds"] == 16 and len(record["presence"]["thresholds"]) == 3
    assert record["metrics"]["map"] > 0.8
    for number, (change, kind, facts) in enumerate(
        (
            ({"presence": {}}, AdapterError, ("no presence",)),
            (
                {"presence": {**record["presence"], "slope": -1.0}},
                AdapterError,
                ("lowshot.json", "presence", "a slope"),
            ),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        for path in adapter.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        (folder / "lowshot.json").write_text(json.dumps({**record, **change}))
        with refused(kind, *facts):
            FewShotClassifier.from_pretrained(folder)
    one = RunRecord.from_dict({name: value for name, value in record.items() if name != "presence"})
    assert "presence" not in one.to_dict() and not one.has_several


def test_the_card_says_how_well_each_class_is_told(adapter):
    card = (adapter / "README.md").read_text()
    assert "Mean average precision" in card and "| `green` |" in card and "F1" in card
    assert "the threshold of its class, learnt from 24 images that were held out" in " ".join(card.split())


# -- the command line --------------------------------------------------------------------------------------------------


def said(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    return captured.out


def test_a_table_is_fitted_evaluated_and_predicted(tiny_clip, table, tmp_path, capsys):
    flags = ("--labels-per-image", "several", "--label-delimiter", "|", "--method", "proker", "--model", tiny_clip)
    out = said(capsys, "fit", table, *flags, "--out", tmp_path / "adapter")
    assert "mean average precision" in out and "F1" in out
    out = said(capsys, "evaluate", tmp_path / "adapter", table)
    assert out.startswith("mean average precision") and "24 images: the test split" in out
    figures = json.loads(said(capsys, "evaluate", tmp_path / "adapter", table, "--json"))
    assert len(figures["class_ap"]) == 3 and figures["exact_match"] > 0.5
    [row] = csv.DictReader(io.StringIO(said(capsys, "evaluate", tmp_path / "adapter", table, "--format", "csv")))
    assert float(row["map"]) == figures["map"] and row["acc1"] == ""
    images = [table.with_name(f"{number}.png") for number in (24, 31)]
    text = said(capsys, "predict", tmp_path / "adapter", *images).splitlines()
    assert "no label; nearest: " in text[0] and "blue" in text[1] and "red" in text[1]
    none, every = json.loads(said(capsys, "predict", tmp_path / "adapter", *images, "--json"))
    assert none["labels"] == [] and sorted(every["labels"]) == sorted(COLOURS)
    assert set(none["probabilities"]) == set(COLOURS) and "label" not in none
    rows = list(csv.DictReader(io.StringIO(said(capsys, "predict", tmp_path / "adapter", *images, "--format", "csv"))))
    assert rows[0]["labels"] == "" and sorted(rows[1]["labels"].split("|")) == sorted(COLOURS)
    assert len(rows[1]["probabilities"].split("|")) == 3
    said(capsys, "predict", tmp_path / "adapter", *images, "--out", tmp_path / "all.csv")
    assert list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text()))) == rows


def test_draws_and_methods_are_listed(capsys, table):
    flags = ("--labels-per-image", "several")
    drawn = json.loads(said(capsys, "data", "draw", "shapes", *flags, "--shots", "2", "--json"))
    assert min(drawn["classes"].values()) >= 2 and drawn["shots"] == 2
    checked = json.loads(said(capsys, "data", "check", table, *flags, "--label-delimiter", "|", "--json"))
    assert (checked["train"], checked["classes"], checked["ok"]) == (24, 3, True)
    assert "shapes" in said(capsys, "data", "list")
    rows = {row["name"]: row["learns_several"] for row in json.loads(said(capsys, "methods", "--json"))}
    assert rows["lora"] and not rows["gda"]


def test_images_to_label_next_come_with_all_labels_they_may_have(tiny_clip):
    recipe = Recipe().replace(model=str(tiny_clip), views=None, **SEVERAL)
    images, labels = pictures(16, seed=1)
    first = suggested_images(images, recipe, classes=COLOURS, count=3)
    assert {(each.why, each.looks_like, each.labels) for each in first} == {("typical", None, None)}
    assert [each.labels for each in suggested_images(images, recipe, count=1)] == [None]
    chosen = suggested_images(images, recipe, *pictures(24), count=16)
    assert {each.why for each in chosen} == {"unsure"}
    assert np.mean([set(each.labels) == set(labels[each.index]) for each in chosen]) > 0.6
    for each in chosen:
        assert set(each.probabilities) == set(COLOURS)
        assert each.probability == max(each.probabilities.values()) == each.probabilities[each.looks_like]
        assert [each.probabilities[label] for label in each.labels] == sorted(
            (each.probabilities[label] for label in each.labels), reverse=True
        )


def test_labels_that_came_since_may_be_several_or_none(tiny_clip):
    images, labels = pictures(24)
    unlabelled = Unlabelled(images, Recipe().replace(model=str(tiny_clip), views=None, **SEVERAL))
    one = unlabelled.suggestions(3, given={7: labels[7]})  # nothing can be left out
    assert {each.why for each in one} == {"typical"} and set(one[0].probabilities) == set(COLOURS)
    then = unlabelled.suggestions(99, ["grey"], given={row: labels[row] for row in range(16)})
    assert {each.index for each in then} == set(range(16, 24))
    assert all(each.probabilities["grey"] < 0.2 for each in then)


def test_the_command_suggests_from_a_table_of_labels(table, tiny_clip, capsys):
    flags = ("--labels-per-image", "several", "--label-delimiter", "|", "--model", str(tiny_clip), "--count", "24")
    rows = json.loads(said(capsys, "suggest", table, table.parent, *flags, "--json"))
    assert len(rows) == 24 and set(rows[0]["probabilities"]) == set(COLOURS)
    lines = said(capsys, "suggest", table, table.parent, *flags).splitlines()
    written = list(csv.DictReader(io.StringIO(said(capsys, "suggest", table, table.parent, *flags, "--csv"))))
    for row, line, cells in zip(rows, lines, written, strict=True):
        assert cells["image"] == row["image"] and cells["labels"].split("|") == (row["labels"] or [""])
        looks = ", ".join(f"{label} ({row['probabilities'][label]:.0%})" for label in row["labels"])
        assert line.endswith(f"looks like {looks}" if looks else f"({row['probability']:.0%})")
        assert ("looks like none; nearest" in line) == (not looks)


def test_other_classes_are_refused_without_advice_that_is_refused_too(fitted):
    images, labels = pictures(8)
    with refused(DataError, "'grey'") as refusal:
        fitted.evaluate(fitted.task(images, [[*one, "grey"] for one in labels]))
    assert "new-classes" not in str(refusal.value)


def test_a_table_whose_images_all_show_none_of_the_classes_is_refused(table, tmp_path):
    shutil.copy(table.with_name("0.png"), tmp_path)
    (tmp_path / "none.csv").write_text("file_name,label\n0.png,\n")
    with refused(DataError, "none.csv", 2):
        FewShotClassifier(method="proker", **SEVERAL).task(tmp_path / "none.csv")


# -- what is not there -------------------------------------------------------------------------------------------------

PICTURES = [np.zeros((20, 20, 3), np.uint8)]
RECIPE = Recipe().replace(method="gda", **SEVERAL)
REFUSED = {
    "coverage": ("a set of classes", lambda it: it.predict_sets(PICTURES, 0.9)),
    "coverage, guaranteed": ("a set of classes", lambda it: it.predict_sets(PICTURES, 0.9, guaranteed=True)),
    "calibration": ("a set of classes", lambda it: it.calibration),
    "reject": ("reject", lambda it: it.none_of_these(PICTURES)),
    "evaluate --coverage": ("a set of classes", lambda it: it.evaluate("shapes", coverage=0.9)),
    "evaluate --new-classes": ("new-classes", lambda it: it.evaluate(it.task(*pictures()), new_classes=True)),
    "evaluate --unknown": ("reject", lambda it: it.evaluate("shapes", unknown=PICTURES)),
    "doubt": ("doubt", lambda it: doubted_labels("shapes", RECIPE)),
}
COMMANDS = {
    "predict --coverage": ("predict", "ADAPTER", "IMAGE", "--coverage", "0.9"),
    "predict --top": ("predict", "ADAPTER", "IMAGE", "--top", "2"),
    "doubt": ("doubt", "shapes", "--labels-per-image", "several"),
    "doubt --copies": ("doubt", "shapes", "--labels-per-image", "several", "--copies"),
    "suggest --page": ("suggest", "FOLDER", "--labels-per-image", "several", "--page", "OUT"),
    **{f"export {kind}": ("export", "ADAPTER", "--format", kind, "--out", "OUT") for kind in ("peft", "merged")},
    "fit --reject": (
        "fit",
        "shapes",
        "--labels-per-image",
        "several",
        "--method",
        "lora",
        "--reject",
        "0.1",
        "--out",
        "OUT",
    ),
    "fit gda": ("fit", "shapes", "--labels-per-image", "several", "--method", "gda", "--out", "OUT"),
    "fit one label": ("fit", "shapes", "--method", "proker", "--out", "OUT"),
}


@pytest.mark.parametrize("surface", REFUSED)
def test_what_is_not_there_for_several_labels_says_so(fitted, surface):
    fact, ask = REFUSED[surface]
    with refused(InputError, fact, "several"):
        ask(fitted)


@pytest.mark.parametrize("surface", COMMANDS)
def test_commands_that_are_not_there_for_several_labels_say_so(adapter, table, tmp_path, capsys, surface):
    places = {"ADAPTER": adapter, "FOLDER": table.parent, "IMAGE": table.with_name("1.png"), "OUT": tmp_path / "out"}
    arguments = [str(places.get(word, word)) for word in COMMANDS[surface]]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "several" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("method", ["proker", "lora"])
def test_an_onnx_file_says_all_labels_of_an_image(adapter, tiny_clip, table, tmp_path, method):
    pytest.importorskip("onnxruntime")
    if method == "lora":
        lora = {"method": "lora", "rank": 4, "base_steps": 2, "steps_per_shot": 0}
        classifier = FewShotClassifier(str(tiny_clip), **lora, **SEVERAL).fit(*pictures())
        classifier.save_pretrained(adapter := tmp_path / "adapter")
    done = export(adapter, tmp_path / "onnx", format="onnx")
    assert done.largest_difference < 1e-4
    path = tmp_path / "onnx" / "classify.py"
    spec = importlib.util.spec_from_file_location("classify_several", path)
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    files = [str(table.with_name(f"{number}.png")) for number in range(8)]
    names, told = program.answers(files)
    classifier = FewShotClassifier.from_pretrained(adapter)
    np.testing.assert_allclose(told["probabilities"], classifier.predict_proba(files), atol=1e-4)
    shown = [{name for name, has in zip(names, row, strict=True) if has} for row in told["has_label"]]
    assert shown == [set(labels) for labels in classifier.predict(files)]
    assert "has_label" in (tmp_path / "onnx" / "README.md").read_text()


def test_a_folder_is_sorted_and_learnt_from_again(adapter, table, tmp_path, capsys):
    out = tmp_path / "sorted"
    done = json.loads(said(capsys, "sort", adapter, table.parent, "--out", out, "--json"))
    assert done["total"] == 48 < sum(done["images"].values())
    labels = FewShotClassifier.from_pretrained(adapter).predict([table.with_name("7.png")])[0]
    assert {path.parent.name for path in out.rglob("7.png")} == set(labels or ["no-label"])
    shutil.rmtree(out / "no-label", ignore_errors=True)
    checked = json.loads(said(capsys, "data", "check", out, "--labels-per-image", "several", "--json"))
    assert checked["classes"] == 3


def test_a_rounded_onnx_file_is_judged_by_mean_average_precision(adapter, tmp_path):
    pytest.importorskip("onnxruntime")
    task = FewShotClassifier.from_pretrained(adapter).task(*pictures(32, seed=1))
    done = export(adapter, tmp_path / "onnx", format="onnx", precision="int8", data=task)
    assert done.accuracy.measure == "mean average precision" and done.accuracy.images == 32
    assert done.accuracy.before == FewShotClassifier.from_pretrained(adapter).score(task)
    assert abs(done.accuracy.before - done.accuracy.after) < 0.2
    said = (tmp_path / "onnx" / "README.md").read_text()
    assert f"Mean average precision {100 * done.accuracy.before:.1f} % before" in said


def test_a_report_has_a_table_of_their_own_and_a_page(fitted, tmp_path):
    several = dataclasses.replace(fitted.record_, metrics={"map": 0.875, "images": 8, "split": "test"})
    one = dataclasses.replace(several, presence={}, metrics={"acc1": 0.5, "images": 8, "split": "test"})
    tables = {table.title: in_markdown([table]) for table in comparison_tables([several, one])}
    precision = next(text for title, text in tables.items() if title.startswith("Mean average precision in percent"))
    accuracy = next(text for title, text in tables.items() if title.startswith("Accuracy in percent"))
    assert ("87.5" in precision, "50.0" in precision) == (True, False)
    assert ("87.5" in accuracy, "50.0" in accuracy) == (False, True)
    rows = list(csv.DictReader(io.StringIO(in_csv([several, one]))))
    assert {(row["protocol"], float(row["accuracy"])) for row in rows} == {("few-shot", 0.5), ("several labels", 0.875)}
    fitted.evaluate(fitted.task(*pictures(32, seed=1)))
    recipe = fitted.record_.recipe
    alone = dataclasses.replace(one, recipe={**recipe, "data": {**recipe["data"], "labels_per_image": "one"}})
    page = write_report(tmp_path, [fitted.record_, alone]).read_text()
    assert "Several labels an image" in page and f"{100 * fitted.record_.metrics['exact_match']:.1f}" in page


def whitened(count=8):
    """Other pictures that show white besides, and their labels."""
    images, labels = pictures(count, seed=5)
    for image in images:
        image[:5] = 255
    return images, [[*shown, "white"] for shown in labels]


def test_a_class_more_is_what_fitting_all_images_learns(tiny_clip, tmp_path):
    """A new image has all that it shows; those learnt from before show none of the new class."""
    old, new, mean = pictures(16), whitened(), {"method": "nearest-mean", "views": None, **SEVERAL}
    FewShotClassifier(str(tiny_clip), **mean).fit(*old).save_pretrained(tmp_path / "adapter")
    added = FewShotClassifier.from_pretrained(tmp_path / "adapter").add(*new)
    together = FewShotClassifier(str(tiny_clip), **mean).fit([*old[0], *new[0]], [*old[1], *new[1]])
    assert added.classes_.tolist() == together.classes_.tolist() == ["blue", "green", "red", "white"]
    for name, tensor in tensors_of(together._fitted[1].head).items():
        torch.testing.assert_close(tensors_of(added._fitted[1].head)[name], tensor, atol=1e-6, rtol=1e-6)
    assert added.presence.images == together.presence.images > 16
    assert len(added.record_.draw) == 24 and added.evaluate(added.task(*whitened(12)))["classes"] == 4


@pytest.mark.parametrize("method", ["proker", "linear-probe"])
def test_heads_learn_a_class_more_after_they_were_saved(tiny_clip, tmp_path, method):
    classifier = FewShotClassifier(str(tiny_clip), method=method, **SEVERAL).fit(*pictures(16))
    classifier.save_pretrained(tmp_path / "adapter")
    grown = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    grown.add(*whitened())
    assert grown.classes_.tolist() == ["blue", "green", "red", "white"]
    assert grown.predict_proba(PICTURES).shape == (1, 4)


def test_zero_shot_forgets_a_class_and_is_fitted_anew_for_one_more(tiny_clip):
    """It keeps no shots, by which offsets and thresholds of a class more could be told."""
    classifier = FewShotClassifier(str(tiny_clip), method="zero-shot", **SEVERAL).fit(*pictures(16))
    with refused(InputError, "zero-shot", "shots"):
        classifier.add(*whitened())
    before = classifier.predict_proba(PICTURES)
    np.testing.assert_allclose(classifier.remove("green").predict_proba(PICTURES), before[:, [0, 2]], atol=1e-6)


def test_images_that_are_learnt_already_get_the_labels_that_are_new(tiny_clip):
    images, labels = pictures(16)
    classifier = FewShotClassifier(str(tiny_clip), method="proker", **SEVERAL).fit(images, labels)
    classifier.add(images[:6], [["odd"]] * 6)
    names, table = classifier.classes_.tolist(), classifier._fitted[1].kept.labels.numpy()
    shown = sorted(sorted(names[c] for c in np.flatnonzero(row)) for row in table)
    assert shown == sorted(sorted([*each, *(["odd"] if i < 6 else [])]) for i, each in enumerate(labels))
    assert any("learnt already, and get labels more" in line for line in classifier.warnings_)
    with refused(DataError, "every image"):
        classifier.add(images[:6], [["odd"]] * 6)


def test_a_class_less_leaves_the_images_that_showed_it(adapter, tmp_path, capsys):
    said(capsys, "remove", adapter, "red", "--out", tmp_path / "less")
    less = FewShotClassifier.from_pretrained(tmp_path / "less")
    assert less.classes_.tolist() == ["blue", "green"] and len(less.record_.draw) == 24
    assert () in less.predict(pictures(8)[0])
    (tmp_path / "white").mkdir()
    for number, image in enumerate(whitened(4)[0]):
        Image.fromarray(image).save(tmp_path / "white" / f"{number}.png")
    told = json.loads(said(capsys, "add", tmp_path / "less", tmp_path / "white", "--out", tmp_path / "more", "--json"))
    assert told["new_classes"] == ["white"] and told["images"] == 28


def test_what_a_head_chose_stays_while_its_shots_are_left_out(tiny_clip, monkeypatch):
    """Folds that choose anew took five times seven regressions each, and their scores had other scales."""
    chosen, choose = [], linear_probe.choose
    monkeypatch.setattr(linear_probe, "choose", lambda *given: chosen.append(choose(*given)) or chosen[-1])
    for folds in (0, 4):
        classifier = FewShotClassifier(str(tiny_clip), method="linear-probe", calibration_folds=folds, **SEVERAL)
        classifier.fit(*pictures(24))
        assert classifier.presence.folds == 16 and classifier.presence.images == 24
    assert len(chosen) == 2


def test_towers_are_taught_a_class_more_anew_and_less_as_they_are(tiny_clip):
    old, new = pictures(12), whitened(4)
    lora = {"method": "lora", "rank": 2, "base_steps": 2, "steps_per_shot": 0}
    classifier = FewShotClassifier(str(tiny_clip), **lora, **SEVERAL).fit(*old)
    before = classifier.predict_proba(old[0])
    with refused(InputError, "add", "one label"):
        classifier.add(*new)
    left = FewShotClassifier(str(tiny_clip), **lora, **SEVERAL).fit(*old).remove("green")
    np.testing.assert_allclose(left.predict_proba(old[0]), before[:, [0, 2]], atol=1e-6)
    classifier.add(*new, refit=classifier.task(*old))
    assert classifier.classes_.tolist() == ["blue", "green", "red", "white"] and len(classifier.record_.draw) == 16


def test_a_class_is_renamed_and_keeps_its_probabilities(adapter):
    classifier = FewShotClassifier.from_pretrained(adapter)
    before = classifier.predict_proba(PICTURES)
    assert (classifier.rename("red", "scarlet").predict_proba(PICTURES) == before).all()
    assert "scarlet" in classifier.classes_.tolist()


def test_an_explanation_is_of_one_of_the_labels(fitted):
    [image], _ = pictures(1)
    [likely] = fitted.predict_proba([image])
    for label in fitted.classes_.tolist():
        explained = fitted.explain(image, label)
        assert explained.probability == pytest.approx(likely[fitted.classes_.tolist().index(label)], abs=1e-5)
    assert fitted.explain(image).class_name == fitted.classes_[likely.argmax()]


def test_auto_chooses_by_how_well_labels_are_ranked(tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr("lowshot.fitting.auto.OF_SEVERAL", ("proker",))
    monkeypatch.setattr("lowshot.fitting.auto.EQUALS_OF_SEVERAL", ("proker",))
    auto = FewShotClassifier(str(tiny_clip), method="auto", time_budget=8.0, **SEVERAL).fit(*pictures(24))
    choice = auto.record_.choice
    assert {trial["method"] for trial in choice["tried"]} == {"zero-shot", "proker"}
    assert choice["folds"] == 4 and auto.presence.images > 0
    assert all(trial["acc1"] is None or 0 < trial["acc1"] <= 1 for trial in choice["tried"])
    auto.save_pretrained(tmp_path / "adapter")
    assert FewShotClassifier.from_pretrained(tmp_path / "adapter").predict(PICTURES) == auto.predict(PICTURES)
    one_each = FewShotClassifier(str(tiny_clip), method="auto", time_budget=8.0, **SEVERAL).fit(*pictures(8))
    assert one_each.record_.choice["tried"]


def test_names_alone_are_refused(tiny_clip):
    with refused(InputError, "labels-per-image", "several"):
        FewShotClassifier.zero_shot(COLOURS, str(tiny_clip), **SEVERAL)
    with pytest.raises(NotFittedError):
        FewShotClassifier(**SEVERAL).labels_of(np.zeros((1, 3)))

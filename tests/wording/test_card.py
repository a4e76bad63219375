from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lowshot.settings import preset_recipe
from lowshot.wording.card import model_card

from ..report.factory import DIGITS, of_several, record, zero_shot


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_front_matter_is_what_the_hub_reads():
    card = model_card(record("lora-xs", model={"id": "openai/clip-vit-base-patch16"}))

    assert card.startswith("---\n")
    assert front_matter(card) == {
        "library_name": "lowshot",
        "base_model": "openai/clip-vit-base-patch16",
        "pipeline_tag": "zero-shot-image-classification",
        "tags": ["clip", "lora", "few-shot", "lowshot", "lora-xs"],
    }


@pytest.mark.parametrize("model", [{"id": "builtin"}, {"id": "/home/me/clip"}, {"id": "../clip"}, {"id": None}, {}])
def test_a_backbone_that_is_not_on_the_hub_is_no_base_model(model):
    assert "base_model" not in front_matter(model_card(record(model=model)))


@given(st.text(min_size=1))
def test_any_method_name_survives_yaml(name):
    assert name in front_matter(model_card(record(name)))["tags"]


def test_tags_are_not_repeated():
    assert front_matter(model_card(record("lora")))["tags"] == ["clip", "lora", "few-shot", "lowshot"]


def test_the_python_of_a_card_is_valid_and_uses_the_public_door():
    (code,) = re.findall(r"```python\n(.*?)```", model_card(record()), re.DOTALL)

    compile(code, "card", "exec")
    assert "from lowshot import FewShotClassifier" in code


def test_accuracy_is_told_with_split_and_number_of_images():
    card = model_card(record(accuracy=0.9712, metrics={"acc1": 0.9712, "images": 1897, "split": "test"}))

    assert "97.1\u00a0% on 1,897 images of the `test` split of `digits`, for this one seed." in card


def test_accuracy_is_told_with_its_interval():
    card = model_card(record(metrics={"acc1": 0.9712, "acc1_interval": [0.959, 0.982], "images": 901, "split": "test"}))

    assert "97.1\u00a0% (95.9-98.2, a 95 % interval over the images) on 901 images of the `test` split" in card


def test_probabilities_are_called_calibrated_where_they_are():
    calibration = {"folds": 5, "images": 1600, "scores": [0.1], "temperature": 1.2345}
    card = model_card(record(calibration=calibration))

    assert "- Probabilities are calibrated on 1,600 images of its shots, held out (temperature 1.23):\n  on" in card
    assert "not calibrated odds" not in card
    assert "not calibrated odds" in model_card(record())


def test_accuracy_that_was_not_measured_is_said():
    assert "It was not measured" in model_card(record(accuracy=None))


def test_the_first_twenty_of_many_classes_are_named():
    card = model_card(record(classes=tuple(f"class {i}" for i in range(102))))

    assert "Classes (102): `class 0`, " in card
    assert "`class 19`, and 82 more." in card
    assert "`class 20`" not in card
    assert "`class 19`." in model_card(record(classes=tuple(f"class {i}" for i in range(20))))


@pytest.mark.parametrize(
    ("name", "written"),
    [("a*b_c", "`a*b_c`"), ("two\nlines", "`two lines`"), ("a`b", "`` a`b ``"), ("<b>", "`<b>`"), ("a|b", "`a|b`")],
)
def test_class_names_are_not_read_as_markdown(name, written):
    assert f"Classes (1): {written}." in model_card(record(classes=(name,)))


def test_a_task_name_cannot_break_the_title():
    assert "# my \\*odd\\* \\<task\\>: lora adapter for CLIP\n" in model_card(record(task="my *odd*\n<task>"))


def test_bars_in_settings_do_not_end_a_cell():
    assert "| template | `a\\|{}` |" in model_card(record(settings={"template": "a|{}"}))


def test_settings_cost_and_provenance_are_told():
    card = model_card(record("lora", quantize="nf4", shots=4, seed=7, settings={"rank": 8}))

    for line in (
        "| method | `qlora` |",
        "| images per class | `4` |",
        "| seed | `7` |",
        "| rank | `8` |",
        "| optimiser steps | `2,000` |",
        "| training time | `14 s` |",
        "| trainable parameters | `3,072 of 2,000,000 (0.15 %)` |",
        "| adapter size | `13 KB` |",
        "- sources: `commit 0123456789`",
        "- versions: `python 3.11.7, lowshot 0.1.0, torch 2.9.0`",
    ):
        assert line in card.splitlines()


def test_settings_without_a_meaning_for_the_method_are_left_out():
    """All 47 stood there, most of them of other methods."""
    recipe = preset_recipe("builtin", "gda").replace(shots=4, threads=1).to_dict()
    rows = dict(re.findall(r"^\| ([^|]+?) \| `([^`]*)` \|$", model_card(record("gda", recipe=recipe)), re.MULTILINE))
    others = {"rank", "alpha", "dropout", "context", "learning rate", "time budget", "device", "image memory", "root"}
    assert not others & set(rows)
    assert {"template", "crop minimum", "views"} <= set(rows)
    assert rows["threads"] == "1"  # which is not the default
    assert {"rank", "learning rate"} <= {
        line.split(" | ")[0].removeprefix("| ")
        for line in model_card(record("lora", recipe=preset_recipe("builtin", "lora").to_dict())).splitlines()
    }


def test_what_is_unknown_is_left_out():
    card = model_card(zero_shot(provenance={}, model={}, recipe={}))

    assert "from class names alone" in card
    assert "None" not in card
    assert "- date" not in card


def test_a_run_that_stopped_early_says_so():
    assert "| optimiser steps | `7; training diverged at step 9 of 24` |" in model_card(
        record(steps=7, stopped="training diverged at step 9 of 24")
    )


def test_images_of_none_of_the_classes_are_told_with_their_figures():
    belonging = {"reject": 0.05, "scores": [0.1] * 1600}
    measured = {"images": 1200, "turned_away": 0.625, "known_turned_away": 0.04, "reject": 0.05, "auroc": 0.9}
    measured |= {"auroc_of_probability": 0.8, "accepted_at_95": 0.31}
    metrics = {"acc1": 0.97, "images": 90, "split": "test"}
    card = model_card(record(belonging=belonging, metrics={**metrics, "unknown": measured}))
    limits = card[card.index("## Limits") :]
    for fact in ("all but 5.0\u00a0% of", "1,600 shots", "1,200 images", "62.5 %", "31.0 %"):
        assert fact in limits
    without = model_card(record(belonging=belonging, metrics=metrics))
    assert "1,600 shots" in without and "1,200 images" not in without
    assert "It knows these classes only" in model_card(record()) and "1,600 shots" not in model_card(record())


def test_a_method_that_was_chosen_is_told_with_the_others_that_were_tried():
    accuracies = {"gda": 0.9, "lora": 0.8, "tip-adapter": None}
    tried = [{"method": name, "acc1": accuracy, "seconds": 3.0} for name, accuracy in accuracies.items()]
    choice = {"method": "gda", "why": "it is the most accurate", "folds": 4, "tried": tried}
    card = model_card(record("auto", choice=choice))
    assert "`auto` chose gda: it is the most accurate." in card
    assert "Accuracy on held-out shots: gda 90.0\u00a0%, lora 80.0\u00a0%." in card
    assert "held-out shots" not in model_card(record("auto", choice={**choice, "folds": 0}))


def test_several_labels_are_told_by_their_measures_and_class_by_class():
    card = model_card(of_several(0.875))
    for fact in ("Mean average precision 87.5\u00a0%", "F1 41.0 %", "39.0 %", "7.5 %", "80 images that were held out"):
        assert fact in card
    assert f"| `{DIGITS[0]}` | 87.5\u00a0% |" in card
    assert "| class |" not in model_card(of_several(0.5, classes=tuple(map(str, range(21)))))
    assert "for this one seed" in card
    nothing_held_out = {"offsets": [0.0] * 10, "thresholds": [0.5] * 10, "folds": 0, "images": 0, "slope": 1.0}
    assert "held out" not in model_card(dataclasses.replace(of_several(0.5), presence=nothing_held_out))


def test_classes_on_top_are_named_with_their_images():
    on_top = {"classes": 2, "images": 1500, "new": {"images": 8, "right": 6}, "known": None}
    card = model_card(record(on_top=on_top))
    first, last = DIGITS[-2:]
    assert f"`{first}`, `{last}`, from 1,500 images" in card and "Held out, 6 of 8 images" in card
    assert "Set on top" not in model_card(record())

"""Classes fewer where others were set on top: which rows, images and figures are left of an adapter."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from lowshot.errors import InputError, UnknownNameError
from lowshot.fitting import fewer, left_without
from lowshot.heads import KeptShots
from lowshot.on_top import OnTop, Recognised
from lowshot.records import RunRecord
from refusing import refused

LABELS = torch.tensor([2, 3, 2, 0, 1])  # three images of classes on top, then two known ones


class Towers:
    """A learner that says what it was asked for."""

    adapter_bytes = 7

    def __init__(self, *, kept=True, has_text=True):
        rows = torch.eye(5)
        self.kept = KeptShots(rows[None], LABELS, rows[None][:0]) if kept else None
        self.backbone = SimpleNamespace(has_text=has_text)

    def encode_classes(self):
        return 10 * torch.eye(4)

    def with_rows(self, prompts, rows, kept=None):
        return SimpleNamespace(prompts=prompts, rows=rows, kept=kept, adapter_bytes=3)

    def with_prompts(self, prompts):
        return SimpleNamespace(prompts=prompts, rows=None, kept=None, adapter_bytes=2)


@pytest.fixture
def record():
    on_top = OnTop(2, 3, 2, 0.65, 1.5, Recognised(3, 2), Recognised(2, 1, 2))
    return RunRecord(
        **dict.fromkeys(("task", "method", "quantize"), "x"),
        **dict.fromkeys(("trainable_parameters", "total_parameters", "steps", "peak_memory_bytes", "shots", "seed"), 1),
        train_seconds=1.0,
        recipe={},
        model={},
        adapter_bytes=9,
        classes=("a", "b", "c", "d"),
        labels=(1, 2, 3, 4),
        prompts=(("an a",), ("a b",), ("a c",), ("a d",)),
        draw=("t1", "t2", "c1", "d1", "c2"),
        learnt=("T1", "T2", "C1", "D1", "C2", "A1", "B1"),
        on_top=on_top.to_dict(),
    )


def test_images_of_the_classes_that_are_left_stay_with_their_names(record):
    fitted = fewer(record, Towers(), [0, 1, 3])
    left, grown = fitted.record, fitted.learner
    assert (left.classes, left.labels, left.prompts) == (("a", "b", "d"), (1, 2, 4), (("an a",), ("a b",), ("a d",)))
    assert (left.draw, left.learnt) == (("t1", "t2", "d1"), ("T1", "T2", "D1", "A1", "B1"))
    assert left.on_top == OnTop(1, 1, 2, 0.65, 1.5).to_dict()
    assert (grown.prompts, grown.kept.labels.tolist()) == (left.prompts, [2, 0, 1])
    assert torch.equal(grown.rows, 10 * torch.eye(4)[[0, 1, 3]])
    assert torch.equal(grown.kept.features, torch.eye(5)[None, [1, 3, 4]])
    assert (left.adapter_bytes, fitted.notes) == (3, ())


def test_without_one_of_the_towers_classes_its_known_images_go(record):
    left = fewer(record, Towers(), [1, 2, 3]).record
    assert left.learnt == ("T1", "T2", "C1", "D1", "C2", "B1")
    assert (left.on_top["images"], left.on_top["known_images"], left.taught_to_towers) == (3, 1, ("t1", "t2"))


@pytest.mark.parametrize("has_text", [True, False])
def test_without_the_last_class_on_top_prompts_judge_where_they_are_read(record, has_text):
    fitted = fewer(record, Towers(has_text=has_text), [0, 1])
    assert (fitted.record.on_top, fitted.record.draw, fitted.learner.kept) == ({}, ("t1", "t2"), None)
    assert (fitted.learner.rows is None) == has_text
    assert "the calibration is dropped" in fitted.notes[0]  # its temperature was that of the classes on top


def test_without_kept_images_the_record_names_those_that_there_were(record):
    fitted = fewer(record, Towers(kept=False), [0, 1, 3])
    assert (fitted.record.draw, fitted.record.learnt) == (record.draw, record.learnt)
    assert (fitted.record.on_top["images"], fitted.learner.kept) == (3, None)


def test_what_was_told_of_all_classes_is_dropped_and_said(record):
    asked = dataclasses.replace(record, calibration={"temperature": 1.5}, belonging={"reject": 0.1}, metrics={"x": 1})
    fitted = fewer(asked, Towers(), [0, 1, 3])
    assert (fitted.record.calibration, fitted.record.belonging, fitted.record.metrics) == ({}, {}, {})
    assert ["calibration" in note or "none of the classes" in note for note in fitted.notes] == [True, True]
    plain = fewer(dataclasses.replace(asked, on_top={}), Towers(), [0, 3])
    assert (plain.learner.prompts, plain.record.adapter_bytes) == (plain.record.prompts, 2)


def test_one_class_of_the_towers_and_two_in_all_must_be_left(record):
    with refused(InputError, "no class", "towers", "lowshot fit DATA"):
        fewer(record, Towers(), [2, 3])
    assert left_without(record.classes, ["b", "b"]) == [0, 2, 3]
    with refused(InputError, "'b', 'c', 'a'", 1, "at least 2"):
        left_without(record.classes, ["b", "c", "b", "a"])
    with refused(UnknownNameError, "'e'"):
        left_without(record.classes, ["e"])

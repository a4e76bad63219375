"""The memory that a bank keeps to, and class embeddings that are computed once."""

import shutil

import numpy as np
import pytest

from lowshot.models import Backbone
from lowshot.serving import AdapterBank, class_probabilities
from lowshot.serving import bank as bank_module
from refusing import assert_states, refused

from .comparing import EXACT, SAME, assert_each_is_as_alone, mixed_names, rows_of
from .conftest import CLASSES, pictures

pytestmark = pytest.mark.usefixtures("banks_open_fast")


def test_what_is_used_longest_ago_goes_first_and_the_budget_is_kept(kinds):
    bank, sizes = AdapterBank(kinds, memory="4KB"), {}
    for name in ("xs4", "xs-in-words", "zero", "lora2"):
        bank.predict(pictures(1), name)
        sizes[name] = bank.describe(name).resident_bytes
        assert bank.used_bytes == sum(map(sizes.get, bank.resident())) <= 4000
    assert bank.resident() == ["xs-in-words", "zero", "lora2"]
    bank = AdapterBank(kinds, memory="1.35KB")
    for name in ("xs4", "zero", "xs4", "calibrated"):
        bank.predict(pictures(1), name)
    assert bank.resident() == ["xs4", "calibrated"]


def test_a_batch_of_more_adapters_than_fit_is_answered_in_parts(kinds, alone, monkeypatch):
    bank, names = AdapterBank(kinds, memory="10KB", half_classes=False), mixed_names()
    used, batch = [], bank._batch

    def watched(*arguments):
        used.append(bank.used_bytes)
        return batch(*arguments)

    monkeypatch.setattr(bank, "_batch", watched)
    assert_each_is_as_alone(bank, kinds, names, pictures(len(names), 3), alone, EXACT)
    assert len(used) > 1
    assert max(used) <= 10_000
    assert not bank._residents._in_use


def test_an_adapter_that_takes_more_than_all_memory_is_refused_with_its_size(kinds):
    bank = AdapterBank(kinds, memory="200B")
    failed, zero = bank.answers(pictures(2), ["lora2", "zero"])
    assert_states(str(failed), "adapter lora2", "bank has 200")
    assert zero.classes == CLASSES
    assert bank.used_bytes <= 200


@pytest.mark.parametrize("small", [0, 1 << 16])
def test_tables_of_classes_may_be_asked_together_or_one_by_one(kinds, alone, monkeypatch, small):
    monkeypatch.setattr(class_probabilities, "_SMALL_TABLE", small)
    bank, names = AdapterBank(kinds, half_classes=False), mixed_names()
    assert_each_is_as_alone(bank, kinds, names, pictures(len(names), 3), alone, SAME)


def test_long_batches_go_through_in_pieces(kinds, alone, monkeypatch):
    monkeypatch.setattr(bank_module, "BATCH_SIZE", 4)
    bank, names = AdapterBank(kinds, half_classes=False), mixed_names()
    assert_each_is_as_alone(bank, kinds, names, pictures(len(names), 3), alone, EXACT)


def test_equal_classes_are_kept_once(copied, kinds):
    folder = copied("zero", "xs-in-images", "two-templates")
    shutil.copytree(kinds / "zero", folder / "again")
    bank = AdapterBank(folder)
    bank.predict(pictures(3), ["zero", "again", "xs-in-images"])
    images_side = (2 * 2) * 16 * 4  # q and fc1 of two layers
    table = 3 * 16 * 2 + 3 * 4
    assert bank.used_bytes == table + images_side
    bank.predict(pictures(1), "two-templates")
    assert bank.used_bytes == 2 * table + images_side


def test_class_embeddings_are_computed_once_on_a_machine(copied, monkeypatch, tmp_path):
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "cache"))
    folder, images = copied("xs4", "zero", "xs-in-words"), pictures(3, 3)
    names = ["xs4", "zero", "xs-in-words"]
    before = rows_of(AdapterBank(folder).predict(images, names))

    def no_prompts(*_):
        raise AssertionError("prompts were encoded")

    monkeypatch.setattr(Backbone, "raw_prompts", no_prompts)
    after = rows_of(AdapterBank(folder).predict(images, names))
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    with refused(AssertionError, "prompts were encoded"):
        AdapterBank(folder, half_classes=False).predict(images, names)


@pytest.mark.parametrize("damage", ["cut short", "another number", "no tensors", "a folder in its place"])
def test_a_damaged_file_of_class_embeddings_is_computed_again(copied, damage, monkeypatch, tmp_path):
    monkeypatch.setenv("LOWSHOT_CACHE", str(tmp_path / "cache"))
    folder, images = copied("xs4"), pictures(2, 3)
    before = rows_of(AdapterBank(folder).predict(images, "xs4"))
    [path] = (tmp_path / "cache" / "classes").rglob("*.safetensors")
    content = path.read_bytes()
    changed = {"cut short": content[:-1], "another number": content[:-1] + b"\x01", "no tensors": b"{}"}
    path.unlink()
    if damage in changed:
        path.write_bytes(changed[damage])
    else:
        path.mkdir()
    after = rows_of(AdapterBank(folder).predict(images, "xs4"))
    assert np.array_equal(before, after)
    assert damage not in changed or path.read_bytes() == content

"""What a batch of a bank asks of its device, counted on torch's meta device: few copies to it, one answer from it."""

import copy
import dataclasses
import threading

import pytest
import torch

from lowshot.serving import AdapterBank
from lowshot.serving import bank as bank_module
from lowshot.serving.answerer import Answerer
from meta_device import META, counted, on_meta

from .conftest import KINDS, pictures

ROWS = 16
CROPS, NUMBERS = 1, 1
"""Copies to the device: the crops, and where adapters differ all row numbers together."""
DIFFERENT = [
    *("lora2", "head-gda", "xs4", "head-tip-adapter", "lora4", "xs16", "head-proker", "calibrated", "xs-in-images"),
    *("lora-by-depth", "head-task-res", "head-tip-adapter-f", "zero", "head-lppp", "xs-in-words", "head-clip-adapter"),
]
"""Sixteen kinds, so that the first four are of every sort: LoRA, heads, LoRA-XS."""


@pytest.fixture(scope="module")
def loaded(kinds, kept_backbone):
    """A bank on the meta device, and its adapters in memory there, by name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank_module, "load_backbone", kept_backbone.load)
        bank = AdapterBank(kinds)
    residents = {name: on_meta(bank._fetcher.fetch(name, may_wait=True)[0]) for name in KINDS}
    bank.backbone.model.to(META)
    bank._bases._known = {name: on_meta(basis) for name, basis in bank._bases._known.items()}
    counts_of(bank, [residents["zero"]])  # what is moved once is moved now
    return bank, residents


def counts_of(bank, residents):
    """Of one batch with these adapters."""
    crops = [torch.zeros(3, 16, 16)] * len(residents)
    with counted() as counts:
        answers = bank._predictions(crops, residents)
    assert [len(answer.probabilities) for answer in answers] == [len(each.classes.names) for each in residents]
    return counts


def others_like(resident, count):
    """Adapters with tensors of their own, of the same shapes, and the same classes."""
    return [dataclasses.replace(resident, updates=copy.copy(resident.updates)) for _ in range(count)]


@pytest.mark.parametrize("different", [1, 4, 16])
def test_a_mixed_batch_of_any_adapters_copies_twice_at_most_and_waits_for_the_answer_alone(loaded, different):
    bank, residents = loaded
    counts = counts_of(bank, [residents[DIFFERENT[row % different]] for row in range(ROWS)])
    assert counts.copies == (CROPS if different == 1 else CROPS + NUMBERS)
    assert (counts.waits, counts.answers) == (0, 1)


@pytest.mark.parametrize("name", KINDS)
def test_a_batch_of_one_adapter_copies_its_crops_alone(loaded, name):
    bank, residents = loaded
    counts = counts_of(bank, [residents[name]] * ROWS)
    assert (counts.copies, counts.waits, counts.answers) == (CROPS, 0, 1)


@pytest.mark.parametrize("name", ["lora2", "lora4", "xs4", "xs-in-images", "zero"])
def test_more_adapters_that_are_alike_ask_nothing_more_of_the_device(loaded, name):
    bank, residents = loaded
    of_count = {}
    for different in (2, 4, 16):
        alike = others_like(residents[name], different)
        of_count[different] = counts_of(bank, [alike[row % different] for row in [*range(ROWS), 0]])
    assert of_count[2] == of_count[4] == of_count[16]


@pytest.mark.parametrize("rows", [16, 64])
def test_copies_do_not_grow_with_rows_or_layers(loaded, rows):
    bank, residents = loaded
    counts = counts_of(bank, [residents[name] for name in DIFFERENT] * (rows // len(DIFFERENT)))
    assert (counts.copies, counts.waits, counts.answers) == (CROPS + NUMBERS, 0, 1)


@pytest.mark.parametrize("rows", [1, 16])
def test_what_the_backbone_itself_says_is_read_once(loaded, rows):
    bank, _ = loaded
    answerer, names = Answerer(bank), [("zero", "calibrated")[row % 2] for row in range(rows)]
    crops = [torch.zeros(3, 16, 16)] * rows
    with counted():  # encodes the classes
        answerer.backbone_answers(crops, names)
    with counted() as counts:
        answers = answerer.backbone_answers(crops, names)
    assert [len(answer.zero_shot.probabilities) for answer in answers] == [(3, 2)[row % 2] for row in range(rows)]
    assert (counts.copies, counts.waits, counts.answers) == (CROPS, 0, 1)


@pytest.mark.usefixtures("banks_open_fast")
def test_the_next_batch_is_decoded_while_this_one_is_computed(kinds, monkeypatch):
    """Nothing is computed here until all images of the next batch have been decoded, and only those."""
    monkeypatch.setattr(bank_module, "BATCH_SIZE", 4)
    bank, images, asked, seen = AdapterBank(kinds), pictures(10, 3), [], []
    predictions = bank._predictions

    class Watched:
        def __len__(self):
            return len(images)

        def __getitem__(self, index):
            asked.append(index)
            return images[index]

    def compute_when_the_next_are_there(crops, residents):
        for _ in range(1000):
            if len(asked) >= min(len(images), 4 * (len(seen) + 2)):
                break
            threading.Event().wait(0.01)
        seen.append(len(asked))
        return predictions(crops, residents)

    monkeypatch.setattr(bank, "_predictions", compute_when_the_next_are_there)
    bank.predict(Watched(), "xs4")
    assert seen == [8, 10, 10]

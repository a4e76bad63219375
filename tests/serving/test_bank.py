"""Many adapters on one backbone: what a mixed batch says, and what it says of each adapter by itself."""

import json
import os
import shutil
import threading

import numpy as np
import pytest
import torch

from lowshot.adapters.lora_xs import basis as lora_xs_basis
from lowshot.errors import AdapterError, DataError, ImageError, InputError, RunError, UnknownNameError
from lowshot.models import Backbone
from lowshot.serving import AdapterBank, Prediction, class_probabilities
from lowshot.serving import bank as bank_module
from refusing import refused

from .conftest import CLASSES, KINDS, pictures, taught

pytestmark = pytest.mark.usefixtures("banks_open_fast")

EXACT = 1e-5
"""Float32 throughout: one pass adds in another order than the classifier does."""
SAME = 1e-6
"""As ``EXACT``, of probabilities of a few classes."""
HALF_CLASSES = 1e-3
"""Class embeddings rounded to float16, at a logit scale of 14."""
BFLOAT16 = 1e-3
"""Products of other shapes may be rounded in another order; a step of bfloat16 is 2^-8. Here they differ by 1e-6."""


def rows_of(answers):
    return [answer.probabilities for answer in answers]


def assert_each_is_as_alone(bank, folder, names, images, alone, tolerance):
    for name, image, answer in zip(names, images, bank.predict(images, names), strict=True):
        expected = alone(folder / name, [image])[0]
        assert answer.adapter == name
        np.testing.assert_allclose(answer.probabilities, expected, atol=tolerance, rtol=0, err_msg=name)


def mixed_names():
    """Every kind twice, in no order."""
    return [str(name) for name in np.random.default_rng(0).permutation([*KINDS] * 2)]


def test_in_a_mixed_batch_every_row_is_what_its_adapter_says_alone(kinds, alone):
    bank, names = AdapterBank(kinds, half_classes=False), mixed_names()
    assert_each_is_as_alone(bank, kinds, names, pictures(len(names), 3), alone, EXACT)


def test_the_adapters_differ_enough_for_that_to_mean_something(kinds):
    bank = AdapterBank(kinds)
    of_three = [name for name in KINDS if name != "calibrated"]
    tables = [answer.probabilities for answer in bank.predict([pictures(1, 3)[0]] * len(of_three), of_three)]
    assert min(np.abs(a - b).max() for i, a in enumerate(tables) for b in tables[:i]) > 1e-3


def test_class_embeddings_in_half_precision_move_probabilities_by_less_than_a_thousandth(kinds, alone):
    bank, names = AdapterBank(kinds), mixed_names()
    images = pictures(len(names), 3)
    assert_each_is_as_alone(bank, kinds, names, images, alone, HALF_CLASSES)
    exact = AdapterBank(kinds, half_classes=False)
    pairs = zip(rows_of(bank.predict(images, names)), rows_of(exact.predict(images, names)), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) > 0
    assert bank.used_bytes < exact.used_bytes


def test_every_family_of_models_serves_mixed_batches(any_tiny_model, tmp_path, alone):
    kinds = {"xs": {"method": "lora-xs"}, "lora": {"method": "lora", "noise": 0.1}, "zero": {"method": "zero-shot"}}
    for seed, (name, kind) in enumerate(kinds.items()):
        taught(any_tiny_model, seed=seed, **kind).save_pretrained(tmp_path / name)
    names = [*kinds, *kinds]
    bank = AdapterBank(tmp_path, half_classes=False)
    assert_each_is_as_alone(bank, tmp_path, names, pictures(len(names), 3), alone, EXACT)


@pytest.mark.parametrize(("quantize", "precision"), [("none", "bf16"), ("nf4", "bf16"), ("int8", "fp32")])
def test_fewer_bits_differ_by_their_rounding(tiny_clip, tmp_path, alone, quantize, precision):
    how = {"quantize": quantize, "precision": precision}
    taught(tiny_clip, "lora-xs", **how).save_pretrained(tmp_path / "xs")
    taught(tiny_clip, "lora", noise=0.1, seed=2, **how).save_pretrained(tmp_path / "lora")
    bank, names = AdapterBank(tmp_path, half_classes=False), ["xs", "lora", "xs", "lora"]
    assert (bank.quantize, bank.precision) == (quantize, precision)
    tolerance = BFLOAT16 if precision == "bf16" else EXACT
    assert_each_is_as_alone(bank, tmp_path, names, pictures(4, 3), alone, tolerance)


def test_a_bank_has_the_projection_that_most_of_its_adapters_were_trained_with(tiny_clip, tmp_path, alone):
    how = {"quantize": "nf4", "precision": "fp32"}
    for name in ("one", "two", "head"):
        method = "gda" if name == "head" else "lora"
        taught(tiny_clip, method, noise=0.1, quantize_projection=True, **how).save_pretrained(tmp_path / name)
    taught(tiny_clip, "lora", noise=0.1, **how).save_pretrained(tmp_path / "usual")
    bank, names = AdapterBank(tmp_path, half_classes=False), ["one", "head", "two"]
    assert bank.quantize_projection
    assert list(bank.refused()) == ["usual"]
    assert "was trained with quantize-projection False, most of this bank's with True" in bank.refused()["usual"]
    assert_each_is_as_alone(bank, tmp_path, names, pictures(3, 3), alone, EXACT)


def test_an_adapter_of_another_precision_is_refused_unless_the_bank_is_told_which_to_compute_in(
    tiny_clip, copied, alone
):
    folder = copied("xs4", "zero")
    taught(tiny_clip, "lora-xs", precision="bf16").save_pretrained(folder / "narrow")
    taught(tiny_clip, "lora-xs", quantize="nf4").save_pretrained(folder / "quantised")
    refused = AdapterBank(folder).refused()
    assert set(refused) == {"narrow", "quantised"}
    assert "was trained in bf16, this bank computes in fp32; open it with precision='fp32'" in refused["narrow"]
    assert "open another bank with quantize='nf4'" in refused["quantised"]
    bank = AdapterBank(folder, precision="fp32", half_classes=False)
    assert set(bank.refused()) == {"quantised"}
    images = pictures(2, 3)
    answers = rows_of(bank.predict(images, "narrow"))
    np.testing.assert_allclose(answers, alone(folder / "narrow", images), atol=2e-2, rtol=0)
    assert AdapterBank(folder, quantize="nf4").names() == ["quantised"]


def test_an_adapter_with_factors_of_its_own_basis_uses_those(tiny_clip, tmp_path, alone, monkeypatch):
    taught(tiny_clip, "lora-xs", seed=2).save_pretrained(tmp_path / "plain")
    monkeypatch.setattr(lora_xs_basis, "DEGENERATE_GAP", 2.0)
    taught(tiny_clip, "lora-xs").save_pretrained(tmp_path / "stored")
    bank, names = AdapterBank(tmp_path, half_classes=False), ["stored", "plain", "stored", "plain"]
    assert_each_is_as_alone(bank, tmp_path, names, pictures(4, 3), alone, EXACT)
    stored, plain = (bank._fetcher.fetch(name, may_wait=True)[0].updates for name in ("stored", "plain"))
    assert len(stored.own) == len(plain.layers) == 9
    assert not plain.own and not stored.layers


def test_a_larger_rank_and_another_layer_may_come_later_on_a_base_of_fewer_bits(tiny_clip, tmp_path, alone):
    how = {"method": "lora-xs", "precision": "bf16"}
    taught(tiny_clip, encoder="vision", **how).save_pretrained(tmp_path / "first")
    bank = AdapterBank(tmp_path, half_classes=False)
    bank.predict(pictures(1), "first")
    taught(tiny_clip, rank=8, projections=("q", "fc2"), seed=2, **how).save_pretrained(tmp_path / "later")
    images = pictures(4, 3)
    assert_each_is_as_alone(bank, tmp_path, ["later", "first"] * 2, images, alone, BFLOAT16)
    # The basis is that of the weights in full: of those in bfloat16 the singular vectors would be others.
    weights = {name: basis.left for name, basis in bank._bases._known.items()}
    full = AdapterBank(tmp_path, precision="fp32")
    assert all(torch.equal(left, full._bases.at(name, len(left)).left) for name, left in weights.items())


# What is on disk


def replace(folder, other):
    """Rename another adapter's folder over this one, as a deployment does."""
    coming = folder.with_name(".coming")
    shutil.copytree(other, coming)
    shutil.rmtree(folder)
    coming.rename(folder)


def test_an_adapter_that_is_replaced_on_disk_is_read_again(kinds, copied, alone):
    folder, images = copied("xs4", "zero"), pictures(2, 3)
    bank = AdapterBank(folder, half_classes=False)
    before = rows_of(bank.predict(images, "xs4"))
    replace(folder / "xs4", kinds / "lora2")
    after = rows_of(bank.predict(images, "xs4"))
    np.testing.assert_allclose(before, alone(kinds / "xs4", images), atol=EXACT)
    np.testing.assert_allclose(after, alone(kinds / "lora2", images), atol=EXACT)
    assert bank.describe("xs4").summary.method == "lora"


def test_a_running_batch_keeps_the_adapter_that_it_began_with(kinds, copied, alone):
    folder, images = copied("xs4", "zero"), pictures(2, 3)
    bank = AdapterBank(folder, half_classes=False)

    class ReplacedMeanwhile:
        """Images that are asked for when the adapters of the batch have been read."""

        def __len__(self):
            return 2

        def __getitem__(self, index):
            if index == 0:
                replace(folder / "xs4", kinds / "lora2")
                bank.predict(images, "xs4")  # another caller asks for the new one
            return images[index]

    during = rows_of(bank.predict(ReplacedMeanwhile(), ["zero", "xs4"]))
    np.testing.assert_allclose(during[1], alone(kinds / "xs4", images)[1], atol=EXACT)
    np.testing.assert_allclose(rows_of(bank.predict(images, "xs4")), alone(kinds / "lora2", images), atol=EXACT)
    assert bank.used_bytes == sum(bank._residents._by_name[name].nbytes for name in bank.resident())


def test_what_changes_while_it_is_read_is_read_again(kinds, copied, alone, monkeypatch):
    folder, images = copied("xs4"), pictures(2, 3)
    bank = AdapterBank(folder, half_classes=False)
    load, times = bank._fetcher._loader.load, []

    def loaded_meanwhile(*arguments):
        found = load(*arguments)
        if not times:
            replace(folder / "xs4", kinds / "lora2")
        times.append(1)
        return found

    monkeypatch.setattr(bank._fetcher._loader, "load", loaded_meanwhile)
    np.testing.assert_allclose(rows_of(bank.predict(images, "xs4")), alone(kinds / "lora2", images), atol=EXACT)
    assert len(times) == 2


def test_what_never_stops_changing_is_refused_for_now(copied, monkeypatch):
    folder = copied("xs4")
    bank = AdapterBank(folder)
    monkeypatch.setattr(bank._fetcher._loader, "load", lambda at, *_: os.utime(at / "lowshot.json"))
    with refused(AdapterError, folder / "xs4", "changed on disk"):
        bank.predict(pictures(1), "xs4")
    monkeypatch.undo()
    assert bank.predict(pictures(1), "xs4")


def edit_record(folder, **fields):
    path = folder / "lowshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **fields}), encoding="utf-8")


def cut_short(folder, name="adapter_model.safetensors"):
    path = folder / name
    path.write_bytes(path.read_bytes()[:-10])


def with_nan(folder):
    path = folder / "adapter_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4:] = np.float32(np.nan).tobytes()
    path.write_bytes(content)


def of_another_basis(folder):
    from safetensors.torch import load_file, save_file

    path = folder / "lora_xs_basis.safetensors"
    tensors = load_file(path)
    tensors["probes"] += 0.5
    save_file(tensors, path, metadata={"basis_version": "1"})


def of_a_rank_without_end(folder):
    record = json.loads((folder / "lowshot.json").read_text(encoding="utf-8"))
    record["recipe"]["method"]["rank"] = 1 << 30
    edit_record(folder, recipe=record["recipe"])


TENSORS, BASIS = "adapter_model.safetensors", "lora_xs_basis.safetensors"
FAULTS = {
    (TENSORS, "damaged"): cut_short,
    (TENSORS, "not finite"): with_nan,
    ("another basis", "0.500"): of_another_basis,
    ("adapter_config.json", "missing"): lambda folder: (folder / "adapter_config.json").unlink(),
    (TENSORS, "missing"): lambda folder: (folder / TENSORS).unlink(),
    (BASIS, "missing"): lambda folder: (folder / BASIS).unlink(),
    ("lowshot.json", "missing"): lambda folder: (folder / "lowshot.json").unlink(),
    ("lowshot.json", "damaged"): lambda folder: cut_short(folder, "lowshot.json"),
    ("lowshot.json", "different names"): lambda folder: edit_record(folder, classes=["cat", "cat", "cat"]),
    ("other", "weights 1"): lambda folder: edit_record(folder, model={"id": "other", "weights_sha256": "1"}),
    ("rank 1073741824", "side of 16"): of_a_rank_without_end,
}


@pytest.mark.parametrize("facts", FAULTS, ids=" ".join)
@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_fault_refuses_that_adapter_with_its_reason_until_it_is_mended_and_no_other(
    kinds, copied, alone, facts, when
):
    folder = copied("xs4", "zero")
    bank = AdapterBank(folder, half_classes=False) if when == "later" else None
    if bank is not None:
        bank.predict(pictures(1), "xs4")
    FAULTS[facts](folder / "xs4")
    bank = bank or AdapterBank(folder, half_classes=False)
    failed, zero = bank.answers(pictures(2, 3), ["xs4", "zero"])
    assert isinstance(failed, AdapterError)
    np.testing.assert_allclose(zero.probabilities, alone(kinds / "zero", pictures(2, 3))[1], atol=EXACT)
    with refused(AdapterError, folder / "xs4", *facts):
        bank.predict(pictures(1), "xs4")
    assert bank.names() == ["zero"]
    assert bank.refused() == {"xs4": str(failed)}
    with refused(AdapterError, folder / "xs4", *facts):
        bank.describe("xs4")
    assert "xs4" not in bank.resident()
    replace(folder / "xs4", kinds / "xs4")
    images = pictures(1, 3)
    np.testing.assert_allclose(rows_of(bank.predict(images, "xs4")), alone(kinds / "xs4", images), atol=EXACT)
    assert bank.names() == ["xs4", "zero"]


def test_methods_that_cannot_share_a_pass_are_refused_by_name(tiny_clip, copied):
    folder = copied("zero")
    for method in ("dora", "layernorm", "clip-svd", "2sfs"):
        taught(tiny_clip, method).save_pretrained(folder / method)
    bank = AdapterBank(folder)
    assert bank.names() == ["zero"]
    assert "method dora, which cannot share a pass" in bank.refused()["dora"]
    assert "method layernorm" in bank.refused()["layernorm"]


def test_the_backbone_is_that_of_most_adapters_or_the_one_that_is_named(tiny_clip, tiny_siglip, copied):
    folder = copied("xs4", "zero")
    taught(tiny_siglip, "lora-xs").save_pretrained(folder / "other")
    bank = AdapterBank(folder)
    assert bank.backbone.identity.id == str(tiny_clip)
    assert list(bank.refused()) == ["other"]
    assert f"but {tiny_clip} has" in bank.refused()["other"]
    assert AdapterBank(folder, model=str(tiny_siglip)).names() == ["other"]


def test_a_folder_without_adapters_needs_a_model(tiny_clip, kinds, tmp_path):
    with refused(InputError, tmp_path, "holds none", "model"):
        AdapterBank(tmp_path)
    bank = AdapterBank(tmp_path, model=str(tiny_clip))
    assert bank.names() == []
    with refused(UnknownNameError, "'new'", "none yet"):
        bank.predict(pictures(1), "new")
    shutil.copytree(kinds / "xs4", tmp_path / "new")
    assert bank.predict(pictures(1), "new")[0].classes == CLASSES
    with refused(InputError, tmp_path / "nowhere", "does not exist"):
        AdapterBank(tmp_path / "nowhere")


def test_a_folder_is_looked_through_again(kinds, copied):
    folder = copied("xs4", "zero")
    bank = AdapterBank(folder)
    bank.predict(pictures(2), ["xs4", "zero"])
    shutil.rmtree(folder / "zero")
    shutil.copytree(kinds / "lora2", folder / "new")
    shutil.copytree(kinds / "lora2", folder / ".hidden")
    shutil.copytree(kinds / "lora2", folder / "no good name")
    (folder / "notes").mkdir()
    bank.refresh()
    assert bank.names() == ["new", "xs4"]
    assert list(bank.refused()) == ["no good name"]
    assert "rename the folder" in bank.refused()["no good name"]
    assert bank.resident() == ["xs4"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../own/xs4", "xs4/", "/xs4", "xs4\x00", "xs4\n", "nothing", "x" * 999]
)
def test_a_name_that_is_not_there_is_said_so_and_no_path_is_made_of_it(copied, name):
    bank = AdapterBank(copied("xs4"))
    with refused(UnknownNameError, "adapter", "xs4") as raised:
        bank.predict(pictures(1), name)
    assert len(str(raised.value)) < 300
    with pytest.raises(UnknownNameError):
        bank.describe(name)


def test_an_adapter_that_is_gone_is_unknown(copied):
    folder = copied("xs4", "zero")
    bank = AdapterBank(folder)
    bank.predict(pictures(1), "zero")
    shutil.rmtree(folder / "zero")
    with refused(UnknownNameError, "'zero'", "xs4"):
        bank.predict(pictures(1), "zero")
    assert (bank.names(), bank.resident(), bank.used_bytes) == (["xs4"], [], 0)


def test_an_adapter_describes_itself(copied):
    bank = AdapterBank(copied("calibrated", "zero"))
    found = bank.describe("calibrated")
    assert (found.summary.method, found.summary.rank, found.summary.classes) == ("lora-xs", 4, 2)
    assert (found.classes, found.temperature) == (("elm", "oak"), 2.5)
    assert (found.resident_bytes, found.notes, found.record.shots) == (0, (), 1)
    assert bank.describe("zero").summary.rank is None
    bank.predict(pictures(1), "calibrated")
    # 9 layers of the vision tower with 4 x 4 numbers each, and 2 classes of 16 in float16, with their lengths
    assert bank.describe("calibrated").resident_bytes == bank.used_bytes == 9 * 16 * 4 + 2 * 16 * 2 + 2 * 4


@pytest.mark.parametrize(("name", "numbers"), [("head-task-res", 3 * 16), ("head-gda", 3 * 17 + 1)])
def test_a_head_counts_for_the_memory_it_takes(copied, name, numbers):
    bank = AdapterBank(copied(name))
    bank.predict(pictures(1), name)
    assert bank.used_bytes == numbers * 4 + 3 * 16 * 2 + 3 * 4


def test_a_damaged_head_is_refused_by_name_and_keeps_nobody_from_an_answer(copied):
    folder = copied("head-proker", "zero")
    path = folder / "head-proker" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    broken, whole = AdapterBank(folder).answers(pictures(2), ["head-proker", "zero"])
    assert isinstance(broken, AdapterError)
    assert "head-proker" in str(broken)
    assert whole.classes == CLASSES


# Memory


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
    assert "bytes in memory, classes included; the bank has 200: give it more memory" in str(failed)
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


# What is asked


def test_an_image_that_cannot_be_read_fails_alone(kinds, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    bank = AdapterBank(kinds)
    good, bad, missing = bank.answers([pictures(1)[0], tmp_path / "text.png", "nowhere.png"], ["xs4", "xs4", "zero"])
    assert good.adapter == "xs4"
    assert isinstance(bad, ImageError) and str(tmp_path / "text.png") in str(bad)
    assert isinstance(missing, DataError)
    with refused(ImageError, tmp_path / "text.png"):
        bank.predict([pictures(1)[0], tmp_path / "text.png"], "xs4")


def test_images_are_taken_in_the_order_of_what_holds_them(kinds):
    bank, images = AdapterBank(kinds), pictures(3)
    expected = [answer.probabilities for answer in bank.predict(images, "xs4")]
    again = [answer.probabilities for answer in bank.predict((image for image in images), "xs4")]
    assert np.array_equal(again, expected)


def test_requests_that_make_no_sense_are_refused(kinds):
    bank = AdapterBank(kinds)
    with refused(InputError, "2 images", "1 adapters"):
        bank.predict(pictures(2), ["xs4"])
    with refused(InputError, "adapter", "int"):
        bank.predict(pictures(1), [7])
    with refused(DataError, "one path"):
        bank.predict("a.jpg", "xs4")
    with refused(DataError, "(20, 24, 3)"):
        bank.predict(pictures(1)[0], "xs4")
    with refused(DataError, "(1, 3, 8, 8)", "(N, 3, 16, 16)"):
        bank.answers_to_crops(torch.zeros(1, 3, 8, 8), "xs4")
    assert bank.predict([], []) == []
    for argument, wrong in (("memory", "much"), ("quantize", "nf5"), ("precision", "fp8"), ("device", "abacus")):
        with refused(InputError, argument, wrong):
            AdapterBank(kinds, **{argument: wrong})


def test_the_backbone_itself_computes_as_if_there_were_no_adapters(kinds, tiny_clip):
    from lowshot.models import load_backbone

    bank, crops = AdapterBank(kinds), torch.from_numpy(pictures(2, 3, (16, 16))).permute(0, 3, 1, 2) / 255
    bank.predict(pictures(2), "xs4")
    with torch.no_grad():
        assert torch.equal(bank.backbone.encode_images(crops), load_backbone(str(tiny_clip)).encode_images(crops))


def test_automatic_precision_is_that_of_the_device(kinds):
    assert AdapterBank(kinds, precision="auto").precision == "fp32"


def test_crops_are_answered_like_images_of_that_size(kinds):
    bank, images, names = AdapterBank(kinds), pictures(3, 3, (16, 16)), ["xs4", "lora2", "zero"]
    crops = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    pairs = zip(rows_of(bank.answers_to_crops(crops, names)), rows_of(bank.predict(images, names)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_probabilities_that_are_not_finite_are_an_error_of_that_row(kinds, monkeypatch):
    bank = AdapterBank(kinds)
    tables = np.array([[np.nan, 0.0], [0.5, 0.5]], np.float32)

    def predictions(crops, asked):
        return [
            Prediction(each.name, ("a", "b"), table, np.ones(1, np.float32))
            for each, table in zip(asked, tables, strict=True)
        ]

    monkeypatch.setattr(bank, "_predictions", predictions)
    first, second = bank.answers(pictures(2), ["xs4", "zero"])
    assert isinstance(first, RunError) and "xs4 gives probabilities that are not finite" in str(first)
    assert second.probabilities.tolist() == [0.5, 0.5]


def test_threads_may_share_a_bank_that_is_short_of_memory(kinds, copied, alone):
    folder = copied(*KINDS)
    images = pictures(len(KINDS), 3)
    expected = {name: alone(kinds / name, [image])[0] for name, image in zip(KINDS, images, strict=True)}
    image_of = dict(zip(KINDS, images, strict=True))
    bank, wrong = AdapterBank(folder, memory="10KB", half_classes=False), []

    def ask(seed):
        generator = np.random.default_rng(seed)
        try:
            for _ in range(12):
                names = [str(name) for name in generator.choice([*KINDS], 5)]
                for answer in bank.predict([image_of[name] for name in names], names):
                    np.testing.assert_allclose(answer.probabilities, expected[answer.adapter], atol=EXACT)
                if seed == 0:
                    os.utime(folder / "xs4" / "lowshot.json")  # is read again
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)
    assert not bank._residents._in_use
    assert bank.used_bytes <= 10_000


def test_an_error_amid_a_batch_leaves_nothing_in_use(kinds):
    bank = AdapterBank(kinds)

    class Broken:
        def __len__(self):
            return 1

        def __getitem__(self, index):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as raised:
        bank.predict(Broken(), "xs4")
    assert not bank._residents._in_use
    assert raised.traceback  # as long as it is kept nothing goes by itself

"""A bank and its folder: adapters that are damaged, replaced, gone or for another model."""

import json
import os
import shutil

import numpy as np
import pytest

from lowshot.errors import AdapterError, InputError, UnknownNameError
from lowshot.serving import AdapterBank
from refusing import assert_states, refused

from .comparing import EXACT, rows_of
from .conftest import CLASSES, pictures, taught

pytestmark = pytest.mark.usefixtures("banks_open_fast")


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
        resident = load(*arguments)
        if not times:
            replace(folder / "xs4", kinds / "lora2")
        times.append(1)
        return resident

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
    for method in ("dora", "layernorm", "clip-svd", "2sfs"):
        assert_states(bank.refused()[method], f"method {method}", "lowshot predict")


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
    description = bank.describe("calibrated")
    assert (description.summary.method, description.summary.rank, description.summary.classes) == ("lora-xs", 4, 2)
    assert (description.classes, description.temperature) == (("elm", "oak"), 2.5)
    assert (description.resident_bytes, description.notes, description.record.shots) == (0, (), 1)
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

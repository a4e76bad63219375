"""Many adapters on one backbone: what a mixed batch says, and what it says of each adapter by itself."""

import os
import threading

import numpy as np
import pytest
import torch

from lowshot.adapters.lora_xs import basis as lora_xs_basis
from lowshot.errors import DataError, ImageError, InputError, RunError
from lowshot.serving import AdapterBank, Prediction
from refusing import assert_states, refused

from .comparing import BFLOAT16, EXACT, HALF_CLASSES, assert_each_is_as_alone, mixed_names, rows_of
from .conftest import KINDS, pictures, taught

pytestmark = pytest.mark.usefixtures("banks_open_fast")


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
    assert_states(bank.refused()["usual"], "quantize-projection False", "with True")
    assert_each_is_as_alone(bank, tmp_path, names, pictures(3, 3), alone, EXACT)


def test_an_adapter_of_another_precision_is_refused_unless_the_bank_is_told_which_to_compute_in(
    tiny_clip, copied, alone
):
    folder = copied("xs4", "zero")
    taught(tiny_clip, "lora-xs", precision="bf16").save_pretrained(folder / "narrow")
    taught(tiny_clip, "lora-xs", quantize="nf4").save_pretrained(folder / "quantised")
    reasons = AdapterBank(folder).refused()
    assert set(reasons) == {"narrow", "quantised"}
    assert_states(reasons["narrow"], "trained in bf16", "precision='fp32'")
    assert_states(reasons["quantised"], "quantize nf4", "quantize='nf4'")
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
    assert isinstance(first, RunError)
    assert_states(str(first), "adapter xs4", "not finite")
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

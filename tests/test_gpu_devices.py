"""What must hold on a CUDA device as on a CPU: training, its files, crops, judging, the bank and the server.

Without a GPU the tests run on the CPU, where a recorded step is one that is done again; so what they ask is proved
there, and that a GPU does the same by ``python benchmarks/gpu.py --only correct``. That recorded steps are launched
ones is asked on the CPU by ``training/test_recorded.py``.
"""

import asyncio

import numpy as np
import pytest
import torch

from lowshot import FewShotClassifier
from lowshot.data import task_of_arrays
from lowshot.data.crops import random_crops
from lowshot.models import load_backbone
from lowshot.progress import silent
from lowshot.serving import AdapterBank
from lowshot.serving.batcher import Batcher
from lowshot.settings import preset_recipe
from lowshot.training import create_learner, run
from lowshot.training.recorded import PlainRecorder

from .training.steps import Losses

NAMES = ("cat", "cow", "dog")
STEPS = 5
TOLERANCE = {"fp32": 5e-3, "bf16": 5e-2, "fp16": 2e-2}
"""Of losses and probabilities: two devices add in different orders, and CUDA's convolution of the patches rounds to 10
bits."""
QUANTISED = 3e-2
"""Of probabilities on two devices: a weight half way between two levels may be rounded to either."""
EVERY = [
    *[("lora", quantize) for quantize in ("none", "nf4", "int8")],
    *[("lora-xs", quantize) for quantize in ("none", "nf4", "int8")],
    *[("dora", quantize) for quantize in ("none", "nf4", "int8")],
    *[("layernorm", quantize) for quantize in ("none", "nf4", "int8")],
    *[(method, "none") for method in ("full", "bitfit", "clip-svd", "2sfs", "coop", "plot++", "peft:oft")],
]
"""Method, base."""
RECORDED = [
    ("lora", {}),  # ten images in batches of four: every third is filled up
    ("lora", {"precision": "bf16"}),
    ("lora", {"precision": "bf16", "adapter_precision": "fp32"}),
    ("lora", {"precision": "fp16"}),
    ("lora", {"images_per_pass": 3, "prompts_per_pass": 2}),
    ("lora", {"encoder": "vision"}),
    ("lora", {"encoder": "text", "views": 2}),
    ("lora", {"gradient_checkpointing": True}),
    ("lora", {"quantize": "nf4", "precision": "bf16"}),
    ("lora", {"quantize": "int8", "precision": "bf16"}),
    ("lora-xs", {}),
    ("dora", {}),
    ("layernorm", {}),
    ("full", {"learning_rate": 1e-4}),
]


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, monkeypatch):
    """Where steps are recorded; on a CPU they are done again."""
    if request.param == "cpu":
        monkeypatch.setattr(run, "recorder_on", lambda device: PlainRecorder())
    return request.param


def pictures(count, seed=1):
    """Images of noise of many sizes."""
    generator = np.random.default_rng(seed)
    shapes = generator.integers(17, 40, (count, 2))
    return [generator.integers(0, 256, (*shape, 3), dtype=np.uint8) for shape in shapes]


@pytest.fixture(scope="module")
def examples():
    return task_of_arrays(pictures(10), [name for name in "abcde" for _ in range(2)]).train


def settings_of(method, quantize="none", **chosen):
    """Few steps that change much."""
    quick = {"base_steps": STEPS, "steps_per_shot": 0, "batch_size": 4, "learning_rate": 1e-2, "precision": "fp32"}
    low_rank = {"rank": 3, "dropout": 0.25} if method in ("lora", "lora-xs", "dora") else {}
    special = {
        "full": {"learning_rate": 1e-4},
        "coop": {"optimizer": "adamw", "learning_rate": 1e-3},
        "plot++": {"template": ("{}.",), "learning_rate": 1e-3},
        "peft:oft": {"peft": ("oft_block_size=4",), "learning_rate": 1e-3},
    }
    if quantize != "none":
        pytest.importorskip("bitsandbytes")
    return {"method": method, "quantize": quantize, **quick, **low_rank, **special.get(method, {}), **chosen}


def learner_on(model, device, method, quantize="none", **chosen):
    settings = settings_of(method, quantize, **chosen)
    recipe = preset_recipe("paper", method).replace(model=str(model), device=device, **settings)
    prompts = [f"a photo of {name}." for name in ("cats", "dogs", "long names", "x", "horse")]
    return create_learner(load_backbone(str(model), device), prompts, recipe)


def fitted(learner, examples, checkpoint=None, track=silent):
    losses = Losses()
    outcome = learner.fit(examples, 1, track, checkpoint, report=losses)
    assert not outcome.stopped
    return losses.all, outcome


def taught(model, device, method, quantize="none", **chosen):
    """A classifier that a device trained."""
    settings = settings_of(method, quantize, **chosen)
    classifier = FewShotClassifier(str(model), preset="paper", device=device, **settings)
    return classifier.fit(pictures(6), list(NAMES) * 2, shots=2)


def assert_alike(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, atol=tolerance, rtol=0)
    assert np.ptp(expected) > 5 * tolerance  # else it would say nothing


@pytest.mark.parametrize(("method", "quantize"), EVERY)
def test_what_a_device_learns_is_saved_and_read_back_and_says_the_same_on_both(
    tiny_clip, tmp_path, device, method, quantize
):
    classifier, images = taught(tiny_clip, device, method, quantize), pictures(9, seed=5)
    before = classifier.predict_proba(images)
    assert before.shape == (9, 3)
    classifier.save_pretrained(tmp_path / "adapter")
    for where in ("cpu", device):
        again = FewShotClassifier.from_pretrained(tmp_path / "adapter", device=where)
        tolerance = TOLERANCE["fp32"] if quantize == "none" or where == device else QUANTISED
        assert_alike(again.predict_proba(images), before, tolerance)


@pytest.mark.parametrize("method", ["lora", "lora-xs", "layernorm", "full"])
def test_a_device_learns_what_the_cpu_learns(tiny_clip, device, examples, method):
    chosen = {"dropout": 0.0} if "lora" in method else {}  # a seed stands for other masks on a GPU
    found, _ = fitted(learner_on(tiny_clip, device, method, **chosen), examples)
    expected, _ = fitted(learner_on(tiny_clip, "cpu", method, cuda_graph=False, **chosen), examples)
    assert found == pytest.approx(expected, rel=3e-2)
    assert found[-1] != found[0]


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
@pytest.mark.parametrize(("method", "chosen"), RECORDED, ids=str)
def test_a_recorded_step_is_the_step_that_is_launched(tiny_clip, device, examples, method, chosen):
    learner = learner_on(tiny_clip, device, method, **chosen)
    replayed, outcome = fitted(learner, examples)
    assert outcome.notes == ()  # which would say that it could not be recorded
    launched, _ = fitted(learner_on(tiny_clip, device, method, cuda_graph=False, **chosen), examples)
    assert replayed == pytest.approx(launched, rel=TOLERANCE[chosen.get("precision", "fp32")])
    assert replayed[-1] != replayed[0]


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize(("method", "quantize"), [("lora", "none"), ("lora", "nf4"), ("layernorm", "none")])
def test_a_run_that_is_interrupted_goes_on_to_where_it_would_have_come(
    tiny_clip, tmp_path, device, examples, method, quantize, step
):
    def interrupted(items, *, what, total):
        for number, item in enumerate(items):
            if number == step:
                raise KeyboardInterrupt
            yield item

    whole, _ = fitted(learner_on(tiny_clip, device, method, quantize), examples)
    with pytest.raises(KeyboardInterrupt):
        fitted(learner_on(tiny_clip, device, method, quantize), examples, tmp_path / "state", interrupted)
    rest, outcome = fitted(learner_on(tiny_clip, device, method, quantize), examples, tmp_path / "state")
    assert outcome.begun_at_step == step
    assert rest == pytest.approx(whole, rel=TOLERANCE["fp32"])


def test_crops_are_those_of_the_cpu(device):
    images, keys = pictures(8), [(3, number) for number in range(8)]
    here, there = (
        random_crops(images, 16, crop_minimum=0.08, flip=True, keys=keys, device=torch.device(where))
        for where in ("cpu", device)
    )
    assert there.device.type == device
    assert (there.cpu() - here).abs().max() <= 2e-6


@pytest.fixture
def folder(tiny_clip, tmp_path, device):
    """Adapters that this device trained."""
    made = tmp_path / "adapters"
    for method in ("lora", "lora-xs"):
        taught(tiny_clip, device, method).save_pretrained(made / method)
    zero = FewShotClassifier(str(tiny_clip), method="zero-shot", device=device, precision="fp32")
    zero.fit(pictures(3), list(NAMES), shots=1).save_pretrained(made / "zero")
    return made


MIXED = ["lora", "zero", "lora-xs", "lora-xs", "lora", "zero"]


def said_alone(folder, images):
    """What the adapters of ``MIXED`` say on a CPU, each of its image."""
    loaded = {name: FewShotClassifier.from_pretrained(folder / name, device="cpu") for name in set(MIXED)}
    return np.concatenate([loaded[name].predict_proba([image]) for name, image in zip(MIXED, images, strict=True)])


def test_in_a_mixed_batch_of_a_bank_every_row_is_what_its_adapter_says_alone(folder, device):
    bank, images = AdapterBank(folder, device=device, half_classes=False), pictures(len(MIXED), seed=3)
    assert bank.backbone.device.type == device
    answers = bank.predict(images, MIXED)
    assert [answer.adapter for answer in answers] == MIXED
    assert_alike([answer.probabilities for answer in answers], said_alone(folder, images), TOLERANCE["fp32"])


def test_callers_who_ask_a_server_at_once_get_their_own_answers(folder, device):
    """What stands between HTTP and the bank: rows of several requests, computed together on a thread."""
    bank, images = AdapterBank(folder, device=device, half_classes=False), pictures(len(MIXED), seed=3)
    batcher = Batcher(lambda some, names: bank.predict(some, names), batch_images=4, batch_seconds=0.01, capacity=100)

    async def ask():
        rows = zip(images, MIXED, strict=True)
        return await asyncio.gather(*(batcher.predict([row]) for row in rows))

    try:
        answers = [row for rows in asyncio.run(ask()) for row in rows]
    finally:
        batcher.close(30)
    assert [answer.adapter for answer in answers] == MIXED
    assert_alike([answer.probabilities for answer in answers], said_alone(folder, images), TOLERANCE["fp32"])

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.base import clone

from coloured import as_folder
from lowshot import FewShotClassifier, Recipe
from lowshot.classifier import saved_adapter
from lowshot.errors import (
    AdapterError,
    DataError,
    ImageError,
    InputError,
    NotFittedError,
    OutputExistsError,
    RunError,
    UnknownNameError,
)
from lowshot.models import load_backbone
from lowshot.settings import obeyed
from refusing import refused

COLOURS = ("blue", "green", "red")


def pictures(count=12, seed=0):
    """Pictures in which only the colour tells the class, and their labels."""
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 60, (count, 20, 20, 3), dtype=np.uint8)
    labels = [COLOURS[i % 3] for i in range(count)]
    for image, label in zip(images, labels, strict=True):
        image[..., ("red", "green", "blue").index(label)] += 150
    return list(images), labels


@pytest.fixture
def quick(tiny_clip):
    """Settings under which the tiny CLIP learns colours in a second."""
    return {"model": str(tiny_clip), "rank": 4, "steps_per_shot": 2, "learning_rate": 1e-2, "crop_minimum": 0.5}


@pytest.fixture
def folder(tmp_path):
    """``photos/<class>/*.png``, six of each."""
    return as_folder(tmp_path / "photos", *pictures(18))


@pytest.fixture(scope="module")
def fitted(tiny_clip):
    settings = {"model": str(tiny_clip), "rank": 4, "steps_per_shot": 10, "learning_rate": 1e-2, "crop_minimum": 0.5}
    return FewShotClassifier(method="lora-xs", **settings).fit(*pictures())


@pytest.fixture(scope="module")
def saved(fitted, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "adapter"
    fitted.save_pretrained(folder)
    return folder


def test_it_learns_from_lists_of_images(quick):
    classifier = FewShotClassifier(method="lora", **{**quick, "steps_per_shot": 10}).fit(*pictures())
    assert classifier.classes_.tolist() == list(COLOURS)
    images, labels = pictures(30, seed=1)
    assert classifier.score(images, labels) >= 0.9
    table = classifier.predict_proba(images)
    assert table.shape == (30, 3)
    np.testing.assert_allclose(table.sum(1), 1, atol=1e-5)
    assert (classifier.predict(images) == classifier.classes_[table.argmax(1)]).all()


def test_names_alone_make_a_classifier_as_images_of_them_do(tiny_clip, tmp_path):
    alone = FewShotClassifier.zero_shot(COLOURS, str(tiny_clip), template="a {} thing")
    images, labels = pictures()
    fitted = FewShotClassifier(str(tiny_clip), method="zero-shot", template="a {} thing").fit(images, labels)
    assert alone.classes_.tolist() == list(COLOURS)
    assert alone.record_.shots == 0 and alone.record_.draw == ()
    np.testing.assert_allclose(alone.predict_proba(images), fitted.predict_proba(images), atol=1e-6)
    with refused(DataError, "FewShotClassifier.zero_shot"):
        FewShotClassifier(str(tiny_clip)).fit([], [])
    alone.save_pretrained(tmp_path / "adapter")
    assert saved_adapter(tmp_path / "adapter").predict(images[:1]) == alone.predict(images[:1])
    assert alone.score(images, labels) == fitted.score(images, labels)


def test_a_backbone_is_not_named_twice(tiny_clip):
    with refused(InputError, "model is 'builtin'", "adapter"):
        FewShotClassifier.from_pretrained(tiny_clip, model="builtin")


def test_names_alone_cannot_be_calibrated(tiny_clip):
    with refused(InputError, "calibration-folds", "names alone"):
        FewShotClassifier.zero_shot(COLOURS, str(tiny_clip), calibration_folds=2)


def test_embeddings_are_those_that_the_class_scores_are_made_of(fitted, tiny_clip):
    images, _ = pictures()
    embeddings = fitted.transform(images)
    untaught = FewShotClassifier.zero_shot(COLOURS, str(tiny_clip)).transform(images)
    assert embeddings.shape == untaught.shape == (12, fitted._ready()[0].embedding_size)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-5)
    scores = fitted._ready()[1].logits_of(torch.from_numpy(embeddings)).softmax(-1).detach().numpy()
    np.testing.assert_allclose(scores, fitted.predict_proba(images), atol=1e-5)
    assert np.abs(embeddings - untaught).max() > 1e-3
    assert fitted.transform([]).shape == (0, embeddings.shape[1])


def test_a_table_with_columns_is_learnt_from_judged_and_predicted(tiny_clip):
    images, labels = pictures()
    rows = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
    classifier = FewShotClassifier(str(tiny_clip), method="zero-shot").fit(rows)
    assert classifier.score(rows) == classifier.score(images, labels)
    assert classifier.predict(rows).tolist() == classifier.predict(images).tolist()
    assert classifier.evaluate({"train": rows, "test": rows[:6]})["images"] == 6


def test_paths_pil_images_and_arrays_are_one(fitted, tmp_path):
    image = pictures()[0][0]
    Image.fromarray(image).save(tmp_path / "image.png")
    table = fitted.predict_proba([image, Image.fromarray(image), tmp_path / "image.png", str(tmp_path / "image.png")])
    assert np.ptp(table, axis=0).max() == 0


def test_a_folder_with_shots_is_judged_on_what_was_not_drawn(quick, folder):
    classifier = FewShotClassifier(method="lora", **quick).fit(folder, shots=2)
    assert len(classifier.record_.draw) == 6
    metrics = classifier.evaluate(folder)
    assert (metrics["images"], metrics["split"]) == (12, "unseen")
    assert classifier.score(folder) == metrics["acc1"] == classifier.record_.metrics["acc1"]


def test_a_folder_learnt_whole_cannot_judge(quick, folder):
    classifier = FewShotClassifier(method="lora", **quick).fit(folder)
    assert classifier.record_.shots == 6
    with pytest.raises(DataError, match="learnt from"):
        classifier.evaluate(folder)


def test_too_few_images_are_used_and_said(quick, folder):
    (folder / "red" / "2.png").unlink()
    classifier = FewShotClassifier(method="lora", **quick).fit(folder, shots=6)
    assert classifier.warnings_ == ["class 'red' has 5 of the 6 shots asked for; all of it is used"]


def test_other_classes_than_those_taught_are_refused(fitted, folder):
    (folder / "red").rename(folder / "crimson")
    with pytest.raises(DataError, match="'crimson'"):
        fitted.evaluate(folder)


def test_a_bad_image_is_named(quick, folder):
    (folder / "red" / "bad.png").write_bytes(b"not an image")
    with pytest.raises(ImageError, match=r"bad\.png"):
        FewShotClassifier(method="lora", **quick).fit(folder)
    classifier = FewShotClassifier(method="lora", **quick, on_bad_image="skip").fit(folder)
    assert any("left out" in line and "bad.png" in line for line in classifier.warnings_)


def test_how_to_leave_a_bad_image_out_is_told_of_a_folder_and_not_of_a_list(quick, folder):
    bad = folder / "red" / "bad.png"
    bad.write_bytes(b"not an image")
    with refused(ImageError, bad, "--on-bad-image", "lowshot data check"):
        FewShotClassifier(method="lora", **quick).fit(folder)
    images, labels = pictures(6)
    with refused(ImageError, bad) as refusal:
        FewShotClassifier(method="lora", **quick).fit([*images, bad], [*labels, "red"])
    assert "--on-bad-image" not in str(refusal.value)


def test_before_fit_it_says_so():
    for ask in (lambda c: c.predict([np.zeros((4, 4, 3))]), lambda c: c.save_pretrained("nowhere")):
        with pytest.raises(NotFittedError):
            ask(FewShotClassifier())


def test_after_an_interrupted_fit_nothing_half_learnt_answers(quick):
    def interrupted(items, *, what, total):
        yield next(iter(items))
        raise KeyboardInterrupt

    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures())
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(*pictures(), track=interrupted)
    with pytest.raises(NotFittedError):
        classifier.predict(pictures()[0])


def test_after_a_fit_that_diverged_the_last_good_weights_answer_and_the_record_says_so(quick):
    classifier = FewShotClassifier(method="lora", **quick)
    with pytest.raises(RunError, match="learning rate"):
        classifier.set_params(learning_rate=1e30).fit(*pictures())
    assert np.isfinite(classifier.predict_proba(pictures()[0])).all()
    assert classifier.record_.stopped.startswith("training diverged at step")


def test_images_without_labels_are_refused(fitted):
    with pytest.raises(DataError, match=r"fit\(images, labels\)"):
        FewShotClassifier().fit(pictures()[0])
    with pytest.raises(DataError, match=r"score\(images, labels\)"):
        fitted.score(pictures()[0])
    with refused(DataError, 12, 2):
        fitted.score(pictures()[0], ["red", "blue"])
    with refused(DataError, "'crimson'", 3):
        fitted.score(pictures()[0], ["crimson"] * 12)


def test_images_that_were_learnt_from_are_never_unseen_whatever_they_are_called(quick, folder):
    files = [path for label in COLOURS for path in sorted((folder / label).glob("*.png"))[:4]]
    classifier = FewShotClassifier(method="lora", **quick).fit(files, [path.parent.name for path in files])
    for path in files:
        path.rename(path.with_name(f"renamed-{path.name}"))
    assert classifier.evaluate(folder)["images"] == 6


def test_other_images_of_the_same_name_are_unseen(quick, folder, tmp_path):
    classifier = FewShotClassifier(method="lora", **quick).fit(folder)
    others = as_folder(tmp_path / "others", *pictures(18, seed=9))
    assert classifier.evaluate(others)["images"] == 18


def test_shots_of_one_fit_do_not_stay(quick, folder):
    classifier = FewShotClassifier(method="lora", **quick).fit(folder, shots=1)
    assert classifier.record_.shots == 1
    assert classifier.fit(folder).record_.shots == 6


def test_the_template_reaches_the_text_tower(quick):
    images, labels = pictures()
    tables = [
        FewShotClassifier(quick["model"], method="zero-shot", template=t).fit(images, labels).predict_proba(images)
        for t in ("a photo of a {}.", "{} everywhere")
    ]
    assert not np.allclose(*tables)


def test_a_change_of_method_or_preset_brings_its_settings():
    classifier = FewShotClassifier(method="lora", alpha=3.0)
    classifier.set_params(method="lora-xs")
    assert (classifier.recipe.method.rank, classifier.recipe.method.alpha) == (16, 3.0)
    classifier.set_params(preset="paper")
    assert (classifier.recipe.method.rank, classifier.recipe.training.steps_per_shot) == (32, 500)
    with pytest.raises(UnknownNameError) as caught:
        classifier.set_params(preset="papr")
    assert (caught.value.kind, caught.value.name) == ("preset", "papr")
    assert classifier.preset == "paper"


def test_an_alias_and_its_precision_must_agree():
    assert FewShotClassifier(method="qlora", quantize="nf4").recipe.model.quantize == "nf4"
    with refused(InputError, "qlora", "nf4", "'none'"):
        FewShotClassifier(method="qlora", quantize="none")


def test_one_path_is_not_a_list_of_images(fitted):
    with pytest.raises(DataError, match=r"'a\.png'"):
        fitted.predict("a.png")
    with pytest.raises(DataError, match="no images to score"):
        fitted.score([], [])


def test_a_folder_that_is_not_there_is_no_backbone():
    with pytest.raises(InputError, match="nowhere"):
        FewShotClassifier.from_pretrained("./nowhere")


def test_no_images_give_no_rows(fitted):
    assert fitted.predict_proba([]).shape == (0, 3)
    assert fitted.predict([]).shape == (0,)


def test_scikit_learn_can_clone_it_and_change_it(quick):
    classifier = FewShotClassifier(method="lora-xs", **quick)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(rank=3).recipe.method.rank == 3
    assert classifier.recipe.method.rank == 4


def test_unknown_settings_are_named():
    with pytest.raises(UnknownNameError) as caught:
        FewShotClassifier(ranks=3)
    assert (caught.value.kind, caught.value.name, caught.value.nearest[0]) == ("setting", "ranks", "rank")
    with pytest.raises(InputError, match="shots is 0"):
        FewShotClassifier().fit("digits", shots=0)
    with pytest.raises(UnknownNameError) as caught:
        FewShotClassifier().fit("digit", shots=1)
    assert (caught.value.name, caught.value.nearest[0]) == ("digit", "digits")


@pytest.mark.parametrize(
    "method",
    ["zero-shot", "lora", "lora-xs", "dora", "qlora", "clip-svd", "2sfs", "layernorm", "bitfit", "full", "peft:loha"],
)
def test_saved_and_loaded_or_pickled_it_is_the_same(quick, method, tmp_path):
    classifier = FewShotClassifier(method=method, preset="paper", **obeyed(method, quick)).fit(*pictures())
    classifier.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter")
    of_model = classifier.record_.recipe["model"]  # what it was trained in, anywhere
    resolved = {"adapter_precision": "fp32", "precision": of_model["precision"]}
    assert of_model["precision"] in (["fp32", "bf16"] if method == "qlora" else ["fp32"])
    assert loaded.recipe.settings() == classifier.recipe.settings() | resolved
    assert loaded.record_ == classifier.record_
    images, _ = pictures(9, seed=2)
    np.testing.assert_array_equal(loaded.predict_proba(images), classifier.predict_proba(images))
    pickled = pickle.dumps(classifier)
    assert len(pickled) < 200_000  # the backbone is not in it, unless all of it was trained
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.predict_proba(images), classifier.predict_proba(images))
    assert (again.get_params(), again.record_) == (classifier.get_params(), classifier.record_)


def test_the_folder_is_that_of_peft_with_record_and_card(saved):
    assert sorted(p.name for p in saved.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "lora_xs_basis.safetensors",
        "lowshot.json",
    ]
    record = json.loads((saved / "lowshot.json").read_text())
    assert record["classes"] == list(COLOURS)
    assert len(record["draw"]) == 12
    assert record["trainable_parameters"] == 15 * 4 * 4
    assert record["adapter_bytes"] == (saved / "adapter_model.safetensors").stat().st_size


def test_what_exists_is_never_overwritten(fitted, saved):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    with pytest.raises(OutputExistsError) as caught:
        fitted.save_pretrained(saved)
    assert caught.value.path == saved
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def test_other_weights_of_the_same_shape_are_refused(saved, tiny_clip, tmp_path):
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(tiny_clip, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    tensors["visual_projection.weight"] += 0.01
    save_file(tensors, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(AdapterError, match=r"weights \w{12}"):
        FewShotClassifier.from_pretrained(saved, model=str(other))


@pytest.fixture
def in_half(tiny_clip, tmp_path):
    """Copies of a model in another type, with singular values so far apart that rounding does not turn the vectors."""
    from safetensors.torch import load_file, save_file

    def copy(name, dtype):
        folder = shutil.copytree(tiny_clip, tmp_path / name)
        tensors = load_file(folder / "model.safetensors")
        for tensor_name, tensor in tensors.items():
            if tensor_name.endswith("_proj.weight"):
                u, s, v = torch.linalg.svd(tensor, full_matrices=False)
                tensors[tensor_name] = (u * (s[0] * 0.8 ** torch.arange(len(s)))) @ v
        save_file({n: t.to(dtype) for n, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
        return str(folder)

    return copy


@pytest.mark.parametrize("method", ["lora", "lora-xs"])
@pytest.mark.parametrize(("trained_in", "loaded_in"), [("float32", "bfloat16"), ("float16", "float32")])
def test_the_same_weights_in_half_precision_are_accepted_with_a_word(
    quick, in_half, tmp_path, method, trained_in, loaded_in
):
    folders = {name: in_half(name, getattr(torch, name)) for name in (trained_in, loaded_in)}
    settings = {**quick, "model": folders[trained_in]}
    classifier = FewShotClassifier(method=method, **settings).fit(*pictures())
    classifier.save_pretrained(tmp_path / "adapter")
    loaded = FewShotClassifier.from_pretrained(tmp_path / "adapter", model=folders[loaded_in])
    half = next(name for name in (trained_in, loaded_in) if name != "float32")
    assert [f"rounded to {half} in one of the two" in line for line in loaded.warnings_] == [True]
    images, _ = pictures(9, seed=2)
    np.testing.assert_allclose(loaded.predict_proba(images), classifier.predict_proba(images), atol=0.05)


def test_the_same_weights_with_another_activation_are_refused(saved, tiny_clip, tmp_path):
    other = shutil.copytree(tiny_clip, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    config["vision_config"]["hidden_act"] = "relu"
    (other / "config.json").write_text(json.dumps(config))
    with pytest.raises(AdapterError, match=r"settings \w{12}"):
        FewShotClassifier.from_pretrained(saved, model=str(other))


def test_settings_of_a_saved_adapter_are_its_own(saved):
    with pytest.raises(InputError, match="rank "):
        FewShotClassifier.from_pretrained(saved, rank=4)


def test_the_backbone_may_have_moved(saved, fitted, tiny_clip, tmp_path):
    moved = shutil.copytree(tiny_clip, tmp_path / "moved")
    loaded = FewShotClassifier.from_pretrained(saved, model=str(moved))
    images, _ = pictures(3)
    np.testing.assert_array_equal(loaded.predict_proba(images), fitted.predict_proba(images))


@pytest.mark.parametrize("missing", ["lowshot.json", "adapter_config.json", "adapter_model.safetensors"])
def test_an_incomplete_adapter_is_refused(saved, tmp_path, missing):
    folder = shutil.copytree(saved, tmp_path / "adapter")
    (folder / missing).unlink()
    with refused(AdapterError, missing):
        saved_adapter(folder)


def damaged(saved, tmp_path, **changes):
    folder = shutil.copytree(saved, tmp_path / "adapter")
    record = json.loads((folder / "lowshot.json").read_text())
    (folder / "lowshot.json").write_text(json.dumps({**record, **changes}))
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": []},
        {"classes": ["red", "red", "blue"]},
        {"classes": ["red", "", "blue"]},
        {"classes": ["red", 3, "blue"]},
        {"classes": 5},
        {"recipe": {"method": {"rank": -1}}},
        {"recipe": {"method": {"rnk": 1}}},
        {"recipe": []},
        {"format": 99},
        {"surprise": 1},
        {"model": "x"},
        {"draw": [[1]]},
        {"learnt": "x"},
        {"metrics": "x"},
        {"calibration": "x"},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(saved, tmp_path, changes):
    with pytest.raises(AdapterError, match=r"lowshot\.json"):
        saved_adapter(damaged(saved, tmp_path, **changes))


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "\x00", "[" * 100_000])
def test_a_record_that_is_no_json_object_is_refused(saved, tmp_path, text):
    folder = shutil.copytree(saved, tmp_path / "adapter")
    (folder / "lowshot.json").write_text(text)
    with pytest.raises(AdapterError, match=r"lowshot\.json"):
        saved_adapter(folder)


def test_a_folder_that_is_no_adapter_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with refused(AdapterError, path):
            saved_adapter(path)


def test_pushing_goes_through_the_hub_client_and_failures_are_one_line(fitted, monkeypatch):
    import huggingface_hub

    pushed = {}

    def create_repo(self, repository, **options):
        pushed["repository"] = (repository, options["private"])

    def upload_folder(self, *, repo_id, folder_path):
        pushed["files"] = sorted(p.name for p in folder_path.iterdir())
        return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", create_repo)
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", upload_folder)
    assert fitted.push_to_hub("me/colours", private=True) == "https://hub/me/colours/commit/1"
    assert pushed["repository"] == ("me/colours", True)
    assert "lowshot.json" in pushed["files"]
    monkeypatch.undo()
    with pytest.raises(InputError, match="'me/colours'"):
        fitted.push_to_hub("me/colours")


def test_each_fit_starts_from_the_backbone_anew(quick):
    classifier = FewShotClassifier(method="lora", **quick).fit(*pictures())
    images, _ = pictures(6, seed=3)
    first = classifier.predict_proba(images)
    np.testing.assert_array_equal(classifier.fit(*pictures()).predict_proba(images), first)


def test_the_backbone_file_is_not_touched(quick, tiny_clip):
    before = load_backbone(str(tiny_clip)).identity
    FewShotClassifier(method="qlora", **quick).fit(*pictures())
    assert load_backbone(str(tiny_clip)).identity == before


def test_a_lora_xs_adapter_of_vit_b16_has_18432_numbers_and_100_kilobytes_with_all_that_lies_beside_them(
    tiny_clip, tmp_path
):
    """Width does not count, depth and rank do: a narrow CLIP of twelve layers has exactly ViT-B/16's adapter."""
    from transformers import CLIPConfig, CLIPModel

    folder = shutil.copytree(tiny_clip, tmp_path / "deep")
    config = json.loads((folder / "config.json").read_text())
    for tower in ("text_config", "vision_config"):
        config[tower]["num_hidden_layers"] = 12
    with torch.random.fork_rng():
        CLIPModel(CLIPConfig.from_dict(config)).save_pretrained(folder)
    classifier = FewShotClassifier(str(folder), method="lora-xs", rank=16, base_steps=1, steps_per_shot=0)
    classifier.fit(*pictures(3)).save_pretrained(tmp_path / "adapter")
    assert classifier.record_.trainable_parameters == 18_432
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "adapter").iterdir()}
    assert sizes["adapter_model.safetensors"] == 83_480
    assert sum(sizes.values()) <= 100_000


def test_training_and_prediction_use_the_threads_asked_for_and_give_them_back(quick, monkeypatch):
    import torch

    from lowshot.training.weights import WeightsLearner

    before, seen, logits = torch.get_num_threads(), [], WeightsLearner.logits

    def counted(self, images):
        seen.append(torch.get_num_threads())
        return logits(self, images)

    monkeypatch.setattr(WeightsLearner, "logits", counted)
    classifier = FewShotClassifier(method="lora", **quick, threads=3).fit(*pictures())
    classifier.predict(pictures()[0])
    assert set(seen) == {3}
    assert torch.get_num_threads() == before


def test_a_draw_as_in_other_code_is_in_the_record(quick, folder):
    ours, theirs = (
        FewShotClassifier(method="lora", **quick, shots=2, draw=rule).fit(folder).record_
        for rule in ("lowshot", "coop")
    )
    assert (theirs.recipe["data"]["draw"], len(theirs.draw)) == ("coop", 6)
    assert theirs.draw != ours.draw


def test_the_images_of_a_saved_adapter_make_it_again(quick, folder, tmp_path):
    first = FewShotClassifier(method="lora", **quick, shots=2, draw="coop").fit(folder)
    first.save_pretrained(tmp_path / "adapter")
    again = FewShotClassifier(method="lora", **quick, draw=tmp_path / "adapter").fit(folder)
    assert (again.record_.draw, again.record_.shots) == (first.record_.draw, 2)
    images = pictures(6, seed=5)[0]
    assert np.array_equal(again.predict_proba(images), first.predict_proba(images))


def test_a_record_of_listed_images_names_them_by_hash_and_says_where_to_find_them(quick, folder, tmp_path):
    FewShotClassifier(method="lora", **quick, shots=1).fit(folder).save_pretrained(tmp_path / "adapter")
    record = FewShotClassifier(method="lora", **quick, draw=str(tmp_path / "adapter")).fit(folder).record_
    assert record.recipe["data"]["draw"].startswith("sha256:")
    assert str(tmp_path / "adapter") not in json.dumps(dict(record.recipe))
    with pytest.raises(DataError, match="hash"):
        FewShotClassifier.from_recipe(Recipe.from_dict(record.recipe)).fit(folder)


def test_images_that_are_drawn_several_times_cannot_be_held_out(quick, folder, tmp_path):
    names = [f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")]
    (tmp_path / "draw.jsonl").write_text("".join(f'{{"file_name": "{name}"}}\n' for name in [*names, names[0]]))
    classifier = FewShotClassifier(method="lora", **quick, draw=tmp_path / "draw.jsonl", calibration_folds=2)
    with pytest.raises(DataError, match="several times"):
        classifier.fit(folder)

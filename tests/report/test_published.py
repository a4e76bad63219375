from __future__ import annotations

import dataclasses

import pytest

from lowshot.report.published import (
    AVERAGES,
    ELEVEN,
    KINDS,
    PublishedFigure,
    backbone_of,
    published_average,
    published_beside,
    published_figures,
    same_method,
)
from lowshot.report.summary import summarize
from lowshot.settings import preset_recipe
from lowshot.wording.settings import settings_as_text

from .factory import record, rival, zero_shot

B16 = {"id": "openai/clip-vit-base-patch16", "weights_sha256": "ab" * 32}


def figure(method="CLIP-LoRA", dataset="average11", shots=4, kind="quoted", backbone="ViT-B/16"):
    """The one published figure of this kind."""
    (figure,) = [
        one
        for one in published_figures()
        if (one.method, one.dataset, one.shots, one.kind, one.backbone) == (method, dataset, shots, kind, backbone)
    ]
    return figure


def row_of(method="lora", quantize="none", preset="paper", **settings):
    """The row of one run with a preset's settings, changed."""
    recipe = preset_recipe(preset, method).replace(**settings).to_dict()
    return summarize([record(method, quantize=quantize, recipe=recipe, model=B16)])[0]


def test_percent_becomes_a_fraction_with_no_more_digits_than_were_printed():
    assert figure().accuracy == 0.774
    assert figure("CLIP zero-shot", shots=0, kind="readme").accuracy == 0.6536
    assert figure("PLOT++", "dtd", 4, "digitised").uncertainty == 0.002
    assert figure().uncertainty is None
    assert all(0 < one.accuracy < 1 for one in published_figures())


def test_what_several_sources_say_alike_is_one_figure_with_both_sources():
    assert figure().source.split("; ") == [
        "HALoRA (AAAI 2026) Table 5, quoting CLIP-LoRA arXiv:2405.18541",
        "github.com/MR-Sherif/SD-LoRA README.md, quoting CLIP-LoRA arXiv:2405.18541",
    ]
    keys = [dataclasses.astuple(dataclasses.replace(one, source="")) for one in published_figures()]
    assert len(set(keys)) == len(keys)


def test_figures_of_different_kinds_stay_apart():
    assert figure("PLOT++", "ucf101", 4, "quoted").accuracy == 0.798
    assert figure("PLOT++", "ucf101", 4, "digitised").accuracy == 0.797


def test_every_figure_has_a_known_kind_a_source_and_data_of_the_papers():
    for one in published_figures():
        assert one.kind in KINDS
        assert one.source
        assert one.dataset in ELEVEN or one.dataset in AVERAGES
        assert (one.uncertainty is not None) == (one.kind == "digitised")


def test_names_of_data_sets_are_those_of_the_catalogue():
    from lowshot.data.catalogue import CATALOGUE

    assert set(ELEVEN) <= set(CATALOGUE)


def test_beside_are_figures_of_the_same_backbone_and_data():
    beside = published_beside([record(task="dtd", model=B16), record(task="digits", model=B16)])

    assert {one.dataset for one in beside} == {"dtd"}
    assert {one.backbone for one in beside} == {"ViT-B/16"}
    assert {one.shots for one in beside} == {0, 1, 2, 4, 8, 16}


def test_an_average_stands_beside_the_very_same_data_sets_alone():
    def averages(tasks):
        return {one.dataset for one in published_beside([record(task=t, model=B16) for t in tasks])} & set(AVERAGES)

    assert averages(ELEVEN) == {"average11"}
    assert averages(AVERAGES["average8"]) == {"average8"}
    assert averages(ELEVEN[:10]) == set()
    assert averages([*ELEVEN, "imagenetv2"]) == set()
    assert published_average(["digits"]) is None


@pytest.mark.parametrize("model", ["builtin", "laion/clip-vit-base-patch16", "someone/clip-vit-base-patch32", ""])
def test_nothing_was_published_on_other_weights(model):
    assert published_beside([record(task="dtd", model={"id": model})]) == ()


def test_rivals_and_halves_of_the_classes_have_nothing_beside_them():
    assert published_beside([rival(task="dtd"), record(task="dtd (base)", model=B16)]) == ()


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        ("openai/clip-vit-base-patch16", "ViT-B/16"),
        ("openai/clip-vit-base-patch32", "ViT-B/32"),
        ("/models/clip-vit-large-patch14/", "ViT-L/14"),
        ("openai/clip-vit-large-patch14-336", None),
    ],
)
def test_backbones_are_known_by_name_in_a_folder_too(model, backbone):
    assert backbone_of(record(model={"id": model})) == backbone


def test_clip_lora_is_lora_as_published_and_nothing_else():
    published = figure()

    assert same_method(published, row_of())
    assert not same_method(published, row_of(rank=8))
    assert not same_method(published, row_of(projections=("q", "v")))
    assert not same_method(published, row_of(steps_per_shot=100))
    assert not same_method(published, row_of(encoder="vision"))
    assert not same_method(published, row_of("dora"))
    assert not same_method(published, row_of(quantize="nf4"))
    assert not same_method(figure("CoOp", kind="readme"), row_of())


def test_clip_svd_is_the_method_of_that_name_as_published():
    published = figure("CLIP-SVD", kind="readme")
    assert same_method(published, row_of("clip-svd"))
    assert not same_method(published, row_of("clip-svd", steps_per_shot=500))
    assert not same_method(published, row_of("clip-svd", projections=("q", "k", "v")))
    assert not same_method(published, row_of("lora"))
    assert not same_method(figure(), row_of("lora", rank_by_depth="increasing"))


def test_what_does_not_change_the_method_does_not_part_it_from_the_published_one():
    assert same_method(figure(), row_of(seed=7, template=("a {}.",), images_per_pass=4, calibration_folds=2))


@pytest.mark.parametrize(("batch", "accumulated", "same"), [(32, 1, 1), (8, 4, 1), (4, 8, 1), (8, 1, 0), (32, 4, 0)])
def test_a_batch_is_the_published_one_in_whichever_parts_it_is_computed(batch, accumulated, same):
    assert same_method(figure(), row_of(batch_size=batch, gradient_accumulation_steps=accumulated)) == bool(same)


def test_replications_and_withdrawn_figures_belong_to_the_method_and_keep_their_kind():
    replication = figure("CLIP-LoRA, rank 8", "dtd", 4, "replication")
    withdrawn = figure("CLIP-QLoRA, claim of July 2025", "dtd", 4, "withdrawn")

    assert same_method(replication, row_of(rank=8))
    assert not same_method(replication, row_of(rank=2))
    assert same_method(withdrawn, row_of(quantize="nf4"))  # nothing is known of how it was run
    assert same_method(withdrawn, row_of(quantize="nf4", **QLORA_VLM))
    assert not same_method(withdrawn, row_of(quantize="nf4", rank=16))


QLORA_VLM = {"encoder": "vision", "scaling": "rank", "adam_epsilon": 1e-5}
"""How QLoRA-VLM's logged runs differ from CLIP-LoRA's: PEFT's alpha/r, an untrained text tower, Adam's epsilon."""


@pytest.mark.parametrize("changed", [{}, {"optimizer": "paged-adamw-8bit"}, {"gradient_checkpointing": True}])
@pytest.mark.parametrize(
    ("name", "dataset", "kind", "quantize"),
    [
        ("CLIP-QLoRA", "average8", "readme", "nf4"),  # 76.31 is the mean of the eight logs at a batch of 32
        ("CLIP-QLoRA, batch 32, text not trained", "dtd", "log", "nf4"),
        ("CLIP-QLoRA, batch 8x4, text not trained", "dtd", "log", "nf4"),
        ("QLoRA in CLIP-QLoRA's code, batch 8x4, text not trained", "caltech101", "log", "nf4"),
        ("LoRA in CLIP-QLoRA's code, batch 8x4, text not trained", "caltech101", "log", "none"),
    ],
)
def test_figures_of_qlora_vlm_stand_beside_runs_of_what_it_ran(name, dataset, kind, quantize, changed):
    published = figure(name, dataset, 4, kind)
    assert same_method(published, row_of(quantize=quantize, **QLORA_VLM, **changed))
    for other in ({"scaling": "sqrt-rank"}, {"encoder": "both"}, {"rank": 16}, {"adam_epsilon": 1e-8}):
        assert not same_method(published, row_of(quantize=quantize, **{**QLORA_VLM, **changed, **other}))


def test_records_older_than_a_setting_were_made_as_it_is_by_default():
    recipe = preset_recipe("paper", "lora").to_dict()
    del recipe["method"]["scaling"]
    row = summarize([record("lora", recipe=recipe, model=B16)])[0]
    assert same_method(figure(), row)
    assert not same_method(figure("LoRA in CLIP-QLoRA's code, batch 8x4, text not trained", "dtd", 4, "log"), row)


def test_zero_shot_is_the_published_one_unless_it_has_descriptions():
    published = figure("CLIP zero-shot", shots=0)
    (plain,), (described,) = (
        summarize([zero_shot(settings={"descriptions": value})]) for value in (None, "sentences.json")
    )

    assert same_method(published, plain)
    assert not same_method(published, described)


def test_settings_are_compared_as_the_rows_have_them():
    assert (
        dict(row_of().settings)["projections"]
        == settings_as_text({"a": {"projections": ("q", "k", "v")}})["projections"]
    )
    assert isinstance(figure(), PublishedFigure)


@pytest.mark.parametrize(
    ("published", "method"),
    [
        ("GDA", "gda"),
        ("ProKeR", "proker"),
        ("LP++", "lp++"),
        ("Tip-Adapter", "tip-adapter"),
        ("Tip-Adapter-F", "tip-adapter-f"),
        ("CLIP-Adapter", "clip-adapter"),
        ("TaskRes", "task-res"),
        ("linear probe", "linear-probe"),
        ("CLIP-SVD", "clip-svd"),
    ],
)
def test_published_rivals_stand_beside_ours_of_the_same_name_and_settings(published, method):
    published_figure, *_ = [one for one in published_figures() if one.method == published]
    assert same_method(published_figure, row_of(method))
    assert not same_method(published_figure, row_of("lora"))
    assert not same_method(published_figure, row_of(method, crop_minimum=0.31))

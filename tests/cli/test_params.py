"""``lowshot params``: counts from a folder that holds nothing but config.json."""

import json

import pytest

from lowshot.cli import main
from refusing import assert_states

VIT_B16 = {
    "model_type": "clip",
    "projection_dim": 512,
    "vision_config": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "patch_size": 16,
        "image_size": 224,
    },
    "text_config": {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
        "vocab_size": 49408,
        "max_position_embeddings": 77,
    },
}


OF_NORMS = ("layernorm", "2sfs")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(VIT_B16))
    return str(tmp_path)


def params(capsys, *arguments):
    assert main(["params", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "trained"),
    [
        (["--method", "lora"], 184_320),
        (["--method", "lora-xs"], 73_728),
        (["--method", "lora-xs", "--rank", "45"], 145_800),
        (["--method", "lora-xs", "--rank", "16"], 18_432),
        (["--method", "dora"], 184_320 + 72 // 2 * (768 + 512)),
        (["--method", "qlora"], 184_320),
        (["--method", "lora", "--encoder", "vision", "--projections", "q"], 12 * 2 * 2 * 768),
        (["--method", "lora", "--encoder", "text", "--position", "0,11", "--projections", "fc1"], 2 * 2 * (512 + 2048)),
        (["--method", "lora", "--rank-by-depth", "increasing"], 184_320),
        (["--method", "clip-svd"], 12 * 6 * (768 + 512)),
        (["--method", "2sfs", "--classes", "7"], 65_536 + 7 * 512),
        (["--method", "full"], 149_620_736),
        (["--method", "zero-shot"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_counts_are_those_of_the_formulas(folder, capsys, arguments, trained):
    counted = params(capsys, "--model", folder, *arguments)
    assert counted["trainable_parameters"] == trained
    assert counted["total_parameters"] == 149_620_737
    assert (counted["adapter_bytes"] > 4 * trained) == (trained > 0)


@pytest.mark.parametrize(
    ("method", "trained"),
    [("clip-adapter", 2 * 128 * 512), ("task-res", 7 * 512), ("tip-adapter-f", 7 * 4 * 512), ("proker", 0), ("gda", 0)],
)
def test_the_size_of_a_head_depends_on_classes_and_shots(folder, capsys, method, trained):
    counted = params(capsys, "--model", folder, "--method", method, "--classes", "7", "--shots", "4")
    assert counted["trainable_parameters"] == trained
    assert counted["adapter_bytes"] > 4 * trained
    assert main(["params", "--classes", "1"]) == 2
    assert_states(capsys.readouterr().err, "classes is 1", "2 or more")


@pytest.mark.long
def test_the_table_has_the_published_rows(folder, capsys):
    assert main(["params", "--model", folder, "--table"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows[:3] == [
        ["lora", "2", "184,320", "0.12", "757.7"],
        ["lora-xs", "32", "73,728", "0.05", "304.8"],
        ["lora-xs", "45", "145,800", "0.10", "593.1"],
    ]
    inside = {"lora", "lora-xs", "dora", "clip-svd", "2sfs", "layernorm", "bitfit", "full"}
    assert {row[0] for row in rows} == inside | {"coop", "plot++"}
    assert ["coop", "-", "8,192", "0.01", "32.9"] in rows  # 16 tokens of 512 numbers
    assert ["plot++", "-", "14,336", "0.01", "57.5"] in rows  # 4 times 4 of them, and 4 times 2 of 768
    assert len(params(capsys, "--model", folder, "--table")) == len(rows)


def test_the_table_says_which_methods_do_not_fit_a_model(capsys):
    assert main(["params", "--model", "MobileCLIP2-S0:dfndr2b", "--table"]) == 0
    out, err = capsys.readouterr()
    shown = {line.split()[0] for line in out.splitlines()[1:]}
    assert {"lora", "dora", "clip-svd", "bitfit", "full"} <= shown
    assert not {"layernorm", "2sfs"} & shown
    for method in OF_NORMS:
        assert_states(err, f"warning: method {method}", "vision tower")
    assert main(["params", "--model", "photos", "--table"]) == 2
    assert_states(capsys.readouterr().err, "method lora", "transformer blocks")


@pytest.mark.parametrize("method", ["lora-xs", "clip-svd", "2sfs", "coop"])
def test_the_size_is_that_of_the_file(capsys, tmp_path, method):
    from lowshot import FewShotClassifier

    counted = params(capsys, "--method", method, "--classes", "10")
    classifier = FewShotClassifier(method=method, base_steps=1, steps_per_shot=0).fit("digits", shots=1)
    classifier.save_pretrained(tmp_path / "adapter")
    size = (tmp_path / "adapter" / "adapter_model.safetensors").stat().st_size
    assert counted["adapter_bytes"] == size
    assert counted["trainable_parameters"] == classifier.record_.trainable_parameters


@pytest.mark.parametrize(
    ("arguments", "facts"),
    [
        (["--model", "nowhere"], ["model 'nowhere'"]),
        (["--method", "lorra"], ["method 'lorra'", "mean lora"]),
        (["--method", "lora-xs", "--rank", "900"], ["rank is 900", "text_model.encoder.layers.0.self_attn.q_proj"]),
        (["--method", "layernorm", "--rank", "3"], ["method layernorm", "no rank"]),
        (["--method", "peft:oft", "--peft", "colour=red"], ["peft:oft 'colour'"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_counted_is_refused_in_one_line(capsys, arguments, facts):
    assert main(["params", *arguments]) == 2
    error = capsys.readouterr().err
    assert_states(error, *facts)
    assert error.count("\n") == 1


def test_the_model_may_be_named_first(capsys, folder):
    assert params(capsys, folder, "--method", "lora") == params(capsys, "--model", folder, "--method", "lora")
    assert main(["params", folder, "--model", folder]) == 2
    assert_states(capsys.readouterr().err, repr(folder), "--model")

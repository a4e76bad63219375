"""``lowshot models``."""

import json

from lowshot.cli import main
from lowshot.models.catalogue import models_to_begin_with


def test_the_table_has_every_model_with_its_figures_and_their_source(capsys):
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert "docs/openclip_results.csv" in table
    assert "none was tried on its trained weights here" in table
    for each in models_to_begin_with():
        [line] = [line for line in table.splitlines() if line.split()[:1] == [each.model]]
        assert f"{each.imagenet:.1f}" in line


def test_json_has_bytes_and_whole_numbers(capsys):
    assert main(["models", "--json"]) == 0
    rows = {row["model"]: row for row in json.loads(capsys.readouterr().out)}
    vit = rows["openai/clip-vit-base-patch16"]
    assert (vit["parameters"], vit["imagenet"], vit["mean_of_38"]) == (149_620_000, 68.3, 56.3)
    assert vit["weights_bytes"] == {"fp32": 598_480_000, "half": 299_240_000}
    assert vit["figures_from"].startswith("https://github.com/mlfoundations/open_clip/")


def test_smaller_models_come_first_and_a_licence_has_its_source():
    models = models_to_begin_with()
    assert [each.parameters // 10**7 for each in models] == sorted(each.parameters // 10**7 for each in models)
    assert all(bool(each.licence) == bool(each.licence_from) for each in models)
    assert len({each.model for each in models}) == len({each.open_clip for each in models}) == len(models)

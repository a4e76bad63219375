from lowshot.report.summary import format_table, summarize
from lowshot.wording.card import model_card
from lowshot.wording.protocols import protocol_rows, protocol_table

from ..report.factory import record

BASE_TO_NEW = {
    "acc1": 0.912,
    "acc1_interval": [0.9, 0.923],
    "images": 1520,
    "classes": 13,
    "split": "test",
    "others": {"new": {"acc1": 0.743, "acc1_interval": [0.7, 0.79], "images": 900, "classes": 12, "split": "unseen"}},
    "harmonic_mean": 0.8188,
}
TRANSFER = {
    "acc1": 0.5,
    "images": 90,
    "split": "test",
    "others": {"imagenet_a": {"acc1": 0.25}, "a|b/`x`": {"acc1": 0.75}},
    "mean_of_others": 0.5,
}


def test_base_new_and_the_harmonic_mean_are_rows():
    assert protocol_table("letters (base)", BASE_TO_NEW).splitlines() == [
        "               accuracy %  95 % interval  images  split   classes",
        "base                 91.2      90.0-92.3   1,520  test         13",
        "new                  74.3      70.0-79.0     900  unseen       12",
        "harmonic mean        81.9",
    ]


def test_what_is_not_known_of_a_target_is_left_blank():
    assert [row[:2] for row in protocol_rows("imagenet", TRANSFER)] == [
        ["imagenet", "50.0"],
        ["imagenet_a", "25.0"],
        ["a|b/`x`", "75.0"],
        ["mean of the others", "50.0"],
    ]
    assert set(protocol_rows("imagenet", TRANSFER)[1][2:]) == {""}


def test_without_others_there_is_no_table():
    metrics = record(accuracy=0.9).metrics
    assert protocol_rows("digits", metrics) == []
    assert protocol_table("digits", metrics) == ""
    assert "Judged too" not in model_card(record(accuracy=0.9))


def test_a_card_has_the_table_with_names_as_code():
    card = model_card(record(metrics=TRANSFER))
    assert "| `imagenet_a` | 25.0 |  |  |  |  |\n" in card
    assert "| `` a\\|b/`x` `` | 75.0 |" in card
    lines = card.splitlines()
    table = lines[lines.index("|  | accuracy % | 95 % interval | images | split | classes |") :]
    assert len({line.replace("\\|", "").count("|") for line in table[:6]}) == 1


def test_tables_of_runs_have_the_learnt_classes():
    [row] = summarize([record(metrics=BASE_TO_NEW)])
    assert row.accuracy_mean == 0.912
    assert "91.2" in format_table([row])

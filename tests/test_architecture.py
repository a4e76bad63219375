"""Imports run one way. The rooms and what each may know are written down here and nowhere else."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "lowshot"

LEAVES = {
    *(
        "belonging",
        "calibration",
        "errors",
        "extras",
        "files",
        "methods",
        "on_top",
        "progress",
        "randomness",
        "records",
        "repositories",
        "settings",
        "several_labels",
    ),
    *("resizing", "tensor_file", "threads", "torch_state"),
}
MAY_IMPORT = {
    "extras": set(),
    "errors": {"extras"},
    "methods": {"errors"},
    "files": {"errors"},
    "progress": set(),
    "markup": set(),
    "threads": set(),
    "randomness": {"threads"},
    "repositories": {"errors"},
    "torch_state": {"threads"},
    "torchvision_guard": set(),
    "resizing": set(),
    "records": {"errors", "resizing"},
    "runs_folder": {"errors", "files", "records"},
    "calibration": {"errors"},
    "on_top": {"errors"},
    "several_labels": {"errors"},
    "tensor_file": {"errors"},
    "belonging": {"errors", "tensor_file"},
    "settings": {"errors", "methods"},
    "data": LEAVES,
    "models": LEAVES,
    "adapters": LEAVES,
    "heads": {"errors", "methods", "progress", "several_labels", "tensor_file"},
    "training": LEAVES | {"data", "models", "adapters", "heads"},
    "evaluation": LEAVES | {"data", "training"},
    "explaining": {"errors", "models"},
    "estimator": {"errors", "progress", "settings"},
    "wording": {"errors", "methods", "records", "settings"},
    "report": LEAVES | {"runs_folder", "wording", "markup"},
    "tracking": LEAVES,
    "hub": {"errors", "records", "repositories"},
    "saved": LEAVES | {"models"},
    "serving": LEAVES | {"data", "models", "adapters", "heads", "explaining", "saved"},
    "fitting": LEAVES | {"data", "models", "heads", "training", "evaluation"},
    "classifier": LEAVES
    | {"data", "models", "heads", "training", "evaluation", "explaining", "fitting", "saved", "hub"}
    | {"tracking", "wording", "estimator"},
    "teaching": {"errors", "progress", "serving", "classifier", "wording"},
    "conversion": LEAVES
    | {"data", "models", "adapters", "heads", "training", "evaluation", "classifier", "serving", "hub", "wording"},
    "labelling": {"errors", "progress", "settings", "methods", "models", "threads", "torch_state"}
    | {"data", "heads", "training", "evaluation", "fitting", "several_labels"},
    "folders": {"errors", "files", "progress", "data", "evaluation", "classifier", "markup", "several_labels"},
    "cards": {"errors", "files", "progress", "settings", "data", "labelling", "folders", "serving"},
    "bench": LEAVES | {"data", "models", "training", "evaluation", "classifier", "report", "runs_folder"},
    "cli": LEAVES
    | {
        "adapters",
        "bench",
        "cards",
        "classifier",
        "conversion",
        "data",
        "explaining",
        "fitting",
        "folders",
        "hub",
        "labelling",
        "models",
        "report",
    }
    | {"runs_folder", "saved", "serving", "training", "wording", "torchvision_guard", "__init__"},
    "__main__": {"cli"},
    "__init__": {"classifier", "settings", "data", "errors", "torchvision_guard"},
}
TRACKERS = {"accelerate", "tensorboard", "wandb", "mlflow", "trackio"}
HEAVY = {"torch", "transformers", "peft", "sklearn", "matplotlib", "bitsandbytes", "ray", *TRACKERS}


def room_of(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def lowshot_imports(path):
    """Rooms that a file imports, at its top or inside functions."""
    here = ("lowshot", *path.relative_to(PACKAGE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        module = node.module.split(".") if node.module else []
        target = [*here[: len(here) - node.level], *module] if node.level else module
        if target[:1] == ["lowshot"]:
            yield from target[1:2] or (alias.name if is_room(alias.name) else "__init__" for alias in node.names)


def is_room(name):
    return (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()


def top_level_imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_room_is_known():
    assert {room_of(path) for path in FILES} == set(MAY_IMPORT)


def test_imports_run_one_way():
    forbidden = {}
    for path in FILES:
        room = room_of(path)
        if rooms := set(lowshot_imports(path)) - MAY_IMPORT[room] - {room}:
            forbidden[path.relative_to(PACKAGE).as_posix()] = f"{room} must not import {sorted(rooms)}"
    assert not forbidden


def test_the_rules_have_no_circle():
    order = list(MAY_IMPORT)
    order.remove("__init__")
    for room in order:
        later = set(order[order.index(room) + 1 :])
        assert not MAY_IMPORT[room] & later, room


@pytest.mark.parametrize(
    "room",
    [
        "errors",
        "extras",
        "methods",
        "files",
        "progress",
        "threads",
        "torch_state",
        "records",
        "runs_folder",
        "settings",
        "report",
        "wording",
        "tracking",
        "cli",
    ],
)
def test_rooms_without_models_import_nothing_heavy(room):
    for path in FILES:
        if room_of(path) == room:
            assert not set(top_level_imports(path)) & HEAVY, path


def test_there_is_no_room_for_odds_and_ends():
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]

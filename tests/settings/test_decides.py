"""A setting decides what its row says, wherever it is asked: keys of grids, reports, forecasts, what moves."""

import dataclasses
from typing import Literal

import pytest

from lowshot import FewShotClassifier
from lowshot.bench.forecast import Forecast
from lowshot.bench.grid import Cell, expand
from lowshot.errors import InputError
from lowshot.records import RECORD_FILE
from lowshot.report.averages import averages
from lowshot.report.summary import summarize
from lowshot.settings import SETTINGS, Decides, Recipe, preset_recipe
from lowshot.settings.recipe import _coerced
from lowshot.settings.row import Section, rows_of, setting
from refusing import refused

from ..report.factory import record
from .rows import EVERY_ROW, NAMES, another_value, two_recipes

every_row = pytest.mark.parametrize("row", EVERY_ROW, ids=NAMES)


def recorded(recipe, seed, task="digits", **changes):
    told = {"method": recipe.method.method, "quantize": recipe.model.quantize, "shots": recipe.data.shots or 16}
    return record(task=task, **{**told, "seed": seed, "recipe": recipe.to_dict(), **changes})


@every_row
def test_the_key_of_a_run_changes_with_what_decides_its_answers_and_with_nothing_else(row):
    usual, other = two_recipes(row, another_value(row))
    assert (Cell("digits", usual).key != Cell("digits", other).key) == row.decides.changes_answers


def test_a_finished_grid_stays_finished_with_another_place_for_images_and_other_times_of_checkpoints():
    grid = {"data": "letters", "seed": [1, 2]}
    engine = {"checkpoint_seconds": 5.0, "image_disk": "1GB", "threads": 1, "report_to": "tensorboard"}
    assert [cell.key for cell in expand(grid, {})] == [cell.key for cell in expand(grid, {"engine": engine})]


@every_row
def test_a_grid_tells_its_own_values_of_a_setting_apart_whatever_it_decides(row):
    usual, other = two_recipes(row, another_value(row))
    values = [recipe.to_dict()[row.section][row.name] for recipe in (usual, other)]
    method = {} if row.name == "method" else {"method": usual.method.method}
    # A file can say neither null nor that a list is empty: that is said by saying nothing.
    said = [{} if v in (None, []) else {row.name: [v] if isinstance(v, list) else v} for v in values]
    variants = [{**method, **each} for each in said]
    data = {"protocol": usual.data.protocol, "labels_per_image": usual.data.labels_per_image}
    cells = expand(
        {"data": "letters", "preset": "paper", "variants": variants},
        {"data": data, "model": {"quantize": usual.model.quantize}},
    )
    assert [cell.recipe.settings()[row.name] for cell in cells] == [row.default, other.settings()[row.name]]


@every_row
def test_runs_of_two_seeds_are_one_row_unless_they_differ_in_what_decides_answers(row):
    usual, other = two_recipes(row, another_value(row))
    rows = summarize([recorded(usual, 1), recorded(other, 2)])
    apart = row.decides.changes_answers and row.name != "seed"
    assert [each.seeds for each in rows] == ([1, 1] if apart else [2])


@every_row
def test_one_seed_with_two_values_of_a_setting_is_two_rows_that_name_them(row):
    usual, other = two_recipes(row, another_value(row))
    rows = summarize([recorded(usual, 1), recorded(other, 2 if row.name == "seed" else 1)])
    assert len({(each.label, each.shots) for each in rows}) == (1 if row.name == "seed" else 2)


def test_a_run_that_a_tracker_is_told_of_is_a_run_like_others():
    """A grid of gda, seeds 1 and 2, the first with a tracker: it was two methods without a deviation."""
    told, untold = (preset_recipe("paper", "gda").replace(report_to=tracker) for tracker in ("tensorboard", "none"))
    records = [
        recorded(recipe, seed, task, metrics={"acc1": accuracy})
        for task in ("digits", "letters")
        for recipe, seed, accuracy in ((told, 1, 0.8), (untold, 2, 0.9))
    ]
    assert [(row.name, row.seeds) for row in summarize(records)] == [("gda", 2), ("gda", 2)]
    [average] = averages(records).rows
    assert (average.seeds, round(average.accuracy_mean, 6)) == (2, 0.85)
    assert average.accuracy_std > 0


@every_row
def test_an_average_is_over_data_sets_that_differ_only_in_what_is_theirs(row):
    usual, other = two_recipes(row, another_value(row))
    is_refused = row.decides.changes_answers and not row.of_data and row.name != "seed"
    records = [recorded(recipe, 1, task) for recipe, task in ((usual, "digits"), (other, "letters"))]
    assert len(averages(records).rows) == (0 if is_refused else 1)


@every_row
def test_a_forecast_goes_by_runs_whose_steps_take_as_long(row):
    usual, other = two_recipes(row, another_value(row))
    forecast = Forecast()
    forecast.learn(Cell("digits", usual), recorded(usual, 1), 10.0)
    assert (forecast.seconds(Cell("digits", other)) is not None) == row.same_pace


def test_an_adapter_is_loaded_elsewhere_but_not_as_something_else(tmp_path):
    """Refusal comes before anything is read, so that an empty adapter will do."""
    (tmp_path / RECORD_FILE).write_text("{}", encoding="utf-8")
    for row in EVERY_ROW:
        with pytest.raises(InputError) as caught:
            FewShotClassifier.from_pretrained(tmp_path, **{row.name: another_value(row)})
        assert (f"{row.name} cannot be changed in a saved adapter" in str(caught.value)) == (not row.movable)


def test_a_setting_that_may_be_left_out_takes_a_text_by_its_type_alone():
    @dataclasses.dataclass(frozen=True)
    class NotesConfig(Section):
        note: str | None = setting(None, Decides.TELLING)
        """What somebody wants to remember."""
        style: Literal["short", "long"] = setting("short", Decides.TELLING)
        """Its length."""

    globals()["NotesConfig"] = NotesConfig
    note, style = rows_of(NotesConfig)
    assert (_coerced(note, "a text"), _coerced(note, None), note.section) == ("a text", None, "notes")
    with refused(InputError, "note is 3", "str"):
        _coerced(note, 3)
    with refused(InputError, "style", "'wide'", "short or long"):
        style.check("wide")


def test_every_row_of_the_table_is_in_a_recipe_and_says_what_it_decides():
    assert list(Recipe().settings()) == NAMES
    assert all(isinstance(row.decides, Decides) for row in SETTINGS.values())

"""Records to rows: one row per task, method, precision and number of shots, with mean and deviation over seeds."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from ..errors import InputError
from ..methods import METHODS, PIXEL_REGRESSION, display_name
from ..records import RunRecord
from ..settings import SETTINGS, default_preset, preset_recipe
from ..wording.quantities import aligned, share, short
from ..wording.settings import settings_as_text

_RIVAL_LABELS = {PIXEL_REGRESSION: "pixels + logistic regression"}
_SAID_OF_AUTO = ("model", "data")  # the rest is what it chose
_WEIGHTS = "weights"
_OFF = "False"


SeriesKey = tuple[str, str, str]
"""Method, precision and variant."""


class Cell(NamedTuple):
    """What the runs of one row have in common."""

    task: str
    method: str
    quantize: str
    variant: str
    """Settings in which runs of one method differ, such as ``rank 4``; empty where they do not."""
    shots: int


@dataclasses.dataclass(frozen=True)
class Row:
    """Runs that differ in their seed only. Accuracies are fractions in [0, 1]."""

    task: str
    method: str
    quantize: str
    shots: int
    seeds: int
    """How many runs."""
    accuracy_mean: float | None
    """None unless every run was evaluated."""
    accuracy_std: float
    """Sample standard deviation over the seeds; 0 for a single one."""
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    train_seconds: float
    """Mean over the seeds; of ``auto`` with what it tried."""
    training_memory_bytes: int
    """On top of what was in use before training; maximum over the seeds."""
    variant: str = ""
    """Settings in which this method's runs differ, such as ``rank 4``; empty where they do not."""
    settings: tuple[tuple[str, str], ...] = ()
    """What all of its runs were set to: names and values as text; empty for a rival."""
    evaluation_seconds: float = 0.0
    """Of judging, decoding the images included; mean over the seeds. 0 where it is not known."""

    @property
    def name(self) -> str:
        """Method and precision in one word, such as ``qlora``."""
        return display_name(self.method, self.quantize)

    @property
    def label(self) -> str:
        """What tables and charts call this row's method: full words for rivals, and the variant."""
        name = _RIVAL_LABELS.get(self.method, self.name)
        return f"{name}, {self.variant}" if self.variant else name

    @property
    def series(self) -> SeriesKey:
        """What makes one line of a chart: rows that differ in their task and shots only."""
        return self.method, self.quantize, self.variant

    @property
    def is_zero_shot(self) -> bool:
        """Whether nothing was learnt from images."""
        return self.method == "zero-shot"

    @property
    def is_rival(self) -> bool:
        """Whether the method is none of lowshot's."""
        return self.method not in METHODS

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**dataclasses.asdict(self), "settings": dict(self.settings)}


def summarize(records: Sequence[RunRecord]) -> list[Row]:
    """One row per task, method, precision and shots: tasks and methods in order of appearance, shots ascending.

    Runs of one method with different settings (a grid over ranks, say) are never averaged: each gets its row and
    carries the difference in ``variant``.

    Raises:
        InputError: Two records tell of the same seed of the same row.
    """
    return list(runs_by_row(records))


def runs_by_row(records: Sequence[RunRecord]) -> dict[Row, list[RunRecord]]:
    """The rows of ``summarize``, each with the records behind it.

    Raises:
        InputError: Two records tell of the same seed of the same row.
    """
    return {_row(cell, runs): runs for cell, runs in group_runs(records).items()}


def group_runs(records: Sequence[RunRecord]) -> dict[Cell, list[RunRecord]]:
    """The records behind each row of ``summarize``, in its order.

    Raises:
        InputError: Two records tell of the same seed of the same row.
    """
    differing = _differing_settings(records)
    usual = _usual(records, differing)
    cells: dict[Cell, list[RunRecord]] = {}
    for record in records:
        settings = _telling_settings(record)
        unnamed = usual[record.method, record.quantize].items()
        names = [
            n for n in differing[record.method, record.quantize] if n in settings and (n, settings[n]) not in unnamed
        ]
        variant = variant_text({name: settings[name] for name in names})
        cell = Cell(record.task, record.method, record.quantize, variant, record.shots)
        cells.setdefault(cell, []).append(record)
    for cell, runs in cells.items():
        _refuse_repeated_seeds(cell, runs)
    return {cell: cells[cell] for cell in _in_order(cells)}


def usual_settings(records: Sequence[RunRecord]) -> dict[tuple[str, str], dict[str, str]]:
    """By method and precision: settings in which its runs differ, with the value that goes without saying.

    That is the one of the method's own preset, if more than half of its runs have it or it means that something is off:
    ``lora`` and ``lora, encoder text`` say more than a list of all that could have been otherwise.
    """
    return _usual(records, _differing_settings(records))


def _usual(
    records: Sequence[RunRecord], differing: Mapping[tuple[str, str], Sequence[str]]
) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for key, names in differing.items():
        runs = [record for record in records if (record.method, record.quantize) == key]
        held = [_telling_settings(record) for record in runs]
        preset = _preset_settings(runs[0])
        found[key] = {
            name: preset[name]
            for name in names
            if name in preset and name != "model" and (preset[name] == _OFF or _most(held, name, preset[name]))
        }
    return found


def _most(held: Sequence[Mapping[str, str]], name: str, value: str) -> bool:
    """Whether more than half of the runs have this value."""
    return 2 * sum(settings.get(name) == value for settings in held) > len(held)


def variant_text(settings: Mapping[str, str]) -> str:
    """``rank 8, learning-rate 0.02``: settings as labels have them."""
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in settings.items())


def _preset_settings(record: RunRecord) -> dict[str, str]:
    """As its model's preset has them; nothing for rivals."""
    if record.method not in METHODS:
        return {}
    recipe = preset_recipe(default_preset(str(record.model.get("id"))), record.method)
    return settings_as_text(recipe.to_dict())


def _asked_settings(record: RunRecord) -> dict[str, str]:
    """Settings as text, by name, without those that ``auto`` chose."""
    asked = {part: record.recipe[part] for part in _SAID_OF_AUTO} if record.choice else record.recipe
    return settings_as_text(asked)


def _telling_settings(record: RunRecord) -> dict[str, str]:
    """What may tell runs apart: the settings, and the weights, which may differ under one name of a model."""
    model = {"model": record.model.get("id"), _WEIGHTS: str(record.model.get("weights_sha256") or "")[:8]}
    return {**{name: value for name, value in model.items() if value}, **_asked_settings(record)}


def _differing_settings(records: Sequence[RunRecord]) -> dict[tuple[str, str], list[str]]:
    """By method: the settings in which its runs on one task differ, on whichever; they are named on all of them.

    Of several models each run names its own: no method may stand for one of them without saying so. Settings that
    decide no answer are named only where a seed was run with several of their values.
    """
    compared = _compared(records)
    seen: dict[tuple[str, str], dict[str, dict[str, set[str]]]] = {}
    weights: dict[str, set[str]] = {}
    for record in records:
        settings = _telling_settings(record)
        of_method = seen.setdefault((record.method, record.quantize), {})
        for name, value in settings.items():
            of_method.setdefault(name, {}).setdefault(record.task, set()).add(value)
        if "model" in settings:
            weights.setdefault(settings["model"], set()).update(filter(None, [settings.get(_WEIGHTS)]))
    differs = {"model": len(weights) > 1, _WEIGHTS: any(len(digests) > 1 for digests in weights.values())}
    return {
        key: [
            name
            for name, by_task in settings.items()
            if (_decides_answers(name) or name in compared[key])
            and differs.get(name, any(len(values) > 1 for values in by_task.values()))
        ]
        for key, settings in seen.items()
    }


def _decides_answers(name: str) -> bool:
    """Whether runs that differ in it are different runs; what is no setting, such as the weights, tells them apart."""
    return name not in SETTINGS or SETTINGS[name].decides.is_answer


def _compared(records: Sequence[RunRecord]) -> dict[tuple[str, str], set[str]]:
    """By method: settings that decide no answer, of which one run, down to its seed, was done with several values."""
    runs: dict[tuple[object, ...], list[dict[str, str]]] = {}
    for record in records:
        settings = _telling_settings(record)
        answers = tuple((name, value) for name, value in settings.items() if _decides_answers(name))
        run = (record.method, record.quantize, record.task, record.shots, record.seed, answers)
        runs.setdefault(run, []).append(settings)
    compared: dict[tuple[str, str], set[str]] = {(record.method, record.quantize): set() for record in records}
    for (method, quantize, *_), alike in runs.items():
        values = {name: {settings.get(name) for settings in alike} for name in alike[0] if not _decides_answers(name)}
        compared[str(method), str(quantize)] |= {name for name, several in values.items() if len(several) > 1}
    return compared


def _refuse_repeated_seeds(cell: Cell, runs: Sequence[RunRecord]) -> None:
    seed, times = Counter(run.seed for run in runs).most_common(1)[0]
    if times > 1:
        name = display_name(cell.method, cell.quantize)
        where = f"{name} on {cell.task} with {cell.shots} shots and seed {seed}"
        raise InputError(f"{times} records tell of {where}: report on one grid of runs at a time")


def _in_order(cells: dict[Cell, list[RunRecord]]) -> list[Cell]:
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    methods = list(dict.fromkeys(cell[1:4] for cell in cells))
    return sorted(cells, key=lambda cell: (tasks.index(cell.task), methods.index(cell[1:4]), cell.shots))


def _row(cell: Cell, runs: Sequence[RunRecord]) -> Row:
    mean, deviation = _accuracy(runs)
    settings = [_asked_settings(run) for run in runs]
    shared = tuple((name, value) for name, value in settings[0].items() if all(s.get(name) == value for s in settings))
    return Row(
        **cell._asdict(),
        seeds=len(runs),
        accuracy_mean=mean,
        accuracy_std=deviation,
        trainable_parameters=rounded_mean(run.trainable_parameters for run in runs),
        total_parameters=rounded_mean(run.total_parameters for run in runs),
        adapter_bytes=rounded_mean(run.adapter_bytes for run in runs),
        train_seconds=statistics.fmean(run.learning_seconds for run in runs),
        training_memory_bytes=max(run.training_memory_bytes for run in runs),
        settings=shared,
        evaluation_seconds=statistics.fmean(run.evaluation_seconds for run in runs),
    )


def rounded_mean(counts: Iterable[int]) -> int:
    """Of counts and sizes. Those of one method's seeds are equal, but for ``auto``, which may choose otherwise."""
    return round(statistics.fmean(counts))


def _accuracy(runs: Sequence[RunRecord]) -> tuple[float | None, float]:
    """Mean and sample standard deviation. A mean over the evaluated part of the runs would not be theirs."""
    measured = [float(run.metrics["acc1"]) for run in runs if "acc1" in run.metrics]
    if len(measured) < len(runs):
        return None, 0.0
    return statistics.fmean(measured), statistics.stdev(measured) if len(measured) > 1 else 0.0


def accuracy_text(row: Row) -> str:
    """Mean and deviation in percent, such as ``97.1 ± 0.4``; ``-`` stands for what was not measured."""
    if row.accuracy_mean is None:
        return "-"
    deviation = f"{100 * row.accuracy_std:.1f}" if row.seeds > 1 else "-"
    return f"{100 * row.accuracy_mean:.1f} ± {deviation:>3}"


def _share_text(row: Row) -> str:
    return share(row.trainable_parameters, row.total_parameters)


def adapter_text(row: Row) -> str:
    """Size of the saved tensors in KB; ``-`` where none are saved."""
    return short(row.adapter_bytes / 1000) if row.adapter_bytes else "-"


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of the results table."""

    heading: str
    text: Callable[[Row], str]
    """What a row shows in it."""
    value: Callable[[Row], str | float | None]
    """What rows are sorted by; None comes last."""
    is_number: bool = True


_TASK = Column("task", lambda row: row.task, lambda row: row.task, is_number=False)
_COLUMNS = (
    Column("method", lambda row: row.label, lambda row: row.label, is_number=False),
    Column("shots", lambda row: str(row.shots), lambda row: row.shots),
    Column("trainable", lambda row: f"{row.trainable_parameters:,}", lambda row: row.trainable_parameters),
    Column("% of total", _share_text, lambda row: row.trainable_parameters / max(row.total_parameters, 1)),
    Column("adapter KB", adapter_text, lambda row: row.adapter_bytes),
    Column("accuracy %", accuracy_text, lambda row: row.accuracy_mean),
    Column("seconds", lambda row: short(row.train_seconds), lambda row: row.train_seconds),
    Column(
        "memory MB", lambda row: short(row.training_memory_bytes / 1_000_000), lambda row: row.training_memory_bytes
    ),
)


def table_columns(rows: Sequence[Row]) -> list[Column]:
    """The columns of the results table; one for the task only where there is more than one."""
    return [_TASK, *_COLUMNS] if len({row.task for row in rows}) > 1 else list(_COLUMNS)


def format_table(rows: Sequence[Row], style: Literal["text", "markdown"] = "text") -> str:
    """The rows as an aligned table for a terminal, or as a Markdown table. A KB has 1000 bytes, an MB a million."""
    columns = table_columns(rows)
    table = [[column.heading for column in columns], *([column.text(row) for column in columns] for row in rows)]
    numbers = [column.is_number for column in columns]
    return _markdown(table, numbers) if style == "markdown" else aligned(table, numbers)


def _markdown(table: Sequence[Sequence[str]], numbers: Sequence[bool]) -> str:
    rule = ["--:" if is_number else ":--" for is_number in numbers]
    header, *body = ([cell.replace("|", "\\|").replace("\n", " ") for cell in cells] for cells in table)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (header, rule, *body))

"""Where the figures of a page come from: versions, hardware, commits, commands, settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ...records import RunRecord
from ..provenance import evaluation_text, model_text, versions_text
from ..summary import Row, shown_settings
from .markup import Markup, element, scrollable

_MOST_COMMANDS = 6


def provenance_section(
    records: Sequence[RunRecord],
    runs_of: Mapping[Row, Sequence[RunRecord]],
    origins: Sequence[str] = (),
    caveats: Sequence[str] = (),
) -> Markup:
    """What to beware of, and a closed block with everything needed to judge and repeat the runs.

    Args:
        records: All records of the page.
        runs_of: They again, by row.
        origins: Where they come from; the points of charts name these by number, from 1 on.
        caveats: What a reader must know before comparing, a sentence each.
    """
    facts = [(name, _distinct(values)) for name, values in _facts(records).items()]
    sources = [element("dd", text, id=f"origin-{i}") for i, text in enumerate(origins, start=1)]
    listed = [_fact(name, values) for name, values in facts if values]
    if sources:
        listed.append(element("div", element("dt", "Sources, hardware"), *sources))
    listing = element("dl", *listed, class_="facts")
    summary = element("summary", "Versions, hardware, commands and settings")
    details = element("details", summary, listing, _settings_table(runs_of))
    return element("section", element("h2", "Where this comes from"), _caveats(caveats), details, id="provenance")


def _facts(records: Sequence[RunRecord]) -> dict[str, Iterable[str]]:
    origins = [record.provenance for record in records]
    dates = sorted(origin["date"] for origin in origins if origin.get("date"))
    return {
        "Records": [str(len(records))],
        "Dates": [" to ".join(dict.fromkeys((dates[0], dates[-1])))] if dates else [],
        "Commands": (origin.get("command", "") for origin in origins),
        "Seeds": [", ".join(map(str, sorted({record.seed for record in records})))],
        "Backbone": map(model_text, records),
        "Evaluated on": (f"{r.task}: {evaluation_text(r)}" for r in records if evaluation_text(r)),
        "Versions": map(versions_text, origins),
    }


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(filter(None, values)))


def _fact(name: str, values: Sequence[str]) -> Markup:
    most = _MOST_COMMANDS if name == "Commands" else len(values)
    shown = [element("dd", value) for value in values[:most]]
    if len(values) > most:
        shown.append(element("dd", f"and {len(values) - most} more"))
    return element("div", element("dt", name), *shown)


def _caveats(caveats: Sequence[str]) -> Markup:
    """In the open: a grid with holes must not pass for a whole one."""
    return element("ul", *(element("li", said) for said in caveats), class_="caveats") if caveats else Markup()


def _settings_table(runs_of: Mapping[Row, Sequence[RunRecord]]) -> Markup:
    """A row per setting, a column per method of lowshot; settings that are not the same for all stand out."""
    settings = _settings_by_label(runs_of)
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    if not names:
        return Markup()
    header = element("tr", *(element("th", text, scope="col") for text in ("setting", *settings)))
    body = [_setting(name, [values.get(name, "") for values in settings.values()]) for name in names]
    table = element("table", element("thead", header), element("tbody", *body), class_="settings")
    return scrollable(table, "Settings of each method. Emphasis: not the same for all.", "settings-note")


def _setting(name: str, values: Sequence[str]) -> Markup:
    differs = len(set(values) - {""}) > 1
    cells = [element("td", element("strong", value) if differs else value) for value in values]
    return element("tr", element("th", name.replace("_", " "), scope="row"), *cells)


def _settings_by_label(runs_of: Mapping[Row, Sequence[RunRecord]]) -> dict[str, dict[str, str]]:
    """Each method's settings; where its tasks differ in one, all values."""
    found: dict[str, dict[str, list[str]]] = {}
    for row, runs in runs_of.items():
        for name, value in (item for run in runs for item in shown_settings(run).items()):
            values = found.setdefault(row.label, {}).setdefault(name, [])
            if value not in values:
                values.append(value)
    return {label: {name: " / ".join(v) for name, v in values.items()} for label, values in found.items()}

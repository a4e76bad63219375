"""Origin of the figures of a page: versions, hardware, commits, commands, settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...markup import Markup, element, scrollable, section, table
from ...records import RunRecord
from ...wording.provenance import evaluation_text, model_text, versions_text
from ...wording.quantities import ends
from ...wording.settings import shown_settings
from ..summary import Row

_MOST_COMMANDS = 6


def provenance_section(
    records: Sequence[RunRecord],
    runs_of: Mapping[Row, Sequence[RunRecord]],
    origins: Sequence[str] = (),
    caveats: Sequence[str] = (),
) -> Markup:
    """Caveats in the open, and a closed block with everything needed to judge and repeat the runs.

    Args:
        records: All records of the page.
        runs_of: They again, by row.
        origins: Commits and machines; the points of charts name these by number, from 1 on.
        caveats: Facts to know before comparing, a sentence each: a grid with holes must not pass for a whole one.
    """
    facts = _facts(records)
    listed = [
        element("div", element("dt", name), *(element("dd", value) for value in values))
        for name, values in facts.items()
        if values
    ]
    if origins:
        sources = (element("dd", text, id=f"origin-{i}") for i, text in enumerate(origins, start=1))
        listed.append(element("div", element("dt", "Sources, hardware"), *sources))
    listing = element("dl", *listed, class_="facts")
    warnings = element("ul", *(element("li", caveat) for caveat in caveats), class_="caveats") if caveats else Markup()
    summary = element("summary", "Versions, hardware, commands and settings")
    details = element("details", summary, listing, _settings_table(runs_of))
    return section("Where this comes from", warnings, details, identity="provenance")


def _facts(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Distinct facts about the runs by name, of commands the first few."""
    origins = [record.provenance for record in records]
    facts = {
        "Records": [str(len(records))],
        "Dates": [ends(sorted(origin["date"] for origin in origins if origin.get("date")))],
        "Commands": [origin.get("command", "") for origin in origins],
        "Seeds": [", ".join(map(str, sorted({record.seed for record in records})))],
        "Backbone": map(model_text, records),
        "Evaluated on": [f"{r.task}: {evaluation_text(r)}" for r in records if evaluation_text(r)],
        "Versions": map(versions_text, origins),
    }
    distinct = {name: list(dict.fromkeys(filter(None, values))) for name, values in facts.items()}
    more = len(distinct["Commands"]) - _MOST_COMMANDS
    if more > 0:
        distinct["Commands"][_MOST_COMMANDS:] = [f"and {more} more"]
    return distinct


def _settings_table(runs_of: Mapping[Row, Sequence[RunRecord]]) -> Markup:
    """A row per setting, a column per method of lowshot; settings that are not the same for all stand out.

    Where the tasks of a method differ in a setting, its cell has all values.
    """
    settings: dict[str, dict[str, dict[str, None]]] = {}
    for row, runs in runs_of.items():
        for name, value in (item for run in runs for item in shown_settings(run).items()):
            settings.setdefault(row.label, {}).setdefault(name, {})[value] = None
    names = dict.fromkeys(name for by_name in settings.values() for name in by_name)
    if not names:
        return Markup()
    header = [element("th", text, scope="col") for text in ("setting", *settings)]
    body = []
    for name in names:
        values = [" / ".join(by_name.get(name, ())) for by_name in settings.values()]
        differs = len(set(values) - {""}) > 1
        cells = (element("td", element("strong", value) if differs else value) for value in values)
        body.append(element("tr", element("th", name.replace("_", " "), scope="row"), *cells))
    note = "Settings of each method. Emphasis: not the same for all."
    return scrollable(table(header, body, "settings"), note, "settings-note")

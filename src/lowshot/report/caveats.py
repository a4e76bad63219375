"""Caveats on the origin of runs, for those who compare them: a line each, none where all is well."""

from __future__ import annotations

from collections.abc import Sequence

from ..methods import display_name
from ..records import RunRecord
from ..runs_folder import Runs
from ..wording.provenance import hardware_text
from .variants import usual_settings, variant_text

_MOST_NAMED = 4


def provenance_caveats(records: Sequence[RunRecord]) -> list[str]:
    """On settings that labels leave out, uncommitted changes, several commits, several machines."""
    commits = sorted({str(r.provenance["commit"])[:10] for r in records if r.provenance.get("commit")})
    changed = sum(bool(record.provenance.get("dirty")) for record in records)
    machines = sorted({text for record in records if (text := hardware_text(record.provenance))})
    lines = [
        f"Where {display_name(*method)} says nothing else: {variant_text(settings)}."
        for method, settings in usual_settings(records).items()
        if settings
    ]
    if changed:
        verb = "was" if changed == 1 else "were"
        lines.append(f"{changed} of {len(records)} runs {verb} made from sources with uncommitted changes.")
    if len(commits) > 1:
        named, more = ", ".join(commits[:_MOST_NAMED]), len(commits) - _MOST_NAMED
        ending = f" and {more} more" if more > 0 else ""
        lines.append(f"The runs are of {len(commits)} commits of lowshot: {named}{ending}.")
    if len(machines) > 1:
        lines.append(f"The runs are of {len(machines)} machines; compare their times and memory with care.")
    return lines


def completeness_caveats(runs: Runs) -> list[str]:
    """On runs that have no record."""
    if not runs.failed + runs.under_way:
        return []
    parts = [f"{runs.failed} failed" if runs.failed else "", f"{runs.under_way} under way" if runs.under_way else ""]
    missing = " and ".join(filter(None, parts))
    return [f"Not in these tables: {missing}; lowshot bench with the same recipe goes on with what is left."]

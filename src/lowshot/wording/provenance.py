"""Origin of figures in words: versions, hardware, commits, days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..records import RunRecord
from .quantities import ends


def listing(facts: Mapping[str, object]) -> str:
    """Facts that are known as an indented block, where Markdown acts on nothing that a name may hold."""
    width = max(map(len, facts))
    return "\n".join(f"    {name:<{width}}  {' '.join(str(v).split())}" for name, v in facts.items() if v)


def commit_text(provenance: Mapping[str, Any]) -> str:
    """Abbreviated commit, and whether the sources were changed since; empty where it is unknown."""
    if not provenance.get("commit"):
        return ""
    changed = " with uncommitted changes" if provenance.get("dirty") else ""
    return f"commit {provenance['commit'][:10]}{changed}"


def hardware_text(provenance: Mapping[str, Any]) -> str:
    """Processor, cores, accelerator and system, as far as they are known."""
    hardware = provenance.get("hardware", {})
    cores = f"{hardware['cores']} cores" if hardware.get("cores") else None
    parts = (hardware.get("processor"), cores, hardware.get("accelerator"), hardware.get("system"))
    return ", ".join(part for part in parts if part)


def versions_text(provenance: Mapping[str, Any]) -> str:
    """Packages with their versions."""
    return ", ".join(f"{package} {version}" for package, version in provenance.get("versions", {}).items())


def model_text(record: RunRecord) -> str:
    """Backbone with revision and hash of its weights, as far as they are known."""
    model = record.model
    revision = f"revision {model['revision']}" if model.get("revision") else None
    digest = f"weights sha256 {model['weights_sha256']}" if model.get("weights_sha256") else None
    return ", ".join(part for part in (model.get("id"), revision, digest) if part)


def dates_text(records: Sequence[RunRecord]) -> str:
    """The day of the first and of the last run, as ``2026-01-31`` or ``2026-01-31 to 2026-02-01``."""
    return ends(sorted(record.provenance["date"][:10] for record in records if record.provenance.get("date")))


def evaluation_text(record: RunRecord) -> str:
    """Split and number of images behind the accuracy."""
    metrics = record.metrics
    split = f"{metrics['split']} split" if metrics.get("split") else None
    images = f"{metrics['images']:,} images" if metrics.get("images") else None
    return ", ".join(part for part in (split, images) if part)

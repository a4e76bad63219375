"""Where every benchmark's figures go: benchmarks/results/<date>-<name>.json."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from lowshot.files import canonical_json, write_text


def write_result(result: dict[str, Any]) -> Path:
    """Write a result under today's date (UTC) and its ``benchmark`` name; returns the file."""
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    path = Path(__file__).parent / "results" / f"{date}-{result['benchmark']}.json"
    write_text(path, canonical_json(result))
    return path

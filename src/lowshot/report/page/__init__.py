"""One self-contained page about a set of runs: charts, tables, provenance; no other file, no network."""

from .headline import main_result
from .render import render_page, write_report
from .showcase import Prediction, Showcase

__all__ = ["Prediction", "Showcase", "main_result", "render_page", "write_report"]

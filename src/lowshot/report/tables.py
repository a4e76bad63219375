"""The results table of a page, sortable by every column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .charts import series_style
from .markup import Markup, element, scrollable
from .summary import Column, Row, SeriesKey, table_columns


def results_table(rows: Sequence[Row], numbers: Mapping[SeriesKey, int]) -> Markup:
    """All rows. ``page.js`` makes the buttons in the headings sort by the cells' ``data-value``.

    Args:
        rows: The rows, in their first order.
        numbers: ``figures.series_numbers``: a key beside each name shows its colour in the charts.
    """
    columns = table_columns(rows)
    header = element("tr", *(_heading(column) for column in columns))
    body = [element("tr", *(_cell(column, row, numbers) for column in columns)) for row in rows]
    table = element("table", element("thead", header), element("tbody", *body), class_="results")
    note = "Mean over seeds ± standard deviation; a KB has 1000 bytes. Press a heading to sort."
    return scrollable(table, note, "results-note")


def _heading(column: Column) -> Markup:
    button = element("button", column.heading, type="button")
    return element("th", button, scope="col", class_="number" if column.is_number else None, aria_sort="none")


def _cell(column: Column, row: Row, numbers: Mapping[SeriesKey, int]) -> Markup:
    text, value = column.text(row), column.value(row)
    attributes = {"data_value": "" if value is None else repr(value) if isinstance(value, float) else value}
    if column.heading != "method":
        return element("td", text, class_="number" if column.is_number else None, **attributes)
    key = element("span", class_=f"key {series_style(numbers.get(row.series), row.is_rival)}", aria_hidden="true")
    return element("th", key, text, scope="row", **attributes)

"""Tables put in writing: for a terminal, in Markdown, in LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence

from .table import Line, Table

_LABELS = "method"
_GAP = 2
_WIDE = 6
"""Columns of a LaTeX table above which it is scaled to the width of the text."""
_MARKDOWN = re.compile(r"[\\`*<>\[\]|~]|(?<!\w)_|_(?!\w)")
_LATEX = str.maketrans(
    {
        "\\": "\\textbackslash{}",
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}",
        '"': "\\textquotedbl{}",
        "±": "$\\pm$",
        "\u00a0": "~",
        "—": "---",
    }
)


def in_terminal(tables: Sequence[Table], width: int = 100) -> str:
    """Aligned text. A table wider than ``width`` is continued below, with its labels again; nothing is cut.

    What is bold elsewhere has a ``*``.
    """
    outputs = []
    for table in tables:
        lines = [line for block in table.blocks for line in block.lines]
        labels = [part for line in lines for part in _label_parts(line, max(20, width // 3))]
        label_width = max(map(len, [_LABELS, *labels]))
        columns = []
        for i, heading in enumerate(table.columns):
            cells = [line.cells[i] for line in lines]
            # Where one has a star, the others have a space in its place, so that figures stand in line.
            plain = " " if any(cell.is_best for cell in cells) else ""
            texts = [heading + plain, *(cell.text + ("*" if cell.is_best else plain) for cell in cells)]
            widest = max(map(len, texts))
            columns.append([text.rjust(widest) for text in texts])
        ranges = _fitting([len(column[0]) for column in columns], width - label_width)
        parts = [_terminal_part(table, within, columns, label_width) for within in ranges]
        title, *notes = (
            textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)
            for text in (table.title, *table.notes)
        )
        outputs.append("\n".join([title, "", *parts, *notes]) + "\n")
    return "\n".join(outputs)


def _fitting(widths: Sequence[int], room: int) -> Iterator[range]:
    """Runs of columns that fit side by side; one column at least, however wide."""
    first, used = 0, 0
    for i, width in enumerate(widths):
        if i > first and used + _GAP + width > room:
            yield range(first, i)
            first, used = i, 0
        used += _GAP + width
    yield range(first, len(widths))


def _terminal_part(table: Table, within: range, columns: Sequence[Sequence[str]], label_width: int) -> str:
    """Labels with some of the columns; lines that have nothing in them are left out."""

    def aligned(label: str, number: int) -> str:
        return f"{label:<{label_width}}{''.join(' ' * _GAP + columns[i][number] for i in within)}".rstrip()

    rows, number = [aligned(_LABELS, 0)], 0
    for block in table.blocks:
        lines = []
        for line in block.lines:
            number += 1
            if any(line.cells[i].text for i in within):
                first, *rest = _label_parts(line, label_width)
                lines += [aligned(first, number), *rest]
        rows += [f"-- {block.heading}"] if block.heading and lines else []
        rows += lines
    return "\n".join(rows) + "\n"


def _label_parts(line: Line, width: int) -> list[str]:
    """A label on as many lines as it takes; that of published figures is set in."""
    margin = "  " if line.is_published else ""
    return textwrap.wrap(
        line.label, width, initial_indent=margin, subsequent_indent=f"{margin}  ", break_on_hyphens=False
    ) or [""]


def in_markdown(tables: Sequence[Table]) -> str:
    """Markdown tables with their notes below them."""
    outputs = []
    for table in tables:
        rows = [[_LABELS, *map(_markdown_text, table.columns)], [":--", *["--:"] * len(table.columns)]]
        for block in table.blocks:
            rows += [[f"*{_markdown_text(block.heading)}*", *[""] * len(table.columns)]] if block.heading else []
            for line in block.lines:
                label = ("&nbsp;&nbsp;" if line.is_published else "") + _markdown_text(line.label)
                texts = ((_markdown_text(cell.text), cell.is_best) for cell in line.cells)
                rows.append([label, *(f"**{text}**" if is_best else text for text, is_best in texts)])
        body = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
        notes = "".join(f"\n{_markdown_text(note)}\n" for note in table.notes)
        outputs.append(f"### {_markdown_text(table.title)}\n\n{body}{notes}")
    return "\n".join(outputs)


def _markdown_text(text: str) -> str:
    return _MARKDOWN.sub(r"\\\g<0>", " ".join(text.split()))


def in_latex(tables: Sequence[Table]) -> str:
    """``table`` environments that compile as they are in a document with ``booktabs`` and ``graphicx``."""
    head = "% \\usepackage{booktabs} and \\usepackage{graphicx}; needs nothing else.\n\n"
    outputs = []
    for table in tables:
        count = len(table.columns)
        lines = [" & ".join(map(_latex_text, [_LABELS, *table.columns])) + " \\\\"]
        for block in table.blocks:
            lines.append("\\midrule")
            if block.heading:
                lines.append(f"\\multicolumn{{{count + 1}}}{{l}}{{\\textit{{{_latex_text(block.heading)}}}}} \\\\")
            for line in block.lines:
                cells = [("\\quad " if line.is_published else "") + _latex_text(line.label)]
                for cell in line.cells:
                    text = re.sub(r"-(?=\d)", "$-$", _latex_text(cell.text))
                    cells.append(f"\\textbf{{{text}}}" if cell.is_best else text)
                lines.append(" & ".join(cells) + " \\\\")
        rows = "\n".join(lines)
        tabular = f"\\begin{{tabular}}{{l{'r' * count}}}\n\\toprule\n{rows}\n\\bottomrule\n\\end{{tabular}}"
        if count > _WIDE:
            tabular = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}%\n}}"
        parts = ["\\begin{table}[tbp]", "\\centering", f"\\caption{{{_latex_text(table.title)}}}", tabular]
        if table.notes:
            notes = "\n".join(f"\\par {_latex_text(note)}" for note in table.notes)
            parts.append(f"\\begin{{flushleft}}\\footnotesize\n{notes}\n\\end{{flushleft}}")
        outputs.append("\n".join([*parts, "\\end{table}", ""]))
    return head + "\n".join(outputs)


def _latex_text(text: str) -> str:
    return re.sub("-(?=-)", "-{}", text.translate(_LATEX))  # two hyphens would become a dash

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from lowshot.report.tables.formats import in_latex, in_markdown, in_terminal
from lowshot.report.tables.table import Block, Line, Table, TableCell

TABLE = Table(
    "Accuracy in percent",
    ("digits", "average"),
    (
        Block(
            "4 shots",
            (
                Line("lora", (TableCell("83.1 ± 0.3"), TableCell("84.0", is_best=True))),
                Line("CLIP-LoRA, quoted", (TableCell("83.0 (-0.1)"), TableCell("")), is_published=True),
            ),
        ),
    ),
    ("A note.",),
)


def wide(columns, label="lora"):
    return Table(
        "t",
        tuple(f"data set {i}" for i in range(columns)),
        (Block("", (Line(label, (TableCell("83.1 ± 0.3"),) * columns),)),),
    )


def test_terminal_text_is_aligned_and_marks_the_best():
    assert in_terminal([TABLE]) == (
        "Accuracy in percent\n"
        "\n"
        "method                    digits  average\n"
        "-- 4 shots\n"
        "lora                  83.1 ± 0.3     84.0*\n"
        "  CLIP-LoRA, quoted  83.0 (-0.1)\n"
        "\n"
        "A note.\n"
    )


@given(st.integers(1, 20), st.integers(30, 200))
def test_a_wide_table_goes_on_below_and_loses_nothing(columns, width):
    text = in_terminal([wide(columns)], width)

    assert all(len(line) <= width for line in text.splitlines())
    assert re.findall(r"data set \d+", text) == [f"data set {i}" for i in range(columns)]
    assert text.count("83.1 ± 0.3") == columns
    assert text.count("lora") == text.count("method")


def test_a_column_that_is_wider_than_the_terminal_is_written_all_the_same():
    text = in_terminal([wide(2)], 12)

    assert text.count("83.1 ± 0.3") == text.count("lora") == text.count("method") == 2


def test_a_long_label_is_wrapped_and_not_cut():
    label = "lora, projections q k v o fc1 fc2, position half-bottom"

    lines = in_terminal([wide(2, label)], 60).splitlines()

    assert all(len(line) <= 60 for line in lines)
    assert " ".join(" ".join(re.sub(r"\d\d\.\d ± \d\.\d", "", line).split()) for line in lines[3:]).strip() == label


def test_published_figures_that_are_not_in_a_part_have_no_empty_line_in_it():
    text = in_terminal([TABLE], 33)

    assert text.count("CLIP-LoRA, quoted") == 1
    assert text.count("lora") == 2


def test_markdown_has_bold_and_blocks():
    assert in_markdown([TABLE]) == (
        "### Accuracy in percent\n"
        "\n"
        "| method | digits | average |\n"
        "| :-- | --: | --: |\n"
        "| *4 shots* |  |  |\n"
        "| lora | 83.1 ± 0.3 | **84.0** |\n"
        "| &nbsp;&nbsp;CLIP-LoRA, quoted | 83.0 (-0.1) |  |\n"
        "\n"
        "A note.\n"
    )


def test_markdown_escapes_what_would_be_markup():
    row = in_markdown([Table("t", ("a|b",), (Block("", (Line("<b>*x*\n`_y_", (TableCell("1"),)),)),))]).splitlines()

    assert row[2] == "| method | a\\|b |"
    assert row[4] == "| \\<b\\>\\*x\\* \\`\\_y\\_ | 1 |"
    assert "oxford_pets" in in_markdown([Table("oxford_pets", ("a",), ())])


def test_latex_is_a_table_with_rules_and_bold():
    assert in_latex([TABLE]).partition("\n\n")[2] == (
        "\\begin{table}[tbp]\n"
        "\\centering\n"
        "\\caption{Accuracy in percent}\n"
        "\\begin{tabular}{lrr}\n"
        "\\toprule\n"
        "method & digits & average \\\\\n"
        "\\midrule\n"
        "\\multicolumn{3}{l}{\\textit{4 shots}} \\\\\n"
        "lora & 83.1 $\\pm$ 0.3 & \\textbf{84.0} \\\\\n"
        "\\quad CLIP-LoRA, quoted & 83.0 ($-$0.1) &  \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
        "\\begin{flushleft}\\footnotesize\n"
        "\\par A note.\n"
        "\\end{flushleft}\n"
        "\\end{table}\n"
    )


def test_a_wide_latex_table_is_scaled_to_the_text():
    assert "\\resizebox{\\textwidth}{!}{%" in in_latex([wide(7)])
    assert "\\resizebox" not in in_latex([wide(6)]).partition("\n\n")[2]


@example("a--b---c")
@given(st.text(st.sampled_from('ab\\&%$#_{}~^<>|"-± \u00a0'), min_size=1))
def test_latex_escapes_everything_that_has_a_meaning(text):
    written = in_latex([Table(text, (text,), (Block(text, (Line(text, (TableCell("1"),)),)),), (text,))]).partition(
        "\n\n"
    )[2]
    # Take away what this module writes on purpose; nothing with a meaning may be left of the text.
    caption = re.search(r"\\caption\{(.*)\}\n\\begin\{tabular\}", written, re.DOTALL).group(1)
    known = r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}"
    rest = re.sub(rf"{known}|\\[&%$#_{{}}]|\$\\pm\$|-\{{\}}|~", "", caption)

    assert not set(rest) & set('\\&%$#_{}^<>|"')
    assert "--" not in caption

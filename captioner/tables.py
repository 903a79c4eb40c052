r"""Tables as plain text, Markdown or LaTeX, and their content as JSON.

A number is useful only with its recipe, so tables are always written with notes: scale, recipe and
warnings. In LaTeX, the notes are the caption of each table; otherwise they follow all tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from captioner.display import json_line, one_line

FORMATS = ("table", "json", "latex", "markdown")


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Attributes:
        header: Names of the columns.
        rows: Rows with one text per column.
        title: Title of the table; may be empty for a single table.
        left: Indices of left-aligned columns; the others are right-aligned.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str = ""
    left: frozenset[int] = frozenset({0})


def render(
    form: str, tables: Sequence[Table], notes: Sequence[str], content: Mapping[str, Any]
) -> str:
    """Format tables and their notes in one of `FORMATS`.

    Args:
        form: The format.
        tables: The tables, for all formats but JSON.
        notes: Notes on all tables, one line each.
        content: The content for JSON.
    """
    match form:
        case "json":
            return json_text(content)
        case "latex":
            drawn = [_latex(table, notes) for table in tables]
            return "\n\n".join(["% \\usepackage{booktabs}", *drawn])
        case "markdown":
            return "\n\n".join([*map(_markdown, tables), "  \n".join(map(_in_markdown, notes))])
        case _:
            return "\n\n".join([*map(_plain, tables), "\n".join(map(one_line, notes))])


def json_text(content: Mapping[str, Any]) -> str:
    """Format content as standard JSON.

    Raises:
        ValueError: A number is infinite or NaN.
    """
    return json_line(content, indent=2)


def _plain(table: Table) -> str:
    lines = [[one_line(cell) for cell in line] for line in (table.header, *table.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    drawn = [
        "  ".join(
            f"{cell:<{width}}" if at in table.left else f"{cell:>{width}}"
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join([one_line(table.title), *drawn] if table.title else drawn)


def _markdown(table: Table) -> str:
    rule = [":--" if at in table.left else "--:" for at in range(len(table.header))]
    lines = [map(_in_markdown, table.header), rule]
    lines += [map(_in_markdown, row) for row in table.rows]
    drawn = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"**{_in_markdown(table.title)}**\n\n{drawn}" if table.title else drawn


def _in_markdown(text: str) -> str:
    text = one_line(text)
    for special in "\\`*_<>[]|&~":
        text = text.replace(special, "\\" + special)
    return text


def _latex(table: Table, notes: Sequence[str]) -> str:
    columns = "".join("l" if at in table.left else "r" for at in range(len(table.header)))
    title = [table.title + "."] if table.title else []
    caption = " ".join(_in_latex(note if note.endswith(".") else note + ".") for note in notes)
    return "\n".join(
        [
            "\\begin{table}",
            "  \\centering",
            f"  \\begin{{tabular}}{{{columns}}}",
            "    \\toprule",
            f"    {_latex_row(table.header)}",
            "    \\midrule",
            *(f"    {_latex_row(row)}" for row in table.rows),
            "    \\bottomrule",
            "  \\end{tabular}",
            f"  \\caption{{{' '.join([*map(_in_latex, title), caption])}}}",
            "\\end{table}",
        ]
    )


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(map(_in_latex, cells)) + " \\\\"


# A recipe is one long word; allow line breaks after its separators.
_LATEX = str.maketrans(
    {
        "\\": "\\textbackslash{}",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
        "<": "\\textless{}",
        ">": "\\textgreater{}",
        "|": "\\textbar{}\\allowbreak{}",
        "±": "$\\pm$",
        "…": "\\ldots{}",
        **{special: "\\" + special for special in "&%$#_{}"},
    }
)


def _in_latex(text: str) -> str:
    return one_line(text).translate(_LATEX)

"""Tables in LaTeX, with booktabs; they compile under pdfLaTeX, XeLaTeX and LuaLaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import visible
from cirbench.support.tables.model import Number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cirbench.support.tables.model import Cell, Row, Table

_SIGNS = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "`": r"\`{}",
    "[": "{[}",  # after \\ it would begin an option
    "*": "{*}",  # and so would this
    "·": r"\textperiodcentered{}",
    "±": r"\ensuremath{\pm}",
    "×": r"\ensuremath{\times}",
    "−": r"\ensuremath{-}",
    "≤": r"\ensuremath{\leq}",
    "≥": r"\ensuremath{\geq}",
    "→": r"\ensuremath{\rightarrow}",
    "Δ": r"\ensuremath{\Delta}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\S{}",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "…": r"\ldots{}",
    "“": "``",
    "”": "''",
    "‘": "`",
    "’": "'",
}
_FRAMES = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}


def to_latex(table: Table) -> str:
    r"""Write a ``table`` environment; best is bold, second best underlined.

    Needs ``\usepackage{booktabs}``. The title opens the caption, so that the protocol stands in it; notes follow below
    the rules.
    """
    aligned = "".join("r" if table.numeric(at) else "l" for at in range(len(table.columns)))
    caption = " ".join(escape(_sentence(text)) for text in (table.title, table.caption) if text)
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        *([rf"\caption{{{caption}}}"] if caption else []),
        rf"\begin{{tabular}}{{{aligned}}}",
        r"\toprule",
        _line(escape(column.heading) for column in table.columns),
        r"\midrule",
        *map(_row, table.rows),
        *([r"\midrule", *map(_row, table.foot)] if table.foot else []),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {escape(note)}}}" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Return a text that LaTeX prints as it stands; a character that fonts may lack is named, ``[U+4E2D]``."""
    shown = "".join(_SIGNS.get(sign) or _plain(sign) for sign in visible(text))
    return shown.replace("--", "-{}-")  # else a dash


def _plain(sign: str) -> str:
    """ASCII, and the letters of Latin-1 that every LaTeX since 2018 prints without a package; the rest by number."""
    known = sign.isascii() or ("À" <= sign <= "ÿ" and sign not in "÷ÐðÞþ")
    return sign if known else f"{{[}}U+{ord(sign):04X}]"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _row(row: Row) -> str:
    return _line(map(_cell, row))


def _cell(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape(cell or "")
    interval = "" if cell.ends_text is None else f" [{', '.join(map(_minus, cell.ends_text))}]"
    note = rf"\textsuperscript{{{escape(cell.note)}}}" if cell.note_is_sign else escape(cell.note_text)
    return f"{_FRAMES[cell.mark].format(_minus(cell.text))}{interval}{note}"


def _minus(number: str) -> str:
    return number.replace("-", "$-$")


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"

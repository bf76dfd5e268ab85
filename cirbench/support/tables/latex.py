"""Tables in LaTeX, with booktabs; they compile under pdfLaTeX, XeLaTeX and LuaLaTeX."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import visible
from cirbench.support.tables.model import Number

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    "†": r"\ensuremath{\dagger}",
    "‡": r"\ensuremath{\ddagger}",
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


_RAISED = dict(zip("ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻ", "abcdefghijklmnoprstuvwxyz", strict=True))

_ALONE = r"""% Compiles alone, and by \input in a document with \usepackage{PACKAGES}.
\expandafter\ifx\csname @nodocument\endcsname\relax\else
\documentclass{article}\usepackage{PACKAGES}\begin{document}
\def\cirbenchend{\end{document}}
\fi"""

_WIDE = 8
"""A table of more columns spans both columns of a page, in small print, and is scaled where it is wider still."""

_SCALED = r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"


def to_latex(table: Table) -> str:
    r"""Write a ``table`` environment; best is bold, second best underlined.

    Printed are the summary as the caption, and every column that is not aside. Title, caption, notes and the columns
    aside are comments.
    """
    places = [at for at, column in enumerate(table.columns) if not column.aside]
    shown = table.only(places)
    wide = len(places) > _WIDE
    environment = "table*" if wide else "table"
    caption = escape(_sentence(table.summary or table.title))
    rooms = [_rooms(shown, at) for at in range(len(places))]
    asides = iter([_aside(table, row) for row in table.all_rows])
    bodies = [[f"{_row(row, rooms)}{next(asides)}" for row in rows] for rows in (*shown.divided, shown.foot) if rows]
    lines = [
        *(f"% {visible(text)}" for text in (table.title, table.caption, *table.notes) if text),
        _ALONE.replace("PACKAGES", "booktabs,graphicx" if wide else "booktabs"),
        rf"\begin{{{environment}}}[t]",
        r"\centering" + (r"\small\setlength{\tabcolsep}{3pt}" if wide else ""),
        *([rf"\caption{{{caption}}}"] if caption else []),
        *([_SCALED] if wide else []),
        rf"\begin{{tabular}}{{{''.join('r' if shown.numeric(at) else 'l' for at in range(len(places)))}}}",
        r"\toprule",
        *_over(shown),
        _line(escape(column.heading) for column in shown.columns),
        *(line for body in bodies for line in (r"\midrule", *body)),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        rf"\end{{{environment}}}",
        r"\csname cirbenchend\endcsname",
    ]
    return "\n".join(lines) + "\n"


def _over(table: Table) -> list[str]:
    """The headings over groups of columns, each with its rule."""
    if not table.spans:
        return []
    cells, rules, at = [], [], 1
    for group, count in table.spans:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{escape(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    return [_line(cells), "".join(rules)]


def _aside(table: Table, row: Row) -> str:
    """What a row says in columns that are not printed, as a comment at the end of its line."""
    said = [
        f"{column.label}: {visible(str(cell))}"
        for column, cell in zip(table.columns, row, strict=True)
        if column.aside and cell
    ]
    return f" % {'; '.join(map(visible, said))}" if said else ""


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


def _row(row: Row, rooms: Sequence[tuple[str, str]]) -> str:
    return _line(map(_cell, row, rooms))


def _cell(cell: Cell, room: tuple[str, str]) -> str:
    """Write a cell; room that other rows take for a sign or a deviation is left empty, so that numbers align."""
    if not isinstance(cell, Number):
        return escape(cell or "")
    longest_sign, longest_sd = room
    sign = rf"\textsuperscript{{{_sign(cell.sign)}}}" if cell.sign else ""
    if missing := longest_sign[len(cell.sign) :]:
        sign += rf"\hphantom{{\textsuperscript{{{_sign(missing)}}}}}"
    sd = _sd(cell.sd_text) if cell.sd is not None else rf"\hphantom{{{_sd(longest_sd)}}}" if longest_sd else ""
    interval = "" if cell.ends_text is None else f" [{', '.join(map(_minus, cell.ends_text))}]"
    note = f" {escape(cell.note)}" if cell.note else ""
    return f"{_FRAMES[cell.mark].format(_minus(cell.text))}{sign}{sd}{interval}{note}"


def _sd(text: str) -> str:
    return rf" {{\scriptsize$\pm$ {text}}}"


def _sign(text: str) -> str:
    return escape("".join(_RAISED.get(sign, sign) for sign in text))


def _rooms(table: Table, at: int) -> tuple[str, str]:
    """The longest sign and the longest standard deviation of a column."""
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    return (
        max((number.sign for number in numbers), key=len, default=""),
        max((number.sd_text for number in numbers), key=len, default=""),
    )


def _minus(number: str) -> str:
    return number.replace("-", "$-$")


def _line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"

"""Tables as text for a terminal, Markdown, CSV, JSON, LaTeX and HTML.

LaTeX uses booktabs, and compiles under pdfLaTeX, XeLaTeX and LuaLaTeX. HTML is a fragment for any page, for
people, screen readers and scripts.
"""

from __future__ import annotations

import csv
import html
import io
import json
import re
from typing import TYPE_CHECKING, Any

from cirbench.errors import UnknownName, hidden, visible
from cirbench.support.tables import Number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from cirbench.support.tables import Cell, Row, Table


def to_csv(table: Table) -> str:
    """Write one line a row; what belongs to a number has columns of its own.

    These are ``KEY_sd``, ``KEY_low``, ``KEY_high``, ``KEY_sign`` and ``KEY_note``, where a number has one. A text that
    a spreadsheet would run as a formula gets a leading apostrophe.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [_parts(table, at) for at in range(len(table.columns))]
    writer.writerow(
        _inert(f"{column.key}{part}")
        for column, parts_of in zip(table.columns, parts, strict=True)
        for part in parts_of
    )
    for row in table.all_rows:
        writer.writerow(_fields(row, parts))
    return out.getvalue()


def _parts(table: Table, at: int) -> list[str]:
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    parts = [""]
    if any(number.sd is not None for number in numbers):
        parts.append("_sd")
    if any(number.ends for number in numbers):
        parts += ["_low", "_high"]
    for name in ("sign", "note"):
        if any(getattr(number, name) for number in numbers):
            parts.append(f"_{name}")
    return parts


def _fields(row: Row, parts: list[list[str]]) -> Iterator[str]:
    for cell, names in zip(row, parts, strict=True):
        content = _texts(cell)
        for name in names:
            yield content.get(name, "")


def _texts(cell: Cell) -> dict[str, str]:
    if not isinstance(cell, Number):
        return {"": _inert(cell or "")}
    low, high = cell.ends_text or ("", "")
    notes = {"_sign": _inert(cell.sign), "_note": _inert(cell.note)}
    return {"": cell.text, "_sd": cell.sd_text, "_low": low, "_high": high, **notes}


_FORMULA = tuple("=+-@＝＋－＠")
_PLAIN_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


def _inert(text: str) -> str:
    """Return a text that no spreadsheet runs."""
    shown = visible(text)
    if shown.lstrip().startswith(_FORMULA) and not _PLAIN_NUMBER.fullmatch(shown):
        return f"'{shown}"
    return shown


SCHEMA_VERSION = 1
"""Of the form of tables in JSON."""


def to_json(table: Table) -> str:
    """Write an object with ``columns`` and ``rows``; a cell is a text, null, or an object with a ``value``."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "title": table.title,
        "caption": table.caption,
        "notes": list(table.notes),
        "columns": [
            {
                "key": column.key,
                "label": column.label,
                "unit": column.unit,
                **({"group": column.group} if column.group else {}),
            }
            for column in table.columns
        ],
        "rows": [_object(row, table) for row in table.rows],
        "foot": [_object(row, table) for row in table.foot],
    }
    return inert_json(content) + "\n"


def inert_json(content: Any) -> str:
    """Write JSON for people and programs: indented, in UTF-8, with what would act on a terminal as escapes."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return "".join(_json_escape(sign) if hidden(sign) and sign != "\n" else sign for sign in text)


def _object(row: Row, table: Table) -> dict[str, Any]:
    return {column.key: _value(cell) for column, cell in zip(table.columns, row, strict=True)}


def _value(cell: Cell) -> Any:
    if not isinstance(cell, Number):
        return cell
    content: dict[str, Any] = {"value": float(cell.text) if cell.digits else int(cell.text)}
    if cell.ends_text is not None:
        content |= {"low": float(cell.ends_text[0]), "high": float(cell.ends_text[1])}
    if cell.mark:
        content["mark"] = cell.mark
    if cell.sd is not None:
        content["sd"] = float(cell.sd_text)
    return content | {name: text for name in ("sign", "note") if (text := getattr(cell, name))}


def _json_escape(sign: str) -> str:
    return json.dumps(sign)[1:-1]


_MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
_MARKDOWN_SIGNS = re.compile(
    r"""
    [\\`*\[~$]       # code, emphasis, links, strike-through, formulas
    | (?<![^\W_])_   # an underscore at the edge of a word; inside one it does nothing
    | _(?![^\W_])
    | ^[#+=-]        # what begins a heading or a list
    """,
    re.VERBOSE,
)
_MARKDOWN_FRAMES = {"": "", "best": "**", "second": "_"}


def to_markdown(table: Table) -> str:
    """Write a table with its title above, its caption and notes below; best is bold, second best in italics."""
    lines = [f"**{_escape_markdown(table.title)}**", ""] if table.title else []
    lines.append(
        _markdown_line(
            _escape_markdown(" ".join(filter(None, (column.group, column.heading)))) for column in table.columns
        )
    )
    lines.append(_markdown_line("---:" if table.numeric(at) else ":---" for at in range(len(table.columns))))
    lines += [_markdown_line(map(_markdown_cell, row)) for rows in (*table.divided, table.foot) for row in rows]
    for text in filter(None, (table.caption, *table.notes)):
        lines += ["", _escape_markdown(text)]
    return "\n".join(lines) + "\n"


def _escape_markdown(text: str) -> str:
    """Return a text of which Markdown shows every character and acts on none."""
    entities = "".join(_MARKDOWN_ENTITIES.get(sign, sign) for sign in visible(text).strip())
    return _MARKDOWN_SIGNS.sub(r"\\\g<0>", entities)


def _markdown_cell(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return _escape_markdown(cell or "")
    frame = _MARKDOWN_FRAMES[cell.mark]
    note = f" {_escape_markdown(cell.note)}" if cell.note else ""
    return f"{frame}{cell.text}{frame}{_escape_markdown(cell.sign)}{cell.spread}{note}"


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


_LATEX_SIGNS = {
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
_LATEX_FRAMES = {"": "{}", "best": r"\textbf{{{}}}", "second": r"\underline{{{}}}"}


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
    caption = _escape_latex(_sentence(table.summary or table.title))
    rooms = [_latex_rooms(shown, at) for at in range(len(places))]
    asides = iter([_latex_aside(table, row) for row in table.all_rows])
    bodies = [
        [f"{_latex_row(row, rooms)}{next(asides)}" for row in rows] for rows in (*shown.divided, shown.foot) if rows
    ]
    lines = [
        *(f"% {visible(text)}" for text in (table.title, table.caption, *table.notes) if text),
        _ALONE.replace("PACKAGES", "booktabs,graphicx" if wide else "booktabs"),
        rf"\begin{{{environment}}}[t]",
        r"\centering" + (r"\small\setlength{\tabcolsep}{3pt}" if wide else ""),
        *([rf"\caption{{{caption}}}"] if caption else []),
        *([_SCALED] if wide else []),
        rf"\begin{{tabular}}{{{''.join('r' if shown.numeric(at) else 'l' for at in range(len(places)))}}}",
        r"\toprule",
        *_latex_over(shown),
        _latex_line(_escape_latex(column.heading) for column in shown.columns),
        *(line for body in bodies for line in (r"\midrule", *body)),
        r"\bottomrule",
        r"\end{tabular}" + ("}" if wide else ""),
        rf"\end{{{environment}}}",
        r"\csname cirbenchend\endcsname",
    ]
    return "\n".join(lines) + "\n"


def _latex_over(table: Table) -> list[str]:
    """The headings over groups of columns, each with its rule."""
    if not table.spans:
        return []
    cells, rules, at = [], [], 1
    for group, count in table.spans:
        cells.append(rf"\multicolumn{{{count}}}{{c}}{{{_escape_latex(group)}}}" if group else "")
        if group:
            rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    return [_latex_line(cells), "".join(rules)]


def _latex_aside(table: Table, row: Row) -> str:
    """What a row says in columns that are not printed, as a comment at the end of its line."""
    said = [
        f"{column.label}: {visible(str(cell))}"
        for column, cell in zip(table.columns, row, strict=True)
        if column.aside and cell
    ]
    return f" % {'; '.join(map(visible, said))}" if said else ""


def _escape_latex(text: str) -> str:
    """Return a text that LaTeX prints unchanged; a character that fonts may lack is named, ``[U+4E2D]``."""
    shown = "".join(_LATEX_SIGNS.get(sign) or _latex_letter(sign) for sign in visible(text))
    return shown.replace("--", "-{}-")  # else a dash


def _latex_letter(sign: str) -> str:
    """ASCII, and the letters of Latin-1 that every LaTeX since 2018 prints without a package; the rest by number."""
    known = sign.isascii() or ("À" <= sign <= "ÿ" and sign not in "÷ÐðÞþ")
    return sign if known else f"{{[}}U+{ord(sign):04X}]"


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _latex_row(row: Row, rooms: Sequence[tuple[str, str]]) -> str:
    return _latex_line(map(_latex_cell, row, rooms))


def _latex_cell(cell: Cell, room: tuple[str, str]) -> str:
    """Write a cell; room that other rows take for a sign or a deviation is left empty, so that numbers align."""
    if not isinstance(cell, Number):
        return _escape_latex(cell or "")
    longest_sign, longest_sd = room
    sign = rf"\textsuperscript{{{_latex_sign(cell.sign)}}}" if cell.sign else ""
    if missing := longest_sign[len(cell.sign) :]:
        sign += rf"\hphantom{{\textsuperscript{{{_latex_sign(missing)}}}}}"
    sd = (
        _latex_sd(cell.sd_text)
        if cell.sd is not None
        else rf"\hphantom{{{_latex_sd(longest_sd)}}}"
        if longest_sd
        else ""
    )
    interval = "" if cell.ends_text is None else f" [{', '.join(map(_latex_minus, cell.ends_text))}]"
    note = f" {_escape_latex(cell.note)}" if cell.note else ""
    return f"{_LATEX_FRAMES[cell.mark].format(_latex_minus(cell.text))}{sign}{sd}{interval}{note}"


def _latex_sd(text: str) -> str:
    return rf" {{\scriptsize$\pm$ {text}}}"


def _latex_sign(text: str) -> str:
    return _escape_latex("".join(_RAISED.get(sign, sign) for sign in text))


def _latex_rooms(table: Table, at: int) -> tuple[str, str]:
    """The longest sign and the longest standard deviation of a column."""
    numbers = [cell for row in table.all_rows if isinstance(cell := row[at], Number)]
    return (
        max((number.sign for number in numbers), key=len, default=""),
        max((number.sd_text for number in numbers), key=len, default=""),
    )


def _latex_minus(number: str) -> str:
    return number.replace("-", "$-$")


def _latex_line(cells: Iterable[str]) -> str:
    return rf"{' & '.join(cells)} \\"


_HTML_FRAMES = {"": "{}", "best": "<strong>{}</strong>", "second": "<u>{}</u>"}


def to_html(table: Table) -> str:
    """Write a ``figure`` with the table and its notes.

    A number carries ``data-value``, its interval ``data-low`` and ``data-high``; the first column heads its rows.
    Classes are ``number``, ``sd``, ``interval`` and ``note``.
    """
    return "\n".join(_html_lines(table)) + "\n"


def escape_html(text: str) -> str:
    """Return a text that HTML shows unchanged, in content and in quoted attributes."""
    return html.escape(visible(text), quote=True)


def _html_lines(table: Table) -> Iterator[str]:
    yield '<figure class="cirbench-table">'
    yield "<table>"
    if table.title:
        yield f"<caption>{escape_html(table.title)}</caption>"
    if table.spans:
        over = (f'<th scope="colgroup" colspan="{count}">{escape_html(group)}</th>' for group, count in table.spans)
        yield f"<thead><tr>{''.join(over)}</tr>"
    headings = (
        f'<th scope="col"{_html_class(table, at)}>{escape_html(column.heading)}</th>'
        for at, column in enumerate(table.columns)
    )
    yield f"{'' if table.spans else '<thead>'}<tr>{''.join(headings)}</tr></thead>"
    for rows in table.divided or ((),):
        yield "<tbody>"
        yield from (_html_row(row, table) for row in rows)
        yield "</tbody>"
    if table.foot:
        yield "<tfoot>"
        yield from (_html_row(row, table) for row in table.foot)
        yield "</tfoot>"
    yield "</table>"
    if texts := [*filter(None, (table.caption, *table.notes))]:
        yield f"<figcaption>{''.join(f'<p>{escape_html(text)}</p>' for text in texts)}</figcaption>"
    yield "</figure>"


def _html_row(row: Row, table: Table) -> str:
    cells = [
        f'<th scope="row"{_html_class(table, at)}>{_html_content(cell)}</th>'
        if at == 0
        else f"<td{_html_class(table, at)}{_html_data(cell)}>{_html_content(cell)}</td>"
        for at, cell in enumerate(row)
    ]
    return f"<tr>{''.join(cells)}</tr>"


def _html_class(table: Table, at: int) -> str:
    return ' class="number"' if table.numeric(at) else ""


def _html_data(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return ""
    ends = "" if cell.ends_text is None else f' data-low="{cell.ends_text[0]}" data-high="{cell.ends_text[1]}"'
    return f' data-value="{cell.text}"{ends}'


def _html_content(cell: Cell) -> str:
    if not isinstance(cell, Number):
        return escape_html(cell or "")
    sign = f"<sup>{escape_html(cell.sign)}</sup>" if cell.sign else ""
    sd = "" if cell.sd is None else f' <span class="sd">± {cell.sd_text}</span>'
    interval = "" if cell.ends_text is None else f' <span class="interval">[{", ".join(cell.ends_text)}]</span>'
    note = f' <span class="note">{escape_html(cell.note)}</span>' if cell.note else ""
    return f"{_HTML_FRAMES[cell.mark].format(cell.text)}{sign}{sd}{interval}{note}"


def _to_text(table: Table) -> str:
    from cirbench.support.tables.terminal import to_text  # rich takes its time to import

    return to_text(table)


_WRITERS: Mapping[str, Callable[[Table], str]] = {
    "rich": _to_text,
    "md": to_markdown,
    "csv": to_csv,
    "json": to_json,
    "latex": to_latex,
    "html": to_html,
}
FORMATS = tuple(_WRITERS)


def render(table: Table, format: str) -> str:
    """Write a table in one of `FORMATS`; it ends with a newline.

    Raises:
        UnknownName: There is no such format.
    """
    if format not in _WRITERS:
        raise UnknownName("table format", format, FORMATS)
    return _WRITERS[format](table)

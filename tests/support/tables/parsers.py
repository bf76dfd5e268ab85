"""Read numbers back from each form of a table, as a reader of that form would."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.support.tables import Table

Numbers = list[list[tuple[str, ...]]]
"""Per row and column: a number, its standard deviation, the ends of its interval; empty where there is none."""

_NUMBER = r"[+-]?\d+(?:\.\d+)?"
SIGNS = "*†ᵃᵇ"
_CELL = re.compile(rf"({_NUMBER})[{SIGNS}\\]*(?: *± ({_NUMBER}))?(?: *\[({_NUMBER}), ({_NUMBER})\])?")


def of_model(table: Table) -> Numbers:
    return [[_split(str(cell)) if hasattr(cell, "text") else () for cell in row] for row in table.all_rows]


def of_rich(text: str, table: Table) -> Numbers:
    lines = [line for line in text.splitlines() if line.startswith("│")]
    return [_cells(line[1:-1].split("│"), table) for line in lines]


def of_markdown(text: str, table: Table) -> Numbers:
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    bare = [re.sub(rf"(\*\*|_)({_NUMBER})\1", r"\2", line) for line in lines]
    return [_cells(line[1:-1].split("|"), table) for line in bare]


def of_latex(text: str, table: Table) -> Numbers:
    body = text.split("\\midrule\n", 1)[1].split("\\bottomrule")[0].replace("\\midrule\n", "")
    bare = re.sub(rf"\\(?:textbf|underline)\{{({_NUMBER})\}}", r"\1", body.replace("$-$", "-"))
    sd = rf" \{{\\scriptsize\$\\pm\$ ({_NUMBER})\}}"
    bare = re.sub(sd, r" ± \1", re.sub(rf"\\hphantom\{{{sd}\}}", "", bare))
    sign = r"\\textsuperscript\{(?:[ab]|\{\*\}|\\ensuremath\{\\dagger\})+\}"
    bare = re.sub(rf"(?:{sign})?(?:\\hphantom\{{{sign}\}})?", "", bare)
    lines = [line.removesuffix(r" \\") for line in bare.splitlines()]
    return [_cells(re.split(r"(?<!\\)&", line), table) for line in lines]


def of_csv(text: str, table: Table) -> Numbers:
    rows = []
    for record in csv.DictReader(io.StringIO(text)):
        row: list[tuple[str, ...]] = []
        for at, column in enumerate(table.columns):
            fields = [record.get(f"{column.key}{part}", "") for part in ("", "_sd", "_low", "_high")]
            row.append(tuple(filter(None, fields)) if table.numeric(at) else ())
        rows.append(row)
    return rows


def of_json(text: str, table: Table) -> Numbers:
    content = json.loads(text)
    rows = []
    for record, cells in zip([*content["rows"], *content["foot"]], table.all_rows, strict=True):
        row: list[tuple[str, ...]] = []
        for column, cell in zip(table.columns, cells, strict=True):
            value = record[column.key]
            if not isinstance(value, dict):
                row.append(())
                continue
            styles = dict.fromkeys(("value", "sd", "low", "high"), f"{'+' if cell.signed else ''}z.{cell.digits}f")  # type: ignore[union-attr]
            styles["sd"] = styles["sd"].removeprefix("+")
            row.append(tuple(f"{value[key]:{style}}" for key, style in styles.items() if key in value))
        rows.append(row)
    return rows


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th"):
            self._open = False

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open:
            self.rows[-1][-1] += data


def html_cells(text: str) -> _Cells:
    parser = _Cells()
    parser.feed(text)
    parser.close()
    return parser


def of_html(text: str, table: Table) -> Numbers:
    return [_cells(row, table) for row in html_cells(text).rows[2 if table.spans else 1 :]]


PARSERS: dict[str, Callable[[str, Table], Numbers]] = {
    "rich": of_rich,
    "md": of_markdown,
    "latex": of_latex,
    "csv": of_csv,
    "json": of_json,
    "html": of_html,
}


def _cells(cells: list[str], table: Table) -> list[tuple[str, ...]]:
    assert len(cells) == len(table.columns)
    return [_split(cell.strip()) if table.numeric(at) else () for at, cell in enumerate(cells)]


def _split(text: str) -> tuple[str, ...]:
    found = _CELL.match(text)
    return () if found is None else tuple(filter(None, found.groups()))

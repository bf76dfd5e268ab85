"""One table, six forms: the same numbers in each, and nothing that acts."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from cirbench.errors import UnknownName, hidden
from cirbench.support.tables import Column, Mark, Number, Row, Table
from cirbench.support.tables.formats import FORMATS, render
from cirbench.support.tables.terminal import to_lines
from tests.support.tables.parsers import PARSERS, SIGNS, html_cells, of_model

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\\input{/etc/passwd}",
    "\\\\[1cm] $x_1^2$ & 50 % # ~ {a} `` '' --- \"",
    "\\*[",
    '=HYPERLINK("http://evil.example")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    " =1+1",
    "＝1+1",
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b31m",
    "abc\u202edcba\u2066",
    "[red]bold[/red]",
    "[link](javascript:alert(1))",
    "a|b `code` **bold** _it_",
    "line\nbreak\u2028and\u2029more\x85",
    "broken \ud800",
    "émile 中文 ✓ ð",
)
TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=12))
FINITE = st.floats(-1e6, 1e6)


@st.composite
def numbers(draw: st.DrawFn) -> Number:
    low, high = sorted((draw(FINITE), draw(FINITE))) if draw(st.booleans()) else (None, None)
    mark: Mark = draw(st.sampled_from(["", "best", "second"]))
    note, sign = draw(st.sampled_from(["", "p=0.0364", "a & b"])), draw(st.text(SIGNS, max_size=2))
    digits, signed = draw(st.integers(0, 4)), draw(st.booleans())
    sd = draw(st.none() | st.floats(0, 1e6))
    return Number(draw(FINITE), low, high, digits=digits, signed=signed, mark=mark, sd=sd, sign=sign, note=note)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table with a column of texts, and columns of numbers with gaps."""
    width = draw(st.integers(1, 3))
    group = st.sampled_from(["", "first/val", "second"])
    heads = (Column(f"c{at}", draw(TEXTS), draw(TEXTS), draw(group)) for at in range(width))
    columns = (Column("name", draw(TEXTS)), *heads)
    rows = st.lists(st.tuples(TEXTS, *(st.one_of(st.none(), numbers()) for _ in range(width))), min_size=1, max_size=4)
    return Table(
        draw(TEXTS),
        columns,
        tuple(draw(rows)),
        draw(TEXTS),
        (draw(TEXTS),),
        foot=tuple(draw(st.just([]) | rows)),
        summary=draw(TEXTS),
        sections=draw(st.sampled_from(["", "name"])),
    )


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60)
@given(table=tables())
def test_every_form_reads_back_as_the_same_numbers(form: str, table: Table) -> None:
    assert PARSERS[form](render(table, form), table) == of_model(table)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=60)
@given(table=tables())
def test_no_form_carries_a_character_that_acts_without_being_seen(form: str, table: Table) -> None:
    assert not [sign for sign in render(table, form) if hidden(sign) and sign != "\n"]


def table_of(text: str) -> Table:
    row = (text, Number(1, sign=text, note=text))
    columns = (Column("name", text), Column("n", text, text, group=text), Column("id", text, aside=True))
    return Table(text, columns, ((*row, text),), text, (text,), ((*row, text),), summary=text)


@pytest.mark.parametrize("text", HOSTILE)
def test_html_shows_hostile_text_and_makes_no_element_of_it(text: str) -> None:
    parsed = html_cells(render(table_of(text), "html"))
    assert set(parsed.tags) == {
        *("figure", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "span", "sup", "figcaption", "p")
    }
    assert parsed.rows[2][0] in parsed.texts


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_holds_no_cell_that_a_spreadsheet_runs(text: str) -> None:
    for record in csv.reader(io.StringIO(render(table_of(text), "csv"))):
        for field in record:
            assert not field.lstrip().startswith(tuple("=+-@\t\r＝＋－＠"))


def test_csv_leaves_numbers_and_plain_text_as_they_are() -> None:
    table = Table("", (Column("a", "a"), Column("b", "b")), (("-5", Number(-1.5)), ("plain, text", Number(2))))
    assert render(table, "csv") == 'a,b\n-5,-1.50\n"plain, text",2.00\n'


@pytest.mark.parametrize("text", HOSTILE)
def test_json_gives_every_text_back_unchanged(text: str) -> None:
    content = json.loads(render(table_of(text), "json"))
    assert content["title"] == content["caption"] == content["notes"][0] == content["rows"][0]["name"] == text
    assert content["rows"][0]["n"]["note"] == text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_terminal_gets_text_and_no_markup(text: str) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=400, color_system="standard", record=True)
    for line in to_lines(table_of(text)):
        console.print(line, no_wrap=True)
    plain = console.export_text(clear=False)
    assert "\x1b" not in plain and "\u202e" not in plain
    if text.startswith("[red]"):
        assert text in plain


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_cells_and_makes_no_tag_link_or_code(text: str) -> None:
    shown = render(table_of(text), "md")
    assert "<" not in shown and ">" not in shown
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(rows) == 4 and all(line.count("|") == 4 for line in rows)
    for at, sign in enumerate(shown):
        assert sign not in "`[" or shown[at - 1] == "\\"


LATEX_COMMANDS = {
    *("usepackage", "documentclass", "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule"),
    *("multicolumn", "cmidrule", "hphantom", "scriptsize", "small", "setlength", "tabcolsep", "expandafter", "ifx"),
    *("csname", "endcsname", "relax", "else", "def", "fi", "cirbenchend", "input"),
    *("textsuperscript", "textbf", "underline", "textbackslash", "textasciitilde", "textasciicircum"),
    *("textless", "textgreater", "textbar", "textperiodcentered", "ensuremath", "dagger", "textendash", "textemdash"),
}


def check_latex(source: str) -> None:
    """Balanced, with known commands only, and equally many cells in each row; comments aside."""
    assert "\r" not in source
    source = re.sub(r"(?m)(?<!\\)%.*$", "", source)
    commands = set(re.findall(r"\\([A-Za-z]+)", source))
    assert commands <= LATEX_COMMANDS, commands - LATEX_COMMANDS
    bare = re.sub(r"\\[{}$&#_%\\`]", "", source)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[#_^~]", bare)
    rows = [line for line in source.splitlines() if line.rstrip().endswith(r"\\") and r"\multicolumn" not in line]
    assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert "\\\\\n[" not in source and "\\\\\n*" not in source


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_keeps_its_structure_around_hostile_text(text: str) -> None:
    check_latex(render(table_of(text), "latex"))


_QUIET = ["-interaction=nonstopmode", "-halt-on-error"]
ENGINES = {"pdflatex": [*_QUIET, "-draftmode"], "xelatex": [*_QUIET, "-no-pdf"], "tectonic": []}
ENGINE = next(filter(shutil.which, ENGINES), None)


@pytest.mark.slow
@pytest.mark.skipif(ENGINE is None, reason="no TeX engine is on PATH; the structure is checked instead")
def test_latex_compiles_by_input_and_alone(tmp_path: Path) -> None:
    assert ENGINE is not None
    names = [f"table{at}.tex" for at in range(len(HOSTILE))]
    for name, text in zip(names, HOSTILE, strict=True):
        (tmp_path / name).write_text(render(table_of(text), "latex"))
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\extrafloats{100}\n\\begin{document}\n"
    body = "".join(f"\\input{{{name}}}\n" for name in names)
    (tmp_path / "paper.tex").write_text(f"{head}{body}The last line.\\end{{document}}\n")
    for name in ("paper.tex", names[0], names[3]):
        command = [ENGINE, *ENGINES[ENGINE], name]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout[-2000:]


def test_latex_has_rules_a_caption_with_the_protocol_and_marks() -> None:
    columns = (Column("method", "method"), Column("map", "mAP@5", "%", "scenes/val"), Column("id", "id", aside=True))
    rows = (
        ("pli", Number(17.36, 15.64, 19.14, mark="best", sign="*"), "row-1"),
        ("image-text", Number(-0.96, signed=True, mark="second", sd=0.25), ""),
    )
    foot = (("at most", Number(76.5), None),)
    table = Table("scenes/val@1 (9bdd7ccd)", columns, rows, "Percent.", ("A note.",), foot, "Gains on scenes/val")
    source = render(table, "latex").splitlines()
    assert source[:3] == ["% scenes/val@1 (9bdd7ccd)", "% Percent.", "% A note."]
    assert source[8:] == [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{Gains on scenes/val.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & \multicolumn{1}{c}{scenes/val} \\",
        r"\cmidrule(lr){2-2}",
        r"method & mAP@5 (\%) \\",
        r"\midrule",
        r"pli & \textbf{17.36}\textsuperscript{{*}}\hphantom{ {\scriptsize$\pm$ 0.25}} [15.64, 19.14] \\ % id: row-1",
        r"image-text & \underline{$-$0.96}\hphantom{\textsuperscript{{*}}} {\scriptsize$\pm$ 0.25} \\",
        r"\midrule",
        r"at most & 76.50\hphantom{\textsuperscript{{*}}}\hphantom{ {\scriptsize$\pm$ 0.25}} \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
        r"\csname cirbenchend\endcsname",
    ]


@pytest.mark.slow
@pytest.mark.skipif(ENGINE is None, reason="no TeX engine is on PATH")
def test_a_table_of_many_columns_is_no_wider_than_the_page(tmp_path: Path) -> None:
    columns = (
        Column("name", "name"),
        *(Column(f"c{at}", f"number {at}", group=f"group {at // 4}") for at in range(24)),
    )
    row: Row = ("a method of ours", *[Number(12.34, sd=0.56, sign="ᵃᵇ")] * 24)
    source = render(Table("wide", columns, (row,)), "latex")
    assert r"\begin{table*}" in source and r"\usepackage{booktabs,graphicx}" in source
    (tmp_path / "table.tex").write_text(source)
    assert ENGINE is not None
    command = [ENGINE, *ENGINES[ENGINE], "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-2000:]


def test_the_highest_of_each_section_is_marked_as_it_is_printed() -> None:
    """Numbers that print alike are alike."""
    columns = (Column("backbone", "backbone"), Column("a", "a"), Column("b", "b"))
    rows = tuple(
        (backbone, Number(a), Number(b))
        for backbone, a, b in (("small", 1.001, 5), ("small", 1.002, 7), ("small", 0.5, 6), ("large", 9, 1))
    )
    table = Table("", columns, rows, sections="backbone").with_best({"a"})
    marks = [[cell.mark for cell in row if isinstance(cell, Number)] for row in table.rows]
    assert marks == [["best", ""], ["best", ""], ["second", ""], ["", ""]]


@pytest.mark.parametrize(
    ("form", "best", "second"),
    [
        ("md", "**2.00**", "_1.00_"),
        ("html", "<strong>2.00</strong>", "<u>1.00</u>"),
        ("latex", r"\textbf{2.00}", r"\underline{1.00}"),
        ("json", '"mark": "best"', '"mark": "second"'),
    ],
)
def test_best_and_second_best_are_marked(form: str, best: str, second: str) -> None:
    table = Table("", (Column("n", "n"),), ((Number(2, mark="best"),), (Number(1, mark="second"),)))
    shown = render(table, form)
    assert best in shown and second in shown


def test_nothing_is_minus_nothing() -> None:
    assert [Number(-0.001).text, Number(-0.001, signed=True).text, Number(0.5, digits=0).text] == ["0.00", "+0.00", "0"]


def test_an_unknown_form_names_the_known_ones() -> None:
    with pytest.raises(UnknownName, match="There is no table format called 'markdwn'"):
        render(Table("", (), ()), "markdwn")


def test_a_table_that_cannot_be_drawn_is_refused_when_it_is_built() -> None:
    column = Column("a", "a")
    for broken in (
        lambda: Table("", (column, column), ()),
        lambda: Table("", (column,), (("x", "y"),)),
        lambda: Number(float("nan")),
        lambda: Number(1, low=0),
        lambda: Number(1, 0, float("inf")),
    ):
        with pytest.raises(ValueError):
            broken()

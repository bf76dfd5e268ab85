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
from cirbench.support.console import show
from cirbench.support.tables import FORMATS, Column, Mark, Number, Table, render
from cirbench.support.tables.terminal import to_rich
from tests.support.tables.parsers import PARSERS, html_cells, of_model

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
    note = draw(st.sampled_from(["", "*", "p=0.0364", "a & b"]))
    digits, signed = draw(st.integers(0, 4)), draw(st.booleans())
    return Number(draw(FINITE), low, high, digits=digits, signed=signed, mark=mark, note=note)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A table with a column of texts, and columns of numbers with gaps."""
    width = draw(st.integers(1, 3))
    columns = (Column("name", draw(TEXTS)), *(Column(f"c{at}", draw(TEXTS), draw(TEXTS)) for at in range(width)))
    rows = st.lists(st.tuples(TEXTS, *(st.one_of(st.none(), numbers()) for _ in range(width))), min_size=1, max_size=4)
    return Table(
        draw(TEXTS), columns, tuple(draw(rows)), draw(TEXTS), (draw(TEXTS),), foot=tuple(draw(st.just([]) | rows))
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
    row = (text, Number(1, note=text))
    return Table(text, (Column("name", text), Column("n", text, text)), (row,), text, (text,), (row,))


@pytest.mark.parametrize("text", HOSTILE)
def test_html_shows_hostile_text_and_makes_no_element_of_it(text: str) -> None:
    parsed = html_cells(render(table_of(text), "html"))
    assert set(parsed.tags) == {
        *("figure", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "span", "figcaption", "p")
    }
    assert parsed.rows[1][0] in parsed.texts


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
    console.print(to_rich(table_of(text)))
    plain = console.export_text(clear=False)
    assert "\x1b" not in plain and "\u202e" not in plain
    if text.startswith("[red]"):
        assert text in plain


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_keeps_its_cells_and_makes_no_tag_link_or_code(text: str) -> None:
    shown = render(table_of(text), "md")
    assert "<" not in shown and ">" not in shown
    rows = [line for line in shown.splitlines() if line.startswith("| ")]
    assert len(rows) == 4 and all(line.count("|") == 3 for line in rows)
    for at, sign in enumerate(shown):
        assert sign not in "`[" or shown[at - 1] == "\\"


LATEX_COMMANDS = {
    *("usepackage", "begin", "end", "centering", "caption", "toprule", "midrule", "bottomrule", "par", "smallskip"),
    *("footnotesize", "textsuperscript", "textbf", "underline", "textbackslash", "textasciitilde", "textasciicircum"),
    *("textless", "textgreater", "textbar", "textperiodcentered", "textdagger", "textendash", "textemdash"),
}


def check_latex(source: str) -> None:
    """Balanced, with known commands only, and equally many cells in each row."""
    commands = set(re.findall(r"\\([A-Za-z]+)", source))
    assert commands <= LATEX_COMMANDS, commands - LATEX_COMMANDS
    bare = re.sub(r"\\[{}$&#_%\\`]", "", source)
    assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0
    assert not re.search(r"[#_^~]", bare) and "%" not in bare[1:]
    widths = {len(re.findall(r"(?<!\\)&", line)) for line in source.splitlines() if line.endswith(r" \\")}
    assert len(widths) == 1
    assert "\\\\\n[" not in source and "\\\\\n*" not in source


@pytest.mark.parametrize("text", HOSTILE)
def test_latex_keeps_its_structure_around_hostile_text(text: str) -> None:
    check_latex(render(table_of(text), "latex"))


_QUIET = ["-interaction=nonstopmode", "-halt-on-error"]
ENGINES = {"pdflatex": [*_QUIET, "-draftmode"], "xelatex": [*_QUIET, "-no-pdf"], "tectonic": []}
ENGINE = next(filter(shutil.which, ENGINES), None)


@pytest.mark.skipif(ENGINE is None, reason="no TeX engine is on PATH; the structure is checked instead")
def test_latex_compiles(tmp_path: Path) -> None:
    assert ENGINE is not None
    body = "\n".join(render(table_of(text), "latex") for text in HOSTILE)
    head = "\\documentclass{article}\n\\usepackage{booktabs}\n\\extrafloats{100}\n\\begin{document}\n"
    (tmp_path / "table.tex").write_text(f"{head}{body}\\end{{document}}\n")
    command = [ENGINE, *ENGINES[ENGINE], "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(("columns", "widest"), [(120, 120), (80, 80), (30, 100)])
def test_a_narrow_terminal_cuts_off_no_number(
    columns: int, widest: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heads = ("run", "rank", "mAP@5", "against image-text", "p (Holm)", "wins", "ties", "losses")
    number, difference = Number(12.34, 11.11, 13.57), Number(-12.4, -13.95, -10.9, signed=True)
    row = ("lincir data=coco_captions.txt", "10-11", number, difference, "0.0006", "49", "576", "375")
    monkeypatch.setattr("cirbench.support.console.WIDTH", columns)
    show(to_rich(Table("title", tuple(Column(head, head) for head in heads), (row,), "A caption. " * 20)))
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= widest
    assert {"375", "13.95,"} <= set(re.findall(r"[\d.]+,?", printed))
    assert "…" not in printed
    assert " ".join(printed.split()).count("A caption.") == 20


def test_latex_has_rules_a_caption_with_the_protocol_and_marks() -> None:
    columns = (Column("method", "method"), Column("map", "mAP@5", "%"))
    rows = (
        ("pli", Number(17.36, 15.64, 19.14, mark="best", note="*")),
        ("image-text", Number(-0.96, -1.2, 0.1, signed=True, mark="second")),
    )
    source = render(
        Table("scenes/val@1", columns, rows, "Percent.", ("A note.",), (("at most", Number(76.5)),)), "latex"
    )
    assert source.splitlines() == [
        r"% \usepackage{booktabs}",
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{scenes/val@1. Percent.}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"method & mAP@5 (\%) \\",
        r"\midrule",
        r"pli & \textbf{17.36} [15.64, 19.14]\textsuperscript{{*}} \\",
        r"image-text & \underline{$-$0.96} [$-$1.20, +0.10] \\",
        r"\midrule",
        r"at most & 76.50 \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\par\smallskip{\footnotesize A note.}",
        r"\end{table}",
    ]


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

"""Text that somebody else wrote is read by one set of rules, and what breaks them is told with its line."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import QUOTED, CorruptFile, MissingData, excerpt, quoted, some
from cirbench.support.files import spelled
from cirbench.support.textfiles import csv_rows, decode_text, numbered_lines, read_text

if TYPE_CHECKING:
    from pathlib import Path

cells = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\0"), max_size=8)


def rows(text: str) -> list[tuple[int, dict[str, str]]]:
    return list(csv_rows("pairs.csv", text, lambda place, names: None))


@given(st.lists(st.tuples(cells, cells), max_size=6))
def test_csv_is_read_as_it_was_written_and_each_row_names_its_first_line(table: list[tuple[str, str]]) -> None:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows([("a", "b"), *table])
    found = rows(file.getvalue())
    assert [tuple(row.values()) for _, row in found] == table
    lines = [2]
    for row in table:
        lines.append(lines[-1] + 1 + sum(cell.count("\n") for cell in row))
    assert [number for number, _ in found] == lines[:-1]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('a,b\n1,"x\n2,y\n3,z\n', 2, "a double quote opens here"),
        ('a,b\n1,x\n2,"y\n3,"z"\n', 3, "a double quote opens here"),
        ('a,b\n"1\n1",x\n2,"y""\n3,z\n', 4, "a double quote opens here"),
        ('a,b\n"1\n1","y\n3,z\n', 3, "a double quote opens here"),
        ('a,b\n1,"x" y\n', 2, "',' expected after"),
        ("a,b\n1,x\n2,y, z\n", 3, "it has 3 cells, and the header has 2"),
        ('a,b\n"1\n1",x\n2\n', 4, "it has 1 cells, and the header has 2"),
        ("a,a\n1,2\n", 1, "the column 'a' occurs twice"),
        ("image;caption\na.png;red\n", 1, "its columns are separated by semicolons, not by commas"),
        ("image\tcaption\na.png\tred\n", 1, "its columns are separated by tabs, not by commas"),
    ],
)
def test_a_fault_is_told_with_the_line_in_which_it_begins(text: str, line: int, told: str) -> None:
    with pytest.raises(CorruptFile) as raised:
        rows(text)
    assert raised.value.message.startswith(f"pairs.csv, line {line}: {told}")


def test_a_cell_beyond_the_limit_is_named_with_the_limit() -> None:
    with pytest.raises(CorruptFile) as raised:
        rows("a,b\n1,2\n3," + "x" * 200_000 + "\n")
    assert raised.value.message == "pairs.csv, line 3: a cell holds more than 131,072 characters."
    assert "a double quote opens there" in (raised.value.hint or "")


def test_lines_end_at_line_feeds_and_nothing_else() -> None:
    odd = "a\u2028b\x0cc\x0bd\x85e\x1cf"
    assert list(numbered_lines(f"{odd}\r\n\n two\n")) == [(1, odd), (3, " two")]
    assert [row for _, row in rows(f"a,b\n{odd},2\n")] == [{"a": odd, "b": "2"}]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a\nf\xfcr\n".encode("latin-1"), "x, line 2: it is not UTF-8: byte 0xfc, as Latin-1 or Windows-1252 have it"),
        ("a\nb".encode("utf-16"), "x is not UTF-8 but looks like UTF-16"),
        ("a\nb".encode("utf-16-le"), "x is not UTF-8 but looks like UTF-16"),
        ("a\nb".encode("utf-16-be"), "x is not UTF-8 but looks like UTF-16"),
        (b"a\rb\r", "x ends its lines by carriage returns alone"),
        (gzip.compress(b"image,caption\n", mtime=0), "x is compressed by gzip"),
        (b"PK\x03\x04" + bytes(200), "x is a zip archive, as spreadsheets (.xlsx) are too"),
        (b"PAR1\x15\x04\x15", "x is a Parquet file"),
        (pickle.dumps([{"image": "a.png"}], protocol=4), "x is a pickle"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "x is a PNG image"),
        (b"\n <!DOCTYPE HTML><p>", "x is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "x is a pointer of git-lfs"),
    ],
)
def test_what_is_not_utf_8_text_is_told_by_what_it_is(content: bytes, told: str) -> None:
    with pytest.raises(CorruptFile) as raised:
        decode_text(content, "x")
    assert raised.value.message.startswith(told)
    assert raised.value.hint is not None


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\ufeffa", encoding="utf-8")
    assert read_text(tmp_path / "a.txt") == "a"
    with pytest.raises(MissingData, match=r"gone\.txt does not exist"):
        read_text(tmp_path / "gone.txt")


@given(st.text() | st.lists(st.text()) | st.binary(), st.integers(1, 3000))
def test_a_message_never_shows_more_than_a_line_of_what_somebody_wrote(value: object, times: int) -> None:
    long = value * times if isinstance(value, str | bytes) else value
    for shown in (excerpt(long), quoted(long)):
        assert len(shown) <= QUOTED
        assert shown.isprintable()


def test_names_are_shown_until_the_line_is_full_and_the_others_counted() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([1, 2, 3, 4], 2) == "1, 2 and 2 more"
    assert len(some(["x" * 90] * 7)) < QUOTED + 20
    assert some(["x" * 90] * 7).endswith(" and 5 more")


def test_a_name_is_found_however_the_disk_composes_its_letters(tmp_path: Path) -> None:
    composed, decomposed = "caf\xe9", "cafe\u0301"
    for folder, file in ((composed, decomposed), (decomposed + "2", composed)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{file}.png").touch()
    for name in (f"{composed}/{composed}.png", f"{composed}2/{decomposed}.png"):
        assert spelled(tmp_path, name).is_file()
    assert spelled(tmp_path, f"{composed}/{'x' * 5000}").name == "x" * 5000
    assert spelled(tmp_path, f"{composed}/none.png") == tmp_path / composed / "none.png"

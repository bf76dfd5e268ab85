"""Text that somebody else wrote, read strictly: UTF-8 or refused, lines by line feeds, rows that name their line.

Every list, table and id file goes through here, so that one fault has one message. Pointers of git-lfs and web pages in
place of a file are recognised.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from cirbench.errors import CorruptFile, MissingData, excerpt, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_BINARY = {
    b"\x1f\x8b": "compressed by gzip",
    b"PK\x03\x04": "a zip archive, as spreadsheets (.xlsx) are too",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\xfd7zXZ\x00": "compressed by xz",
    b"BZh91AY&SY": "compressed by bzip2",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
    b"PAR1\x15": "a Parquet file",
    b"SQLite format 3\x00": "an SQLite data base",
    b"\xd0\xcf\x11\xe0": "an old Office file, as spreadsheets (.xls) are",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"%PDF-": "a PDF file",
    b"\x80\x04\x95": "a pickle",
}
"""How files begin that are not text, and what they are."""
_WEB_PAGE = (b"<!doctype html", b"<html")
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
HEAD = 512
"""Bytes by which a placeholder is recognised."""


def nfc(text: str) -> str:
    """Return text in Unicode's composed form (NFC), in which names are compared."""
    return unicodedata.normalize("NFC", text)


def placeholder(head: bytes) -> tuple[str, str] | None:
    """Recognise by its first `HEAD` bytes what is not the file itself: what it is, and what helps; else ``None``."""
    if head.startswith(_LFS_POINTER):
        return "a pointer of git-lfs, not the file itself", "Fetch the file: type `git lfs pull` where it was cloned."
    if head.removeprefix(codecs.BOM_UTF8).lstrip().lower().startswith(_WEB_PAGE):
        return "a web page, as servers send in place of a file", "Open its address in a browser to see why."
    return None


def refuse_placeholder(path: Path, kind: str) -> None:
    """Refuse a file that is only a placeholder; one that cannot be read is left to its reader.

    Raises:
        CorruptFile: It is a pointer of git-lfs or a web page; ``kind`` is what the message calls the file.
    """
    try:
        with path.open("rb") as file:
            found = placeholder(file.read(HEAD))
    except OSError:
        return
    if found is not None:
        raise CorruptFile(f"The {kind} {path} is {found[0]}.", hint=found[1])


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        MissingData: It cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise MissingData(f"The file {path} does not exist.") from None
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, a byte order mark aside.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not such text; the message names the line, and the encoding where it shows itself.
    """
    return decode_text(read_bytes(path), str(path))


def decode_text(content: bytes, source: str) -> str:
    """Decode the bytes of a text file of lines; see `read_text`."""
    text = decode_utf8(content, source)
    if "\r" in text and "\n" not in text:
        raise CorruptFile(
            f"{source} ends its lines by carriage returns alone.", hint="Save the file with line feeds (LF or CRLF)."
        )
    return text


def decode_utf8(content: bytes, source: str) -> str:
    """Decode bytes that are UTF-8, a byte order mark aside.

    Raises:
        CorruptFile: They are not; the message names the line, and the encoding where it shows itself.
    """
    if (found := placeholder(content[:HEAD])) is not None:
        raise CorruptFile(f"{source} is {found[0]}.", hint=found[1])
    for start, what in _BINARY.items():
        if content.startswith(start):
            raise CorruptFile(f"{source} is {what}, not text.", hint="Unpack or export it as text in UTF-8.")
    head = content[:HEAD]
    if content.startswith(_UTF_16) or head.count(0) * 4 > len(head):
        raise CorruptFile(f"{source} is not UTF-8 but looks like UTF-16.", hint=_ENCODING)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        byte = content[error.start]
        raise refused(
            f"{source}, line {line}",
            f"it is not UTF-8: byte 0x{byte:02x}, as Latin-1 or Windows-1252 have it",
            _ENCODING,
        ) from error


SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_ENCODING = "Save the file as UTF-8."


def refused(place: str, problem: str, hint: str | None = None) -> CorruptFile:
    """Say what is wrong at a place of a file."""
    return CorruptFile(f"{place}: {problem}.", hint=hint)


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield number and content of each line that is not blank; lines end at line feeds and nothing else."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, line.removesuffix("\r")


def csv_rows(
    source: str, text: str, check_header: Callable[[str, Sequence[str]], None], separator: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a CSV file by the names of its columns, each with the number of its first line.

    Args:
        source: What messages call the file.
        text: Its content.
        check_header: Refuses names of columns; it gets the place for its message, and the names.
        separator: What parts the cells of a row.

    Raises:
        CorruptFile: Quotes or cells are out of order; the message names the line.
    """
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=separator)
    header: list[str] | None = None
    while True:
        first = reader.line_num + 1
        place = f"{source}, line {first}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _out_of_order(source, text, first, reader.line_num, error) from error
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            for other, plural in SEPARATORS.items():
                if len(header) == 1 and other in header[0] and other != separator:
                    expected = SEPARATORS[separator]
                    raise refused(
                        place,
                        f"its columns are separated by {plural}, not by {expected}",
                        "A file that is called .tsv has tabs." if other == "\t" else f"Save it with {expected}.",
                    )
            for name in header:
                if header.count(name) > 1:
                    raise refused(place, f"the column {quoted(name)} occurs twice")
            check_header(place, header)
            continue
        if len(cells) != len(header):
            hint = "Put a text that holds a comma between double quotes."
            raise refused(place, f"it has {len(cells)} cells, and the header has {len(header)}", hint)
        yield first, dict(zip(header, cells, strict=True))


def _out_of_order(source: str, text: str, first: int, last: int, error: csv.Error) -> CorruptFile:
    """Say what is wrong with a row that begins and ends in these lines, or where the quote opens that swallows them."""
    why = str(error)
    if "field limit" in why:
        hint = "Shorten it; or a double quote opens there that is not closed."
        return refused(f"{source}, line {first}", f"a cell holds more than {csv.field_size_limit():,} characters", hint)
    opened = _open_quote(text.split("\n")[first - 1 : last], first)
    if opened < last or "unexpected end of data" in why:
        why = f"a double quote opens here, and at line {last} it is not closed as it should be ({why})"
    hint = 'Within a quoted text, write a double quote twice: "a ""red"" shoe".'
    return refused(f"{source}, line {opened}", why, hint)


def _open_quote(lines: Sequence[str], number: int) -> int:
    """The line, counted from ``number``, in which the last quoted cell of these lines begins."""
    opened, within = number, False
    for line in lines:
        closed, begins = False, not within
        for sign in line:
            if within:
                within = sign != '"'
                closed = not within
            elif sign == '"' and (closed or begins):  # one that is written twice goes on with the cell
                within, opened = True, opened if closed else number
            else:
                closed = False
            begins = not within and sign == ","
        number += 1
    return opened


def json_rows(source: str, text: str, form: type[S], hint: str | None = None) -> Iterator[tuple[int, S]]:
    """Yield the number and the content of each line of a JSON lines file.

    Raises:
        CorruptFile: A line does not have the form, or a field twice; the message names it.
    """
    decoder = msgspec.json.Decoder(form)
    for number, line in numbered_lines(text):
        place = f"{source}, line {number}"
        row = _decoded(place, line, decoder, hint)
        _refuse_repeated_keys(place, line, form.__struct_fields__)
        yield number, row


def json_object(place: str, text: str, hint: str | None = None) -> dict[str, Any]:
    """Decode one object.

    Raises:
        CorruptFile: It is none, or has a field twice; the message names its place.
    """
    found = _decoded(place, text, _OBJECT, hint)
    _refuse_repeated_keys(place, text, found)
    return found


_OBJECT = msgspec.json.Decoder(dict[str, Any])


def _decoded(place: str, text: str, decoder: msgspec.json.Decoder[T], hint: str | None) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise refused(place, excerpt(error), hint) from error


def _refuse_repeated_keys(place: str, line: str, names: Iterable[str]) -> None:
    """Refuse a field that occurs twice; a decoder would take the last one."""
    if all(line.count(f'"{name}"') <= 1 for name in names):  # else perhaps within a text
        return

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        content = dict(pairs)
        if len(content) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise refused(place, f"the field {quoted(twice)} occurs twice")
        return content

    json.loads(line, object_pairs_hook=unique)

"""Features and ids that were made elsewhere: found in the files that people have, opened in place, checked by form.

Rows stay in their file: arrays of NumPy, safetensors and torch are mapped into memory and read block by block, so that
a gallery is never held twice. Nothing in a file is ever executed. Torch is imported for torch's own files alone, and
after everything that can be checked without them.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import re
import warnings
import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from cirbench.errors import InvalidPredictions, MissingData, UnknownName, excerpt, quoted, some
from cirbench.runs.predictions.lists import decoded, parse_json, read_content
from cirbench.runs.predictions.tables import read_table
from cirbench.support.arrays import DAMAGE, array_headers
from cirbench.support.textfiles import numbered_lines, refuse_placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cirbench.protocol import Query
    from cirbench.ranking.scores import RowSource


FORMS = ".npy, .npz, .safetensors or .pt"
_NUMPY, _ZIP, _PICKLE = b"\x93NUMPY", b"PK\x03\x04", b"\x80"
_TORCH = (".pt", ".pth", ".bin", ".ckpt")
_SAFETENSORS = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}
_IDS = re.compile(r"id|name|key")
_LONGEST_HEADER = 100 << 20  # of a safetensors file, as its format fixes it


@dataclasses.dataclass(frozen=True, eq=False)
class StoredRows:
    """What a file of features holds.

    Attributes:
        rows_ND: Of float16, bfloat16, float32 or float64; bfloat16 is given out as float32.
        ids: The ids beside them in the same file, or ``None``.
        half: Whether the rows are stored as float16.
        notes: How the file was understood, where it could be done in several ways.
    """

    rows_ND: RowSource
    ids: tuple[str, ...] | None = None
    half: bool = False
    notes: tuple[str, ...] = ()


class Features:
    """One side's features and their ids, in files or in memory; a file is opened when it is needed, that of ids first.

    Args:
        rows: An array (N, D), or a file of one; ``FILE:NAME`` for one array of several in a file; or a pattern as
            ``"gallery-*.npy"``, whose files are put one after the other.
        ids: The id of each row, or a file with them; see `read_ids`. ``None`` where the file of the rows holds them.
        rows_name: What messages call an array.
        ids_name: What messages call ids that are not in a file.
    """

    def __init__(
        self,
        rows: str | Path | ArrayLike,
        ids: Path | Iterable[str | int] | None = None,
        rows_name: str = "",
        ids_name: str = "",
    ) -> None:
        self._rows = rows
        self._ids = ids if ids is None or isinstance(ids, Path) else [*ids]  # read once, also from a generator
        in_file = isinstance(rows, str | Path)
        self.rows_source = str(rows) if in_file else rows_name
        self.ids_source = self.rows_source if ids is None else str(ids) if isinstance(ids, Path) else ids_name

    @cached_property
    def stored(self) -> StoredRows:
        """The rows, opened.

        Raises:
            MissingData: A file is not there, cannot be read, or needs torch, which is not installed.
            InvalidPredictions: It does not hold rows of floating-point numbers.
        """
        return open_rows(self._rows) if isinstance(self._rows, str | Path) else rows_of(self.rows_source, self._rows)

    def ids(self, queries: Sequence[Query] = ()) -> tuple[str, ...]:
        """The id of each row.

        Args:
            queries: Those of the protocol, for annotation files that name queries by their captions (`read_ids`).

        Raises:
            MissingData: A file is not there or cannot be read.
            InvalidPredictions: There are no ids, or they are in no known form.
        """
        if isinstance(self._ids, Path):
            return read_ids(self._ids, queries)
        if self._ids is not None:
            return _ids_of(self.ids_source, self._ids)
        if self.stored.ids is None:
            raise InvalidPredictions(
                f"{self.rows_source} does not say what its rows are.",
                hint="Give the ids of the rows: --query-ids FILE and --gallery-ids FILE (docs/predictions.md).",
            )
        return _distinct(self.ids_source, self.stored.ids)

    @property
    def parts(self) -> list[Part]:
        """What it consists of: the rows and, unless these bring them, the ids."""
        if isinstance(self._rows, str | Path):
            paths, array = _files(self._rows)
            found = [Part("rows", path, array or "") for path in paths]
        else:
            found = [Part("rows", None)]
        if self._ids is not None:
            found.append(Part("ids", self._ids if isinstance(self._ids, Path) else None))
        return found


class Part(NamedTuple):
    """A part of one side's features.

    Attributes:
        kind: Rows or ids.
        path: Its file; ``None`` for what is in memory.
        array: Which array of the file, where one is named.
    """

    kind: Literal["rows", "ids"]
    path: Path | None
    array: str = ""


def open_rows(name: str | Path) -> StoredRows:
    """Open the rows of a file, of one array in it, or of all files of a pattern; see `Features`.

    Raises:
        MissingData: A file is not there, cannot be read, or needs torch, which is not installed.
        InvalidPredictions: It does not hold rows of float16, bfloat16, float32 or float64, or several such arrays.
        UnknownName: It has no array of that name.
    """
    paths, array = _files(name)
    parts = [_open(path, array) for path in paths]
    if len(parts) == 1:
        return parts[0]
    widths = {part.rows_ND.shape[1] for part in parts}
    if len(widths) > 1:
        raise InvalidPredictions(f"The files {name} have rows of {some(sorted(widths))} columns.", hint=_SAME_WIDTH)
    ids = [part.ids for part in parts if part.ids is not None]
    order = f"{name} is {len(paths)} files, from {paths[0].name} to {paths[-1].name}, one after the other"
    return StoredRows(
        StackedRows([part.rows_ND for part in parts]),
        tuple(name for part in ids for name in part) if len(ids) == len(parts) else None,
        any(part.half for part in parts),
        (order, *(note for part in parts for note in part.notes)),
    )


_SAME_WIDTH = "Queries and gallery need features of the same width, from one model."


def _files(name: str | Path) -> tuple[list[Path], str | None]:
    """The files of a name, in their order, and the array in them."""
    path, text = Path(name), str(name)
    if path.exists():
        return [path], None
    if any(sign in text for sign in "*?["):
        folder = Path(path.anchor or ".")
        found = sorted(folder.glob(str(path.relative_to(path.anchor) if path.anchor else path)), key=_natural)
        if not found:
            raise MissingData(f"No file is called like {text}.", hint="Check the pattern; quote it for the shell.")
        return found, None
    file, _, array = text.rpartition(":")
    return ([Path(file)], array) if file and Path(file).is_file() else ([path], None)


def _natural(path: Path) -> list[tuple[int, str]]:
    """Order names as people number them: shard 2 before shard 10."""
    parts = re.split(r"([0-9]+)", str(path))
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _open(path: Path, array: str | None) -> StoredRows:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MissingData(f"{path} cannot be read: {error.strerror or error}.") from error
    if head.startswith(_ZIP):
        try:
            with zipfile.ZipFile(path) as archive:
                torch = any(name.endswith("data.pkl") for name in archive.namelist())
        except (*DAMAGE, OSError) as error:
            raise _damaged(path, path.suffix or "zip", error) from error
        return _of_torch(path, array) if torch else _of_npz(path, array)
    if head.startswith(_PICKLE):
        if path.suffix.lower() in _TORCH:
            return _of_torch(path, array)
        raise InvalidPredictions(
            f"{path} is a pickle, which can run any code when it is read.",
            hint="Save the array by numpy.save(path, array), and its ids as a list in a JSON file.",
        )
    if path.suffix.lower() == ".safetensors" or (head[8:9] == b"{" and not head.startswith(_NUMPY)):
        return _of_safetensors(path, array)
    if array is not None:
        raise InvalidPredictions(f"{path} holds a single array, and none called {quoted(array)}.")
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        refuse_placeholder(path, "file")
        raise _damaged(path, ".npy", error) from error
    return rows_of(str(path), rows)


def _damaged(path: Path, form: str, error: BaseException) -> InvalidPredictions:
    return InvalidPredictions(
        f"{path} is not a whole {form} file of numbers: {excerpt(error)}.",
        hint=f"Features are taken from {FORMS}; write them with numpy.save(path, array) from a float32 array.",
    )


def rows_of(source: str, rows: ArrayLike) -> StoredRows:
    """Take an array of features; ``source`` is what messages call it.

    Raises:
        InvalidPredictions: It is not one of rows of float16, float32 or float64.
    """
    try:
        array = np.asanyarray(rows)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidPredictions(
            f"{source} is a {type(rows).__name__} that NumPy cannot read: {excerpt(error)}.",
            hint="Give a NumPy array; of a torch tensor, tensor.detach().float().cpu().numpy().",
        ) from error
    if array.dtype.kind != "f" or array.dtype.itemsize not in (2, 4, 8):
        bfloat = array.dtype.kind == "V" and array.dtype.itemsize == 2
        raise InvalidPredictions(
            f"{source} holds {array.dtype}, not float16, float32 or float64.",
            hint="NumPy keeps bfloat16 as bytes without a meaning; save the array as float32." if bfloat else None,
        )
    array, notes = _two_dimensional(source, array)
    return StoredRows(array, half=array.dtype.itemsize == 2, notes=notes)


def _two_dimensional(source: str, array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Return rows as (N, D), from (N, 1, D) as well, as many models give them."""
    notes: tuple[str, ...] = ()
    if array.ndim == 3 and array.shape[1] == 1:
        shape = f"{source} has the shape {array.shape}, and its middle axis is left out"
        array, notes = array.reshape(array.shape[0], array.shape[2]), (shape,)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidPredictions(
            f"{source} has the shape {array.shape}, not (rows, columns).", hint="One row per id, one vector per row."
        )
    return array, notes


@dataclasses.dataclass(frozen=True)
class _Member:
    """An array in a file, before it is read."""

    shape: tuple[int, ...]
    kind: str  # as of NumPy's types: f for floating point, iuSU for what may be ids

    @property
    def rows(self) -> bool:
        return self.kind == "f" and len(self.shape) in (2, 3)

    def may_name(self, rows: _Member) -> bool:
        return self.kind in "iuSU" and self.shape == rows.shape[:1]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.shape))})"


def _chosen(path: Path, members: Mapping[str, _Member], wanted: str | None) -> tuple[str, str | None]:
    """The names of the rows and of the ids beside them."""
    if wanted is not None and wanted not in members:
        raise UnknownName(f"array in {path}", wanted, members)
    found = [wanted] if wanted is not None else [name for name, member in members.items() if member.rows]
    if len(found) != 1:
        inside = some([f"{name} {member}" for name, member in members.items()])
        what = f"{len(found)} arrays that may be features" if found else "no rows of floating-point numbers"
        raise InvalidPredictions(f"{path} holds {what}: {inside}.", hint=f"Name one of its arrays: {path}:NAME")
    (rows,) = found
    called = [name for name in members if _IDS.search(name.lower())]  # not labels, nor positions
    ids = [name for name in called if members[name].may_name(members[rows])]
    if len(ids) > 1 and (near := [name for name in ids if rows.partition("_")[0] in name]):
        ids = near  # query_ids beside query_features
    return rows, ids[0] if len(ids) == 1 else None


def _with_ids(path: Path, rows: str, ids: str | None, stored: StoredRows, names: Any) -> StoredRows:
    """Rows of a named array, with the ids beside them and what was taken for them."""
    if ids is None:
        return stored
    note = f"the ids of {path}:{rows} are those of its array {ids}"
    return dataclasses.replace(stored, ids=_plain_ids(f"{path}:{ids}", names), notes=(*stored.notes, note))


def _of_npz(path: Path, array: str | None) -> StoredRows:
    try:
        headers = array_headers(path)
        members = {name: _Member(shape, dtype.kind) for name, (shape, dtype) in headers.items()}
        rows, ids = _chosen(path, members, array)
        with np.load(path, allow_pickle=False) as archive:
            stored = rows_of(f"{path}:{rows}", archive[rows])
            return _with_ids(path, rows, ids, stored, None if ids is None else archive[ids])
    except (*DAMAGE, OSError) as error:
        raise _damaged(path, ".npz", error) from error


def _of_safetensors(path: Path, array: str | None) -> StoredRows:
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
        header.pop("__metadata__", None)
        kinds = {name: "f" if entry["dtype"] in _SAFETENSORS else "i" for name, entry in header.items()}
        members = {name: _Member(tuple(entry["shape"]), kinds[name]) for name, entry in header.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, ".safetensors", error) from error
    rows, ids = _chosen(path, members, array)

    def mapped(name: str, types: Mapping[str, str]) -> NDArray[Any]:
        entry = header[name]
        if entry["dtype"] not in types:
            raise InvalidPredictions(f"{path}:{name} holds {quoted(entry['dtype'])}, not {', '.join(types)}.")
        try:
            start, stop = entry["data_offsets"]
            dtype, shape = np.dtype(types[entry["dtype"]]), tuple(entry["shape"])
            if stop - start != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
                raise ValueError("its header contradicts itself")
            return np.memmap(path, dtype, mode="r", offset=8 + length + start, shape=shape)
        except (ValueError, KeyError, TypeError, OSError, OverflowError) as error:
            raise _damaged(path, ".safetensors", error) from error

    values = mapped(rows, _SAFETENSORS)
    stored = _bfloat16(f"{path}:{rows}", values) if values.dtype.kind == "u" else rows_of(f"{path}:{rows}", values)
    return _with_ids(path, rows, ids, stored, None if ids is None else mapped(ids, {"I64": "<i8", "I32": "<i4"}))


def _of_torch(path: Path, array: str | None) -> StoredRows:
    """Open a tensor, or one of a dict of tensors, by `torch.load` with ``weights_only``."""
    try:
        import torch
    except ImportError as error:
        raise MissingData(
            f"{path} is a file of torch, and torch cannot be imported: {excerpt(error)}.",
            hint="Save the tensor by numpy.save(path, tensor.float().cpu().numpy()), or install torch.",
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds of tensors that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise InvalidPredictions(
            f"{path} holds other objects than tensors, and reading those can run any code.",
            hint="Save the tensor alone: torch.save(features.cpu(), path).",
        ) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise _damaged(path, "torch", error) from error
    if isinstance(content, torch.Tensor):
        if array is not None:
            raise InvalidPredictions(f"{path} holds a single tensor, and none called {quoted(array)}.")
        return _tensor_rows(str(path), content)
    if not isinstance(content, dict):
        raise InvalidPredictions(
            f"{path} holds a {type(content).__name__}, not a tensor or a dict of tensors.",
            hint="Save the tensor alone: torch.save(features.cpu(), path).",
        )
    members = {str(name): member for name, value in content.items() if (member := _torch_member(value)) is not None}
    rows, ids = _chosen(path, members, array)
    by_name = {str(name): value for name, value in content.items()}
    names = None if ids is None else by_name[ids]
    plain = names.tolist() if isinstance(names, torch.Tensor) else names
    return _with_ids(path, rows, ids, _tensor_rows(f"{path}:{rows}", by_name[rows]), plain)


def _torch_member(value: Any) -> _Member | None:
    if hasattr(value, "is_floating_point"):
        return _Member(tuple(value.shape), "f" if value.is_floating_point() else "i")
    if isinstance(value, list | tuple) and value and all(isinstance(each, str | int) for each in value):
        return _Member((len(value),), "U")
    return None


def _tensor_rows(source: str, tensor: Any) -> StoredRows:
    import torch

    tensor = tensor.detach()
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise InvalidPredictions(f"{source} is a sparse or quantized tensor.", hint="Save tensor.to_dense().float().")
    if tensor.dtype == torch.bfloat16:
        return _bfloat16(source, tensor.view(torch.int16).numpy().view(np.uint16))
    if tensor.dtype not in (torch.float16, torch.float32, torch.float64):
        raise InvalidPredictions(f"{source} holds {tensor.dtype}, not float16, bfloat16, float32 or float64.")
    return rows_of(source, tensor.numpy())


def _bfloat16(source: str, bits: NDArray[np.uint16]) -> StoredRows:
    bits, notes = _two_dimensional(source, bits)
    return StoredRows(BFloat16Rows(bits), notes=notes)


class BFloat16Rows:
    """Rows of bfloat16, which NumPy does not know, given out as float32.

    Args:
        bits_ND: Their bits.
    """

    def __init__(self, bits_ND: NDArray[np.uint16]) -> None:
        self._bits_ND = bits_ND
        self.shape = bits_ND.shape

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the rows of a slice or of an array of positions."""
        return (self._bits_ND[rows].astype(np.uint32) << 16).view(np.float32)


class StackedRows:
    """The rows of several sources of one width, one after the other.

    Args:
        parts: The sources.
    """

    def __init__(self, parts: Sequence[RowSource]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self._starts[-1]), parts[0].shape[1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the rows of a slice (without a step) or of an array of positions."""
        places = np.arange(*rows.indices(self.shape[0])) if isinstance(rows, slice) else rows
        part_of = np.searchsorted(self._starts, places, side="right") - 1
        found: NDArray[np.floating] = np.empty((len(places), self.shape[1]), dtype=np.float32)
        for at in np.unique(part_of).tolist():
            mine = part_of == at
            found[mine] = self._parts[at][places[mine] - self._starts[at]]
        return found


class OrderedRows:
    """The rows of a source in another order.

    Args:
        rows_ND: The source.
        places: The position in it of each row.
    """

    def __init__(self, rows_ND: RowSource, places: NDArray[np.int64]) -> None:
        self._rows_ND = rows_ND
        self._places = places
        self.shape = (len(places), rows_ND.shape[1])

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        """Return the rows of a slice or of an array of positions."""
        return self._rows_ND[self._places[rows]]


_ID_FIELDS = ("query_id", "pairid", "id")
"""Where an object of a benchmark's annotations has its id: one's own queries, CIRR's captions, CIRCO's annotations."""
_CAPTION_FIELDS = ("captions", "caption", "relative_caption", "condition")
_ID_COLUMNS = ("id", "query_id", "pairid", "item_id", "image_id", "query", "item", "image")

_ID_FORMS = (
    "Accepted are lines of ids, a JSON list of ids, an object whose keys are ids (as CIRR's split files), a list of "
    "objects with query_id, pairid or id (as CIRR's captions), COCO's lists of images, tables with a column of ids, "
    "and .npy files of text."
)


def read_ids(path: Path, queries: Sequence[Query] = ()) -> tuple[str, ...]:
    """Read the ids of rows, from any of the forms in which people and benchmarks have them.

    These are: a line each; a JSON list of texts or whole numbers; a JSON object whose keys are the ids, as CIRR's split
    files; a JSON list or JSON lines of objects with ``query_id``, ``pairid`` (CIRR's captions) or ``id`` (CIRCO's
    annotations); COCO's ``{"images": [{"id": ...}]}``; a table (``.csv``, ``.tsv``) with a column of ids; an ``.npy``
    file of text or whole numbers. Annotations without ids, such as those of FashionIQ and GeneCIS, are found among the
    queries of the protocol by their captions.

    Args:
        path: The file.
        queries: Those of the protocol, for annotations without ids.

    Raises:
        MissingData: The file does not exist or cannot be read.
        InvalidPredictions: It is empty, in no such form, or holds an id twice.
    """
    content = read_content(path)
    if content.startswith(_NUMPY):
        return _distinct(str(path), _ids_of_array(path))
    return _distinct(str(path), _ids_of_text(path, decoded(path, content), queries))


def _ids_of(source: str, ids: Iterable[Any]) -> tuple[str, ...]:
    """Take ids that are in memory, texts or whole numbers; ``source`` is what messages call them.

    Raises:
        InvalidPredictions: There are none, one is neither, or one is there twice.
    """
    return _distinct(source, _plain_ids(source, ids))


def _plain_ids(source: str, ids: Iterable[Any]) -> tuple[str, ...]:
    """Take ids as `_ids_of` does, whether or not they differ."""
    plain = (each.item() if isinstance(each, np.generic) else each for each in ids)
    return tuple(str(_id(source, each)) for each in plain)


def _distinct(source: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse ids of which there are none, one is empty, or one is there twice.

    Raises:
        InvalidPredictions: They are; the message names the places.
    """
    if not names:
        raise InvalidPredictions(f"{source} holds no ids.", hint=_ID_FORMS)
    if "" in names:
        raise InvalidPredictions(f"{source}: the id at place {names.index('') + 1} is empty.")
    if len(set(names)) < len(names):
        seen: dict[str, int] = {}
        for place, name in enumerate(names, start=1):
            if name in seen:
                raise InvalidPredictions(f"{source}: the id {quoted(name)} is at places {seen[name]} and {place}.")
            seen[name] = place
    return names


def _ids_of_array(path: Path) -> tuple[str, ...]:
    how = "Write it with numpy.save(path, numpy.array(ids, dtype=str))."
    try:
        array = np.load(path, allow_pickle=False)
    except Exception as error:  # a damaged header makes NumPy raise almost anything
        raise InvalidPredictions(f"{path} is not a whole .npy file of ids: {excerpt(error)}.", hint=how) from error
    if array.ndim != 1 or array.dtype.kind not in "USiu":
        raise InvalidPredictions(f"{path} holds {array.dtype} of shape {array.shape}, not a row of ids.", hint=how)
    try:
        return tuple(str(name.decode() if isinstance(name, bytes) else name) for name in array.tolist())
    except UnicodeDecodeError as error:
        raise InvalidPredictions(f"{path} holds bytes that are not UTF-8.", hint=how) from error


def _ids_of_text(path: Path, text: str, queries: Sequence[Query]) -> tuple[str, ...]:
    if not text.strip():
        raise InvalidPredictions(f"{path} is empty.", hint=_ID_FORMS)
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        lines = [(number, parse_json(f"{path}: line {number}", line)) for number, line in numbered_lines(text)]
        return tuple(str(_id(f"{path}: line {number}", value)) for number, value in lines)
    if suffix in (".csv", ".tsv"):
        return _ids_of_table(path, text)
    if text.lstrip()[0] not in "[{":
        return tuple(line.strip() for line in text.rstrip().split("\n"))
    content = parse_json(str(path), text)
    if isinstance(content, dict):
        content = content["images"] if isinstance(content.get("images"), list) else [*content]
    if content and all(
        isinstance(value, dict) and not any(field in value for field in _ID_FIELDS) for value in content
    ):
        return _ids_by_captions(path, content, queries)
    return tuple(str(_id(f"{path}", value)) for value in content)


def _ids_of_table(path: Path, text: str) -> tuple[str, ...]:
    table = read_table(str(path), text)
    column = next((name for name in _ID_COLUMNS if name in table.columns), None)
    if column is None and len(table.columns) == 1:
        (column,) = table.columns
    if column is None:
        raise InvalidPredictions(
            f"{path} has no column of ids: {some(table.columns)}.",
            hint=f"Name it {_ID_COLUMNS[0]}, or give a list of ids.",
        )
    return tuple(row[column] for _, row in table.rows)


def _ids_by_captions(path: Path, rows: Sequence[Mapping[str, Any]], queries: Sequence[Query]) -> tuple[str, ...]:
    """Find annotations without ids as a run of queries of the protocol with the same captions in the same order."""
    given = [_captions(row) for row in rows]
    asked = [query.captions for query in queries]
    starts = [at for at in range(len(asked) - len(given) + 1) if asked[at : at + len(given)] == given]
    if None in given or not starts:
        raise InvalidPredictions(
            f"{path}: {quoted(rows[0])} has no {', '.join(_ID_FIELDS[:-1])} or {_ID_FIELDS[-1]}, and the captions of "
            f"its {len(rows)} entries are not those of queries in their order.",
            hint=_ID_FORMS,
        )
    if len(starts) > 1:
        raise InvalidPredictions(f"{path} may be of the queries from {some([queries[at].id for at in starts])} on.")
    return tuple(query.id for query in queries[starts[0] : starts[0] + len(given)])


def _captions(row: Mapping[str, Any]) -> tuple[str, ...] | None:
    found = next((row[field] for field in _CAPTION_FIELDS if field in row), None)
    return (found,) if isinstance(found, str) else tuple(found) if isinstance(found, list) else None


def _id(place: str, value: Any) -> str | int:
    """The id that an entry of a list is, or has."""
    if isinstance(value, dict):
        field = next((name for name in _ID_FIELDS if name in value), None)
        if field is None:
            raise InvalidPredictions(
                f"{place}: {quoted(value)} has no {', '.join(_ID_FIELDS[:-1])} or {_ID_FIELDS[-1]}.", hint=_ID_FORMS
            )
        value = value[field]
    if type(value) not in (str, int):
        raise InvalidPredictions(f"{place}: {quoted(value)} is not a valid id.", hint="Ids are text or whole numbers.")
    return value  # type: ignore[no-any-return]

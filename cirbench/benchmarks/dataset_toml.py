"""``dataset.toml``: what a folder of one's own says beyond its images and its table; optional, like every key in it.

    title = "Chairs, photographed twice"
    licence = "CC BY 4.0"
    citation = "..."
    keep_reference = true                           # the reference stays among the candidates of its own query
    measures = ["Recall@1", "Recall@10 by category"]  # the first is the headline; by: each part, and their mean
    gallery_by = "category"                         # a query ranks gallery/VALUE only, by a column of the table

    [splits.val]                                    # several tables; without any, queries.csv is the split "all"
    queries = "val.csv"
    [splits.test]
    queries = "test.csv"
    gallery = "test-images"
    hidden_labels = true                            # rankings are written, and nothing is measured

A split takes each key of the second kind (`SPLIT_KEYS`) from the top where it does not say it itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from cirbench.errors import CirbenchError, excerpt, quoted
from cirbench.metrics.table import METRICS, Measure
from cirbench.support.textfiles import read_text, refused

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE = "dataset.toml"
ALL = "all"
"""The split of a folder that names none."""


@dataclasses.dataclass(frozen=True, slots=True)
class SplitSettings:
    """One split of a folder.

    Attributes:
        queries: Its table, relative to the folder; ``None`` for the usual names.
        gallery: The folder of its images; ``None`` for the usual names.
        gallery_by: The column that says which folder of the gallery a query ranks; ``None`` for all of it.
        keep_reference: Whether the reference is a candidate of its own query.
        measures: What is reported; ``None`` for what the table allows.
        hidden_labels: Whether targets are kept back, so that there are rankings and no numbers.
    """

    queries: str | None = None
    gallery: str | None = None
    gallery_by: str | None = None
    keep_reference: bool = False
    measures: tuple[Measure, ...] | None = None
    hidden_labels: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FolderSettings:
    """What ``dataset.toml`` says.

    Attributes:
        title: One line; ``None`` for the usual one.
        licence: Of the annotations.
        citation: The paper.
        default_split: The split of runs that name none.
        splits: By name, at least one.
    """

    title: str | None = None
    licence: str = "your own"
    citation: str = ""
    default_split: str = ALL
    splits: Mapping[str, SplitSettings] = dataclasses.field(default_factory=lambda: {ALL: SplitSettings()})


SPLIT_KEYS = tuple(field.name for field in dataclasses.fields(SplitSettings))
TOP_KEYS = ("title", "licence", "citation", "default_split", "splits", *SPLIT_KEYS)
_TYPES = {"keep_reference": bool, "hidden_labels": bool, "measures": list, "splits": dict}
_WORDS = {bool: "true or false", list: "a list of texts", dict: "a table of splits", str: "a text in quotes"}


def read_settings(folder: Path) -> FolderSettings:
    """Read ``dataset.toml`` of a folder, or return what holds without one.

    Raises:
        MissingData: It cannot be read.
        CorruptFile: It is not TOML, or a key or value means nothing; the message names it, and near names.
    """
    path = folder / FILE
    if not path.is_file():
        return FolderSettings()
    try:
        content = tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise refused(str(path), f"it is not TOML: {excerpt(error)}") from error
    _check_keys(str(path), content, TOP_KEYS)
    shared = {key: value for key, value in content.items() if key in SPLIT_KEYS}
    tables = content.get("splits", {})
    if tables and "queries" in shared:
        raise refused(str(path), "queries is said at the top and by splits", "Leave it out at the top.")
    splits: dict[str, SplitSettings] = {}
    for name, table in tables.items():
        place = f"{path}, splits.{name}"
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
            raise refused(place, f"{quoted(name)} cannot be the name of a split", "Use a-z, 0-9, - and _.")
        if not isinstance(table, dict):
            raise refused(place, "it is no table", f"Write [splits.{name}] and its keys below.")
        _check_keys(place, table, SPLIT_KEYS)
        splits[name] = _split(place, {**shared, **table})
        if splits[name].queries is None:
            raise refused(place, "it does not say its table of queries", f'For instance: queries = "{name}.csv"')
    splits = splits or {ALL: _split(str(path), shared)}
    default = content.get("default_split", next((each for each in ("val", ALL) if each in splits), next(iter(splits))))
    if default not in splits:
        near = f"Splits are {', '.join(splits)}."
        raise refused(str(path), f"default_split is {quoted(default)}, and there is no such split", near)
    return FolderSettings(
        title=content.get("title"),
        licence=content.get("licence", "your own"),
        citation=content.get("citation", ""),
        default_split=default,
        splits=splits,
    )


def _check_keys(place: str, table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"Nearest: {near[0]}." if near else f"Keys are {', '.join(known)}."
            raise refused(place, f"the key {quoted(key)} means nothing here", hint)
        wanted = _TYPES.get(key, str)
        if not isinstance(value, wanted):
            raise refused(place, f"{key} is {quoted(value)}, and must be {_WORDS[wanted]}")
        if isinstance(value, str) and not value.strip():
            raise refused(place, f"{key} is empty", "Leave it out, or say something.")


def _split(place: str, table: Mapping[str, Any]) -> SplitSettings:
    for key in ("queries", "gallery"):
        path = PurePosixPath(table.get(key, ""))
        if path.is_absolute() or ".." in path.parts:
            raise refused(place, f"{key} is {quoted(table[key])}, which leaves the folder", "Copy it into the folder.")
    measures = None if "measures" not in table else tuple(_measure(place, text) for text in table["measures"])
    if measures == ():
        raise refused(place, "measures is empty", 'For instance: measures = ["Recall@1", "Recall@10"]')
    return SplitSettings(**{**table, "measures": measures})


def _measure(place: str, text: object) -> Measure:
    """Read ``"Recall@10"`` or ``"Recall@10 by category"``."""
    if not isinstance(text, str):
        raise refused(place, f"measures holds {quoted(text)}, and must be {_WORDS[list]}")
    label, _, by = (part.strip() for part in text.partition(" by "))
    name, at, k = label.partition("@")
    try:
        metric = METRICS.find(name) if ":" not in name else None
    except CirbenchError as error:
        raise refused(place, f"measures: {error.message.rstrip('.')}", error.hint) from error
    if at and not (k.isascii() and k.isdecimal()):
        raise refused(place, f"measures: {quoted(text)} has no cut-off", 'For instance: "Recall@10"')
    cutoff = None if metric is None else metric.cutoff(k if at else None)
    if metric is None or cutoff is None:
        raise refused(place, f"measures: {quoted(text)} is no metric at a cut-off", 'For instance: "Recall@10"')
    if metric.unit != "%" or metric.needs == "gains":
        why = "is a median" if metric.unit != "%" else "needs soft labels, which a folder cannot hold"
        raise refused(
            place, f"measures: {name} {why}", f"`--metric {name}` reports it." if metric.unit != "%" else None
        )
    return Measure(name, cutoff, by=by or None, macro=bool(by))

"""What the cache holds: features, checkpoints, answers and shards, how large they are, and which may be removed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cirbench.artefacts import Artefact
from cirbench.backbones.interface import BackboneIdentity
from cirbench.errors import CirbenchError
from cirbench.runs.folder import load_run
from cirbench.support import memo
from cirbench.support.files import lock_of, locked_if_free
from cirbench.training.checkpoint import read_card
from cirbench.training.log import METRICS, About

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Kind = Literal["features", "checkpoint", "answers", "captions", "shards", "memo", "other", "weights"]
REMOVABLE: tuple[Kind, ...] = ("features", "checkpoint", "answers", "captions", "shards", "memo")


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a file, or everything below a folder, takes.

    Attributes:
        files: How many files.
        size: Their bytes; a file with several names counts once.
        changed: When the newest was written, in seconds since 1970; 0 where there is none.
    """

    files: int
    size: int
    changed: float


def usage(path: Path, seen: set[tuple[int, int]]) -> Usage:
    """What ``path`` takes; files that are in ``seen`` take nothing more, and those found are added to it."""
    files, size, changed = 0, 0, 0.0
    for file in (path,) if path.is_file() else _files(path):
        try:
            status = file.stat(follow_symlinks=False)
        except OSError:  # removed meanwhile
            continue
        files += 1
        changed = max(changed, status.st_mtime)
        inode = (status.st_dev, status.st_ino)
        if inode not in seen:
            seen.add(inode)
            size += status.st_size
    return Usage(files, size, changed)


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):  # does not follow links, and leaves out what it may not read
        yield from (Path(place) / name for name in names)


@dataclasses.dataclass(frozen=True, slots=True)
class CacheEntry:
    """One thing that is kept.

    Attributes:
        kind: What it is; ``weights`` belong to other tools, and ``other`` is nothing that cirbench has written.
        title: Which one, for people.
        path: Its file or folder.
        usage: What it takes.
        backbone: The name of the backbone that it belongs to, if it belongs to one.
        key: Sha256 of that backbone, or of the weights of a checkpoint: what a run names.
    """

    kind: Kind
    title: str
    path: Path
    usage: Usage
    backbone: str | None = None
    key: str | None = None

    def is_in_use(self) -> bool:
        """Whether a process holds its lock."""
        if not lock_of(self.path).is_file():
            return False
        with locked_if_free(lock_of(self.path)) as free:
            return not free


def list_cache(root: Path) -> list[CacheEntry]:
    """Everything in a cache folder, the largest of each kind first."""
    seen: set[tuple[int, int]] = set()
    known = {
        "features": _features,
        "checkpoints": _checkpoint,
        "artefacts": _answers,
        "captions": _captions,
        "shards": _shard,
    }
    entries: list[CacheEntry] = []
    for place in _visible(root):
        describe = known.get(place.name)
        if place.name == memo.NAME:
            entries.append(CacheEntry("memo", "digests of files, and results of tests", place, usage(place, seen)))
        elif describe is None or not place.is_dir():
            entries.append(CacheEntry("other", place.name, place, usage(place, seen)))
        else:
            entries += [describe(each, usage(each, seen)) for each in _visible(place)]
    return sorted(entries, key=lambda entry: (entry.kind, -entry.usage.size, entry.title))


def list_weights() -> list[CacheEntry]:
    """The folders where other tools keep weights that they have fetched for cirbench; they are never removed here."""
    from huggingface_hub.constants import HF_HUB_CACHE

    places = {"Hugging Face; hf cache rm removes": Path(HF_HUB_CACHE), "open_clip": Path("~/.cache/clip").expanduser()}
    return [CacheEntry("weights", title, path, usage(path, set())) for title, path in places.items() if path.is_dir()]


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def _features(path: Path, taken: Usage) -> CacheEntry:
    try:
        space: dict[str, Any] = json.loads((path / "space.json").read_text())
        identity = BackboneIdentity(**space["backbone"])
        of = f"{space['tower']} tower" if "tower" in space else str(space["owner"])
        return CacheEntry("features", f"{identity.name}, {of}", path, taken, identity.name, identity.digest)
    except (OSError, ValueError, KeyError, TypeError):
        return CacheEntry("features", "of an unknown backbone", path, taken)


def _checkpoint(path: Path, taken: Usage) -> CacheEntry:
    try:
        card = read_card(path)
    except CirbenchError:
        return CacheEntry("checkpoint", f"{_method(path)}, unfinished", path, taken)
    title = f"{card.method} on {card.backbone.name}, {card.steps:,} steps"
    return CacheEntry("checkpoint", title, path, taken, card.backbone.name, card.weights)


def _method(path: Path) -> str:
    try:
        with (path / METRICS).open("rb") as file:
            return msgspec.json.decode(file.readline(), type=About).method
    except (OSError, ValueError, msgspec.MsgspecError):
        return path.name


def _answers(path: Path, taken: Usage) -> CacheEntry:
    try:
        artefact = Artefact(path)
    except CirbenchError:
        return CacheEntry("answers", f"{path.name}, damaged", path, taken)
    return CacheEntry("answers", f"{artefact.maker.model}, {len(artefact):,} answers", path, taken)


def _captions(path: Path, taken: Usage) -> CacheEntry:
    return CacheEntry("captions", f"captioner {path.name[:12]}", path, taken)


def _shard(path: Path, taken: Usage) -> CacheEntry:
    titles = {".json": "index of a tar file", ".tar": "samples of a table"}
    title = titles.get(path.suffix, "fetched tar files" if path.is_dir() else path.name)
    return CacheEntry("shards", title, path, taken)


def select(
    entries: Iterable[CacheEntry],
    *,
    backbone: str | None = None,
    older_than: float | None = None,
    run: Path | None = None,
    now: float | None = None,
) -> list[CacheEntry]:
    """The entries that may be removed and fit every condition that is given.

    Args:
        entries: Those that there are.
        backbone: The name of their backbone.
        older_than: In seconds: nothing was written since.
        run: A run folder: the features of its backbone, and the checkpoint that it used.
        now: The time to count from; the present if not given.

    Raises:
        CirbenchError: The run cannot be read.
    """
    found = [entry for entry in entries if entry.kind in REMOVABLE]
    if backbone is not None:
        found = [entry for entry in found if entry.backbone == backbone]
    if older_than is not None:
        since = (time.time() if now is None else now) - older_than
        found = [entry for entry in found if entry.usage.changed < since]
    if run is not None:
        result = load_run(run).result
        keys = {result.backbone.digest, result.method.checkpoint}
        found = [entry for entry in found if entry.key is not None and entry.key in keys]
    return found


def remove(entry: CacheEntry) -> bool:
    """Remove an entry unless another process holds its lock; return whether it was removed."""
    with locked_if_free(lock_of(entry.path)) as free:
        if free:
            if entry.path.is_dir():
                shutil.rmtree(entry.path)
            else:
                entry.path.unlink(missing_ok=True)
        return free

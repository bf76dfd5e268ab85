"""What trainings look at: sources of samples by name, and their batches in an order that resumes anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.errors import MissingData, UsageError, quoted
from cirbench.support.console import say_once, silent, typed
from cirbench.support.files import digest
from cirbench.training.data.batches import Batches
from cirbench.training.data.forms import (
    PARQUET,
    TABLES,
    open_folder,
    open_list,
    read_folder,
    say_unused,
)
from cirbench.training.data.listed import LISTS
from cirbench.training.data.named import find_named, named_sources
from cirbench.training.data.shards import open_shards, open_triplet_shards, read_shards
from cirbench.training.data.source import TRIPLETS, Asked, Kind, NamedSource, Pair, Sample, Source, identified
from cirbench.training.data.triplet_tables import TRIPLET_TABLES, lists_triplets, open_triplets

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.support.console import Display

__all__ = ["Batches", "Kind", "NamedSource", "Pair", "Sample", "Source", "named_sources", "open_source"]

_KNOWN = (
    "Give a name (scenes, coco:train2017, cc3m ...; all: cirbench list sources), a .csv, .tsv, .jsonl, .parquet, .lst "
    "or .txt file, a folder of images, or .tar shards."
)


def open_source(
    data: str,
    captions: str | None = None,
    *,
    data_root: Path | None = None,
    kind: Kind | None = None,
    display: Display = silent,
    say: Callable[[str], None] = say_once,
) -> Source:
    """Open what trainings look at.

    | data                                | captions          | samples                                         |
    |-------------------------------------|-------------------|-------------------------------------------------|
    | ``scenes``, ``coco:train2017`` ...  |                   | a source by name; see `named_sources`           |
    | ``pairs.csv``, .tsv, .jsonl, .parquet |                 | rows of ``image`` and ``caption``, or one alone |
    | ``names.lst``                       |                   | images, one path a line                         |
    | ``texts.txt``                       |                   | texts, one a line                               |
    | ``folder/``                         |                   | what lies in it; see `forms.open_folder`        |
    | ``images/``                         | ``captions/``     | ... each image with ``captions/<its name>.txt`` |
    | ``images/``                         | ``pairs.csv`` ... | rows, their paths relative to ``images/``       |
    | ``images/``                         | ``captions.json`` | the pairs of a captions file of COCO            |
    | ``'shards-{000..099}.tar'``         |                   | webdataset shards, on disk or at http(s)://     |
    | a table of triplets                 |                   | see `triplet_tables`                            |

    Paths in a list are relative to the list.

    Args:
        data: What is typed after ``--data``.
        captions: What is typed after ``--captions``.
        data_root: The folder of the data sets, for a source by name; ``CIRBENCH_DATA`` where it is ``None``.
        kind: What a training looks at, so that a source by name needs no more; ``None`` for all there is.
        display: Shows how far the fetching of shards is.
        say: Tells the user what is fetched where to, and what is there and not used.

    Raises:
        UsageError: It is none of these, or holds nothing.
        MissingData: A file, folder or shard does not exist, or is empty.
        CorruptFile: A list or a shard cannot be read; the message has the line.
    """
    name = data if captions is None else f"{data} + {captions}"
    if captions is not None:
        folder = _folder(data, "--captions goes with a folder of images")
        return _captioned(name, folder, Path(captions), kind, display=display, say=say)
    if (found := find_named(data)) is not None:
        try:
            return found[0].open(Asked(data, found[1], data_root, kind, display, say))
        except MissingData as error:
            if not Path(data).is_dir():
                raise
            hint = f"{error.hint}\n{data} is a name; for the folder here, type ./{data}"
            raise type(error)(error.message, hint=hint) from error
    if data.endswith(".tar") and kind in TRIPLETS:
        return open_triplet_shards(name, data, display=display, say=say)
    if data.endswith(".tar"):
        return open_shards(name, data, read_shards(data, display=display, say=say), say)
    path = Path(data)
    if lists_triplets(path) or (kind in TRIPLETS and path.suffix.lower() in TRIPLET_TABLES):
        return open_triplets(name, path, path.parent, say)
    if path.suffix.lower() == ".json":
        raise UsageError(
            f"{data} needs the folder of its images.", hint=f"For instance: --data train2017/ --captions {typed(data)}"
        )
    if path.suffix.lower() in (*LISTS, PARQUET):
        return open_list(name, path, path.parent, kind, display=display, say=say)
    folder = _folder(data, f"{quoted(data)} is not training data")
    return open_folder(name, folder, kind, display=display, say=say)


def _captioned(
    name: str, folder: Path, captions: Path, kind: Kind | None, *, display: Display, say: Callable[[str], None]
) -> Source:
    if lists_triplets(captions) or (kind in TRIPLETS and captions.suffix.lower() in TRIPLET_TABLES):
        return open_triplets(name, captions, folder, say)
    if captions.suffix.lower() in TABLES:
        listed = open_list(name, captions, folder, kind, display=display, say=say)
        if kind != "texts" and (listed.pairs[0].image is None or listed.pairs[0].caption is None):
            raise UsageError(f"{captions} holds no pairs: it needs an image and a caption in each row.")
        return listed
    if not captions.is_dir():
        raise UsageError(
            f"{captions} holds no captions of images.",
            hint=f"Give a folder of .txt, or a {' or '.join(TABLES)} file.",
        )
    samples = read_folder(folder, captions)
    say_unused(samples.unused, say)
    listing = digest([samples.images, samples.texts])
    return identified(name, samples, listing=listing, lacking={"caption": samples.uncaptioned})


def _folder(name: str, refusal: str) -> Path:
    path = Path(name)
    if path.is_dir():
        return path
    if path.suffix or "/" not in name:
        raise UsageError(f"{refusal}.", hint=_KNOWN)
    raise MissingData(f"The folder {path} does not exist.")

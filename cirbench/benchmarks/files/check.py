"""What a benchmark holds: which of its images are present and whole, and what its annotations come to.

Images are read from their bytes once: which are missing, broken or odd, and which queries that touches. JPEGs are
decoded at an eighth of their size: libjpeg then reads every byte of the compressed data all the same, and so meets
every error, and saves most of the arithmetic. Annotations are counted, by the same numbers for every protocol.
"""

from __future__ import annotations

import dataclasses
import io
import os
import statistics
import warnings
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import PIL
from PIL import Image, ImageFile, UnidentifiedImageError

from cirbench.backbones.images import MAX_PIXELS, FileImage, undeclared_range
from cirbench.benchmarks.annotation_files import place_of
from cirbench.benchmarks.files.plan import choose, dataset_files, load, plan, typed_name
from cirbench.benchmarks.images import SMALL_POOL, find_images, image_files, image_folders
from cirbench.errors import CheckFailed
from cirbench.support import memo
from cirbench.support.console import silent, typed
from cirbench.support.textfiles import HEAD, placeholder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cirbench.benchmarks.files.plan import Plan
    from cirbench.benchmarks.interface import Collection
    from cirbench.protocol import EvaluationProtocol, ImageSource
    from cirbench.support.console import Display


State = Literal["whole", "empty", "truncated", "undecodable", "unreadable"]

_MAX_BYTES = 1 << 28
_ORIENTATION = 0x0112


@dataclasses.dataclass(frozen=True, slots=True)
class Inspection:
    """What one image file turned out to be.

    Attributes:
        state: ``"whole"`` if every pixel can be decoded; otherwise what is wrong.
        why: What is wrong, in words.
        size: Bytes.
        crc32: Of the bytes, where they were read. With the size it tells nearly all contents apart, and costs less than
            a cryptographic digest.
        mode: Pillow's name of the pixel format.
        turned: Whether its EXIF data asks to be shown turned or mirrored.
    """

    state: State
    why: str = ""
    size: int = 0
    crc32: int = 0
    mode: str = ""
    turned: bool = False


def inspect(path: Path) -> Inspection:
    """Read and decode one image; report what is wrong instead of raising."""
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            return Inspection("undecodable", f"it has {size} bytes, too many for an image", size)
        content = path.read_bytes()
    except OSError as error:
        return Inspection("unreadable", error.strerror or str(error))
    if not content:
        return Inspection("empty", "it has no bytes")
    crc32 = zlib.crc32(content)
    try:
        with Image.open(io.BytesIO(content)) as image:
            mode, (width, height) = image.mode, image.size
            if width * height > MAX_PIXELS:
                return Inspection("undecodable", f"it has more than {MAX_PIXELS:,} pixels", size, crc32)
            image.draft(None, (1, 1))
            image.load()
            if (why := undeclared_range(image)) is not None:
                return Inspection("undecodable", why, size, crc32)
            return Inspection("whole", "", size, crc32, mode, _is_turned(image))
    except UnidentifiedImageError:
        found = placeholder(content[:HEAD])
        why = "it is not in a known image format" if found is None else f"it is {found[0]}"
        return Inspection("undecodable", why, size, crc32)
    except Exception as error:  # Pillow's decoders raise whatever their format's parser meets
        cut = "truncated" in str(error).lower() or isinstance(error, EOFError)
        return Inspection("truncated" if cut else "undecodable", str(error) or type(error).__name__, size, crc32)


def inspect_once(path: Path) -> Inspection:
    """Return what `inspect` finds, from the memo if the file is the one that it looked at before."""

    def find() -> str:
        found = inspect(path)
        if found.state == "unreadable":
            raise OSError(found.why)
        return msgspec.json.encode(found).decode()

    try:
        return msgspec.json.decode(memo.fact(path, f"inspection 1 by Pillow {PIL.__version__}", find), type=Inspection)
    except OSError:
        return inspect(path)


def _is_turned(image: Image.Image) -> bool:
    try:
        return bool(image.getexif().get(_ORIENTATION, 1) != 1)
    except Exception:  # damaged EXIF data do not touch the pixels
        return False


SUSPICIOUS = 3
"""One content under so many names is taken for a placeholder. Two happen in honest collections."""

Key: TypeAlias = "tuple[Collection | None, str]"
"""A collection and the name of an image in it; of the user's own data, no collection and the path of the file."""


class Broken(msgspec.Struct, frozen=True):
    """An image that is there and cannot be used."""

    id: str
    path: str
    state: State
    why: str


class Touched(msgspec.Struct, frozen=True):
    """What absent and broken images do to one protocol.

    Attributes:
        protocol: Its name.
        queries: How many it has.
        lost_references: Ids of queries whose reference cannot be used.
        lost_targets: Ids of queries that lose a ground truth.
        lost_candidates: Ids of queries that lose a member of their group, or one of at most `SMALL_POOL` candidates of
            their own.
        gallery: How many images it ranks; ``None`` where their list is not available.
        lost_gallery: How many of them cannot be used.
    """

    protocol: str
    queries: int
    lost_references: list[str]
    lost_targets: list[str]
    lost_candidates: list[str]
    gallery: int | None
    lost_gallery: int

    @property
    def lost(self) -> int:
        """Queries that are touched in any way."""
        return len({*self.lost_references, *self.lost_targets, *self.lost_candidates})


class DataCheck(msgspec.Struct, frozen=True):
    """The outcome of checking the images and annotations of a data set.

    Attributes:
        needed: Images that the protocols need.
        whole: Images that can be used.
        bytes: Their size together.
        missing: Names without a file.
        broken: Files that cannot be used.
        duplicates: Names that share one content, `SUSPICIOUS` or more of them.
        pairs: How many contents are shared by fewer names.
        not_rgb: Names by pixel format, of those that are not RGB.
        turned: Names whose EXIF data ask to be shown turned.
        elsewhere: Images in places where runs do not look.
        elsewhere_in: By collection, the folder that holds all of those.
        protocols: What is touched.
        unchecked: Protocols whose annotations are not available, and why.
        complete: Whether every image is there and whole, every gallery known, and no annotation file absent that could
            be fetched.
        next: What to type or do next.
    """

    needed: int
    whole: int
    bytes: int
    missing: list[str]
    broken: list[Broken]
    duplicates: list[list[str]]
    pairs: int
    not_rgb: dict[str, list[str]]
    turned: list[str]
    elsewhere: int
    elsewhere_in: dict[str, str]
    protocols: list[Touched]
    unchecked: dict[str, str]
    complete: bool
    next: list[str]
    schema_version: int = 1


def check(name: str, split: str | None, root: Path, data_root: Path, *, display: Display = silent) -> DataCheck:
    """Find and decode every image that a data set or protocol needs.

    Args:
        name: A data set or a protocol.
        split: Only what this split needs.
        root: Where to look: every folder below, in any layout. The folders that runs use come first.
        data_root: Where annotations are, and where runs look for images.
        display: Shows the progress.

    Raises:
        UnknownName: There is no such data set, protocol or split.
        MissingData: No annotations are available.
        CorruptFile: An annotation file is not what was published.
        CheckFailed: Pillow is configured to fill truncated images with grey.
    """
    protocols, unchecked = load(name, split, data_root)
    report = check_protocols(protocols, root, data_root, display=display)
    planned = plan(name, split, data_root)
    # Files of others' labels are missed by their own protocol, and not by the data set.
    wanted = [file for file in planned.annotations if file.licence is None or len(planned.protocols) == 1]
    absent = [file.path for file in wanted if not file.there]
    complete = report.complete and not absent
    report = msgspec.structs.replace(report, unchecked=unchecked, complete=complete)
    return msgspec.structs.replace(report, next=list(_next_steps(report, planned, bool(absent), root, data_root)))


def check_protocols(
    protocols: Sequence[EvaluationProtocol], root: Path, data_root: Path, *, display: Display = silent
) -> DataCheck:
    """Find and decode every image that some protocols need; see `check`."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise CheckFailed(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated images look like whole ones.",
            hint="Some imported library set it: set it back to False.",
        )
    wanted = _wanted(protocols)
    seen = {(collection, name) for collection in wanted for name, _ in _find(collection, wanted, data_root, ())}
    found = {
        (collection, name): path for collection in wanted for name, path in _find(collection, wanted, root, (root,))
    }
    elsewhere = found.keys() - seen
    inspected = _inspect(found, display)
    usable = {key for key, result in inspected.items() if result.state == "whole"}
    names = [(collection, name) for collection, each in wanted.items() for name in each]
    groups = _same_content(found, inspected)
    not_rgb = defaultdict(list)
    for key, result in inspected.items():
        if result.mode not in ("RGB", ""):
            not_rgb[result.mode].append(key[1])
    touched = [_touched(protocol, usable) for protocol in protocols]
    return DataCheck(
        needed=len(names),
        whole=len(usable),
        bytes=sum(inspected[key].size for key in usable),
        missing=[key[1] for key in names if key not in found],
        broken=[
            Broken(key[1], str(found[key]), result.state, result.why)
            for key, result in inspected.items()
            if key not in usable
        ],
        duplicates=[group for group in groups if len(group) >= SUSPICIOUS],
        pairs=sum(len(group) < SUSPICIOUS for group in groups),
        not_rgb=dict(not_rgb),
        turned=[key[1] for key, result in inspected.items() if result.turned],
        elsewhere=len(elsewhere),
        elsewhere_in={
            str(collection): os.path.commonpath(
                [found[key].parent.absolute() for key in elsewhere if key[0] == collection]
            )
            for collection in sorted({collection for collection, _ in elsewhere}, key=str)
        },
        protocols=touched,
        unchecked={},
        complete=len(usable) == len(names) and all(each.gallery is not None for each in touched),
        next=[],
    )


def _wanted(protocols: Sequence[EvaluationProtocol]) -> dict[Collection | None, dict[str, None]]:
    """Return the names of images by collection, each once."""
    wanted: dict[Collection | None, dict[str, None]] = {}
    for protocol in protocols:
        for files in image_files(protocol):
            wanted.setdefault(files.collection, {}).update(dict.fromkeys(files.names))
        for image in _images(protocol):
            if isinstance(image, FileImage):
                wanted.setdefault(None, {})[str(image.path)] = None
    return wanted


def _images(protocol: EvaluationProtocol) -> Iterator[ImageSource]:
    yield from (query.reference.image for query in protocol.queries)
    if protocol.gallery is not None and protocol.gallery.images is not None:
        yield from protocol.gallery.images


def _find(
    collection: Collection | None,
    wanted: Mapping[Collection | None, Mapping[str, None]],
    root: Path,
    then: tuple[Path, ...],
) -> Iterator[tuple[str, Path]]:
    """Find images in the folders that runs use below ``root``, and then anywhere below ``then``."""
    if collection is None:
        yield from ((name, Path(name)) for name in wanted[collection] if Path(name).exists())
        return
    roots = [*image_folders(collection, root), *then]
    yield from find_images(wanted[collection], roots).items()


def _inspect(found: Mapping[Key, Path], display: Display) -> dict[Key, Inspection]:
    """Inspect every file, each once, on every core that this process may use."""
    paths = list(dict.fromkeys(found.values()))
    results: dict[Path, Inspection] = {}
    # Threads do: Pillow lets go of the interpreter while it decodes.
    with (
        warnings.catch_warnings(action="ignore"),
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
        display("checking images", len(paths)) as advance,
    ):
        for path, result in zip(paths, pool.map(inspect_once, paths), strict=True):
            results[path] = result
            advance(1)
    return {key: results[path] for key, path in found.items()}


def _same_content(found: Mapping[Key, Path], inspected: Mapping[Key, Inspection]) -> list[list[str]]:
    """Return the names that share a content though they have files of their own, in groups, the largest first."""
    alike: dict[tuple[int, int], dict[Path, str]] = defaultdict(dict)
    for key, result in inspected.items():
        if result.size:
            alike[result.size, result.crc32].setdefault(found[key], key[1])
    same: dict[str, list[str]] = defaultdict(list)
    for group in alike.values():
        if len(group) > 1:
            for path, name in group.items():
                same[memo.sha256(path)].append(name)
    return sorted((names for names in same.values() if len(names) > 1), key=len, reverse=True)


def _key(image: ImageSource) -> Key | None:
    """Return which file an image comes from, be it whole or a part of it; ``None`` if it is rendered."""
    if isinstance(image, FileImage):
        return None, str(image.path)
    located: Any = getattr(image, "image", image)
    return (located.files.collection, located.name) if hasattr(located, "files") else None


def _touched(protocol: EvaluationProtocol, usable: set[Key]) -> Touched:
    gallery = protocol.gallery
    lost: set[str] = set()
    if gallery is not None and gallery.images is not None:
        lost = {
            name
            for name, image in zip(gallery.ids, gallery.images, strict=True)
            if (key := _key(image)) is not None and key not in usable
        }
    pools = enumerate(protocol.pools or ())
    lost_pools = {nth for nth, pool in pools if len(pool) <= SMALL_POOL and not lost.isdisjoint(pool)}
    relevant = () if protocol.labels is None else protocol.labels.relevant
    return Touched(
        protocol.name,
        len(protocol.queries),
        [
            query.id
            for query in protocol.queries
            if (key := _key(query.reference.image)) is not None and key not in usable
        ],
        [query.id for query, ids in zip(protocol.queries, relevant, strict=False) if not lost.isdisjoint(ids)],
        [
            query.id
            for place, query in enumerate(protocol.queries)
            if (protocol.pool_of_query is not None and protocol.pool_of_query[place] in lost_pools)
            or (protocol.groups is not None and not lost.isdisjoint(protocol.groups[place]))
        ],
        None if gallery is None else len(gallery),
        len(lost),
    )


def _next_steps(report: DataCheck, planned: Plan, absent: bool, root: Path, data_root: Path) -> Iterator[str]:
    unknown = any(touched.gallery is None for touched in report.protocols)
    name = typed_name(planned.name)
    get = f"cirbench data get {name} --data-root {typed(data_root)}"
    if absent or unknown:
        yield f"{get} --annotations-only"
    if report.missing:
        if any(images.archives for images in planned.images):
            yield get
        for images in planned.images:
            if images.by_hand is not None and images.found != images.count:
                yield f"{images.title}, into {place_of(data_root, images.folder)}: {images.by_hand}"
    collections = {images.collection.name: images.collection for images in dataset_files(planned.name).images}
    for collection, folder in report.elsewhere_in.items():
        link = link_command(Path(folder), collections[collection], data_root)
        yield f"Make the images visible to runs, which look below {data_root}: {link}"
    if report.broken:
        yield f"Replace the broken files, then: cirbench data check {name} --root {typed(root)}"
    if report.duplicates:
        yield "Look at one image of each suspicious group: it may be a placeholder for pictures that are gone."
    if report.complete and not report.elsewhere:
        entry = choose(planned.name)[0]
        if entry.folder is not None:
            yield f"cirbench run --method pli --dataset {name}"
        else:
            chosen = f" --protocol {name}" if planned.name == entry.id else ""
            yield f"cirbench run --method pli --dataset {typed(entry.dataset)}{chosen} --data-root {typed(data_root)}"


def link_command(folder: Path, collection: Collection, data_root: Path) -> str:
    """Write the command that shows a folder of images to runs: a link at the first place they look at that is free."""
    places = [place_of(data_root, path) for path in collection.folders]
    free = [path for path in places if not os.path.lexists(path)] or [places[0] / "linked-images"]
    at = next((path for path in free if path.parent.is_dir()), free[0])
    folder_first = "" if at.parent.is_dir() else f"mkdir -p {typed(at.parent)} && "
    return f"{folder_first}ln -s {typed(folder)} {typed(at)}"


class Spread(msgspec.Struct, frozen=True):
    """Some counts, summed up."""

    total: int
    mean: float
    median: float
    least: int
    most: int


class Part(msgspec.Struct, frozen=True):
    """The queries that carry one label, for instance one category."""

    kind: str
    label: str
    queries: int


class Description(msgspec.Struct, frozen=True):
    """What the annotations of one protocol hold.

    Attributes:
        protocol: Its name.
        queries: Queries.
        references: Distinct reference images.
        gallery: Images that are ranked; ``None`` where their list is not available.
        references_in_gallery: Distinct references that are ranked as well.
        candidates: Images that each query ranks, where queries have candidates of their own.
        ground_truths: Per query; ``None`` where a server keeps them.
        unanswerable: Queries without any ground truth.
        captions: How many captions the queries have.
        words: Words per caption that is not empty.
        empty_captions: Ids of the queries with an empty caption.
        equal_captions: Ids of the queries whose captions are all the same.
        repeated_captions: Captions that occur more than once, and the queries they occur in.
        repeated_queries: Groups of queries with the same reference and the same captions.
        parts: Queries by category and whatever else the protocol reports separately.
    """

    protocol: str
    queries: int
    references: int
    gallery: int | None
    references_in_gallery: int | None
    candidates: Spread | None
    ground_truths: Spread | None
    unanswerable: int
    captions: Spread
    words: Spread | None
    empty_captions: list[str]
    equal_captions: list[str]
    repeated_captions: tuple[int, int]
    repeated_queries: list[list[str]]
    parts: list[Part]


def describe(protocol: EvaluationProtocol) -> Description:
    """Count what the annotations of a protocol hold."""
    queries = protocol.queries
    gallery = protocol.gallery
    references = {query.reference.id for query in queries}
    relevant = None if protocol.labels is None else [len(ids) for ids in protocol.labels.relevant]
    captions = [_plain(caption) for query in queries for caption in query.captions]
    times = Counter(filter(None, captions))
    twins: dict[tuple[str, tuple[str, ...], str | None], list[str]] = {}
    for query in queries:
        twins.setdefault((query.reference.id, query.captions, query.category), []).append(query.id)
    pools = protocol.pools or ()
    return Description(
        protocol=protocol.name,
        queries=len(queries),
        references=len(references),
        gallery=None if gallery is None else len(gallery),
        references_in_gallery=None if gallery is None else sum(name in gallery.positions for name in references),
        candidates=spread([len(pools[nth]) for nth in protocol.pool_of_query or ()]),
        ground_truths=None if relevant is None else spread(relevant),
        unanswerable=0 if relevant is None else relevant.count(0),
        captions=spread([len(query.captions) for query in queries]) or Spread(0, 0, 0, 0, 0),
        words=spread([len(caption.split()) for caption in captions if caption]),
        empty_captions=[query.id for query in queries if not all(map(str.strip, query.captions))],
        equal_captions=[
            query.id for query in queries if len(query.captions) > 1 and len(set(map(_plain, query.captions))) == 1
        ],
        repeated_captions=_repeated(times, protocol),
        repeated_queries=[ids for ids in twins.values() if len(ids) > 1],
        parts=[Part("category", *row) for row in _tally([query.category] for query in queries)]
        + [Part(kind, *row) for kind, rows in protocol.slices.items() if kind != "category" for row in _tally(rows)],
    )


def _plain(caption: str) -> str:
    """Return a caption as it counts for being the same: case and spaces apart."""
    return " ".join(caption.casefold().split())


def spread(counts: Sequence[int]) -> Spread | None:
    """Sum up some counts; ``None`` where there are none."""
    if not counts:
        return None
    return Spread(sum(counts), statistics.fmean(counts), statistics.median(counts), min(counts), max(counts))


def _repeated(times: Counter[str], protocol: EvaluationProtocol) -> tuple[int, int]:
    repeated = {caption for caption, count in times.items() if count > 1}
    carrying = sum(any(_plain(caption) in repeated for caption in query.captions) for query in protocol.queries)
    return len(repeated), carrying


def _tally(rows: Iterable[Sequence[str | None]]) -> list[tuple[str, int]]:
    """Count the queries per label, in the order of first appearance."""
    return list(Counter(label for labels in rows for label in labels if label is not None).items())

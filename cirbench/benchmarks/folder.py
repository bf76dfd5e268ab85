"""Your own data: a folder of images with a table of queries.

    my-data/
      gallery/          what is ranked, in any layout below; may be called images/ instead
      queries.csv       or queries.tsv, queries.jsonl: one query a row
      dataset.toml      optional

`cirbench.benchmarks.folder_format` has the columns and keys. An image's id is its path below the gallery without the
suffix. The table names images by id, by id with the suffix, or by their path below the folder; a reference may be
anywhere in the folder. What is reported follows from what the table holds, see `measures`; `write_example` writes an
example to change (``cirbench new dataset PATH``).
"""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import itertools
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from cirbench.backbones.images import FileImage, image_suffixes, is_image
from cirbench.benchmarks.folder_format import ALL, BAR, FILE, FRACTION, read_settings, read_table
from cirbench.benchmarks.images import files_below
from cirbench.benchmarks.interface import Benchmark, ProtocolEntry
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UnknownName, UsageError, excerpt, quoted, some
from cirbench.metrics.table import METRICS, Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query
from cirbench.support.console import say_once
from cirbench.support.files import digest, spelled, write_bytes, write_text
from cirbench.support.textfiles import nfc, refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cirbench.benchmarks.folder_format import FolderSettings, Row, SplitSettings
    from cirbench.errors import CirbenchError

TABLES = ("queries.csv", "queries.tsv", "queries.jsonl")
"""What the table may be called where ``dataset.toml`` does not name it."""

GALLERIES = ("gallery", "images")
"""What the folder of ranked images may be called; the earlier one wins."""

EXAMPLE = "Type `cirbench new dataset PATH` to get an example to change."


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The images of a folder by the names that a table may use.

    Attributes:
        folder: The folder.
        below_gallery: The name of the gallery in it.
        gallery: Each image that is ranked, by its id.
        ids: The id of each image that is ranked, by its path below the gallery.
        unused: Paths below the gallery of the files that are not images.
    """

    folder: Path
    below_gallery: str
    gallery: Mapping[str, FileImage]
    ids: Mapping[str, str]
    unused: tuple[str, ...]

    @classmethod
    def below(cls, folder: Path, gallery_folder: str | None = None) -> Pictures:
        """List the gallery of a folder; ``gallery_folder`` where it is not called as usual.

        Raises:
            MissingData: There is no gallery, or no image in it.
            CorruptFile: Two images have one id, or an id would hold white space.
            CheckFailed: A link in the gallery leads out of it.
        """
        names = GALLERIES if gallery_folder is None else (gallery_folder,)
        place = next((name for name in names if (folder / name).is_dir()), None)
        if place is None and gallery_folder is not None:
            raise MissingData(f"{folder} holds no folder {gallery_folder}, which {FILE} names.")
        if place is None:
            raise MissingData(f"{folder} holds no folder gallery (or images).", hint=EXAMPLE)
        root = folder / place
        inside = root.resolve()
        gallery: dict[str, FileImage] = {}
        ids: dict[str, str] = {}
        unused: list[str] = []
        for path in sorted(Path(below, name) for below, name in files_below(root)):
            written = nfc(path.relative_to(root).as_posix())
            if not is_image(path):
                unused.append(written)
                continue
            _refuse_outside(path, inside)
            name = without_suffix(written)
            if name.split() != [name]:
                raise CorruptFile(
                    f"The image {path} has white space in its path, and its id must not: TREC files separate by it.",
                    hint="Rename the file, for instance with underscores.",
                )
            if name in gallery:
                raise CorruptFile(
                    f"The images {gallery[name]} and {path} have one id, {excerpt(name)}.",
                    hint="Rename or remove one of them.",
                )
            gallery[name], ids[written] = FileImage(path), name
        if not gallery:
            raise MissingData(f"{root} holds no images.", hint=f"Its files: {some(unused)}." if unused else EXAMPLE)
        return cls(folder, place, gallery, ids, tuple(unused))

    def ranked(self, written: str) -> str | None:
        """Return the id of the gallery image that a table names, or ``None``."""
        for name in (written, written.removeprefix(f"{self.below_gallery}/")):
            if name in self.gallery or name in self.ids:
                return name if name in self.gallery else self.ids[name]
        return None

    def find(self, written: str) -> Item | None:
        """Return the image that a table names, in the gallery or elsewhere in the folder, or ``None``.

        Raises:
            CheckFailed: A link leads out of the folder.
        """
        name = self.ranked(written)
        if name is not None:
            return Item(name, self.gallery[name])
        for suffix in ("", *image_suffixes()):
            path = spelled(self.folder, f"{written}{suffix}")
            if _is_file(path) and is_image(path):
                _refuse_outside(path, self.folder.resolve())
                return Item(without_suffix(f"{written}{suffix}"), FileImage(path))
        return None

    def nearest(self, written: str) -> str:
        """Offer ids that look like what a table names."""
        wanted = without_suffix(written.removeprefix(f"{self.below_gallery}/"))
        near = difflib.get_close_matches(wanted, self.gallery, n=3, cutoff=0.5)
        return f"Nearest: {some(near)}." if near else f"The gallery holds, for instance, {excerpt(min(self.gallery))}."


def without_suffix(written: str) -> str:
    """Return a path without its suffix, if that is one of images."""
    stem, dot, suffix = written.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in image_suffixes() else written


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a cell of a table may be too long for a path
        return False


def _refuse_outside(path: Path, inside: Path) -> None:
    """Refuse links out of a folder: a copied folder must not make other files of this machine part of a result."""
    if not (real := path.resolve()).is_relative_to(inside):
        raise CheckFailed(
            f"{path} leads out of {inside}, to {real}.",
            hint="Copy the image into the folder, or make the whole gallery a link.",
        )


def folder_benchmark(folder: Path) -> Benchmark:
    """Describe a folder as a benchmark; its tables are read, its images are not.

    Raises:
        MissingData: There is no table of queries.
        CorruptFile: A table or ``dataset.toml`` breaks a rule; the message names the line or the key.
    """
    settings = read_settings(folder)
    return Benchmark(
        name=str(folder),
        title=_title(folder, settings),
        licence=settings.licence,
        citation=settings.citation,
        load=lambda variant, root: folder_protocol(folder, variant.partition("/")[2] or None),
        protocols=tuple(_entry(folder, settings, split) for split in settings.splits),
        default_split=settings.default_split,
    )


def _entry(folder: Path, settings: FolderSettings, split: str) -> ProtocolEntry:
    chosen = settings.splits[split]
    labelled = bool(read_table(_table(folder, chosen))[0].targets) and not chosen.hidden_labels
    return ProtocolEntry(_id(folder, split), _title(folder, settings, split), split, None, None, labelled, str(folder))


def folder_protocol(folder: Path, split: str | None = None) -> EvaluationProtocol:
    """Load a split of a folder: every image's content is hashed, because the images are what fixes the numbers.

    The reference is removed from the candidates of its own query, unless ``dataset.toml`` keeps it. Queries that share
    a reference form a cluster.

    Raises:
        MissingData: There is no gallery, no table, or no image.
        UnknownName: There is no such split.
        CorruptFile: A table, the gallery or ``dataset.toml`` breaks a rule; the message names the line or the file.
        CheckFailed: A path or a link leads out of the folder.
    """
    settings = read_settings(folder)
    split = split or settings.default_split
    if split not in settings.splits:
        raise UnknownName(f"split of {folder}", split, settings.splits)
    chosen = settings.splits[split]
    rows = read_table(_table(folder, chosen))
    pictures = Pictures.below(folder, chosen.gallery)
    if pictures.unused:
        where, count = folder / pictures.below_gallery, len(pictures.unused)
        say_once(f"{where}: {count:,} files are not images and are not ranked: {some(pictures.unused)}.")
    resolved = [_resolve(row, pictures, keep_reference=chosen.keep_reference) for row in rows]
    references = tuple(each.reference for each in resolved)
    ids = tuple(sorted(pictures.gallery))
    images = [pictures.gallery[name] for name in ids]
    targets = tuple(each.targets for each in resolved)
    negatives = tuple(each.negatives for each in resolved)
    groups = tuple(each.group for each in resolved)
    pools, pool_of_query = _pools(rows, resolved, ids, chosen.gallery_by)
    slices = _slices(rows)
    elsewhere = {item.id: item.image for item in references if item.id not in pictures.gallery}
    contents = [[name, image.content] for name, image in sorted({**pictures.gallery, **elsewhere}.items())]
    reported = measures(targets, grouped=bool(groups[0]), sliced="aspect" in slices, refuted=any(negatives))
    return EvaluationProtocol(
        id=_id(folder, split),
        version=1,
        title=_title(folder, settings, split),
        queries=tuple(Query(row.id, item, row.texts) for row, item in zip(rows, references, strict=True)),
        gallery=Gallery(ids, images),
        labels=_labels(targets, negatives) if targets[0] and not chosen.hidden_labels else None,
        measures=reported
        if chosen.measures is None
        else _asked(folder, chosen.measures, slices, {"groups": bool(groups[0]), "negatives": any(negatives)}),
        exclude_reference=not chosen.keep_reference,
        groups=groups if groups[0] else None,
        pools=pools,
        pool_of_query=pool_of_query,
        slices=slices,
        clusters=tuple(item.id for item in references),
        captions="the text as written",
        licence=settings.licence,
        data_digests={"images": digest(contents)},
    )


def _labels(targets: Sequence[tuple[str, ...]], negatives: Sequence[tuple[str, ...]]) -> Labels:
    """Put negatives behind the targets, with a soft label below 0."""
    if not any(negatives):
        return Labels(tuple(targets))
    rows = list(zip(targets, negatives, strict=True))
    return Labels(
        tuple((*right, *wrong) for right, wrong in rows),
        tuple((1.0,) * len(right) + (-1.0,) * len(wrong) for right, wrong in rows),
    )


def _slices(rows: Sequence[Row]) -> dict[str, tuple[tuple[str, ...], ...]]:
    """By column, the labels that each query carries: aspects, and each further column with what it holds."""
    aspects = tuple(row.aspects for row in rows)
    more = dict.fromkeys(name for row in rows for name in row.more)
    further = {name: tuple((value,) if (value := row.more.get(name, "")) else () for row in rows) for name in more}
    return ({"aspect": aspects} if any(aspects) else {}) | {name: each for name, each in further.items() if any(each)}


def _asked(
    folder: Path, asked: tuple[Measure, ...], slices: Mapping[str, object], given: Mapping[str, bool]
) -> tuple[Measure, ...]:
    """Return the measures of ``dataset.toml``, which the table must allow."""
    for each in asked:
        if each.by is not None and each.by not in slices:
            hint = f"Columns with labels: {', '.join(slices) or 'none'}."
            raise refused(str(folder / FILE), f"measures: {quoted(str(each.by))} is not a column of the table", hint)
        if not given.get(needs := METRICS.find(each.metric).needs, True):
            column = {"groups": "group"}.get(needs, needs)
            raise refused(str(folder / FILE), f"measures: {each.label} needs a column {column}")
    return asked


def _pools(
    rows: Sequence[Row], resolved: Sequence[_Resolved], ids: Sequence[str], by: str | None
) -> tuple[tuple[tuple[str, ...], ...] | None, tuple[int, ...] | None]:
    """Return what queries rank in place of the whole gallery: images of their own, or a folder of the gallery."""
    if resolved[0].candidates:
        if by is not None:
            raise refused(
                rows[0].place, "candidates are given, and gallery_by as well", f"Leave one of them out: {FILE}."
            )
        of_query = [each.candidates for each in resolved]
    elif by is not None:
        of_query = [_below(row, by, ids) for row in rows]
        for row, each, pool in zip(rows, resolved, of_query, strict=True):
            for what, names in (("target", each.targets), ("negative", each.negatives)):
                if outside := [name for name in names if name not in pool]:
                    why = f"the {what} {excerpt(outside[0])} is not in the gallery of {row.more[by]}"
                    raise refused(row.place, why)
    else:
        return None, None
    pools = tuple(dict.fromkeys(of_query))
    number = {pool: place for place, pool in enumerate(pools)}
    return pools, tuple(number[pool] for pool in of_query)


def _below(row: Row, by: str, ids: Sequence[str]) -> tuple[str, ...]:
    value = row.more.get(by, "")
    if not value:
        raise refused(row.place, f"gallery_by needs a column {by}, and it is empty or absent")
    pool = tuple(name for name in ids if name.startswith(f"{value}/"))
    if not pool:
        raise refused(row.place, f"the gallery has no folder {quoted(value)}, which the column {by} names")
    return pool


def measures(
    targets: Sequence[Sequence[str]], *, grouped: bool, sliced: bool, refuted: bool = False
) -> tuple[Measure, ...]:
    """Say what a table's targets allow to report; none allow nothing but rankings.

    One target each: Recall@1, 5, 10, 50. Several: mAP@5, 10, 25, 50, and how often any of them is among the first 1, 5,
    10, 50. With groups: also Recall_subset@1, 2, 3 of the first target. With aspects: the number at 10, each.
    With negatives: NegRecall@10, and by how much they lower mAP@10.
    """
    most = max(map(len, targets))
    if not most:
        return ()
    headline = "Recall" if most == 1 else "mAP"
    asked = [Measure(headline, k) for k in ((1, 5, 10, 50) if most == 1 else (5, 10, 25, 50))]
    if most > 1:
        asked += [Measure("Hit_rate", k) for k in (1, 5, 10, 50)]
    if grouped:
        asked += [Measure("Recall_subset", k) for k in (1, 2, 3)]
    if sliced:
        asked.append(Measure(headline, 10, by="aspect"))
    if refuted:
        asked += [Measure(name, 10) for name in ("NegRecall", "mAP_drop")]
    return tuple(asked)


@dataclasses.dataclass(frozen=True, slots=True)
class _Resolved:
    """The images that one query names."""

    reference: Item
    targets: tuple[str, ...]
    group: tuple[str, ...]
    candidates: tuple[str, ...]
    negatives: tuple[str, ...]


def _resolve(row: Row, pictures: Pictures, *, keep_reference: bool) -> _Resolved:
    reference = pictures.find(_inside(row, "reference", row.reference))
    if reference is None:
        raise _unknown(row, "reference", row.reference, pictures)
    targets, group, candidates, negatives = (
        _ranked(row, what, getattr(row, what), pictures) for what in ("targets", "group", "candidates", "negatives")
    )
    for what, names in (("target", targets), ("negative", negatives)):
        if candidates and (outside := [name for name in names if name not in candidates]):
            raise refused(row.place, f"the {what} {excerpt(outside[0])} is not among the candidates of the query")
    if doubted := [name for name in negatives if name in targets]:
        raise refused(row.place, f"{excerpt(doubted[0])} is a target and a negative")
    if negatives and not targets:
        raise refused(row.place, "negatives are given without targets")
    if reference.id in negatives and not keep_reference:
        raise refused(row.place, f"the reference {excerpt(reference.id)} is a negative, and is never ranked")
    if reference.id in targets and not keep_reference:
        raise refused(row.place, f"the reference {excerpt(reference.id)} is its own target, and is never ranked")
    if group and targets and targets[0] not in group:
        raise refused(row.place, f"the target {excerpt(targets[0])} is not in the group of the query")
    return _Resolved(reference, targets, group, candidates, negatives)


def _ranked(row: Row, what: str, written: Sequence[str], pictures: Pictures) -> tuple[str, ...]:
    """Return the ids of gallery images, each of which must exist and occur once."""
    found: list[str] = []
    for each in written:
        name = pictures.ranked(_inside(row, what, each))
        if name is None:
            raise _unknown(row, what, each, pictures)
        if name in found:
            raise refused(row.place, f"{what} names {excerpt(name)} twice")
        found.append(name)
    return tuple(found)


def _inside(row: Row, what: str, written: str) -> str:
    """Return a path in its plain form.

    Raises:
        CorruptFile: It leaves the folder.
    """
    path = PurePosixPath(written)
    if path.is_absolute() or ".." in path.parts:
        raise refused(
            row.place, f"{what} names {quoted(written)}, which leaves the folder", "Copy the image into the folder."
        )
    return path.as_posix()


def _unknown(row: Row, what: str, written: str, pictures: Pictures) -> CirbenchError:
    where = "folder" if what == "reference" else pictures.below_gallery
    hint = pictures.nearest(written)
    if FRACTION.fullmatch(written) and pictures.ranked(whole := written.partition(".")[0]) is not None:
        hint = f"It is how pandas writes the whole number {whole} among missing ones: df.astype('Int64')."
    return refused(row.place, f"{what} names {quoted(written)}, and no image of the {where} is that", hint)


def _table(folder: Path, split: SplitSettings) -> Path:
    if split.queries is not None:
        path = folder / split.queries
        if not path.is_file():
            raise MissingData(f"{folder} holds no {split.queries}, which {FILE} names.")
        if path.suffix not in (".csv", ".tsv", ".jsonl"):
            raise CorruptFile(f"{path} is not a table.", hint="A table is called .csv, .tsv or .jsonl.")
        return path
    there = [folder / name for name in TABLES if (folder / name).is_file()]
    if not there:
        raise MissingData(f"{folder} holds no {', '.join(TABLES[:-1])} or {TABLES[-1]}.", hint=EXAMPLE)
    if len(there) > 1:
        names = " and ".join(path.name for path in there)
        raise CorruptFile(f"{folder} holds {names}.", hint="Keep the one that counts.")
    return there[0]


def _id(folder: Path, split: str) -> str:
    """The id of a split's protocol; a folder without several splits has one, by its own name."""
    name = f"own/{folder.resolve().name}"
    return name if split == ALL else f"{name}/{split}"


def _title(folder: Path, settings: FolderSettings, split: str = ALL) -> str:
    title = settings.title or f"Your own data in {folder}"
    return title if split == ALL else f"{title}, {split}"


_COLOURS = ("red", "green", "blue", "yellow")
_SHAPES = ("circle", "square", "triangle")
_SIDE = 96

_README = """\
# Your own data

`gallery/` holds the images that are ranked, `queries.csv` one query a row:

- `query_id`: unique, without white space;
- `reference`: the image to start from, by its path in `gallery/` (with or without suffix), or elsewhere in this folder;
- `text`: what to change;
- `targets`: the right answers in `gallery/`, separated by `|`; leave the column out where nobody knows them;
- `group` (optional): images among which the target must be found, separated by `|`;
- `aspect` (optional): labels to report separately, separated by `|`.

Replace all of it by yours, then:

    cirbench data check PATH
    cirbench run --method image-text --dataset PATH
"""


def write_example(folder: Path) -> list[Path]:
    """Write a whole data set to change into ``folder``; return its files, the table first.

    Raises:
        UsageError: The folder exists.
        CirbenchError: The folder cannot be written.
    """
    if folder.exists():
        raise UsageError(f"{folder} exists already.", hint="Choose another path.")
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["query_id", "reference", "text", "targets", "aspect"])
    writer.writerows(_example_queries())
    texts = {folder / "queries.csv": table.getvalue(), folder / "README.md": _README}
    pictures = {
        folder / "gallery" / f"{colour}_{shape}.png": _drawn(colour, shape)
        for colour, shape in itertools.product(_COLOURS, _SHAPES)
    }
    for path, text in texts.items():
        write_text(path, text)
    for path, content in pictures.items():
        write_bytes(path, content)
    return [*texts, *pictures]


def _example_queries() -> list[tuple[str, str, str, str, str]]:
    """Ask each image for the next colour, and for the next shape in any other colour."""
    rows = []
    for (place, colour), (nth, shape) in itertools.product(enumerate(_COLOURS), enumerate(_SHAPES)):
        reference = f"{colour}_{shape}"
        wanted, other = _COLOURS[(place + 1) % len(_COLOURS)], _SHAPES[(nth + 1) % len(_SHAPES)]
        targets = BAR.join(f"{each}_{other}" for each in _COLOURS if each != colour)
        rows.append((f"{reference}-1", reference, f"a {wanted} {shape}", f"{wanted}_{shape}", "colour"))
        rows.append((f"{reference}-2", reference, f"a {other}, not {colour}", targets, f"shape{BAR}negation"))
    return rows


def _drawn(colour: str, shape: str) -> bytes:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_SIDE, _SIDE), "white")
    draw, low, high = ImageDraw.Draw(image), _SIDE // 6, _SIDE - _SIDE // 6
    if shape == "circle":
        draw.ellipse((low, low, high, high), fill=colour)
    elif shape == "square":
        draw.rectangle((low, low, high, high), fill=colour)
    else:
        draw.polygon((_SIDE // 2, low, high, high, low, high), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()

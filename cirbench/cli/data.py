"""``cirbench data``: plan, get, check and describe the files of a benchmark."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cirbench.benchmarks.annotation_files import VARIABLE, place_of
from cirbench.benchmarks.annotation_files import data_root as locate_root
from cirbench.benchmarks.files.plan import typed_name
from cirbench.cli import JSON
from cirbench.errors import MissingData, visible
from cirbench.support import memo
from cirbench.support.console import amount, print_lines, progress, say, typed
from cirbench.support.files import make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.benchmarks.files.check import DataCheck, Description, Spread, Touched
    from cirbench.benchmarks.files.get import Getter
    from cirbench.benchmarks.files.plan import Plan, PlannedFile
    from cirbench.training.data import NamedSource, Source

_FOLDER = click.Path(path_type=Path)
_split = click.option("--split", help="Split to consider, instead of all.")
_data_root = click.option("--data-root", type=_FOLDER, help="Folder of the data sets.  [default: CIRBENCH_DATA]")
_SHOWN = 10


@click.group()
def data_command() -> None:
    """Plan, get, check and describe the files of a benchmark, or of training data.

    NAME is a data set, one of its protocols, a folder with your own data, or training data by name
    (`cirbench list sources`); check and describe also take a table, a list or shards to train on.

    \b
    cirbench data plan circo --split val
    cirbench data get genecis/focus-object --data-root DATA
    cirbench data check cirr --root DATA
    cirbench data describe fashioniq
    cirbench data get coco-captions --split train2017
    """


@data_command.command()
@click.argument("name")
@_split
@_data_root
@JSON
def plan(name: str, split: str | None, data_root: Path | None, as_json: bool) -> None:
    """Say what is needed: files, bytes, images, licences, and what must be requested by hand."""
    from cirbench.benchmarks.files import plan as planning

    root = locate_root(data_root) if data_root is not None or VARIABLE in os.environ else None
    if sources := _sources(name, split):
        _print_plan_of_sources(sources, root, as_json=as_json)
        return
    made = planning.plan(name, split, root)
    click.echo(_as_json(made) if as_json else "\n".join(map(visible, _plan_lines(made, root))))


@data_command.command()
@click.argument("name")
@_split
@_data_root
@click.option("--annotations-only", is_flag=True, help="Leave the images out; scoring given rankings needs none.")
@click.option("--offline", is_flag=True, help="Fetch nothing; fail if anything is missing.")
@click.option("--mirror", metavar="URL", help="Fetch every file from URL/PATH, for instance a copy of a data root.")
def get(
    name: str, split: str | None, data_root: Path | None, annotations_only: bool, offline: bool, mirror: str | None
) -> None:
    """Fetch what is missing and may be fetched; verify everything; resume what was interrupted."""
    from cirbench.benchmarks.files.get import Getter
    from cirbench.benchmarks.files.plan import choose, dataset_files, needed_images

    if data_root is not None:
        make_folder(data_root)
    if sources := _sources(name, split):
        root = locate_root(data_root)
        getter = Getter(root, mirror=mirror, offline=offline, display=progress, say=say)
        for source in sources:
            _get_source(getter, source, annotations_only=annotations_only)
        return
    wanted, parts = choose(name, split), dataset_files(name, split)
    root = _root(name, data_root)
    getter = Getter(root, mirror=mirror, offline=offline, display=progress, say=say)
    getter.annotations(parts)
    if not annotations_only:
        getter.images(parts, lambda images, at: needed_images(images, wanted, at))
        for images in parts.images:
            if images.by_hand is not None:
                say(f"By hand: {images.title}, into {place_of(root, images.folder)}. {images.by_hand}")
    if parts.by_hand is not None:
        say(f"By hand: {parts.by_hand}")
    say(f"Next: cirbench data check {typed_name(name)} --root {typed(root)}")


@data_command.command()
@click.argument("name")
@click.option("--root", type=_FOLDER, help="Folder to search for images, in any layout.  [default: the data root]")
@_split
@_data_root
@click.option("--verify", is_flag=True, help="Read every image again, also those whose size and time are as before.")
@JSON
def check(name: str, root: Path | None, split: str | None, data_root: Path | None, verify: bool, as_json: bool) -> int:
    """Find and decode every image; say what is missing, broken or odd, and which queries that touches.

    Annotations are in the data root, or in ROOT where none is named. Exits with 3 if an image is missing or broken.
    """
    from cirbench.benchmarks.files import check as checking

    if root is not None and not root.is_dir():
        raise MissingData(f"{root} is not a folder.", hint="Give --root the folder that holds the images.")
    with memo.by_content() if verify else contextlib.nullcontext():
        if sources := _opened(name, split, data_root or root):
            return _check_sources(sources, as_json=as_json)
        at = _root(name, data_root if data_root is not None or VARIABLE in os.environ else root)
        report = checking.check(name, split, root or at, at, display=progress)
    click.echo(_as_json(report) if as_json else "\n".join(map(visible, _check_lines(report))))
    return 0 if report.complete else MissingData.exit_code


@data_command.command()
@click.argument("name")
@_split
@_data_root
@JSON
def describe(name: str, split: str | None, data_root: Path | None, as_json: bool) -> None:
    """Count queries, galleries, ground truths, captions, repetitions and empty captions."""
    from cirbench.benchmarks.files import check as checking
    from cirbench.benchmarks.files.plan import load

    if sources := _opened(name, split, data_root):
        _describe_sources(sources, as_json=as_json)
        return
    protocols, lacking = load(name, split, _root(name, data_root))
    described = [checking.describe(protocol) for protocol in protocols]
    click.echo(
        _as_json(described)
        if as_json
        else "\n\n".join("\n".join(map(visible, _describe_lines(each))) for each in described)
    )
    for id, why in lacking.items():
        say(f"{id} is left out: {why}")


def _sources(name: str, split: str | None) -> tuple[NamedSource, ...]:
    """The training data of a name that is not a benchmark's."""
    from cirbench.benchmarks.catalogue import datasets, protocols
    from cirbench.training.data.named import sources_called

    return () if name in datasets() or name in protocols() else sources_called(name, split)


def _opened(name: str, split: str | None, root: Path | None) -> tuple[Source, ...]:
    """The training data of a name, or of a table, a list or shards, opened; none where the name means a benchmark."""
    from cirbench.training.data import open_source

    named = _sources(name, split)
    names = [source.name for source in named]
    if not named and Path(name).suffix and not Path(name).is_dir():
        names = [name]
    return tuple(open_source(each, data_root=root, display=progress, say=say) for each in names)


def _check_sources(sources: Sequence[Source], *, as_json: bool) -> int:
    from cirbench.training.data.source import check_source

    found = [check_source(source, display=progress) for source in sources]
    if as_json:
        click.echo(_as_json(found))
    for each in () if as_json else found:
        whole = f"{each.images - len(each.broken):,} of {each.images:,} images are there and whole"
        more = [f"and {len(each.broken) - _SHOWN:,} more"] if len(each.broken) > _SHOWN else []
        print_lines([f"{each.source}: {whole}", *(f"  {line}" for line in [*each.broken[:_SHOWN], *more])])
        if each.unusable:
            print_lines([f"{each.source}: triplets that cannot be used, {_some(each.unusable)}"])
    return MissingData.exit_code if any(each.broken or each.unusable for each in found) else 0


def _describe_sources(sources: Sequence[Source], *, as_json: bool) -> None:
    from cirbench.training.data.source import describe_source

    found = [describe_source(source) for source in sources]
    if as_json:
        click.echo(_as_json(found))
    for each in () if as_json else found:
        rows = {
            "samples": f"{each.samples:,}",
            "images": f"{each.images:,} different ones",
            "captions": f"{each.captions:,}",
            "words": None if each.words is None else f"{_spread(each.words)} per caption",
            "repeated captions": f"{each.repeated_captions:,}",
            "unreadable": _some(each.unreadable_captions) if each.unreadable_captions else None,
        }
        if (counts := each.triplets) is not None:
            rows |= {
                "references": f"{counts.references:,} different ones",
                "targets": f"{counts.targets:,} different ones, {counts.repeated_targets:,} of several triplets",
                "empty captions": f"{counts.empty_captions:,}",
                "groups": f"{counts.groups:,}" if counts.groups else None,
                "negatives": f"{counts.negatives:,}" if counts.negatives else None,
                "cannot be used": _some(counts.unusable) if counts.unusable else None,
            }
        print_lines([each.source, *(f"  {what:<18} {value}" for what, value in rows.items() if value is not None)])


def _print_plan_of_sources(sources: Sequence[NamedSource], root: Path | None, *, as_json: bool) -> None:
    from cirbench.support.needs import need_lines

    if as_json:
        click.echo(_as_json([source.plan(root) if source.corpus else source.needs(root, None) for source in sources]))
        return
    for source in sources:
        if source.corpus:
            print_lines([f"{source.name}: {source.title}", *[*_plan_lines(source.plan(root), root)][1:]])
        else:
            needs = source.needs(root, None)
            print_lines([f"{source.name}: {source.title}", *(need_lines(needs) if needs else ["nothing to fetch"])])


def _get_source(getter: Getter, source: NamedSource, *, annotations_only: bool) -> None:
    """Fetch what may be fetched of training data, and say what must be got otherwise."""
    from cirbench.support.needs import need_lines

    getter.annotations(source.files)
    if not annotations_only:
        getter.images(source.files, source.image_names)
    if left := [need for need in source.needs(getter.root, "texts" if annotations_only else None) if need.blocks]:
        raise MissingData(
            f"{source.name} is not whole, and the rest is not fetched by cirbench.", hint="\n".join(need_lines(left))
        )
    say(f"{source.name} is there. Next: cirbench run --method pli --dataset circo --train-data {source.name} --plan")


def _root(name: str, given: Path | None) -> Path:
    """Return the data root; any folder will do for what ships with cirbench."""
    from cirbench.benchmarks.files.plan import dataset_files

    parts = dataset_files(name)
    return locate_root(given) if parts.annotations or parts.by_hand else given or Path()


def _as_json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _plan_lines(made: Plan, root: Path | None) -> Iterator[str]:
    yield f"{made.name}: {', '.join(made.protocols)}"
    if not made.annotations and made.by_hand is None:
        yield "nothing to fetch: everything is here"
        return
    yield f"annotations, licence {made.licence}"
    yield from map(_file_line, made.annotations)
    for images in made.images:
        count = "images that the annotations name" if images.count is None else f"{images.count:,} images"
        found = "" if images.found is None else f", {images.found:,} of them there"
        yield f"{images.title}: {count}{found}; licence: {images.licence}"
        yield from map(_file_line, images.archives)
        if images.by_hand is not None:
            yield f"  by hand, into {images.folder}, size not published: {images.by_hand}"
    if made.by_hand is not None:
        yield f"by hand: {made.by_hand}"
    sizes = [file.bytes for file in made.left]
    unknown = f" and {sizes.count(None)} files of unknown size" if None in sizes else ""
    yield f"to fetch: {amount(sum(filter(None, sizes)), 'B')}{unknown} in {len(sizes)} files"
    if made.left:
        where = "DIR" if root is None else typed(root)
        yield f"next: cirbench data get {typed_name(made.name)} --data-root {where}"


def _file_line(file: PlannedFile) -> str:
    size = "size unknown" if file.bytes is None else amount(file.bytes, "B")
    pinned = "sha256 pinned" if file.sha256 else "sha256 recorded at the first download"
    there = {None: "", True: ", there", False: ", not there"}[file.there]
    licence = "" if file.licence is None else f", licence: {file.licence}"
    return f"  {file.path}  {size}, {pinned}{licence}{there}  {file.url}"


def _check_lines(report: DataCheck) -> Iterator[str]:
    yield f"images: {report.whole:,} of {report.needed:,} are there and whole ({amount(report.bytes, 'B')})"
    if report.missing:
        yield f"missing: {_some(report.missing)}"
    for state in dict.fromkeys(broken.state for broken in report.broken):
        files = [f"{broken.path} ({broken.why})" for broken in report.broken if broken.state == state]
        yield f"{state}: {_some(files)}"
    for group in report.duplicates[:_SHOWN]:
        yield f"suspicious: one picture under {len(group)} ids, as placeholders are: {_some(group)}"
    if len(report.duplicates) > _SHOWN:
        yield f"suspicious: {len(report.duplicates) - _SHOWN} more such groups"
    if report.pairs:
        yield f"twice: {report.pairs:,} pictures have two ids each"
    for mode, names in report.not_rgb.items():
        yield f"not RGB, {mode}: {_some(names)}"
    if report.turned:
        yield f"turned by EXIF, shown as stored: {_some(report.turned)}"
    for touched in report.protocols:
        yield from _touched_lines(touched)
    for id, why in report.unchecked.items():
        yield f"{id}: not checked. {why}"
    for step in report.next:
        yield f"next: {step}"


def _touched_lines(touched: Touched) -> Iterator[str]:
    kept = "its list is not available"
    if touched.gallery is not None:
        kept = f"{touched.gallery - touched.lost_gallery:,}/{touched.gallery:,}"
    yield f"{touched.protocol}: queries {touched.queries - touched.lost:,}/{touched.queries:,}, gallery {kept}"
    for what, ids in (
        ("the reference", touched.lost_references),
        ("a ground truth", touched.lost_targets),
        ("a candidate of their own", touched.lost_candidates),
    ):
        if ids:
            yield f"  queries without {what}: {_some(ids)}"


def _describe_lines(described: Description) -> Iterator[str]:
    known = "the list is not available" if described.gallery is None else f"{described.gallery:,} images"
    inside = "" if described.references_in_gallery is None else f", {described.references_in_gallery:,} of them ranked"
    repeated, carrying = described.repeated_captions
    rows = {
        "queries": f"{described.queries:,}",
        "references": f"{described.references:,}{inside}",
        "gallery": known,
        "candidates": None if described.candidates is None else f"{_spread(described.candidates)} per query",
        "ground truths": "kept by a test server"
        if described.ground_truths is None
        else f"{_spread(described.ground_truths)} per query",
        "without any": f"{described.unanswerable:,} queries" if described.unanswerable else None,
        "captions": f"{_spread(described.captions)} per query",
        "words": None if described.words is None else f"{_spread(described.words)} per caption",
        "empty captions": _some(described.empty_captions) if described.empty_captions else "none",
        "equal captions": f"{_some(described.equal_captions)}: all of a query" if described.equal_captions else None,
        "repeated captions": f"{repeated:,}, in {carrying:,} queries",
        "repeated queries": f"{len(described.repeated_queries):,} groups with one reference and the same captions",
    }
    yield described.protocol
    for what, value in rows.items():
        if value is not None:
            yield f"  {what:<18} {value}"
    for part in described.parts:
        yield f"  {part.kind:<18} {part.label}: {part.queries:,} queries"


def _spread(spread: Spread) -> str:
    if spread.least == spread.most:
        return f"{spread.least:,}"
    return f"{spread.total:,} in all, mean {spread.mean:.3f}, median {spread.median:g}, {spread.least} to {spread.most}"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return f"{len(names):,}: {shown}" if len(names) <= _SHOWN else f"{len(names):,}: {shown}, ..."

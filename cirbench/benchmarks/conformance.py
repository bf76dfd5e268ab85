"""Check a benchmark: what it declares, and what it loads where its files are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.interface import Archive
from cirbench.errors import CorruptFile, MissingData, some
from cirbench.metrics.table import parse_label
from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cirbench.benchmarks.interface import Benchmark, ProtocolEntry
    from cirbench.protocol import EvaluationProtocol


def check_benchmark(benchmark: Benchmark, data_root: Path | None) -> list[Finding]:
    """Check the declaration of a benchmark, and each protocol whose files are below ``data_root``."""
    declared = [
        Finding("it says what it is, its licence and its citation", "; ".join(_gaps(benchmark)) or None),
        Finding(
            "files lie in its own folder, and come from encrypted addresses", "; ".join(_odd_files(benchmark)) or None
        ),
        rule("its columns are labels of numbers", lambda: _columns(benchmark)),
    ]
    return [
        *declared,
        *(finding for entry in benchmark.protocols for finding in _protocol(benchmark, entry, data_root)),
    ]


def _gaps(benchmark: Benchmark) -> Iterator[str]:
    for name in ("title", "licence", "citation"):
        if not getattr(benchmark, name).strip():
            yield f"no {name}"
    if (benchmark.needs is None) != (not (benchmark.files.annotations or benchmark.files.by_hand)):
        yield "it needs files and says neither where to fetch them nor what to do by hand, or the other way round"


def _odd_files(benchmark: Benchmark) -> Iterator[str]:
    archives = [archive for images in benchmark.files.images for archive in images.archives]
    for file in (*benchmark.files.annotations, *archives):
        if not file.url.startswith("https://"):
            yield f"{file.url} is not https"
    for file in benchmark.files.annotations:
        path = file.yields if isinstance(file, Archive) else file.path
        if path.startswith("/") or ".." in path.split("/"):
            yield f"{path} leads out of the data root"
    for images in benchmark.files.images:
        if not any(images.folder == at or images.folder.startswith(f"{at}/") for at in images.collection.folders):
            yield f"{images.title} go to {images.folder}, where runs do not look"


def _columns(benchmark: Benchmark) -> str | None:
    for label in benchmark.columns:
        parse_label(label)
    return None


def _protocol(benchmark: Benchmark, entry: ProtocolEntry, data_root: Path | None) -> Iterator[Finding]:
    text = f"{entry.id} loads and is what it is said to be"
    if benchmark.needs is not None and data_root is None:
        yield Finding(f"{entry.id}: not loaded, since nothing says where its files are (--data-root)")
        return
    try:
        loaded = benchmark.load(entry.variant, data_root or _absent_root())
    except CorruptFile as error:
        yield Finding(text, error.message)
        return
    except MissingData:
        yield Finding(f"{entry.id}: not loaded, since its files are not there")
        return
    except Exception as error:
        yield Finding(text, f"load raised {type(error).__name__}: {error}")
        return
    yield Finding(text, "; ".join(_differences(benchmark, entry, loaded)) or None)
    yield rule(f"{entry.id} is the same when it is loaded again", lambda: _again(benchmark, entry, loaded, data_root))


def _differences(benchmark: Benchmark, entry: ProtocolEntry, loaded: EvaluationProtocol) -> Iterator[str]:
    gallery = None if loaded.gallery is None else len(loaded.gallery)
    pairs: tuple[tuple[str, object, object], ...] = (
        ("id", entry.id, loaded.id),
        ("title", entry.title, loaded.title),
        ("labels are public", entry.labelled, loaded.labels is not None),
        ("licence", benchmark.licence, loaded.licence),
        ("queries", entry.queries or len(loaded.queries), len(loaded.queries)),
        ("gallery", entry.gallery or gallery, gallery or entry.gallery),
    )
    for what, said, found in pairs:
        if said != found:
            yield f"{what}: declared {said!r}, loaded {found!r}"
    if loaded.gallery is not None and loaded.labels is not None:
        outside = {name for row in loaded.labels.relevant for name in row if name not in loaded.gallery.positions}
        if outside:
            yield f"ground truths are not in the gallery: {some(sorted(outside))}"


def _again(benchmark: Benchmark, entry: ProtocolEntry, loaded: EvaluationProtocol, root: Path | None) -> str | None:
    if loaded.gallery is None:
        return None
    digest = benchmark.load(entry.variant, root or _absent_root()).digest
    return None if digest == loaded.digest else "two digests differ"


def _absent_root() -> Path:
    from pathlib import Path

    return Path()

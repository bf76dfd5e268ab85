"""Check a method against the rules of the interface, by running it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import numpy as np

from cirbench.errors import CirbenchError
from cirbench.methods.interface import (
    ComposedQuery,
    Disclosure,
    GalleryFitted,
    Need,
    Picture,
    Scorer,
    Supervision,
)
from cirbench.ranking import unit_rows
from cirbench.support.parameters import describe
from cirbench.support.plugins import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.methods.loading import CheckedReranker
    from cirbench.protocol import Item, Query

TOLERANCE = 1e-4
"""How far a unit row may move when other items stand in its batch: more than rounding, less than a neighbour."""
_IMPORTS_TORCH = 3


def check_spec(spec: MethodSpec, reference: str) -> list[Finding]:
    """Check the light half of a method.

    Args:
        spec: The SPEC.
        reference: How it is loaded, ``"package:SPEC"`` or ``"file.py:Class"``.
    """
    return [
        Finding("the SPEC is complete", "; ".join(_gaps(spec)) or None),
        Finding("loading the SPEC does not import torch", _heavy(reference)),
    ]


def check_method(make: Callable[[], Method], items: Sequence[Item], queries: Sequence[Query]) -> list[Finding]:
    """Check what a method returns.

    Args:
        make: Builds a new instance of the method, with nothing remembered.
        items: A few gallery items.
        queries: A few queries.
    """

    def fresh() -> Method:
        method = make()
        if isinstance(method, GalleryFitted):
            method.fit_gallery(items)
        return method

    sides: tuple[tuple[str, Callable[[list[int]], NDArray[np.float32]]], ...] = (
        ("gallery items", lambda rows: fresh().encode_gallery([items[row] for row in rows])[:]),
        ("queries", lambda rows: fresh().encode_queries([queries[row] for row in rows])[:]),
    )
    findings: list[Finding] = []
    whole: list[NDArray[np.float32]] = []
    for (kind, encode), count in zip(sides, (len(items), len(queries)), strict=True):
        try:
            rows_ND = encode(list(range(count)))
            unit_rows(_flat(rows_ND), [f"{kind[:-1]} {number}" for number in range(count)])
        except CirbenchError as error:
            return [*findings, Finding(f"{kind} become finite float32 rows that have a direction", error.message)]
        whole.append(rows_ND)
        findings.append(Finding(f"{kind} become finite float32 rows that have a direction"))
        findings.extend(_stable(kind, encode, rows_ND))
    findings.extend(_scores(fresh, *whole))
    return findings


def check_reranker(
    make: Callable[[], CheckedReranker], items: Sequence[Item], queries: Sequence[Query]
) -> list[Finding]:
    """Check what a re-ranker returns.

    Args:
        make: Builds a new instance of the re-ranker, with nothing remembered.
        items: A few gallery items.
        queries: A few queries.
    """
    pictures = [Picture(item.image) for item in items]
    scores = np.linspace(1, 0, len(items), dtype=np.float32)

    def judged() -> list[NDArray[np.float32]]:
        reranker = make()
        return [reranker.rerank(ComposedQuery.of(query), pictures, scores) for query in queries]

    rule = "items get finite float32 judgements, one each"
    try:
        once = judged()
        make().rerank(ComposedQuery.of(queries[0]), pictures[:1], scores[:1])
    except CirbenchError as error:
        return [Finding(rule, error.message)]
    same = all(np.array_equal(one, other) for one, other in zip(once, judged(), strict=True))
    apart = any((each != each[0]).any() for each in once)
    return [
        Finding(rule),
        Finding(
            "the same items get the same judgements twice", None if same else "two runs differ: is a seed missing?"
        ),
        Finding("some items are told apart", None if apart else "all items of each query get the same judgement"),
    ]


def _stable(
    kind: str, encode: Callable[[list[int]], NDArray[np.float32]], rows_ND: NDArray[np.float32]
) -> Iterator[Finding]:
    count = len(rows_ND)
    again = encode(list(range(count)))
    yield Finding(
        f"the same {kind} give the same bytes twice",
        None if np.array_equal(rows_ND, again) else "two runs differ: is a seed missing?",
    )
    alone = np.concatenate([encode([row]) for row in range(count)])
    yield _close(f"{kind} do not depend on their batch", rows_ND, alone)
    backwards = encode(list(range(count))[::-1])[::-1]
    yield _close(f"{kind} do not depend on their order", rows_ND, backwards)


def _scores(
    make: Callable[[], Method], gallery_ND: NDArray[np.float32], queries_QD: NDArray[np.float32]
) -> Iterator[Finding]:
    method = make()
    rule = "queries can be scored against the gallery"
    if not isinstance(method, Scorer):
        shapes = f"queries have {queries_QD.shape[1]} dimensions and gallery items {gallery_ND.shape[1]}"
        yield Finding(rule, None if gallery_ND.shape[1] == queries_QD.shape[1] else shapes)
        return
    try:
        scores_QN = method.score(queries_QD, gallery_ND)
        parts = np.concatenate([method.score(queries_QD, part) for part in np.array_split(gallery_ND, 3)], axis=1)
    except CirbenchError as error:
        yield Finding(rule, error.message)
        return
    yield Finding(rule)
    same = np.allclose(scores_QN, parts, rtol=TOLERANCE, atol=TOLERANCE)
    yield Finding("scores do not depend on the chunk", None if same else "another chunk of the gallery, other scores")


def _flat(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The several vectors of each query or item behind each other, as one row."""
    return rows.reshape(len(rows), -1)


def _close(rule: str, one_ND: NDArray[np.float32], other_ND: NDArray[np.float32]) -> Finding:
    if one_ND.shape != other_ND.shape:
        return Finding(rule, f"the shape is {other_ND.shape} instead of {one_ND.shape}")
    names = [str(row) for row in range(len(one_ND))]
    moved = float(np.abs(unit_rows(_flat(one_ND), names) - unit_rows(_flat(other_ND), names)).max())
    return Finding(rule, None if moved <= TOLERANCE else f"a unit row moves by {moved:.2g}")


def _gaps(spec: MethodSpec) -> Iterator[str]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", spec.name):
        yield f"the name {spec.name!r} is not made of a-z, 0-9 and hyphens"
    if not spec.title.strip():
        yield "the title is empty"
    if spec.supervision not in get_args(Supervision):
        yield f"the supervision {spec.supervision!r} is not one of {', '.join(get_args(Supervision))}"
    for field in ("uses_llm", "uses_triplets"):
        if getattr(spec, field) not in get_args(Disclosure):
            yield f"{field} is {getattr(spec, field)!r} instead of yes, no or unknown"
    for field in ("uses_shared_concept", "transductive"):
        if not callable(stated := getattr(spec, field)) and stated not in get_args(Disclosure):
            yield f"{field} is {stated!r} instead of yes, no, unknown or a function of the parameters"
    if unknown := set(spec.needs) - set(get_args(Need)):
        yield f"needs names {', '.join(sorted(unknown))} instead of {' or '.join(get_args(Need))}"
    if spec.trainer is not None and "backbone" not in spec.needs:
        yield "a method with a trainer is trained on a backbone, and needs does not name it"
    if (spec.trainer is None) != (spec.training is None):
        yield "trainer and training belong together"
    if (spec.trainer is None) != (spec.supervision == "training-free"):
        yield f"a method {'without' if spec.trainer is None else 'with'} trainer cannot be {spec.supervision}"
    for kind in filter(None, (spec.parameters, spec.training)):
        yield from (
            f"the docstring of {kind.__name__} does not describe {f.name}" for f in describe(kind) if not f.text
        )


def _heavy(reference: str) -> str | None:
    program = (
        "import sys; from cirbench.support.plugins import load_object; "
        f"load_object(sys.argv[1], owner='the method'); sys.exit({_IMPORTS_TORCH} * ('torch' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, reference],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _IMPORTS_TORCH:
        return "torch is imported: move what needs it into the implementation"
    return (done.stderr.strip().splitlines() or ["it failed"])[-1] if done.returncode else None

"""A method built from its SPEC, with its parameters, and checked at every call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cirbench.errors import CirbenchError, MethodFailed, PluginFailed, UnknownName, UsageError, quoted
from cirbench.methods.interface import (
    Calls,
    CountsCalls,
    GalleryFitted,
    ModifiesText,
    Reranker,
    Scorer,
    UsesArtefacts,
)
from cirbench.support.console import typed
from cirbench.support.parameters import parse
from cirbench.support.plugins import load_object
from cirbench.training.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cirbench.artefacts import Artefact, ArtefactRecord
    from cirbench.backbones.encoder import Encoder
    from cirbench.methods.interface import ComposedQuery, Method, MethodSpec, Parameters, Picture
    from cirbench.protocol import Item, Query

_PRESET = "preset"
"""What is set to take the parameters that a SPEC has for another backbone, or under a name of their own."""

_BLOCK = 4096
"""Rows looked at together, so that a large gallery is not held twice."""


def checked(method: Method, name: str, *, transductive: bool = True) -> Method:
    """Wrap a method so that whatever it raises or returns wrongly is a `MethodFailed` that names it and the item.

    Args:
        method: The method.
        name: What it is called.
        transductive: Whether it is shown the whole gallery, if it wants to see it.
    """
    return Checked(method, name, transductive=transductive)


class Checked:
    """A method whose rows are float32, finite, and as many as were asked for; it has the capabilities of the method."""

    def __init__(self, method: Method, name: str, *, transductive: bool = True) -> None:
        self._method = method
        self._name = name
        if isinstance(method, Scorer):
            self.score = self._score
        if isinstance(method, GalleryFitted) and transductive:
            self.fit_gallery = self._fit_gallery
        if isinstance(method, ModifiesText):
            self.encode_unmodified = self._encode_unmodified

    @property
    def artefacts(self) -> Sequence[Artefact]:
        """What the method looked answers up in, if it does so."""
        return self._method.artefacts if isinstance(self._method, UsesArtefacts) else ()

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Represent gallery items as one row each, (N, D).

        Raises:
            MethodFailed: The method raised, or returned something else than such an array.
        """
        names = [f"gallery item {item.id}" for item in items]
        rows: NDArray[np.float32] = self._rows("encode_gallery", lambda: self._method.encode_gallery(items), names)
        return rows

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Represent queries as one row each, (Q, D).

        Raises:
            MethodFailed: The method raised, or returned something else than such an array.
        """
        names = [f"query {query.id}" for query in queries]
        rows: NDArray[np.float32] = self._rows("encode_queries", lambda: self._method.encode_queries(queries), names)
        return rows

    def _encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Represent what a text says of the references alone."""
        assert isinstance(self._method, ModifiesText)
        method, names = self._method, [f"query {query.id}" for query in queries]
        rows: NDArray[np.float32] = self._rows("encode_unmodified", lambda: method.encode_unmodified(queries), names)
        return rows

    def _rows(self, function: str, call: Callable[[], Any], names: Sequence[str]) -> Any:
        several = isinstance(self._method, Scorer)  # vectors for each item
        rows: Any = self._call(function, call, several=several)
        if len(rows.shape) not in ((2, 3) if several else (2,)) or 0 in rows.shape[1:]:
            raise self._failed(function, f"returned an array of shape {rows.shape} instead of ({len(names)}, D).")
        if rows.shape[0] != len(names):
            raise self._failed(function, f"returned {rows.shape[0]} rows instead of {len(names)}.")
        if not isinstance(rows, np.ndarray):  # they are on disk, and looked at when their scores are
            return rows
        flat = rows.reshape(len(rows), -1)
        blocks = [np.isfinite(flat[start : start + _BLOCK]).all(axis=1) for start in range(0, len(rows), _BLOCK)]
        broken = np.flatnonzero(~np.concatenate([np.zeros(0, dtype=np.bool_), *blocks]))
        if len(broken):
            more = f" and {len(broken) - 1} more" if len(broken) > 1 else ""
            raise self._failed(function, f"returned NaN or infinite values for {names[broken[0]]}{more}.")
        return rows

    def _fit_gallery(self, items: Sequence[Item]) -> None:
        """Show it the gallery."""
        assert isinstance(self._method, GalleryFitted)
        fitted = self._method
        self._tried("fit_gallery", lambda: fitted.fit_gallery(items))

    def _score(self, queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score every query against a chunk of the gallery, (Q, N)."""
        assert isinstance(self._method, Scorer)
        scorer = self._method
        scores_QN: NDArray[np.float32] = self._call("score", lambda: scorer.score(queries_QD, gallery_ND))
        if scores_QN.shape != (len(queries_QD), len(gallery_ND)):
            expected = (len(queries_QD), len(gallery_ND))
            raise self._failed("score", f"returned an array of shape {scores_QN.shape} instead of {expected}.")
        if not np.isfinite(scores_QN).all():
            raise self._failed("score", "returned NaN or infinite scores.")
        return scores_QN

    def _call(self, function: str, call: Callable[[], Any], *, several: bool = False) -> Any:
        """Call it, and return its array: float32, or where it may be several vectors, in a form that saves memory."""
        result = self._tried(function, call)
        several = several and len(getattr(result, "shape", ())) == 3
        if not isinstance(result, np.ndarray) and not (several and hasattr(result, "__getitem__")):
            raise self._failed(function, f"returned a {type(result).__name__} instead of a numpy array.")
        if getattr(result, "dtype", np.float32) not in ((np.float32, np.float16) if several else (np.float32,)):
            raise self._failed(function, f"returned {result.dtype} values instead of float32.")
        return result

    def _tried(self, function: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except CirbenchError:
            raise
        except Exception as error:
            raise self._failed(function, f"raised {type(error).__name__}: {error}") from error

    def _failed(self, function: str, what: str) -> MethodFailed:
        return MethodFailed(
            f"The method {self._name} failed: {function} {what}",
            hint=f"`cirbench check method {typed(self._name)}` looks for more of this kind.",
        )


class CheckedReranker:
    """A re-ranker whose judgements are float32, finite, and as many as there are items."""

    def __init__(self, reranker: Reranker, name: str) -> None:
        self._reranker = reranker
        self._name = name

    def rerank(
        self, query: ComposedQuery, items: Sequence[Picture], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Judge items, (K,).

        Raises:
            MethodFailed: The re-ranker raised, or returned something else than such an array.
        """
        try:
            judged: Any = self._reranker.rerank(query, items, scores)
        except CirbenchError:
            raise
        except Exception as error:
            raise self._failed(f"raised {type(error).__name__}: {error}", query) from error
        if not isinstance(judged, np.ndarray) or judged.dtype != np.float32:
            found = f"{judged.dtype} values" if isinstance(judged, np.ndarray) else f"a {type(judged).__name__}"
            raise self._failed(f"returned {found} instead of a float32 array", query)
        if judged.shape != (len(items),):
            raise self._failed(f"returned the shape {judged.shape} for {len(items)} items", query)
        if broken := int(np.count_nonzero(~np.isfinite(judged))):
            raise self._failed(f"judged {broken} of {len(items)} items as NaN or infinite", query)
        return judged

    def count_calls(self, query: ComposedQuery, items: Sequence[Picture]) -> Calls:
        """Count the calls of a model; one for a re-ranker that does not say."""
        return self._reranker.count_calls(query, items) if isinstance(self._reranker, CountsCalls) else Calls(1)

    @property
    def artefacts(self) -> list[ArtefactRecord]:
        """What was used of each artefact so far."""
        own = self._reranker.artefacts if isinstance(self._reranker, UsesArtefacts) else ()
        return [artefact.record() for artefact in own]

    def _failed(self, what: str, query: ComposedQuery) -> MethodFailed:
        return MethodFailed(
            f"The re-ranker {self._name} {what}, for the query {quoted(' and '.join(query.captions))}.",
            hint=f"`cirbench check method {typed(self._name)}` looks for more of this kind.",
        )


def preset_for(spec: MethodSpec, backbone: str) -> Parameters | None:
    """Return what a SPEC has for a backbone, of whatever revision, in place of the defaults."""
    return spec.inference_presets.get(backbone.partition("@")[0])


def parse_parameters(spec: MethodSpec, values: Mapping[str, Any], backbone: str | None = None) -> Parameters:
    """Build a method's parameters from texts (``--set key=value``) or TOML values.

    Args:
        spec: The method.
        values: What was set, by name.
        backbone: By name; what was not set is as the SPEC has it for the preset that ``preset`` names, or for this
            backbone, or else as by default.

    Raises:
        UnknownName: There is no such parameter or preset.
        UsageError: A value does not fit.
    """
    base = None if backbone is None else preset_for(spec, backbone)
    if _PRESET in values and spec.inference_presets and _PRESET not in spec.parameters.__struct_fields__:
        values = dict(values)
        base = spec.inference_presets.get(chosen := str(values.pop(_PRESET)))
        if base is None:
            raise UnknownName(f"preset of {spec.name}", chosen, spec.inference_presets)
    for name in values:
        fields = spec.parameters.__struct_fields__
        if name not in fields and spec.training is not None and name in spec.training.__struct_fields__:
            setting = typed(f"{name}={values[name]}")
            raise UnknownName(
                f"parameter of {spec.name} for inference",
                name,
                fields,
                hint=f"It belongs to training: cirbench run --train {setting}, or cirbench train {typed(spec.name)} "
                f"--set {setting}",
            )
    return parse(spec.parameters, values, owner=spec.name, base=base)


def build(spec: MethodSpec, encoder: Encoder | None, parameters: Parameters, checkpoint: Path | None = None) -> Method:
    """Build a method on an encoder; what it returns is checked from then on.

    Raises:
        UsageError: A backbone is needed and not given; or a checkpoint is, or is given and not needed, or belongs to
            another backbone.
        MissingData: The checkpoint is not there.
        CorruptFile: The checkpoint is damaged.
        PluginFailed: The implementation cannot be imported.
        MethodFailed: It fails.
    """
    if encoder is None and ("backbone" in spec.needs or spec.trainer is not None):
        raise UsageError(f"The method {spec.name} needs a backbone.", hint="Give one: --backbone NAME")
    if spec.trainer is not None and checkpoint is None:
        assert encoder is not None
        raise UsageError(
            f"The method {spec.name} has to be trained first.",
            hint=f"Give --checkpoint FOLDER, or train one: cirbench train {typed(spec.name)} "
            f"--backbone {typed(encoder.backbone.identity.name)} --data FILE.csv",
        )
    if checkpoint is not None:
        if spec.trainer is None:
            raise UsageError(f"The method {spec.name} is not trained, so it takes no checkpoint.")
        assert encoder is not None
        open_checkpoint(checkpoint, method=spec.name, backbone=encoder.backbone.identity)
    method = _built(spec, encoder, parameters, checkpoint)
    if isinstance(method, GalleryFitted) and spec.transductive == "no":
        raise MethodFailed(
            f"The method {spec.name} wants to see the whole gallery (fit_gallery), and its SPEC says that it is not "
            "transductive.",
            hint='Write transductive="yes" in the SPEC, or a function of the parameters.',
        )
    return checked(method, spec.name, transductive=spec.transductive_with(parameters) != "no")


def build_reranker(
    spec: MethodSpec, encoder: Encoder | None, parameters: Parameters, *, device: str = "auto"
) -> CheckedReranker:
    """Build a re-ranker, on an encoder where it needs one; what it returns is checked from then on.

    Raises:
        UsageError: A backbone is needed and not given.
        PluginFailed: It has no function ``rerank``, or cannot be imported.
        MethodFailed: It fails.
    """
    if encoder is None and "backbone" in spec.needs:
        raise UsageError(f"The re-ranker {spec.name} needs a backbone.", hint="Give one: --backbone NAME")
    reranker = _built(spec, encoder, parameters, device=device)
    if not isinstance(reranker, Reranker):
        raise PluginFailed(
            f"The SPEC of {spec.name} says that it re-ranks, and it has no function rerank.",
            hint="docs/guides/re-ranking.md shows one.",
        )
    return CheckedReranker(reranker, spec.name)


def _built(spec: MethodSpec, *arguments: Any, **named: Any) -> Any:
    factory = load_object(spec.implementation, owner=f"the method {spec.name}")
    try:
        return factory(*arguments, **named)
    except CirbenchError:
        raise
    except Exception as error:
        raise MethodFailed(
            f"The method {spec.name} cannot be built: {type(error).__name__}: {error}",
            hint=f"`cirbench check method {typed(spec.name)}` says more.",
        ) from error

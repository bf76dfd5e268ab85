"""Check a server form: the files that it writes keep the rules that it checks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import find_protocol
from cirbench.metrics.table import parse_label
from cirbench.runs.predictions.lists import RankedLists
from cirbench.submissions.form import encode
from cirbench.support.plugins import Finding, rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cirbench.protocol import EvaluationProtocol
    from cirbench.submissions.form import ServerForm
    from cirbench.submissions.rules import Problem

DEPTH = 100


def check_server(form: ServerForm, known: EvaluationProtocol | None) -> list[Finding]:
    """Check a form on a ranking in the order of the gallery.

    Args:
        form: The form.
        known: The protocol that the server scores, where its annotations are available.
    """
    scored = form.protocols[0] if form.protocols else ""

    def declared() -> str | None:
        for label in form.labels:
            parse_label(label)
        if find_protocol(scored) is None:
            return f"no benchmark has the protocol {scored!r}"
        return None

    def written() -> str | None:
        assert known is not None
        for ending, values in form.files(_lists(known)).items():
            if broken := _problems(form, values, scored, known):
                return f"*.{ending}: {broken[0]}" + (f" (and {len(broken) - 1} more)" if len(broken) > 1 else "")
        return None

    def refused() -> str | None:
        assert known is not None
        for ending, values in form.files(_lists(known)).items():
            short = {key: value[:-1] if isinstance(value, list) else value for key, value in values.items()}
            if not _problems(form, short, scored, known):
                return f"*.{ending}: lists without their last id are taken"
        return None

    findings = [rule("its protocol is one of a benchmark, and its labels are those of numbers", declared)]
    if known is None or known.gallery is None:
        return [
            *findings,
            Finding(f"files: not checked, since {scored or 'its protocol'} cannot be loaded (--data-root)"),
        ]
    return [
        *findings,
        rule("the files that it writes keep its own rules", written),
        rule("lists that are too short are refused", refused),
    ]


def _problems(
    form: ServerForm, values: Mapping[str, object], protocol: str, known: EvaluationProtocol
) -> list[Problem]:
    return [*form.inspect(values, len(encode(values)), protocol, known).problems]


def _lists(protocol: EvaluationProtocol) -> RankedLists:
    assert protocol.gallery is not None
    first = protocol.gallery.ids[: DEPTH + 1]
    rankings = {
        query.id: tuple(name for name in first if name != query.reference.id or not protocol.exclude_reference)[:DEPTH]
        for query in protocol.queries
    }
    groups = (
        {}
        if protocol.groups is None
        else {
            query.id: tuple(name for name in group if name != query.reference.id)
            for query, group in zip(protocol.queries, protocol.groups, strict=True)
        }
    )
    return RankedLists("a ranking in the order of the gallery", rankings, groups)

"""Methods held against the rules of the interface, on a few scenes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.benchmarks.scenes import scenes_protocol
from cirbench.methods.conformance import check_method, check_spec

if TYPE_CHECKING:
    from collections.abc import Callable

    from cirbench.methods.interface import Method, MethodSpec
    from cirbench.support.plugins import Finding


def broken_rules(make: Callable[[], Method]) -> list[Finding]:
    """The rules that a method breaks on six images and queries of scenes."""
    protocol = scenes_protocol("tiny")
    assert protocol.gallery is not None
    findings = check_method(make, protocol.gallery.items[:6], protocol.queries[:6])
    return [finding for finding in findings if finding.problem is not None]


def broken_rules_of_spec(spec: MethodSpec, reference: str) -> list[Finding]:
    """The rules that a SPEC breaks."""
    return [finding for finding in check_spec(spec, reference) if finding.problem is not None]

"""The relative captions of queries as one sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cirbench.datasets.protocol import Query


def sentences(queries: Sequence[Query], prompt: str = "{}") -> list[str]:
    """Join each query's captions by " and ", and put them into a prompt where it says ``{}``.

    Raises:
        UsageError: The prompt has no place for the caption.
    """
    if "{}" not in prompt:
        raise UsageError(f"The prompt {prompt!r} has no place for the caption.", hint="Write {} where it belongs.")
    return [prompt.replace("{}", " and ".join(query.captions)) for query in queries]

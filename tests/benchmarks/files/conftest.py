"""A misbehaving server and little patience with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.benchmarks.files.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.benchmarks.files.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running

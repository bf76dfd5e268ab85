"""The whole site is built within ten CPU seconds."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest

from cirbench.leaderboard.site.build import build_site

pytestmark = pytest.mark.performance

ENTRIES = Path(__file__).parents[2] / "leaderboards" / "entries"


def test_the_site_is_built_within_ten_cpu_seconds(tmp_path: Path) -> None:
    started = process_time()
    built = build_site(ENTRIES, tmp_path)
    seconds = process_time() - started
    print(f"{len(built.manifest.files)} files in {seconds:.1f} CPU s")
    assert seconds < 10

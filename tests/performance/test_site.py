"""The whole site is built within ten CPU seconds, and its time grows with the entries, not with their pairs."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import pytest

from cirbench.leaderboard.site.build import build_site
from tests.leaderboard.crowd import seconds_to_build

pytestmark = pytest.mark.performance

ENTRIES = Path(__file__).parents[2] / "leaderboards" / "entries"


def test_the_site_is_built_within_ten_cpu_seconds(tmp_path: Path) -> None:
    started = process_time()
    built = build_site(ENTRIES, tmp_path)
    seconds = process_time() - started
    print(f"{len(built.manifest.files)} files in {seconds:.1f} CPU s")
    assert seconds < 10


def test_four_times_as_many_entries_of_one_board_take_at_most_four_times_as_long() -> None:
    seconds_to_build(2)  # draws what every entry is checked against
    few, many = seconds_to_build(50)[0], seconds_to_build(200)[0]
    print(f"50 entries {few:.1f}, 200 entries {many:.1f} CPU s")
    assert many < 4 * few

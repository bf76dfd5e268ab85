"""Progress speaks of bytes and of things in the units that people read."""

from __future__ import annotations

import pytest

from cirbench.support import console


@pytest.mark.parametrize(
    ("number", "unit", "written"),
    [
        (0, "B", "0 B"),
        (999, "B", "999 B"),
        (111_978, "B", "112.0 kB"),
        (815_585_330, "B", "815.6 MB"),
        (20_126_613_414, "B", "20.1 GB"),
        (123_403, "", "123,403"),
        (1_234.5, "samples", "1,234 samples"),
    ],
)
def test_amounts_are_written_for_people(number: int, unit: str, written: str) -> None:
    assert console.amount(number, unit) == written


def test_without_a_terminal_long_work_is_told_in_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((0.0, 5.0, 20.0, 25.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with console.progress("val.zip", 4_000_000, unit="B") as advance:
        advance(1_000_000)
        advance(1_000_000)
    assert (
        capsys.readouterr().err == "val.zip: 2.0 MB/4.0 MB, 100.0 kB/s, 20 s left\nval.zip: 2.0 MB/4.0 MB in 25.0 s\n"
    )


def test_a_training_tells_its_samples_a_second_and_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter((0.0, 20.0, 40.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with console.progress("Training pli", 6400, unit="samples") as advance:
        advance(1600)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "Training pli: 1,600/6,400 samples, 80 samples/s, 60 s left"


def test_without_a_terminal_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("images", 10) as advance:
        advance(10)
    assert capsys.readouterr().err == ""


def test_on_a_terminal_a_bar_shows_bytes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with console.progress("val.zip", 4_000_000, unit="B") as advance:
        advance(1_000_000)
    assert "1.0/4.0 MB" in capsys.readouterr().err

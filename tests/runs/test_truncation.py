"""Captions that are too long for the text tower are counted and said, not only kept in the result."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import cirbench

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_run_says_how_many_captions_are_cut_and_by_how_much(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    protocol = cirbench.load_protocol("scenes/tiny")
    length = cirbench.load_backbone("scenes-vit").context_length
    long = dataclasses.replace(protocol.queries[0], captions=("red " * (length + 8),))  # two tokens are start and end
    changed = dataclasses.replace(protocol, queries=(long, *protocol.queries[1:20]))
    cirbench.evaluate("text-only", changed.first(20), output=tmp_path)
    said = capsys.readouterr().err
    assert f"text-only: 1 different texts are longer than the {length} tokens that scenes-vit reads" in said
    assert "The captions of 1 of 20 queries are too long by themselves, by up to 10 words." in said
    assert "image-only: " not in said

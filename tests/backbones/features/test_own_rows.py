"""Rows that a method makes of its own are kept as features are."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

from cirbench.backbones.features.encoder import Encoder
from cirbench.backbones.features.store import FeatureStore, OwnSpace
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

CONTENTS = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(7)]


def space(recipe: str = "0") -> OwnSpace:
    return OwnSpace(tiny_backbone().identity, "words", recipe, 3)


class Maker:
    """Makes rows, remembers which, and is killed at a given call."""

    def __init__(self, killed_at: int = 99) -> None:
        self.calls: list[list[str]] = []
        self.killed_at = killed_at

    def __call__(self, contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        if len(self.calls) == self.killed_at:
            raise KeyboardInterrupt
        self.calls.append(contents)
        advance(len(contents))
        return np.array([[int(content[:4], 16), 1, 2] for content in contents], dtype=np.float32)


def test_rows_are_made_once_for_each_recipe_and_given_in_the_order_asked_for(tmp_path: Path) -> None:
    make = Maker()
    encoder = Encoder(tiny_backbone(), FeatureStore(tmp_path))
    asked = [*CONTENTS, CONTENTS[0]]
    rows = encoder.own(space(), asked, make, shard=3)
    assert rows[:, 0].tolist() == [int(content[:4], 16) for content in asked]
    assert [len(call) for call in make.calls] == [3, 3, 1]
    again = Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), asked[::-1], make, shard=3)
    np.testing.assert_array_equal(again, rows[::-1])
    assert len(make.calls) == 3
    encoder.own(space("1"), CONTENTS[:1], make, shard=3)
    assert len(make.calls) == 4


def test_a_killed_maker_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), CONTENTS, Maker(killed_at=2), shard=3)
    make = Maker()
    Encoder(tiny_backbone(), FeatureStore(tmp_path)).own(space(), CONTENTS, make, shard=3)
    assert make.calls == [CONTENTS[6:]]


def test_rows_in_half_precision_are_rounded_in_memory_and_on_disk_alike(tmp_path: Path) -> None:
    half = dataclasses.replace(space(), precision="float16")
    assert half.digest != space().digest

    def make(contents: list[str], advance: Callable[[int], None]) -> NDArray[np.float32]:
        return np.array([[int(content[:6], 16) / 7e6, 1 / 3, 0] for content in contents], dtype=np.float32)

    stores = (None, FeatureStore(tmp_path), FeatureStore(tmp_path))
    rows = [Encoder(tiny_backbone(), store).own_rows(half, CONTENTS, make, shard=3)[:] for store in stores]
    exact = make(CONTENTS, lambda amount: None)
    for found in rows:
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, exact.astype(np.float16).astype(np.float32))
    assert not np.array_equal(rows[0], exact)

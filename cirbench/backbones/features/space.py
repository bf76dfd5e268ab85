"""What a row of features means, and where rows are kept while and after they are computed."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from cirbench.support.files import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cirbench.backbones.interface import BackboneIdentity

Tower = Literal["image", "text"]
SCHEMA = 1


@dataclasses.dataclass(frozen=True, slots=True)
class FeatureSpace:
    """What fixes the meaning of a row besides the item itself.

    Attributes:
        backbone: The identity of the model, its preprocessing and precision included.
        tower: Which of its towers.
        dim: D, the length of a row; it follows from the backbone.
    """

    backbone: BackboneIdentity
    tower: Tower
    dim: int

    @property
    def digest(self) -> str:
        """Sha256 over schema, backbone and tower; the backbone's name is not part of it."""
        return digest({"schema": SCHEMA, "backbone": self.backbone.digest, "tower": self.tower})


@dataclasses.dataclass(frozen=True, slots=True)
class OwnSpace:
    """What fixes the meaning of a row that a method makes of its own, from a backbone and an item.

    Attributes:
        backbone: The identity of the model.
        owner: What makes the row, for people.
        recipe: Sha256 of everything else that decides it.
        dim: The length of a row; it follows from the others.
    """

    backbone: BackboneIdentity
    owner: str
    recipe: str
    dim: int

    @property
    def digest(self) -> str:
        """Sha256 over schema, backbone, owner and recipe; the backbone's name is not part of it."""
        own = {"owner": self.owner, "recipe": self.recipe}
        return digest({"schema": SCHEMA, "backbone": self.backbone.digest, **own})


Space = FeatureSpace | OwnSpace


class Rows(Protocol):
    """An (N, D) float32 matrix that is read as it is sliced; an array is one as well."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N and D."""
        ...

    def __getitem__(self, rows: slice, /) -> NDArray[np.float32]:
        """Read the rows of a slice."""
        ...


class FeatureTable(Protocol):
    """Rows of one space by item content (sha256 in hex)."""

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet."""
        ...

    def write(
        self, contents: Sequence[str], features_ND: NDArray[np.float32], circumstances: Mapping[str, str]
    ) -> None:
        """Keep one row per content, and in which circumstances they were computed."""
        ...

    def rows(self, contents: Sequence[str]) -> Rows:
        """The rows in the order of ``contents``, (N, D); each must be there."""
        ...


class MemoryShelf:
    """The rows of one space, for as long as the encoder lives."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._rows: dict[str, NDArray[np.float32]] = {}

    def missing(self, contents: Sequence[str]) -> list[int]:
        """The positions in ``contents`` that have no row yet."""
        return [position for position, content in enumerate(contents) if content not in self._rows]

    def write(
        self, contents: Sequence[str], features_ND: NDArray[np.float32], circumstances: Mapping[str, str]
    ) -> None:
        """Keep one row per content."""
        self._rows.update(zip(contents, features_ND, strict=True))

    def rows(self, contents: Sequence[str]) -> NDArray[np.float32]:
        """The rows in the order of ``contents``, (N, D)."""
        rows = [self._rows[content] for content in contents]
        return np.stack(rows) if rows else np.empty((0, self._space.dim), dtype=np.float32)

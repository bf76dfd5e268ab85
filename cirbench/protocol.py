"""The nouns of an evaluation: items, queries, labels and the protocol that binds them.

A protocol is everything that fixes a number. It has an id and a version (``circo/val@1``) and a digest over its
content; two numbers may be in one column only if their digests agree.

Methods see `Query` and `Item`, never `Labels`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar
from typing import Protocol as Interface

from cirbench.errors import MissingData
from cirbench.metrics.table import NO_CUTOFF
from cirbench.support.files import digest, digest_of_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image

    from cirbench.metrics.table import Measure

T = TypeVar("T")

TIE_RULE = "score descending, then sha256 of the item id ascending"
"""How equal scores are ordered; the same for every protocol, and part of each digest."""


class ImageSource(Interface):
    """A way to one image: a file, a crop of one, or a rendered scene."""

    @property
    def content(self) -> str:
        """Sha256 (hex) of what determines the pixels; equal content means equal features."""
        ...

    def open(self) -> Image.Image:
        """Decode or render the image, whole, in its original mode.

        Raises:
            MissingData: The image is absent, truncated, undecodable or too large; the message names it.
        """
        ...

    def __str__(self) -> str:
        """Name the image in messages."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One image with the id by which the benchmark knows it."""

    id: str
    image: ImageSource


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A reference image and what to change.

    Attributes:
        id: The benchmark's own query id, as text.
        reference: The image to start from.
        captions: All relative captions as annotated, untouched (FashionIQ has two).
        category: The part of the benchmark the query belongs to (FashionIQ's garment, ImageNet-R's domain).
        shared_concept: Given only under protocols that allow it.
    """

    id: str
    reference: Item
    captions: tuple[str, ...]
    category: str | None = None
    shared_concept: str | None = None


@dataclasses.dataclass(frozen=True)
class Gallery:
    """The ordered images that queries are ranked against.

    Attributes:
        ids: Unique item ids.
        images: The images, in the order of ``ids``; ``None`` where only annotations are available.
    """

    ids: tuple[str, ...]
    images: Sequence[ImageSource] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def items(self) -> list[Item]:
        """Every item with its image.

        Raises:
            MissingData: Only the annotations of this data set are available.
        """
        if self.images is None:
            raise MissingData("The images of this gallery are not available; only its annotations are.")
        return [Item(name, image) for name, image in zip(self.ids, self.images, strict=True)]

    @cached_property
    def positions(self) -> Mapping[str, int]:
        """The position of each id."""
        return {name: position for position, name in enumerate(self.ids)}

    @cached_property
    def digest(self) -> str:
        """Sha256 over the ids in order."""
        return hashlib.sha256("\n".join(self.ids).encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Labels:
    """What the answers are. Never shown to a method.

    Attributes:
        relevant: Per query, the ids of all ground truths. The first one is the target on which Recall@K is measured.
        gains: Per query, the soft label of each ground truth; ``None`` where all are equally right. Below 0 for an item
            that is known to be a wrong answer: it is ranked, and only metrics on soft labels and negatives see it.
    """

    relevant: tuple[tuple[str, ...], ...]
    gains: tuple[tuple[float, ...], ...] | None = None

    @property
    def right(self) -> tuple[tuple[bool, ...], ...]:
        """Per query, whether each is a ground truth, and not an item that is known to be wrong."""
        gains = self.gains or [(1.0,) * len(row) for row in self.relevant]
        return tuple(tuple(gain >= 0 for gain in row) for row in gains)

    @property
    def digest(self) -> str:
        """Sha256 over the ground truths and, where there are any, their soft labels."""
        return digest_of_rows(self.relevant) if self.gains is None else digest([self.relevant, self.gains])

    def only(self, places: Sequence[int]) -> Labels:
        """Return the labels of the queries at ``places``."""
        return Labels(_at(self.relevant, places), self.gains and _at(self.gains, places))


@dataclasses.dataclass(frozen=True)
class EvaluationProtocol:
    """Everything that fixes a number.

    Attributes:
        id: ``dataset/split`` or ``dataset/split-variant``.
        version: Raised whenever a change could move a number.
        title: One line for people.
        queries: The queries, in the benchmark's order.
        gallery: What is ranked; ``None`` where the list of images is not available, so that only given rankings can be
            scored and their ids cannot be checked against the gallery.
        labels: The ground truths; ``None`` where a test server keeps them.
        measures: What is reported; the first one is the headline.
        exclude_reference: Whether the reference image is removed from the candidates of its own query.
        groups: Per query, the ids of its group of similar images (CIRR's image set), the reference included.
        pools: Candidate sets as gallery ids, and ``pool_of_query``, the one that each query ranks. ``None``: every
            query ranks the whole gallery.
        slices: Per kind (``"aspect"``, ``"category"``) the labels that each query carries.
        clusters: Per query, a label shared by queries that are not independent of each other (same image group or
            reference); intervals resample clusters.
        captions: How relative captions reach the method, in words.
        licence: Of the annotations.
        data_digests: Digests of the underlying data, by what they cover; part of the identity.
    """

    id: str
    version: int
    title: str
    queries: tuple[Query, ...]
    gallery: Gallery | None
    labels: Labels | None
    measures: tuple[Measure, ...]
    exclude_reference: bool = False
    groups: tuple[tuple[str, ...], ...] | None = None
    pools: tuple[tuple[str, ...], ...] | None = None
    pool_of_query: tuple[int, ...] | None = None
    slices: Mapping[str, tuple[tuple[str, ...], ...]] = dataclasses.field(default_factory=dict)
    clusters: tuple[str, ...] | None = None
    captions: str = "as annotated"
    licence: str = "unknown"
    data_digests: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """Id and version, ``circo/val@1``."""
        return f"{self.id}@{self.version}"

    @property
    def depth(self) -> int:
        """How many gallery items per query are kept: the deepest cut-off of any measure, and at least 50."""
        return max([50, *(measure.k for measure in self.measures if measure.k != NO_CUTOFF)])

    @cached_property
    def fields(self) -> Mapping[str, str]:
        """A digest (or the plain value) of each part that fixes a number, so that a difference can be named."""
        queries = [[q.id, q.reference.id, list(q.captions), q.category, q.shared_concept] for q in self.queries]
        return {
            "id": self.id,
            "version": str(self.version),
            "queries": digest(queries),
            "gallery": self.gallery.digest if self.gallery is not None else "unknown",
            "labels": self.labels.digest if self.labels is not None else "hidden",
            "measures": ", ".join(str(measure) for measure in self.measures),
            "exclude_reference": str(self.exclude_reference),
            "groups": digest(self.groups),
            "pools": digest([self.pools, self.pool_of_query]),
            "slices": digest(dict(self.slices)),
            "clusters": digest(self.clusters),
            "captions": self.captions,
            "data": digest(dict(self.data_digests)),
            "ties": TIE_RULE,
        }

    @cached_property
    def digest(self) -> str:
        """Sha256 over everything that fixes a number."""
        return digest(dict(self.fields))

    def first(self, count: int) -> EvaluationProtocol:
        """Return the protocol cut to its first ``count`` queries, for a quick look; its numbers are partial."""
        return self.only(range(min(count, len(self.queries))))

    def only(self, places: Sequence[int]) -> EvaluationProtocol:
        """Return the protocol with the queries at ``places`` and no others; its numbers are partial."""
        return dataclasses.replace(
            self,
            queries=_at(self.queries, places),
            labels=None if self.labels is None else self.labels.only(places),
            groups=self.groups and _at(self.groups, places),
            pool_of_query=self.pool_of_query and _at(self.pool_of_query, places),
            clusters=self.clusters and _at(self.clusters, places),
            slices={kind: _at(values, places) for kind, values in self.slices.items()},
        )


def _at(values: tuple[T, ...], places: Sequence[int]) -> tuple[T, ...]:
    return tuple(values[place] for place in places)


@dataclasses.dataclass(frozen=True, slots=True)
class ImageTextPair:
    """One image and one sentence about it."""

    image: ImageSource
    caption: str


@dataclasses.dataclass(frozen=True, slots=True)
class Triplet:
    """A query whose answer is known, to be trained on.

    Attributes:
        reference: The image to start from.
        captions: What to change, as annotated (FashionIQ has two); some may be empty.
        target: The image that is asked for.
        negatives: Images that are known to be wrong answers.
        group: A label shared by triplets that belong together (CIRR's image set); parts that are held out are cut
            between groups, or between references where there are none.
        category: The part of the data it belongs to (FashionIQ's garment).
        weight: How much it counts in a loss.
    """

    reference: Item
    captions: Sequence[str]
    target: Item
    negatives: tuple[Item, ...] = ()
    group: str | None = None
    category: str | None = None
    weight: float = 1.0

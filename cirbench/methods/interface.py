"""What a method is to the harness.

A method turns gallery items and queries into representations. The harness owns data, exclusion, candidates, ties,
metrics and files; it never asks which method it has. A method never sees a label.

Required are a `MethodSpec` and the two ``encode_*`` functions of `Method`. Everything else is a capability of its own
that a method may have: `Scorer`, `GalleryFitted`, `ModifiesText`, and the training objective that the SPEC names
(`cirbench.training.interface`).

A `Reranker` is a method of the second stage: it encodes nothing, and re-orders what a first stage found.

`METHODS` are those that are installed; some of them are the baselines that every other is shown beside.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args, runtime_checkable

from cirbench.errors import UsageError
from cirbench.support.parameters import Parameters
from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from PIL import Image

    from cirbench.artefacts import Artefact
    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.errors import CirbenchError
    from cirbench.protocol import ImageSource, Item, Query
    from cirbench.training.interface import TrainingParameters

__all__ = [
    "METHODS",
    "Calls",
    "ComposedQuery",
    "Converter",
    "CountsCalls",
    "GalleryFitted",
    "Method",
    "MethodFactory",
    "MethodSpec",
    "Parameters",
    "Picture",
    "Reranker",
    "RerankerFactory",
    "Scorer",
    "UsesArtefacts",
    "find_baselines",
    "find_method",
    "list_methods",
    "load_methods",
    "reference_baseline",
    "unimodal_baselines",
]

Disclosure = Literal["yes", "no", "unknown"]
TrainsOn = Literal["pairs", "images", "texts", "features", "pair-features", "triplets", "triplet-features"]
Baseline = Literal["image", "text", "image+text"]
Need = Literal["images", "backbone", "joint backbone"]
Supervision = Literal["training-free", "text-only", "image-only", "image-text pairs", "triplets", "unknown"]


@dataclasses.dataclass(frozen=True, slots=True)
class MethodSpec:
    """The light half of a method: what can be said without importing torch.

    Attributes:
        name: What is typed after ``--method``.
        title: One line for tables and pages.
        implementation: ``"package.module:Class"``, a `MethodFactory`; imported on use.
        parameters: The type of its parameters; every field has a default.
        paper: arXiv id, DOI or URL, or ``None``.
        supervision: What it is trained with.
        trainer: ``"package.module:Class"`` of the training objective, or ``None`` for methods without training.
        training: The type of the training parameters; ``None`` exactly where ``trainer`` is.
        trains_on: What the training looks at: images with captions, images alone, texts alone, triplets of a
            reference, a text and a target; or features: images, pairs or triplets that its objective has prepared
            (`cirbench.training.interface.NeedsPreparation`), so that a step opens none.
        converter: ``"package.module:function"`` that reads the checkpoints its authors published, a `Converter`, or
            ``None`` where there are none.
        checkpoints: For backbones, by name, how to get a checkpoint, with ``*`` for every other one; ``{backbone}`` and
            ``{training}``, options that set training parameters, are filled in.
        inference_presets: Parameters for backbones, by name, on which the defaults are known not to work; also by names
            of their own: ``--set preset=NAME`` takes any of them.
        training_presets: Training parameters for backbones, by name, on which the defaults are known not to work.
        baseline: The side of the query that it represents, for an untrained baseline with which every other method is
            compared; ``None`` for other methods.
        needs: What the harness has to bring: the images of the benchmark, and a backbone. A method with an encoder of
            its own needs the images alone, and one that reads features from a file neither. A ``joint backbone``
            reads an image and a text together; where one is needed, another backbone is refused before anything runs.
        uses_shared_concept: Whether it reads `Query.shared_concept`; where parameters decide it, a function of them.
        uses_llm: Whether a large language model takes part.
        uses_triplets: Whether it was trained on composed triplets.
        transductive: Whether an answer depends on other gallery items or other queries than its own; where parameters
            decide it, a function of them.
        reranks: Whether it is a `Reranker`, which re-orders what another method found; asked for by ``--rerank``.
        oracle: Whether it knows the ground truths; where parameters decide it, a function of them. What it gives is
            then an upper bound, and never on a board.
    """

    name: str
    title: str
    implementation: str
    parameters: type[Parameters] = Parameters
    paper: str | None = None
    supervision: Supervision = "training-free"
    trainer: str | None = None
    training: type[TrainingParameters] | None = None
    trains_on: TrainsOn = "pairs"
    converter: str | None = None
    checkpoints: Mapping[str, str] = dataclasses.field(default_factory=dict)
    inference_presets: Mapping[str, Parameters] = dataclasses.field(default_factory=dict)
    training_presets: Mapping[str, TrainingParameters] = dataclasses.field(default_factory=dict)
    baseline: Baseline | None = None
    needs: tuple[Need, ...] = ("images", "backbone")
    uses_shared_concept: Disclosure | Callable[[Any], bool] = "no"
    uses_llm: Disclosure = "no"
    uses_triplets: Disclosure = "no"
    transductive: Disclosure | Callable[[Any], bool] = "no"
    reranks: bool = False
    oracle: bool | Callable[[Any], bool] = False

    @property
    def needs_triplets(self) -> bool:
        """Whether it is trained on triplets."""
        return self.trains_on in ("triplets", "triplet-features")

    def transductive_with(self, parameters: Parameters) -> Disclosure:
        """Return whether it is transductive with these parameters."""
        return _disclosed(self.transductive, parameters)

    def uses_shared_concept_with(self, parameters: Parameters) -> Disclosure:
        """Return whether it reads the shared concept with these parameters."""
        return _disclosed(self.uses_shared_concept, parameters)

    def oracle_with(self, parameters: Parameters) -> bool:
        """Return whether it knows the ground truths with these parameters."""
        return self.oracle(parameters) if callable(self.oracle) else self.oracle


def _disclosed(stated: Disclosure | Callable[[Any], bool], parameters: Parameters) -> Disclosure:
    if callable(stated):
        return "yes" if stated(parameters) else "no"
    return stated


class Method(Protocol):
    """Turns gallery items and queries into representations."""

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Represent gallery items as one row each, (N, D); a row depends on its own item only."""
        ...

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Represent queries as one row each, (Q, D); a row depends on its own query only."""
        ...


@runtime_checkable
class Scorer(Protocol):
    """A method whose score is not the dot product of L2-normalised rows.

    Its queries and items may be several vectors each: ``encode_queries`` then gives (Q, W, E) and ``encode_gallery``
    (N, V, D), in float32 or float16, as arrays or, where they do not fit in memory, as rows that are read when they
    are sliced (`cirbench.ranking.vectors`). Such vectors are scored as they are; single rows arrive at unit length.
    """

    def score(self, queries_QD: NDArray[np.float32], gallery_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score every query against a chunk of the gallery, (Q, N), higher is better."""
        ...


@runtime_checkable
class ModifiesText(Method, Protocol):
    """A method whose queries are features of texts, and which has the same texts without the change too."""

    def encode_unmodified(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """Represent what a text says of the reference alone, (Q, D), in the space of `encode_queries`."""
        ...


@runtime_checkable
class GalleryFitted(Protocol):
    """A method that looks at the whole gallery before it answers: centring, normalisation, neighbours.

    Its SPEC says that it is transductive. Where parameters decide that and say no, `fit_gallery` is not called.
    """

    def fit_gallery(self, items: Sequence[Item]) -> None:
        """Take what is needed of the gallery that will be ranked; called once, before anything else."""
        ...


class Picture:
    """An image without a name: its pixels, and a digest by which equal images are known."""

    __slots__ = ("_image",)

    def __init__(self, image: ImageSource) -> None:
        self._image = image

    @property
    def content(self) -> str:
        """Sha256 (hex) of what determines the pixels."""
        return self._image.content

    def open(self) -> Image.Image:
        """Decode or render the image as RGB, with nothing of its file but the pixels.

        Raises:
            MissingData: The image is absent or cannot be decoded; the message names it.
        """
        from PIL import Image

        pixels = self._image.open().convert("RGB")
        return Image.frombytes("RGB", pixels.size, pixels.tobytes())


@dataclasses.dataclass(frozen=True, slots=True)
class ComposedQuery:
    """What a re-ranker sees of a query: no id, and no name of a file.

    Attributes:
        reference: The image to start from.
        captions: All relative captions as annotated.
        category: See `Query`.
        shared_concept: See `Query`.
    """

    reference: Picture
    captions: tuple[str, ...]
    category: str | None = None
    shared_concept: str | None = None

    @classmethod
    def of(cls, query: Query) -> ComposedQuery:
        """Take the pixels and the texts of a query."""
        return cls(Picture(query.reference.image), query.captions, query.category, query.shared_concept)


@runtime_checkable
class Reranker(Protocol):
    """Re-orders the first items that another method found for a query."""

    def rerank(
        self, query: ComposedQuery, items: Sequence[Picture], scores: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Judge items, (K,) float32, higher is better; equal values keep the order of the first stage.

        Args:
            query: The query.
            items: What the first stage found, best first, without what the protocol excludes; or the query's group.
            scores: The first stage's scores of ``items``, (K,): minus the rank where it has none, NaN for members of
                a group that are not among the first items.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class Calls:
    """How often a model is asked.

    Attributes:
        asked: Answers that are needed, recorded or not.
        recorded: Those of them that are recorded already, and cost nothing.
    """

    asked: int
    recorded: int = 0

    def __add__(self, other: Calls) -> Calls:
        return Calls(self.asked + other.asked, self.recorded + other.recorded)

    @property
    def new(self) -> int:
        """Those that a model is still to be asked for."""
        return self.asked - self.recorded


@runtime_checkable
class CountsCalls(Protocol):
    """A re-ranker that can say beforehand what it costs; the others count as one call for each list."""

    def count_calls(self, query: ComposedQuery, items: Sequence[Picture]) -> Calls:
        """Count the answers that `Reranker.rerank` needs for these items, and ask for none of them."""
        ...


@runtime_checkable
class UsesArtefacts(Protocol):
    """A method that takes recorded answers of models, so that the run can say which."""

    @property
    def artefacts(self) -> Sequence[Artefact]:
        """What it looked answers up in."""
        ...


class MethodFactory(Protocol):
    """What `MethodSpec.implementation` names."""

    def __call__(self, encoder: Encoder, parameters: Any, checkpoint: Path | None = None) -> Method:
        """Build the method.

        Args:
            encoder: The backbone with the feature store; ``None`` where the SPEC does not need one and none is given.
            parameters: Of the type that the SPEC names.
            checkpoint: Folder of a trained method's checkpoint.
        """
        ...


class RerankerFactory(Protocol):
    """What `MethodSpec.implementation` names for a re-ranker."""

    def __call__(self, encoder: Encoder | None, parameters: Any, *, device: str) -> Reranker:
        """Build the re-ranker, without loading what it may never be asked for.

        Args:
            encoder: The backbone with the feature store; ``None`` where the SPEC does not need one.
            parameters: Of the type that the SPEC names.
            device: For a model of its own: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        """
        ...


class Converter(Protocol):
    """What `MethodSpec.converter` names."""

    def __call__(self, content: Any, backbone: Backbone, file: str) -> Mapping[str, torch.Tensor]:
        """Find what the method's checkpoints hold, by their own names, in the content of a published file.

        Args:
            content: Of the file, as `torch.load` gives it.
            backbone: For which it is meant.
            file: Its name, for messages.

        Raises:
            UsageError: It is not such a file, or belongs to another backbone.
        """
        ...


STRIPPED = ".?,"
"""What SEARLE, LinCIR and CLIP4Cir take, with blanks, off both ends of each of FashionIQ's two captions."""


def join_captions(captions: Sequence[str], strip: str = "") -> str:
    """Join captions by " and "; of several ones, take the characters ``strip`` and blanks off both ends first.

    A single caption stays as annotated: the public code that strips does so on FashionIQ only, whose queries have two.
    """
    if strip and len(captions) > 1:
        captions = [caption.strip(f"{strip} ") for caption in captions]
    return " and ".join(captions)


def sentences(queries: Sequence[Query], prompt: str = "{}", strip: str = "") -> list[str]:
    """Join each query's captions (`join_captions`), and put them into a prompt where it says ``{}``.

    Raises:
        UsageError: The prompt has no place for the caption.
    """
    if "{}" not in prompt:
        raise UsageError(f"The prompt {prompt!r} has no place for the caption.", hint="Write {} where it belongs.")
    return [prompt.replace("{}", join_captions(query.captions, strip)) for query in queries]


METHODS = Plugins("method", "cirbench.methods", MethodSpec, "docs/adding-a-method.md", holder="SPEC")


def list_methods() -> list[str]:
    """Name every installed method, broken ones too, without importing any."""
    return METHODS.names()


def find_method(name: str) -> MethodSpec:
    """Find a method.

    Args:
        name: An installed method's name, or ``package.module:Name`` or ``path/to/file.py:Name``, where the object is
            a `MethodSpec` or a class that has one as ``SPEC``.

    Raises:
        UnknownName: There is no such method.
        MissingData: The file does not exist.
        PluginFailed: The plug-in cannot be imported, or is not a method.
    """
    return METHODS.find(name)


def load_methods() -> tuple[dict[str, MethodSpec], dict[str, CirbenchError]]:
    """Load the SPEC of every installed method; return those that work, and the error of each that does not."""
    return METHODS.all()


def find_baselines() -> dict[Baseline, MethodSpec]:
    """The installed untrained baselines by the side of the query that they represent: image, text, image and text.

    Where several methods represent the same side, the first by name is the baseline.
    """
    return _baselines(tuple(sys.path))


def unimodal_baselines() -> tuple[str, str]:
    """The names of the baselines that represent the image and the text alone; empty where one is not installed."""
    found = find_baselines()
    image, text = (found[side].name if side in found else "" for side in ("image", "text"))
    return image, text


def reference_baseline() -> str:
    """The name of the baseline that every method is compared with, image and text; empty where it is not installed."""
    found = find_baselines()
    return found["image+text"].name if "image+text" in found else ""


@functools.lru_cache
def _baselines(path: tuple[str, ...]) -> dict[Baseline, MethodSpec]:
    """Find them among what is installed, which is a function of ``path``; a broken method hides none."""
    found: dict[Baseline, MethodSpec] = {}
    for spec in METHODS.all()[0].values():
        if spec.baseline is not None:
            found.setdefault(spec.baseline, spec)
    return {side: found[side] for side in get_args(Baseline) if side in found}

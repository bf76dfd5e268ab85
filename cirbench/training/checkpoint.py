"""Checkpoints: weights as safetensors, and a card with everything that produced them.

<folder>/weights.safetensors    the tensors of what was trained
<folder>/*.safetensors          weights of an earlier stage, where the method has one
<folder>/images.u64             which images a training on triplets looked at; see `seen_by`
<folder>/card.json              a `Card`; written last, so a folder with a card is whole
<folder>/state.safetensors      only while the training is unfinished; see `cirbench.training.state`
<folder>/epoch-K/               a checkpoint after each epoch, where those are kept

The images are kept beside the weights, by content, since a checkpoint is evaluated where its training data are not, and
an evaluation on one of them never passes unsaid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cirbench.backbones.interface import BackboneIdentity
from cirbench.errors import CheckFailed, CorruptFile, MissingData, UsageError, some
from cirbench.protocol import Triplet
from cirbench.support.code import Code
from cirbench.support.console import typed
from cirbench.support.files import sha256_of_file, write_bytes
from cirbench.support.needs import MODELS, versions
from cirbench.training.interface import rename_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cirbench.protocol import EvaluationProtocol, Item
    from cirbench.training.data import Source
    from cirbench.training.interface import TrainingParameters

SCHEMA = 2
WEIGHTS = "weights.safetensors"
CARD = "card.json"

SEEN = "images.u64"
"""The file: the first eight bytes of the digest of each image, as numbers, ascending."""
_NUMBERS = "<u8"
_MATTERS = ("architecture", "activation", "weights")


class CheckpointScore(msgspec.Struct, frozen=True, kw_only=True):
    """The headline metric of one protocol, for the weights after some steps of a training.

    Attributes:
        step: Optimiser steps that the weights have seen.
        protocol: Name of the protocol.
        digest: Sha256 of the protocol.
        metric: Label of its headline metric.
        value: In percent.
    """

    step: int
    protocol: str
    digest: str
    metric: str
    value: float


class Card(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a checkpoint comes from.

    Attributes:
        schema: The version of this file's form.
        digest: Sha256 of the file with nothing in the place of this digest; empty in cards of schema 1.
        method: What was trained.
        request: Sha256 over everything that was asked for; equal requests are one training.
        file: The name of the weights file.
        weights: Its sha256.
        carried: Sha256 of the files beside it that belong to it: weights of an earlier stage, and which images
            it was trained on (`SEEN`).
        training: The training parameters, all of them.
        backbone: The identity of the backbone that training started from.
        data: The samples, by name.
        data_digest: What they are; see `cirbench.training.data.Source`.
        data_pairs: How many there are.
        code: The source code that the training rested on; none where it is not known.
        steps: Optimiser steps that the weights have seen.
        losses: The loss of each step of the training; it went on after the weights that were selected.
        evaluations: What was evaluated on the way.
        selected_on: The protocol on which these weights were the best; none where they are just the last.
        seconds: Wall time, over all sittings.
        device: Where it ran.
        threads: CPU threads that computed, in each process.
        processes: How many processes took part.
        skipped: How many samples could not be used and were left out.
        overlap: By protocol, how many of its images the training looked at, where that was allowed.
        stages_selected_on: The protocols on which the weights of earlier stages that it carries were the best.
        packages: Versions.
        created: When it was finished, UTC, ISO 8601.
    """

    schema: int = SCHEMA
    digest: str = ""
    method: str
    request: str
    file: str = WEIGHTS
    weights: str
    carried: dict[str, str] = {}
    training: dict[str, Any]
    backbone: BackboneIdentity
    data: str
    data_digest: str
    data_pairs: int
    code: Code | None = None
    steps: int
    losses: list[float]
    seconds: float
    device: str
    threads: int
    packages: dict[str, str]
    created: str
    evaluations: list[CheckpointScore] = []
    selected_on: str | None = None
    processes: int = 1
    skipped: int = 0
    overlap: dict[str, int] = {}
    stages_selected_on: list[str] = []


def write_card(folder: Path, card: Card) -> None:
    """Write a card atomically, with its digest."""
    blank = _to_json(msgspec.structs.replace(card, digest=""))
    write_bytes(folder / CARD, _to_json(msgspec.structs.replace(card, digest=hashlib.sha256(blank).hexdigest())))


def _to_json(card: Card) -> bytes:
    return msgspec.json.format(msgspec.json.encode(card), indent=2) + b"\n"


def read_card(folder: Path) -> Card:
    """Read a checkpoint's card, and bring one of an earlier schema up to date.

    Raises:
        MissingData: There is no checkpoint in the folder.
        CorruptFile: The card is damaged, was changed, or is of a newer schema.
    """
    path = folder / CARD
    if not path.is_file():
        unfinished = (folder / "state.safetensors").is_file()
        raise MissingData(
            f"{folder} holds {'an unfinished training' if unfinished else 'no checkpoint'}: there is no {CARD}.",
            hint="Run its training command again to finish it." if unfinished else None,
        )
    content = path.read_bytes()
    try:
        values = msgspec.json.decode(content, type=dict[str, Any])
        schema = values["schema"]
        if schema == 1:
            values |= {"schema": SCHEMA, "training": rename_parameters(values["training"]), "code": None}
        elif schema != SCHEMA:
            raise CorruptFile(f"{path} has schema {schema}; this version of cirbench reads up to {SCHEMA}.")
        card = msgspec.convert(values, Card)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFile(f"{path} is not a valid checkpoint card: {str(error)[:200]}.", hint=_AGAIN) from error
    if schema != 1 and hashlib.sha256(content.replace(card.digest.encode(), b"")).hexdigest() != card.digest:
        raise CorruptFile(f"{path} is damaged or was changed: its content does not match its digest.", hint=_AGAIN)
    return card


_AGAIN = "Copy the checkpoint again, or remove the folder and train again."


def open_checkpoint(folder: Path, *, method: str, backbone: BackboneIdentity) -> Card:
    """Verify that a checkpoint is whole and belongs to a method and a backbone; return its card.

    Raises:
        MissingData: There is no checkpoint.
        CorruptFile: The weights are not those that the card was written for.
        UsageError: It belongs to another method or another backbone.
    """
    card = read_card(folder)
    if card.method != method:
        raise UsageError(f"The checkpoint {folder} is of the method {card.method}, not of {method}.")
    theirs, ours = dataclasses.asdict(card.backbone), dataclasses.asdict(backbone)
    for field in _MATTERS:
        if theirs[field] != ours[field]:
            raise UsageError(
                f"The checkpoint {folder} was trained on {card.backbone.name}, and the backbone here is "
                f"{backbone.name}: {field} {theirs[field][:40]} against {ours[field][:40]}.",
                hint=f"Use --backbone {typed(card.backbone.name)}, or train on {backbone.name}.",
            )
    verify_weights(folder, card)
    return card


def verify_weights(folder: Path, card: Card) -> None:
    """Compare the weights file, and those carried along, with the checksums in the card.

    Raises:
        CorruptFile: They differ, or a file is absent.
    """
    for name, expected in {card.file: card.weights, **card.carried}.items():
        path = folder / name
        if not path.is_file():
            raise CorruptFile(f"The checkpoint {folder} has lost its {name}.", hint="Train again, or copy it again.")
        if sha256_of_file(path) != expected:
            raise CorruptFile(
                f"{path} is damaged: it is not the file that {CARD} was written for.",
                hint=_AGAIN,
            )


def carry_weights(parameters: TrainingParameters, folder: Path) -> dict[str, str]:
    """Copy the weights of the checkpoints that parameters name into a checkpoint's folder; return their checksums.

    Raises:
        MissingData: One of them is not a checkpoint.
        CorruptFile: One is damaged.
    """
    carried = {}
    for parameter, stage in _stages(parameters):
        card, file = read_card(stage), parameters.CARRIED[parameter]
        verify_weights(stage, card)
        write_bytes(folder / file, (stage / card.file).read_bytes())
        carried[file] = card.weights
    return carried


def stages_of(parameters: TrainingParameters) -> list[Path]:
    """The checkpoints of earlier stages that parameters name."""
    return [stage for _, stage in _stages(parameters)]


def _stages(parameters: TrainingParameters) -> list[tuple[str, Path]]:
    named = [(parameter, getattr(parameters, parameter)) for parameter in parameters.CARRIED]
    return [(parameter, Path(stage)) for parameter, stage in named if stage is not None]


def stages_selected_on(parameters: TrainingParameters) -> list[str]:
    """On which protocols the weights of the earlier stages were chosen, those of their own stages included.

    Raises:
        MissingData: One of them is not a checkpoint.
        CorruptFile: The card of one is damaged.
    """
    cards = [read_card(stage) for stage in stages_of(parameters)]
    named = [name for card in cards for name in (card.selected_on, *card.stages_selected_on) if name is not None]
    return sorted({*named})


def packages() -> dict[str, str]:
    """The versions of the packages that a training depends on."""
    return {"python": platform.python_version()} | versions(("cirbench", *MODELS))


def seen_by(source: Source | None, stages: Iterable[Path] = ()) -> bytes | None:
    """Return the content of `SEEN`: the images of a source, and those that earlier stages were trained on.

    Args:
        source: What is trained on; ``None`` where it is not known.
        stages: The checkpoints that it rests on.

    Returns:
        The content; ``None`` where neither is of triplets, or none is known.
    """
    known = [content for stage in stages if (content := _seen_of(stage)) is not None]
    if source is not None and isinstance(source.samples[0], Triplet):
        known.append(np.array([_to_number(digest) for digest in _shown(source)], dtype=_NUMBERS).tobytes())
    return np.unique(np.frombuffer(b"".join(known), dtype=_NUMBERS)).tobytes() if known else None


def write_seen(seen: bytes, folder: Path) -> dict[str, str]:
    """Keep which images triplets show in the folder of a checkpoint; return the checksum by file."""
    write_bytes(folder / SEEN, seen)
    return {SEEN: hashlib.sha256(seen).hexdigest()}


def read_seen(folder: Path) -> Callable[[str], bool] | None:
    """Return what says whether a checkpoint was trained on an image, by its digest; ``None`` where it does not say."""
    content = _seen_of(folder)
    return None if content is None else among(content)


def among(seen: bytes) -> Callable[[str], bool]:
    """Return what says whether an image is one of those that were seen, by its digest."""
    numbers = frozenset(np.frombuffer(seen, dtype=_NUMBERS).tolist())
    return lambda digest: _to_number(digest) in numbers


def count_overlap(
    is_trained: Callable[[str], bool], protocol: EvaluationProtocol, *, allowed: bool, trained: str, hint: str
) -> int:
    """Count the images of a protocol that were trained on.

    Args:
        is_trained: Says so of the digest of an image.
        protocol: Its gallery and references are looked at, as far as they are there.
        allowed: Whether there may be any.
        trained: What was trained on, for the message.
        hint: What to do instead.

    Raises:
        CheckFailed: There are such images, and they are not allowed.
    """
    items = [] if protocol.gallery is None or protocol.gallery.images is None else protocol.gallery.items
    looked_at = (*items, *(query.reference for query in protocol.queries))
    shared = sorted(
        {item.id for item in looked_at if (content := _digest_of(item)) is not None and is_trained(content)}
    )
    if shared and not allowed:
        raise CheckFailed(
            f"{len(shared)} images of {protocol.name} are among {trained}: {some(shared)}.",
            hint=f"{hint}; or give --allow-overlap: it is recorded, and said below each table.",
        )
    return len(shared)


def _shown(source: Source) -> Iterator[str]:
    """Yield the digest of every image that triplets show, but for those that cannot be read."""
    seen: set[str] = set()
    for place, triplet in enumerate(source.triplets):
        if place not in source.unusable:
            for item in (triplet.reference, triplet.target, *triplet.negatives):
                if item.id not in seen:
                    seen.add(item.id)
                    if (content := _digest_of(item)) is not None:
                        yield content


def _seen_of(folder: Path) -> bytes | None:
    return (folder / SEEN).read_bytes() if (folder / SEEN).is_file() else None


def _digest_of(item: Item) -> str | None:
    with contextlib.suppress(MissingData):  # who needs it says so
        return item.image.content
    return None


def _to_number(digest: str) -> int:
    """The first eight bytes of a digest; of any other name of a content those of its sha256."""
    try:
        return int(digest[:16], 16)
    except ValueError:
        return int(hashlib.sha256(digest.encode()).hexdigest()[:16], 16)

"""What all methods of a run stand on: the protocol with its images, and the backbone with its weights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cirbench.benchmarks.catalogue import load_protocol
from cirbench.benchmarks.images import Lost, find_lost, require_images
from cirbench.errors import MissingData
from cirbench.support import console
from cirbench.support.needs import entry_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cirbench.backbones.encoder import Encoder
    from cirbench.backbones.interface import Backbone
    from cirbench.protocol import EvaluationProtocol
    from cirbench.runs.config import Resolved


class Ground:
    """The protocol and the backbone of a resolved configuration, each loaded when it is first needed.

    Configurations that differ in methods and parameters alone may share one.
    """

    def __init__(
        self, resolved: Resolved, protocol: EvaluationProtocol | None = None, backbone: Backbone | None = None
    ) -> None:
        self._resolved = resolved
        self._given = protocol
        self.has_backbone = resolved.backbone is not None or backbone is not None
        if backbone is not None:
            self.backbone = backbone

    @cached_property
    def protocol(self) -> EvaluationProtocol:
        """The protocol, loaded, whole, with the file of every image unless some may be missing.

        Raises:
            MissingData: Annotations or images are missing; the message lists the images.
        """
        config = self._resolved.config
        protocol = self._given or load_protocol(self._resolved.entry.address, self._resolved.data_root)
        if self._resolved.needs_images:
            require_images(protocol, allow_missing=config.allow_missing)
        elif protocol.gallery is None:
            raise MissingData(
                f"The gallery of {protocol.name} is not available, so nothing can be ranked against it.",
                hint=f"Get the list of its images: cirbench data plan {self._resolved.entry.dataset}",
            )
        return protocol

    @cached_property
    def lost(self) -> Lost:
        """What cannot be evaluated of what was asked for; nothing, unless images are allowed to miss."""
        config = self._resolved.config
        asked = self.protocol if config.limit is None else self.protocol.first(config.limit)
        if not config.allow_missing:
            return Lost(asked, frozenset())
        lost = find_lost(asked, console.progress)
        if lost.images:
            console.say(
                f"{len(lost.images)} images are missing or broken; {len(lost.queries)} of {len(asked.queries)} queries "
                "lose one that they need and count as misses."
            )
        return lost

    @cached_property
    def backbone(self) -> Backbone:
        """The backbone, with its weights; only where the methods run on one (`has_backbone`)."""
        from cirbench.backbones import load_backbone

        config = self._resolved.config
        assert self._resolved.backbone is not None
        return load_backbone(
            self._resolved.backbone,
            weights=None if config.weights is None else Path(config.weights),
            ema=config.ema,
            activation=config.activation,
            preprocessing=config.preprocessing,
            precision=config.precision,
            device=config.device,
        )

    def encoder(self) -> Encoder:
        """The backbone with the feature store, one for each method, so that each method's own texts are counted."""
        from cirbench.backbones.encoder import Encoder
        from cirbench.backbones.store import default_store

        return Encoder(
            self.backbone,
            default_store(),
            batch_size=self._resolved.config.batch_size or "auto",
            progress=console.progress,
        )

    def describe_truncation(self, method: str, texts: int) -> str:
        """Say how many of a method's texts were cut, how many queries have captions that are, and by how much."""
        backbone = self.backbone
        sentences = [" and ".join(query.captions).split() for query in self.lost.available.queries]
        cut = [_words_cut(backbone, words) for words in sentences]
        queries = sum(number > 0 for number in cut)
        return (
            f"{method}: {texts} different texts are longer than the {backbone.context_length} tokens that "
            f"{backbone.identity.name} reads, and were cut at their ends. The captions of {queries} of {len(cut)} "
            f"queries are too long by themselves, by up to {max(cut, default=0)} words."
        )

    def describe(self) -> Iterator[str]:
        """Say what is loaded, and how much is to be encoded, line by line."""
        whole, protocol = self.protocol, self.lost.available
        gallery = 0 if protocol.gallery is None else len(protocol.gallery)
        queries = f"{len(protocol.queries)} of {len(whole.queries)} queries, gallery {gallery}"
        yield from entry_lines("there", "protocol", f"{whole.name} ({whole.digest[:8]}): {queries}")
        if not self.has_backbone:
            yield from entry_lines("there", "backbone", "none is needed")
            return
        encoder = self.encoder()
        backbone = encoder.backbone
        identity = f"{backbone.identity.precision} on {backbone.device}, weights {backbone.identity.weights[:12]}"
        yield from entry_lines("there", "backbone", f"{backbone.identity.name}, {identity}")
        if protocol.gallery is not None and protocol.gallery.images is not None:
            new = encoder.count_new(protocol.gallery.items)
            seconds = f", at least {new * encoder.seconds_per_image():.0f} s" if new else ""
            encoded = f"{gallery - new} gallery images are cached, {new} are to be encoded"
            size = f"{new * backbone.dim * 4 / 1e6:.1f} MB{seconds}"
            yield from entry_lines("to do" if new else "there", "features", f"{encoded} ({size})")


def _words_cut(backbone: Backbone, words: Sequence[str]) -> int:
    """How many words at the end of a caption the text tower does not read, by halving what may be."""
    if not backbone.overlong([" ".join(words)])[0]:
        return 0
    fits, too_many = 0, len(words)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if backbone.overlong([" ".join(words[:middle])])[0]:
            too_many = middle
        else:
            fits = middle
    return len(words) - fits

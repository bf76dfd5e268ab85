"""What a benchmark is to the harness: one object with everything about it, light enough to be listed."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

from cirbench.benchmarks.files.remote import DatasetFiles
from cirbench.support.plugins import Plugins

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol


@dataclasses.dataclass(frozen=True, slots=True)
class ProtocolEntry:
    """What is known of a protocol before it is loaded.

    Attributes:
        id: ``dataset/variant``.
        title: One line for people.
        split: The split whose queries it uses.
        queries: How many there are; ``None`` where the published file was not available to count in.
        gallery: How many images there are in all galleries together; ``None`` as above.
        labelled: Whether the ground truths are public; a test server keeps them otherwise.
        folder: Where everything is, for your own data; ``None`` for a benchmark.
    """

    id: str
    title: str
    split: str
    queries: int | None
    gallery: int | None
    labelled: bool = True
    folder: str | None = None

    @property
    def dataset(self) -> str:
        """The name of the data set."""
        return self.id.partition("/")[0]

    @property
    def variant(self) -> str:
        """The part of the id that names the protocol within its data set; the loader is called with it."""
        return self.id.partition("/")[2]

    @property
    def address(self) -> str:
        """What `load_protocol` loads it by; a split of your own data by folder and split, ``"my-data@val"``."""
        if self.folder is None:
            return self.id
        return self.folder if self.id.count("/") == 1 else f"{self.folder}@{self.split}"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """Everything about a benchmark.

    Attributes:
        name: As users type it after ``--dataset``.
        title: One line for people.
        licence: Of the annotations.
        citation: The paper.
        load: From a protocol's variant and the data root to the protocol, every count checked. What it raises is
            `MissingData` for absent files and `CorruptFile` for other ones than were published.
        protocols: Its protocols; the first one of a split is that split's default.
        needs: What must be present under the data root, or ``None`` where nothing must be.
        files: Annotation files and images, and where they come from.
        columns: Labels of the numbers that papers print, in their order; of a protocol, those that it reports.
        server: The form of files that its test server takes, a name in ``cirbench list servers``; ``None`` without one.
        default_backbone: The backbone of runs that name none.
        default_split: The split of runs that name none.
    """

    name: str
    title: str
    licence: str
    load: Callable[[str, Path], EvaluationProtocol]
    protocols: tuple[ProtocolEntry, ...]
    citation: str = ""
    needs: str | None = None
    files: DatasetFiles = dataclasses.field(default_factory=DatasetFiles)
    columns: tuple[str, ...] = ()
    server: str | None = None
    default_backbone: str = "ViT-L-14/openai"
    default_split: str = "val"

    def __post_init__(self) -> None:
        if not self.protocols:
            raise ValueError(f"the benchmark {self.name} has no protocol")
        if all(each.folder for each in self.protocols):
            return
        for each in self.protocols:
            if not re.fullmatch(rf"{re.escape(self.name)}/[a-z0-9][a-z0-9-]*", each.id):
                raise ValueError(f"the protocol {each.id!r} of the benchmark {self.name} is not {self.name}/VARIANT")
        if self.default_split not in self.splits:
            raise ValueError(f"the default split {self.default_split!r} of {self.name} is none of its protocols'")

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits, in order, each once."""
        return tuple(dict.fromkeys(protocol.split for protocol in self.protocols))


BENCHMARKS = Plugins("benchmark", "cirbench.benchmarks", Benchmark, "docs/adding-a-plugin.md")

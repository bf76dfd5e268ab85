"""An encoder is a backbone with a memory: raw features as numpy arrays, each item encoded once.

The rule that makes features reproducible to the byte: every forward pass has a fixed shape, and on a CPU one thread. A
batch has `Encoder.batch_size` rows and the last one is filled up; texts share a batch only with texts of the same
padded length; and several cores take a batch each, since threads that share a batch treat the rows at their borders
differently. So a row depends neither on what else was asked for, nor on what was known already, on where a run was
interrupted, or on the number of threads. (In another shape a row differs in the last bits, by about 3e-6 between
batches of 1 and 8.) The batch size is a function of the model and the kind of device, unless it is given, and each
shard records it; it is not part of the feature key.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
import PIL

from cirbench.backbones.interface import JointBackbone
from cirbench.backbones.store import FeatureSpace, MemoryTable, OwnSpace
from cirbench.backbones.text import PseudoWords
from cirbench.errors import CirbenchError, MissingData, UsageError
from cirbench.support import console
from cirbench.support.console import silent
from cirbench.support.device import Arriving, host_levels, is_out_of_memory, send
from cirbench.support.distributed import DistributedContext, barrier, broadcast_object, get_context

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from cirbench.backbones.interface import Backbone
    from cirbench.backbones.store import FeatureStore, FeatureTable, Rows, Space, Tower
    from cirbench.backbones.text import Occurrences
    from cirbench.protocol import ImageSource, Item
    from cirbench.support.console import Display

Batch: TypeAlias = "NDArray[np.intp]"
"""The positions of the things that share a forward pass."""

Advance = Callable[[int], None]
"""Told how many more are done, for a progress bar; a negative number takes some back."""

MakeRows = Callable[[list[str], Advance], "NDArray[np.float32]"]
"""Makes one row for each of some contents."""

S = TypeVar("S")
T = TypeVar("T")

_Pair: TypeAlias = "tuple[ImageSource | None, str | None]"
"""What a joint backbone reads in one pass."""

SHARD = 2048
"""Items in a shard, and so the most work that is lost when a process is killed."""

DECODERS = 16
"""Threads that decode images for a GPU, or hash files, where there are as many cores."""

READ_AHEAD = 32
"""Images that are held as a joint backbone reads them: up to 12 MB each for a megapixel."""


class Encoder:
    """A backbone with a memory.

    Attributes:
        backbone: What encodes.
        batch_size: Rows of every forward pass; see the module's docstring. Where it is chosen automatically and the
            device's memory turns out to be too small, it is halved, for later encoders of the process too.

    Args:
        store: Where features are kept; in memory only if there is none.
        progress: Shows the progress.
        tuned: Where those of other weights (`with_weights`) are kept, if elsewhere.

    Processes that have joined (`cirbench.support.distributed`) share what is to be encoded into a store.
    """

    def __init__(
        self,
        backbone: Backbone,
        store: FeatureStore | None,
        *,
        batch_size: int | Literal["auto"] = "auto",
        progress: Display | None = None,
        tuned: FeatureStore | None = None,
    ) -> None:
        self.backbone = backbone
        usual = _found.get(_kind_of(backbone)) or sensible_batch_size(backbone)
        self.batch_size = usual if batch_size == "auto" else batch_size
        self._asked_batch_size = batch_size
        self._store = store
        self._tuned = tuned or store
        self._progress = progress or silent
        self._tables: dict[str, FeatureTable] = {}
        self._truncated: set[str] = set()

    @property
    def truncated_texts(self) -> int:
        """How many different texts were too long for the text tower and were cut."""
        return len(self._truncated)

    def with_weights(self, weights: Path) -> Encoder:
        """The same encoder on other weights of the same architecture."""
        backbone = self.backbone.with_weights(weights)
        other = Encoder(backbone, self._tuned, batch_size=self._asked_batch_size, progress=self._progress)
        other._truncated = self._truncated  # counted together, since one method asks for both
        return other

    def images(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """Encode images, (N, D), not normalised; equal content is encoded once, ever.

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CorruptFile: Kept features are damaged.
            CirbenchError: New features cannot be kept, or one batch does not fit into the device's memory.
        """
        return self.image_rows(items)[:]

    def image_rows(self, items: Sequence[Item]) -> Rows:
        """Encode images like `images`, and leave the rows where they are kept until they are sliced.

        For galleries larger than memory. Raises what `images` raises.
        """
        if isinstance(self.backbone, JointBackbone):
            return self._joint_rows(self.backbone, items, None, self.backbone.item_instruction)
        images = [item.image for item in items]
        return self._rows_of(images, _contents(items), self._space("image"), self._encode_images, "Encoding images")

    def count_new(self, items: Sequence[Item]) -> int:
        """How many different images of ``items`` have no features yet."""
        return len(self._table(self._space("image")).missing(list(set(_contents(items)))))

    def seconds_per_image(self) -> float:
        """Time one warm batch of blank images: a lower bound, since decoding is left out."""
        import torch
        from PIL import Image

        if isinstance(self.backbone, JointBackbone):
            blank = self.backbone.read(Image.new("RGB", (512, 512)), None, self.backbone.item_instruction)
            return self._seconds(_Passes(self.backbone, [blank]), np.zeros(1, dtype=np.intp))
        size = self.backbone.image_size
        batch_B3SS = torch.zeros(self.batch_size, 3, size, size)
        return self._seconds(self.backbone.encode_images, batch_B3SS) / self.batch_size

    def _seconds(self, encode: Callable[[S], torch.Tensor], given: S) -> float:
        """How long a second pass takes, in seconds."""
        started = 0.0
        with inference(self.backbone):
            for _ in range(2):
                started = time.perf_counter()
                encode(given).cpu()
        return time.perf_counter() - started

    def texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Encode texts, (N, D), not normalised; over-long ones are cut, keeping the end token, and counted.

        Raises:
            CorruptFile: Kept features are damaged.
            CirbenchError: New features cannot be kept, or one batch does not fit into the device's memory.
        """
        if isinstance(self.backbone, JointBackbone):
            return self._joint_rows(self.backbone, None, texts, self.backbone.query_instruction)[:]
        self.count_truncated(list(dict.fromkeys(texts)))
        contents = [_sha256(text) for text in texts]
        return self._rows_of(texts, contents, self._space("text"), self._encode_texts, "Encoding texts")[:]

    def joint(self, items: Sequence[Item] | None, texts: Sequence[str] | None, instruction: str) -> NDArray[np.float32]:
        """Encode images, texts, or an image with a text each in one pass of a joint backbone, (N, D); they are kept.

        Args:
            items: The images; ``None`` for texts alone.
            texts: One for each image; ``None`` for images alone. Over-long ones are cut and counted, as in `texts`.
            instruction: What the model is instructed with each of them; empty for nothing.

        Raises:
            UsageError: The backbone has a tower for images and one for texts; or a text or the instruction has a mark
                that the model does not take for text.
            MissingData: An image is absent or cannot be decoded.
            CirbenchError: New features cannot be kept, or one batch does not fit into the device's memory.
        """
        return self._joint_rows(require_joint(self.backbone), items, texts, instruction)[:]

    def _joint_rows(
        self, backbone: JointBackbone, items: Sequence[Item] | None, texts: Sequence[str] | None, instruction: str
    ) -> Rows:
        backbone.require_readable([instruction, *(texts or ())])
        self.count_truncated(texts or ())
        count = len(texts or ()) if items is None else len(items)
        images = [None] * count if items is None else [item.image for item in items]
        pairs = list(zip(images, [None] * count if texts is None else texts, strict=True))
        contents = [_content_of(image, text) for image, text in pairs]
        what = "images" if texts is None else "texts" if items is None else "images with texts"
        return self._rows_of(
            pairs,
            contents,
            self._joint_space(backbone, what, instruction),
            lambda missing, advance: self._encode_joint(backbone, missing, instruction, advance),
            f"Encoding {what}",
        )

    def _joint_space(self, backbone: JointBackbone, what: str, instruction: str) -> Space:
        """What fixes a row; without an instruction but the model's own, it is that of a tower."""
        if what == "images" and instruction == backbone.item_instruction:
            return self._space("image")
        if what == "texts" and instruction == backbone.query_instruction:
            return self._space("text")
        with_instruction = f"{what}, told {instruction!r}"  # "told" is part of what names the cached rows
        return OwnSpace(self.backbone.identity, with_instruction, _sha256(with_instruction), self.backbone.dim)

    def _encode_joint(
        self, backbone: JointBackbone, pairs: Sequence[_Pair], instruction: str, advance: Advance
    ) -> NDArray[np.float32]:
        """Encode what is read ahead; only inputs of equal shapes share a pass, so that nothing is padded."""

        def read(pair: _Pair) -> Mapping[str, Any]:
            source, text = pair
            return backbone.read(None if source is None else source.open(), text, instruction)

        rows: list[NDArray[np.float32]] = []
        together = max(READ_AHEAD, 4 * self.batch_size)
        with contextlib.closing(_ahead(read, pairs, min(4, os.cpu_count() or 1), together)) as ahead:
            while inputs := list(itertools.islice(ahead, together)):
                rows.append(self.rowwise(_Passes(backbone, inputs), _kinds(inputs), advance))
        return np.concatenate(rows)

    def composed(
        self, texts: Sequence[str], words_NE: NDArray[np.float32], occurrences: Occurrences = "first"
    ) -> NDArray[np.float32]:
        """Encode texts whose placeholder is replaced by a pseudo-word, one for each text, (N, D), not normalised.

        The rows are not kept, since the words are a method's own. Over-long texts are cut and counted, as in `texts`.

        Raises:
            UsageError: The text tower cannot read pseudo-words, or a text has no placeholder.
            CirbenchError: One batch does not fit into the device's memory.
        """
        import torch

        tower = PseudoWords(self.backbone)
        tokens_NL, words = tower.tokenize(texts), torch.from_numpy(words_NE)
        self.count_truncated(texts)
        with self._progress("Encoding composed texts", len(texts)) as advance:
            return self.rowwise(
                lambda rows: tower(tokens_NL[rows], words[rows], occurrences), tower.lengths(tokens_NL), advance
            )

    def fused(
        self,
        items: Sequence[Item],
        texts: Sequence[str],
        tower: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    ) -> NDArray[np.float32]:
        """Encode images with a text each by a tower that reads both, (N, D); the rows are not kept.

        Args:
            items: The images.
            texts: One for each; over-long ones are cut and counted, as in `texts`.
            tower: Turns tokenised texts, (B, L), and preprocessed images, (B, 3, S, S), into rows, (B, D).

        Raises:
            MissingData: An image is absent or cannot be decoded.
            CirbenchError: One batch does not fit into the device's memory.
        """
        tokens_NL = self.backbone.tokenize(texts)
        self.count_truncated(texts)

        def compute(rows: Batch) -> torch.Tensor:
            return tower(tokens_NL[rows], self.pixels([items[row].image for row in rows]))

        with self._progress("Encoding images with texts", len(texts)) as advance:
            return self.rowwise(compute, self.backbone.token_lengths(tokens_NL), advance)

    def rowwise(
        self,
        compute: Callable[[Batch], torch.Tensor],
        shapes_N: NDArray[np.int64],
        advance: Advance = lambda amount: None,
    ) -> NDArray[np.float32]:
        """Compute a row for each of N things, in passes of fixed shape; see the module's docstring.

        Args:
            compute: Turns the positions of `batch_size` things, some of which may repeat, into their rows; without
                gradients.
            shapes_N: Equal for things that may share a pass.
            advance: Called with the number that is done.

        Raises:
            CirbenchError: One batch does not fit into the device's memory.
        """

        def forward(batch: Batch) -> Arriving:
            with inference(self.backbone):
                return Arriving(compute(np.resize(batch, self.batch_size))[: len(batch)].float())

        return self._in_batches(
            lambda batches: _one_thread_each(forward, batches) if self._on_cpu else map(forward, batches),
            shapes_N,
            advance,
        )

    def count_truncated(self, texts: Sequence[str]) -> None:
        """Count texts that are too long for the text tower; for a method that tokenizes by itself."""
        overlong = self.backbone.overlong(texts)
        self._truncated.update(_sha256(text) for text, cut in zip(texts, overlong, strict=True) if cut)

    def own(
        self,
        space: OwnSpace,
        contents: Sequence[str],
        make: MakeRows,
        *,
        shard: int,
    ) -> NDArray[np.float32]:
        """Return rows that a method makes of its own, (N, D); see `own_rows`."""
        return self.own_rows(space, contents, make, shard=shard)[:]

    def own_rows(self, space: OwnSpace, contents: Sequence[str], make: MakeRows, *, shard: int) -> Rows:
        """Return rows that a method makes of its own, (N, D), which are kept as features are: each is made once, ever.

        They stay where they are kept until they are sliced.

        Args:
            space: What fixes their meaning.
            contents: Sha256 of what else decides each row.
            make: Makes the rows of some of ``contents``; a row must not depend on the others.
            shard: How many are made before they are kept.

        Raises:
            CorruptFile: Kept rows are damaged.
            CirbenchError: New rows cannot be kept.
        """
        return self._fill(space, list(dict.fromkeys(contents)), make, title=space.owner, shard=shard).rows(contents)

    def _space(self, tower: Tower) -> FeatureSpace:
        return FeatureSpace(self.backbone.identity, tower, self.backbone.dim)

    def _table(self, space: Space) -> FeatureTable:
        if space.digest not in self._tables:
            self._tables[space.digest] = MemoryTable(space) if self._store is None else self._store.table(space)
        return self._tables[space.digest]

    def _rows_of(
        self,
        things: Sequence[S],
        contents: Sequence[str],
        space: Space,
        encode: Callable[[Sequence[S], Advance], NDArray[np.float32]],
        title: str,
    ) -> Rows:
        """The rows of things that are known by their contents; those that the table of a space lacks are encoded."""
        thing_of = dict(zip(contents, things, strict=True))

        def make(missing: Sequence[str], advance: Advance) -> NDArray[np.float32]:
            return encode([thing_of[content] for content in missing], advance)

        return self._fill(space, list(thing_of), make, title=title, shard=SHARD).rows(contents)

    def _fill(self, space: Space, contents: Sequence[str], make: MakeRows, *, title: str, shard: int) -> FeatureTable:
        """Make the rows that the table of a space lacks, and keep them shard by shard."""
        table = self._table(space)
        plan = _plan(table, contents, shard, together=self._store is not None)
        if plan.missing:
            with self._progress(title, sum(map(len, plan.own_shards))) as advance:
                for missing in plan.own_shards:
                    rows_ND = make(missing, advance)
                    table.write(missing, rows_ND, self._metadata())
            if plan.together:
                _await_others(table, plan)
        return table

    def _encode_texts(self, texts: Sequence[str], advance: Advance) -> NDArray[np.float32]:
        tokens_NL = self.backbone.tokenize(texts)
        return self.rowwise(
            lambda batch: self.backbone.encode_tokens(tokens_NL[batch]), self.backbone.token_lengths(tokens_NL), advance
        )

    def _encode_images(self, sources: Sequence[ImageSource], advance: Advance) -> NDArray[np.float32]:
        one_shape = np.zeros(len(sources), dtype=np.int64)
        return self._in_batches(lambda batches: self._image_passes(sources, batches), one_shape, advance)

    def _image_passes(self, sources: Sequence[ImageSource], batches: Sequence[Batch]) -> Iterator[Arriving]:
        """Decode and encode images: on a CPU a batch in each thread; for a GPU, which must not wait, decoded ahead."""
        if self._on_cpu:
            yield from _one_thread_each(lambda batch: self._forward(self._levels(sources[n]) for n in batch), batches)
            return
        ordered = [sources[n] for batch in batches for n in batch]
        workers = min(DECODERS, os.cpu_count() or 1)
        with contextlib.closing(_ahead(self._levels, ordered, workers, 2 * self.batch_size)) as decoded:
            for batch in batches:
                yield self._forward(itertools.islice(decoded, len(batch)))

    def _levels(self, source: ImageSource) -> NDArray[np.uint8]:
        return self.backbone.preprocessing.levels(source.open())

    def _forward(self, images: Iterable[NDArray[np.uint8]]) -> Arriving:
        """Encode at most `batch_size` images in a batch that is filled up with blank ones."""
        pixels_B3SS, count = self._on_device(images, self.batch_size)
        with inference(self.backbone):
            return Arriving(self.backbone.encode_images(pixels_B3SS)[:count])

    def pixels(self, images: Sequence[ImageSource]) -> torch.Tensor:
        """Preprocess images, (N, 3, S, S), on the backbone's device.

        Raises:
            MissingData: An image is absent or cannot be decoded.
        """
        return self._on_device(map(self._levels, images), len(images))[0]

    def _on_device(self, images: Iterable[NDArray[np.uint8]], rows: int) -> tuple[torch.Tensor, int]:
        """Send images to the device, and normalise them there; say how many there were."""
        import torch

        device, preprocessing = self.backbone.device, self.backbone.preprocessing
        size, count = preprocessing.size, 0
        levels_B3SS = host_levels((rows, 3, size, size), device)
        for levels_3SS in images:
            levels_B3SS[count] = torch.from_numpy(levels_3SS)
            count += 1
        return preprocessing.normalize(send(levels_B3SS, device)), count

    def _in_batches(
        self,
        passes: Callable[[Sequence[Batch]], Iterable[Arriving]],
        shapes_N: NDArray[np.int64],
        advance: Advance,
    ) -> NDArray[np.float32]:
        """Compute a row for each of N things; where the device's memory is too small, in batches of half the size.

        Args:
            passes: Computes the rows of each batch, in order.
            shapes_N: Equal for things that may share a batch.
            advance: Called with the number that is done.
        """
        import torch

        while True:
            batches = _batches(shapes_N, self.batch_size)
            rows: list[NDArray[np.float32]] = []
            try:
                for computed in _one_behind(passes(batches)):
                    rows.append(computed.read().numpy())
                    advance(len(rows[-1]))
                return np.concatenate(rows)[np.argsort(np.concatenate(batches))]
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self._asked_batch_size != "auto" or self.batch_size == 1:
                    raise CirbenchError(
                        f"A batch of {self.batch_size} does not fit into the memory of {self.backbone.device}.",
                        hint="Use --batch-size auto, a smaller one, --precision bf16 or --device cpu.",
                    ) from error
            torch.cuda.empty_cache()  # or what the larger batch has left in pieces is in the way of the smaller one
            self.batch_size //= 2
            _found[_kind_of(self.backbone)] = self.batch_size
            console.say(
                f"warning: a batch of {2 * self.batch_size} did not fit into the memory of {self.backbone.device}; "
                f"encoding goes on in batches of {self.batch_size}"
            )
            advance(-sum(map(len, rows)))

    @property
    def _on_cpu(self) -> bool:
        return self.backbone.device.type == "cpu"

    def _metadata(self) -> dict[str, str]:
        """What could move the last bits of a feature, kept in each shard to explain a difference by."""
        import torch

        return {
            "batch_size": str(self.batch_size),
            "device": self.backbone.device.type,
            "torch": torch.__version__,
            "pillow": PIL.__version__,
        }


@dataclasses.dataclass(frozen=True)
class _Plan:
    """Which rows have to be made, and by whom.

    Attributes:
        missing: The contents that have no row yet, the same list in every process.
        own_shards: The share of this process.
        together: Whether the other processes make the rest; without a store, each process makes every row.
    """

    missing: list[str]
    own_shards: list[list[str]]
    together: bool


def _plan(table: FeatureTable, contents: Sequence[str], shard: int, *, together: bool) -> _Plan:
    """Share the shards that one process alone would make, so that the store comes to hold the same bytes."""
    missing = [contents[position] for position in table.missing(contents)]
    context = get_context() if together else DistributedContext()
    if together:
        missing = broadcast_object(missing)
    shards = [missing[start : start + shard] for start in range(0, len(missing), shard)]
    return _Plan(missing, shards[context.rank :: context.world_size], together)


def _await_others(table: FeatureTable, plan: _Plan) -> None:
    barrier()
    if table.missing(plan.missing):
        raise MissingData(
            "The features that another process has encoded are not in the feature store of this one.",
            hint="Set CIRBENCH_CACHE to a folder that all machines share.",
        )


def require_joint(backbone: Backbone) -> JointBackbone:
    """Return a backbone that reads images and texts together.

    Raises:
        UsageError: It has a tower for images and one for texts.
    """
    if isinstance(backbone, JointBackbone):
        return backbone
    raise UsageError(
        f"{backbone.identity.name} has a tower for images and one for texts, and reads nothing together.",
        hint="Name a model that does, such as --backbone Qwen/Qwen3-VL-Embedding-2B (`cirbench new joint-model FOLDER` "
        "writes a tiny one to try); or add the features of both towers: --method image-text",
    )


def sensible_batch_size(backbone: Backbone) -> int:
    """Rows of a forward pass: 256 on a GPU; on a CPU, where a few rows fill the caches, fewer the larger the images.

    One for a joint backbone: a pass is as long as an image has patches, and most inputs differ in their shapes.
    """
    if isinstance(backbone, JointBackbone):
        return 1
    if backbone.device.type != "cpu":
        return 256
    patches = (backbone.image_size / 16) ** 2
    return int(np.clip(2 ** round(np.log2(4096 / patches)), 8, 32))


_found: dict[tuple[str, str, str], int] = {}
"""The batch sizes that were found where the usual one does not fit, so that it is tried once in a process."""


def _kind_of(backbone: Backbone) -> tuple[str, str, str]:
    return backbone.identity.architecture, backbone.identity.precision, str(backbone.device)


def _batches(shapes_N: NDArray[np.int64], size: int) -> list[Batch]:
    """Divide N positions into batches of at most ``size`` things of one shape each."""
    return [
        same[start : start + size]
        for same in (np.flatnonzero(shapes_N == shape) for shape in np.unique(shapes_N))
        for start in range(0, len(same), size)
    ]


@dataclasses.dataclass(frozen=True)
class _Passes:
    """Encodes some of the inputs that were read."""

    backbone: JointBackbone
    inputs: Sequence[Mapping[str, Any]]

    def __call__(self, batch: Batch) -> torch.Tensor:
        return self.backbone.encode([self.inputs[n] for n in batch])


def _kinds(inputs: Sequence[Mapping[str, Any]]) -> NDArray[np.int64]:
    """Number inputs by their shapes, (N,): equal numbers may share a pass."""
    numbers: dict[str, int] = {}
    shapes = [str([(name, getattr(value, "shape", value)) for name, value in each.items()]) for each in inputs]
    return np.asarray([numbers.setdefault(shape, len(numbers)) for shape in shapes], dtype=np.int64)


def _contents(items: Sequence[Item]) -> list[str]:
    """What each image is known by; of many, several threads hash the files, since a GPU encodes faster than one."""
    parts = [items[start : start + _HASHED] for start in range(0, len(items), _HASHED)]
    workers = min(DECODERS, os.cpu_count() or 1, len(parts))
    if workers < 2:
        return _contents_of(items)
    with contextlib.closing(_ahead(_contents_of, parts, workers, 2 * workers)) as hashed:
        return [content for part in hashed for content in part]


_HASHED = 128
"""Images that a thread looks at in turn: what is in the memo takes 15 microseconds, less than to hand it over."""


def _contents_of(items: Sequence[Item]) -> list[str]:
    return [item.image.content for item in items]


def _content_of(image: ImageSource | None, text: str | None) -> str:
    """Sha256 of what a joint backbone reads; of one alone as elsewhere."""
    if image is None:
        return _sha256(text or "")
    return image.content if text is None else _sha256(f"{image.content}\n{text}")


@contextlib.contextmanager
def inference(backbone: Backbone) -> Iterator[None]:
    """Compute without gradients, in the precision of a backbone's identity, whatever the code around it uses."""
    import torch

    rounded = backbone.identity.precision == "bf16-autocast"
    # A pass uses each weight once, so that nothing is gained by keeping the rounded ones.
    autocast = torch.autocast(backbone.device.type, dtype=torch.bfloat16, enabled=rounded, cache_enabled=False)
    with torch.inference_mode(), autocast:
        yield


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _one_behind(items: Iterable[T]) -> Iterator[T]:
    """Give out each item once the next one is under way."""
    before: list[T] = []
    for item in items:
        yield from before
        before = [item]
    yield from before


def _one_thread_each(work: Callable[[S], T], batches: Sequence[S]) -> Iterator[T]:
    """Map over batches in order, each computed by one thread, on as many cores as torch may use."""
    import torch

    cores = torch.get_num_threads()
    if cores == 1:
        yield from map(work, batches)
        return
    try:
        with contextlib.closing(_ahead(work, batches, cores, 2 * cores, lambda: torch.set_num_threads(1))) as done:
            yield from done
    finally:
        torch.set_num_threads(cores)  # the workers' setting is also that of threads to come


def _ahead(
    work: Callable[[S], T], items: Sequence[S], workers: int, depth: int, start: Callable[[], None] | None = None
) -> Generator[T]:
    """Map over items in order, with up to ``depth`` results computed ahead by threads; each thread calls ``start``."""
    with ThreadPoolExecutor(max_workers=workers, initializer=start) as pool:
        waiting = deque(pool.submit(work, item) for item in items[:depth])
        try:
            for item in items[depth:]:
                yield waiting.popleft().result()
                waiting.append(pool.submit(work, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

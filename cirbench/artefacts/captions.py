"""Captions of images: asked of a captioner once, and written to files with a card.

A captioner is a model of transformers: BLIP (Li et al., ICML 2022) or BLIP-2 (Li et al., ICML 2023).

What is written for users is

<name>.jsonl        one line an image: ``{"image": path relative to this file, "caption": words}``
<name>.card.json    a `CaptionsCard`; written last, so a file with a card is whole
"""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cirbench.artefacts.answers import Answer, Artefact, Maker, Question, Scalar, answered, kept
from cirbench.backbones.images import upright_rgb
from cirbench.backbones.interface import find_device, quietly
from cirbench.errors import CorruptFile, MissingData, UsageError, excerpt
from cirbench.support.console import typed
from cirbench.support.files import cache_root, digest, sha256_of_file, utc_now, write_bytes, write_json
from cirbench.support.needs import require, versions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from PIL import Image

    from cirbench.backbones.interface import WeightPrecision
    from cirbench.protocol import ImageSource
    from cirbench.support.console import Display

_CLASSES = ("BlipForConditionalGeneration", "Blip2ForConditionalGeneration")
_DESCRIBING_FILES = ("*.json", "*.txt", "*.model")
_WEIGHTS = ("*.safetensors", "*.bin")
"""The first that there is; transformers reads tensors alone from either."""
LONGEST = 20
"""New tokens, where the model's settings give no number: the usual default of transformers."""
_EXAMPLE = "Salesforce/blip-image-captioning-base"


class _Config(msgspec.Struct):
    architectures: list[str] = []


@dataclasses.dataclass(frozen=True)
class Captioner:
    """Describes images greedily, without a prompt, as the model's own generation settings say.

    Every batch has the same size, the last one is filled up: so a caption does not depend on the other images.

    Attributes:
        name: As the user asked for it.
        files: Sha256 of each file that decides what the model writes.
        precision: In which it runs.
        batch_size: Images a batch.
        longest: New tokens a caption, where the model's own settings give no number.
    """

    name: str
    files: Mapping[str, str]
    precision: WeightPrecision
    batch_size: int
    longest: int | None
    _model: Any = dataclasses.field(repr=False)
    _processor: Any = dataclasses.field(repr=False)

    @property
    def identity(self) -> str:
        """Sha256 over the files, the precision and the limit."""
        return digest([dict(self.files), self.precision, self.longest])

    @property
    def maker(self) -> Maker:
        """Who answers, for the file of its captions."""
        decoding: dict[str, Scalar] = {"precision": self.precision, "longest": self.longest}
        return Maker(model=Path(self.name).name, revision=self.identity, decoding=decoding)

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """Write one caption an image, in one line; it is empty where the model has nothing to say."""
        import torch

        filled = [upright_rgb(images[min(row, len(images) - 1)]) for row in range(self.batch_size)]
        with torch.inference_mode(), quietly():
            pixels = self._processor(images=filled, return_tensors="pt").to(self._model.device, self._model.dtype)
            limit = {} if self.longest is None else {"max_new_tokens": self.longest}
            tokens = self._model.generate(**pixels, **limit, do_sample=False)
            written = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [" ".join(caption.split()) for caption in written[: len(images)]]


def load_captioner(
    name: str, *, device: str = "auto", precision: WeightPrecision = "fp32", batch_size: int = 16
) -> Captioner:
    """Load a captioner.

    Args:
        name: A model of the hub, or a folder as transformers saves it.
        device: ``"cpu"``, ``"cuda"``, or ``"auto"`` for the GPU where there is one.
        precision: Of the weights and of what is computed.
        batch_size: Images a batch.

    Raises:
        MissingData: transformers is not installed; the model is not available and could not be downloaded.
        UsageError: The model is not a captioner; there is no such device.
        CorruptFile: Its files cannot be read, or lack weights.
    """
    transformers = require("transformers", extra="transformers", purpose="A captioner")
    folder = _folder(name)
    architecture = _architecture(folder, name)
    files = {path.name: sha256_of_file(path) for path in _files(folder)}
    place = find_device(device)
    transformers.utils.logging.disable_progress_bar()
    try:
        with quietly():
            processor = transformers.AutoProcessor.from_pretrained(folder)
            model, found = getattr(transformers, architecture).from_pretrained(
                folder, dtype=_dtype(precision), output_loading_info=True, local_files_only=True
            )
    except Exception as error:  # whatever transformers meets in damaged files
        raise CorruptFile(
            f"The captioner {name} cannot be loaded: {excerpt(error)}", hint="Fetch its files again."
        ) from error
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise CorruptFile(f"The weights of {name} lack {len(missing)} tensors, for instance {missing[0]}.")
    own = model.generation_config
    longest = LONGEST if own.max_new_tokens is None and own.max_length is None else None
    return Captioner(name, files, precision, batch_size, longest, model.eval().to(place), processor)


def _folder(name: str) -> Path:
    """The folder of a model; one of the hub is downloaded where it is not cached."""
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        with quietly():
            folder = Path(snapshot_download(name, allow_patterns=[*_DESCRIBING_FILES, _WEIGHTS[0]]))
            if not any(folder.glob(_WEIGHTS[0])):
                folder = Path(snapshot_download(name, allow_patterns=[*_DESCRIBING_FILES, _WEIGHTS[1]]))
    except Exception as error:  # the hub's own errors, requests' and ours on a bad name have no common base
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise MissingData(
            f"The captioner {name} is not available, and could not be downloaded: {reason}",
            hint=f"Connect to a network and run again, or give the folder of a copy. An example of a name: {_EXAMPLE}",
        ) from error
    return folder


def _files(folder: Path) -> list[Path]:
    weights = next((found for pattern in _WEIGHTS if (found := sorted(folder.glob(pattern)))), [])
    return sorted({*weights, *(path for pattern in _DESCRIBING_FILES for path in folder.glob(pattern))})


def _architecture(folder: Path, name: str) -> str:
    """The class of the model, as its configuration names it."""
    path = folder / "config.json"
    try:
        stated = msgspec.json.decode(path.read_bytes(), type=_Config).architectures
    except OSError as error:
        raise MissingData(f"{folder} is not a model folder of transformers: {path.name} cannot be read.") from error
    except msgspec.DecodeError as error:
        raise CorruptFile(f"{path} cannot be read: {excerpt(error)}.") from error
    if len(stated) != 1 or stated[0] not in _CLASSES:
        raise UsageError(
            f"{name} is a {' and '.join(stated) or 'model of no stated class'}, not a captioner that is known here.",
            hint=f"Known are {' and '.join(_CLASSES)}; for instance {_EXAMPLE}.",
        )
    return stated[0]


def _dtype(precision: WeightPrecision) -> torch.dtype:
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float32


CAPTION = "caption"
"""The field of what a captioner answers to an image."""


class _Batch(msgspec.Struct):
    """A file of an earlier store: captions by the content of their images."""

    captions: dict[str, str]


def kept_captions(maker: Maker, root: Path | None = None) -> Artefact:
    """Open what is kept of a captioner's captions, those that version 0.1 has kept among them.

    Args:
        maker: The captioner; its revision is the captioner's identity.
        root: The folder of everything that is kept.

    Raises:
        CorruptFile: A file is damaged.
    """
    root = root or cache_root()
    artefact = kept(maker, root / "artefacts")
    if not artefact.path.exists():
        captions: dict[str, str] = {}
        for path in sorted((root / "captions" / maker.revision[:32]).glob("[0-9a-f]*.json")):
            try:
                captions |= msgspec.json.decode(path.read_bytes(), type=_Batch).captions
            except msgspec.DecodeError as error:
                raise CorruptFile(f"The captions in {path} are damaged: {error}.", hint="Remove the file.") from error
        if captions:
            artefact.add(Answer((content,), (), {CAPTION: (text,)}) for content, text in captions.items())
    return artefact


_DECODERS = 4


class Describes(Protocol):
    """Writes a caption for each image."""

    @property
    def batch_size(self) -> int:
        """How many images it is given at a time."""
        ...

    def __call__(self, images: Sequence[Image.Image]) -> list[str]:
        """Write one caption an image; it depends on its own image only."""
        ...


def describe(images: Sequence[ImageSource], captioner: Describes, artefact: Artefact, display: Display) -> list[str]:
    """Return the caption of each image; equal content is described once, ever.

    Raises:
        MissingData: An image is absent or cannot be decoded.
        CirbenchError: New captions cannot be kept.
    """

    def ask(questions: Sequence[Question], field: str, samples: int) -> Iterator[tuple[str, ...]]:
        with ThreadPoolExecutor(_DECODERS) as pool:
            size = captioner.batch_size
            batches = (questions[start : start + size] for start in range(0, len(questions), size))
            for decoded in _one_ahead(batches, lambda question: question.images[0].open(), pool):
                yield from ((caption,) for caption in captioner(decoded))

    questions = [Question((image,)) for image in images]
    found = answered(questions, CAPTION, 1, artefact, ask, display=display, title="Describing images")
    return [str(caption) for (caption,) in found]


def _one_ahead(
    batches: Iterator[Sequence[Question]], decode: Callable[[Question], Image.Image], pool: ThreadPoolExecutor
) -> Iterator[list[Image.Image]]:
    """The images of each batch, while those of the next are decoded."""
    ahead = (pool.map(decode, batch) for batch in batches)
    begun = next(ahead, None)
    while begun is not None:
        following = next(ahead, None)
        yield list(begun)
        begun = following


SCHEMA = 1
_PACKAGES = ("cirbench", "torch", "transformers")


class Line(msgspec.Struct, frozen=True):
    """An image and its caption."""

    image: str
    caption: str


class CaptionsCard(msgspec.Struct, frozen=True, kw_only=True):
    """Where a file of captions comes from.

    Attributes:
        schema: The version of this file's form.
        file: The file of captions.
        sha256: Of its bytes.
        captioner: The model, by name.
        identity: Sha256 over the model's files, the precision and the limit.
        files: Sha256 of each of the model's files.
        precision: In which the model ran.
        longest: New tokens a caption, where the model's own settings give no number.
        batch_size: Images a batch.
        images: How many images were looked at.
        speechless: Those that got no caption and are left out.
        packages: Versions.
        created: When it was finished, UTC, ISO 8601.
    """

    schema: int = SCHEMA
    file: str
    sha256: str
    captioner: str
    identity: str
    files: dict[str, str]
    precision: str
    longest: int | None
    batch_size: int
    images: int
    speechless: list[str]
    packages: dict[str, str]
    created: str


def card_path(output: Path) -> Path:
    """Return the path of the card of a file of captions."""
    return output.with_suffix(".card.json")


def require_jsonl(output: Path) -> None:
    """Refuse a name that trainings would not read.

    Raises:
        UsageError: It does not end in ``.jsonl``.
    """
    if output.suffix != ".jsonl":
        raise UsageError(
            f"A captions file must end in .jsonl: {output}.",
            hint=f"For instance: --output {typed(output.stem + '.jsonl')}",
        )


def write_captions(output: Path, images: Sequence[Path], captions: Sequence[str], captioner: Captioner) -> CaptionsCard:
    """Write captions and their card, and return the card.

    Raises:
        CirbenchError: The disk is full, or the place cannot be written.
    """
    names = [os.path.relpath(image, output.parent).replace(os.sep, "/") for image in images]
    lines = [Line(name, caption) for name, caption in zip(names, captions, strict=True) if caption]
    write_bytes(output, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    card = CaptionsCard(
        file=output.name,
        sha256=sha256_of_file(output),
        captioner=captioner.name,
        identity=captioner.identity,
        files=dict(captioner.files),
        precision=captioner.precision,
        longest=captioner.longest,
        batch_size=captioner.batch_size,
        images=len(names),
        speechless=[name for name, caption in zip(names, captions, strict=True) if not caption],
        packages=versions(_PACKAGES),
        created=utc_now(),
    )
    write_json(card_path(output), msgspec.to_builtins(card))
    return card

"""COCO's captions in exactly the form in which they are served, small, from a server on this machine."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import zipfile
from typing import TYPE_CHECKING

from cirbench.benchmarks.interface import Archive
from cirbench.training.data import named
from tests.tiny_clip import COLOURS, TwoColours

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pytest

    from tests.benchmarks.files.server import Server


def zipped(files: Mapping[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, value in files.items():
            archive.writestr(name, value)
    return content.getvalue()


def jpegs(ids: Sequence[int], folder: str) -> dict[str, bytes]:
    """Images of two colours under COCO's names, one for each id."""
    files = {}
    for number, (left, right) in zip(ids, itertools.cycle(itertools.permutations(COLOURS, 2)), strict=False):
        content = io.BytesIO()
        TwoColours(left, right).open().save(content, "JPEG")
        files[f"{folder}/{number:012d}.jpg"] = content.getvalue()
    return files


def captions_file(ids: Sequence[int]) -> bytes:
    """The pairs of the first 56 images of `jpegs`, two captions each, as COCO writes them."""
    names = [*itertools.islice(itertools.cycle(itertools.permutations(COLOURS, 2)), len(ids))]
    images = [
        {"license": 1, "file_name": f"{number:012d}.jpg", "height": 32, "width": 32, "id": number} for number in ids
    ]
    texts = [
        (number, text)
        for number, (left, right) in zip(ids, names, strict=True)
        for text in (f"{left} left of {right}", f"{right} is on the right of {left}. ")
    ]
    annotations = [
        {"image_id": number, "id": place, "caption": text} for place, (number, text) in enumerate(texts, start=1)
    ]
    return json.dumps({"info": {}, "licenses": [], "images": images, "annotations": annotations}).encode()


def served(server: Server, archive: Archive, content: bytes) -> Archive:
    """The same archive with other content, to be fetched from the server under its own path."""
    path = "/" + archive.url.partition("images.cocodataset.org/")[2]
    server.files[path] = content
    return dataclasses.replace(
        archive, url=f"{server.url}{path}", size=len(content), sha256=hashlib.sha256(content).hexdigest()
    )


def serve_coco(server: Server, monkeypatch: pytest.MonkeyPatch, ids: Sequence[int]) -> None:
    """Serve the two archives of ``coco:train2017``, and let them be fetched from there."""
    (source,) = (each for each in named.CORPORA if each.name == "coco:train2017")
    (captions,) = source.files.annotations
    (images,) = source.files.images[0].archives
    assert isinstance(captions, Archive)
    members = {"annotations/captions_train2017.json": captions_file(ids), "annotations/instances_train2017.json": b"{}"}
    captions = served(server, captions, zipped(members))
    images = served(server, images, zipped(jpegs(ids, "train2017")))
    pictures = dataclasses.replace(source.files.images[0], archives=(images,), count=len(ids))
    files = dataclasses.replace(source.files, annotations=(captions,), images=(pictures,))
    small = dataclasses.replace(source, files=files)
    others = [each for each in named.named_sources().values() if each.name != source.name]
    monkeypatch.setattr(named, "_SOURCES", (*others, small))

"""Files that a server takes, and every way in which they get broken."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import TYPE_CHECKING, Any

from cirbench.benchmarks import circo, cirr, load_protocol
from cirbench.protocol import Gallery
from tests import annotation_files, circo_files
from tests.annotation_files import write_cirr

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cirbench.protocol import EvaluationProtocol
    from cirbench.submissions.check import ProtocolLoader

Values = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Whole:
    """A file that keeps every rule.

    Attributes:
        values: Its content.
        annotations: What it is held against.
        meant: What it is for.
        official: Whether it is an example of the server's authors.
    """

    values: Values
    annotations: ProtocolLoader
    meant: str
    official: bool = False

    @property
    def known(self) -> EvaluationProtocol:
        protocol = self.annotations(self.meant)
        assert protocol is not None
        return protocol

    @property
    def query(self) -> str:
        """One query in the middle of the file."""
        return list(self.values)[len(self.values) // 2]


@dataclasses.dataclass(frozen=True)
class Corruption:
    """One way to break a file.

    Attributes:
        name: What happens to it.
        rule: The rule that must be named.
        told: What the message must say.
        apply: From a whole file to the content of the broken one.
        in_query: Whether the message is about one query, which it must name.
        needs_gallery: Whether it is noticed only where the gallery is available.
    """

    name: str
    rule: str
    told: str
    apply: Callable[[Whole], Values | bytes]
    in_query: bool = True
    needs_gallery: bool = False


def encode(values: object) -> bytes:
    return json.dumps(values).encode()


def circo_test(root: Path) -> Whole:
    """A file of the size that CIRCO's server takes, over a gallery of 500 images."""
    rows = circo_files.published_size("test")
    circo_files.write(root, rows, None, split="test")
    ids = list(dict.fromkeys([*(row["reference_img_id"] for row in rows), *range(1, 501)]))
    protocol = dataclasses.replace(load_protocol("circo/test", root), gallery=Gallery(tuple(map(str, ids))))
    draw = random.Random(0)
    values = {str(number): draw.sample(ids, 50) for number in range(len(rows))}
    return Whole(values, {"circo/test": protocol}.get, "circo/test")


def write_circo_test(root: Path) -> Path:
    """Write annotations and a gallery that keep every published count of CIRCO's test split."""
    rows = circo_files.published_size("test")
    references = dict.fromkeys(row["reference_img_id"] for row in rows)
    count = circo.EXPECTED["test"][circo.IMAGES]
    others = (number for number in range(1, 2 * count) if number not in references)
    gallery = [*references, *(next(others) for _ in range(count - len(references)))]
    circo_files.write(root, rows, gallery, split="test")
    return root


def write_cirr_test1(root: Path) -> Path:
    """Write annotations that keep every published count of CIRR's test1; groups overlap, as there."""
    counts = cirr.EXPECTED["test1"]
    images, groups, references = counts[cirr.IMAGES], counts[cirr.GROUPS], counts[cirr.REFERENCES]
    ids = [f"test1-{number}-0-img{number % 2}" for number in range(images)]
    rows = []
    for number in range(counts[cirr.QUERIES]):
        reference = (number % references) * images // references
        group = reference * groups // images
        start = min(group * images // groups, images - cirr.GROUP)
        rows.append(
            {
                "pairid": 12000 + number,
                "reference": ids[reference],
                "caption": f"show {number} of them",
                "img_set": {"id": group, "members": ids[start : start + cirr.GROUP]},
            }
        )
    annotation_files.write(root / "cirr/captions/cap.rc2.test1.json", rows)
    places = {name: f"./test1/{name}.png" for name in ids}
    annotation_files.write(root / "cirr/image_splits/split.rc2.test1.json", places)
    return root


def cirr_protocol(root: Path) -> EvaluationProtocol:
    """Twenty queries over 72 images."""
    return cirr.load("test1", root, write_cirr(root, split="test1", groups=12, queries=20))


def cirr_recall(protocol: EvaluationProtocol) -> Whole:
    """A file for ``recall``."""
    draw = random.Random(1)
    assert protocol.gallery is not None
    ids = protocol.gallery.ids
    lists = {
        query.id: draw.sample([name for name in ids if name != query.reference.id], 50) for query in protocol.queries
    }
    return Whole({"version": "rc2", "metric": "recall", **lists}, {"cirr/test1": protocol}.get, "cirr/test1")


def cirr_subset(protocol: EvaluationProtocol) -> Whole:
    """A file for ``recall_subset``."""
    draw = random.Random(2)
    assert protocol.groups is not None
    lists = {
        query.id: draw.sample([name for name in group if name != query.reference.id], 3)
        for query, group in zip(protocol.queries, protocol.groups, strict=True)
    }
    return Whole({"version": "rc2", "metric": "recall_subset", **lists}, {"cirr/test1": protocol}.get, "cirr/test1")


def listed(change: Callable[[list[Any], Whole], Any]) -> Callable[[Whole], Values]:
    """Change the list of one query."""
    return lambda whole: whole.values | {whole.query: change(list(whole.values[whole.query]), whole)}


def without(whole: Whole, *names: str) -> Values:
    return {key: value for key, value in whole.values.items() if key not in names}


def reference(whole: Whole) -> str:
    return next(query.reference.id for query in whole.known.queries if query.id == whole.query)


def renamed(whole: Whole, name: str) -> Values:
    """Give the list of one query another key."""
    return without(whole, whole.query) | {name: whole.values[whole.query]}


def replaced(whole: Whole, old: str, new: str) -> bytes:
    """Replace text after the key of one query, once."""
    text = json.dumps(whole.values)
    at = text.index(f'"{whole.query}": [')
    return (text[:at] + text[at:].replace(old, new, 1)).encode()


def outsider(whole: Whole) -> str:
    """An image of the gallery that is not in the group of the query."""
    known = whole.known
    assert known.gallery is not None
    assert known.groups is not None
    place = [query.id for query in known.queries].index(whole.query)
    return next(name for name in known.gallery.ids if name not in known.groups[place])


BOTH = (
    Corruption("a query is missing", "queries", "it lacks query", lambda w: without(w, w.query)),
    Corruption("a query too many", "queries", "'999999'", lambda w: w.values | {"999999": w.values[w.query]}, False),
    Corruption(
        "a query occurs twice",
        "json",
        "occurs twice",
        lambda w: encode(w.values)[:-1] + f', "{w.query}": {json.dumps(w.values[w.query])}}}'.encode(),
    ),
    Corruption("a query has a leading zero", "queries", "'0", lambda w: renamed(w, f"0{w.query}")),
    Corruption("a query is padded", "queries", "' ", lambda w: renamed(w, f" {w.query}")),
    Corruption("an id too few", "length", "", listed(lambda ids, _: ids[:-1])),
    Corruption("an id too many", "length", "", listed(lambda ids, w: [*ids, w.values[w.query][0]])),
    Corruption("no ids", "length", "0 ids", listed(lambda ids, _: [])),
    Corruption("an id occurs twice", "unique", "more than once", listed(lambda ids, _: [*ids[:-1], ids[0]])),
    Corruption("an id is null", "id", "null is null", listed(lambda ids, _: [None, *ids[1:]])),
    Corruption("an id is a truth value", "id", "true is a truth value", listed(lambda ids, _: [True, *ids[1:]])),
    Corruption("an id is an object", "id", "is an object", listed(lambda ids, _: [{"id": ids[0]}, *ids[1:]])),
    Corruption("a list in the list", "id", "is a list", listed(lambda ids, _: [ids])),
    Corruption("scores beside the ids", "list", "is an object", listed(lambda ids, _: {str(i): 0.5 for i in ids})),
    Corruption("text for the list", "list", "is text", listed(lambda ids, _: " ".join(map(str, ids)))),
    Corruption("null for the list", "list", "is null", listed(lambda ids, _: None)),
    Corruption("NaN", "json", "NaN", lambda w: replaced(w, "[", "[NaN, ")),
    Corruption("infinity", "json", "Infinity", lambda w: replaced(w, "[", "[-Infinity, ")),
    Corruption("an overflowing number", "id", "is a fractional number", lambda w: replaced(w, "[", "[1e999, ")),
    Corruption("a comma at the end of a list", "json", "not JSON", lambda w: replaced(w, "]", ",]")),
    Corruption("a number with leading zeros", "json", "not JSON", lambda w: replaced(w, "[", "[007, ")),
    Corruption(
        "cut off",
        "json",
        "seems to be cut off",
        lambda w: encode(w.values)[: len(encode(w.values)) // 2],
        in_query=False,
    ),
    Corruption("not JSON", "json", "not JSON", lambda w: b"query,ids\n0,355099\n", in_query=False),
    Corruption("two objects", "json", "Extra data", lambda w: encode(w.values) * 2, in_query=False),
    Corruption("empty", "text", "is empty", lambda w: b"", in_query=False),
    Corruption("white space alone", "text", "is empty", lambda w: b" \n\n", in_query=False),
    Corruption("a byte that is not UTF-8", "text", "byte 1", lambda w: b"{\xff" + encode(w.values)[1:], in_query=False),
    Corruption("UTF-16", "text", "byte 0", lambda w: encode(w.values).decode().encode("utf-16"), in_query=False),
    Corruption("a byte order mark", "text", "mark", lambda w: b"\xef\xbb\xbf" + encode(w.values), in_query=False),
    Corruption("a list of lists", "object", "a list", lambda w: encode([*w.values.values()]), in_query=False),
    Corruption("a text", "object", "text", lambda w: b'"355099"', in_query=False),
    Corruption("an empty object", "queries", "it lacks", lambda w: {}, in_query=False),
)

CIRCO = (
    *BOTH,
    Corruption("text that is not a number", "id", "text", listed(lambda ids, _: ["one", *ids[1:]])),
    Corruption("a sign", "id", "text", listed(lambda ids, _: [f"-{ids[0]}", *ids[1:]])),
    Corruption(
        "one image as number and text", "unique", "more than once", listed(lambda ids, _: [str(ids[1]), *ids[1:]])
    ),
    Corruption("all numbers as other text", "id", "49 more", listed(lambda ids, _: [f"{name}.jpg" for name in ids])),
    Corruption("COCO's file name", "id", ".jpg", listed(lambda ids, _: [f"{ids[0]:012d}.jpg", *ids[1:]])),
    Corruption("a padded number", "id", '"0000', listed(lambda ids, _: [f"{ids[0]:012d}", *ids[1:]])),
    Corruption("a fractional number", "id", ".0 is a frac", listed(lambda ids, _: [float(ids[0]), *ids[1:]])),
    Corruption("a negative number", "id", "negative", listed(lambda ids, _: [-ids[0], *ids[1:]])),
    Corruption("an id of elsewhere", "gallery", "999999", listed(lambda i, _: [999999, *i[1:]]), needs_gallery=True),
    Corruption(
        "the queries of val",
        "split",
        "220 queries of circo/val",
        lambda w: {str(number): w.values[w.query] for number in range(220)},
        in_query=False,
    ),
    Corruption("the other benchmark", "benchmark", "cirr/test1", lambda w: w.values | {"version": "rc2"}, False),
    Corruption("one object too deep", "queries", "'predictions'", lambda w: {"predictions": w.values}, False),
)

CIRR = (
    *BOTH,
    Corruption("a number for text", "id", "355099 is a whole number", listed(lambda ids, _: [355099, *ids[1:]])),
    Corruption("a suffix left on", "suffix", ".png", listed(lambda ids, _: [f"{ids[0]}.png", *ids[1:]])),
    Corruption("a suffix in capitals", "suffix", ".PNG", listed(lambda ids, _: [f"{ids[0]}.PNG", *ids[1:]])),
    Corruption("a folder left on", "suffix", "./test1/", listed(lambda ids, _: [f"./test1/{ids[0]}", *ids[1:]])),
    Corruption("a space after a name", "id", "white space", listed(lambda ids, _: [f"{ids[0]} ", *ids[1:]])),
    Corruption("a name without text", "id", "empty", listed(lambda ids, _: ["", *ids[1:]])),
    Corruption("a name of elsewhere", "gallery", "x-1", listed(lambda ids, _: ["x-1", *ids[1:]])),
    Corruption("a name in capitals", "gallery", "IMG", listed(lambda ids, _: [ids[0].upper(), *ids[1:]])),
    Corruption("the reference", "reference", "reference", listed(lambda ids, w: [reference(w), *ids[1:]])),
    Corruption("no version", "version", "missing", lambda w: without(w, "version"), in_query=False),
    Corruption("another version", "version", '"rc1"', lambda w: w.values | {"version": "rc1"}, in_query=False),
    Corruption("a number as version", "version", "2,", lambda w: w.values | {"version": 2}, in_query=False),
    Corruption("no metric", "metric", "missing", lambda w: without(w, "metric"), in_query=False),
    Corruption("another metric", "metric", '"Recall"', lambda w: w.values | {"metric": "Recall"}, in_query=False),
    Corruption("over 5 MB", "size", "5,000,000", lambda w: encode(w.values) + b" " * 5_000_000, in_query=False),
    Corruption(
        "names of train",
        "split",
        "train-1-0-img0",
        lambda w: {
            key: value if isinstance(value, str) else [f"train-{i}-0-img0" for i in range(1, 1 + len(value))]
            for key, value in w.values.items()
        },
        in_query=False,
    ),
    Corruption(
        "the other benchmark",
        "benchmark",
        "circo/",
        lambda w: {str(number): list(range(50)) for number in range(800)},
        in_query=False,
    ),
)

CIRR_SUBSET = (
    *CIRR,
    Corruption("an image outside the group", "group", "group", listed(lambda ids, w: [outsider(w), *ids[1:]])),
    Corruption("the metric of the other file", "length", "50", lambda w: w.values | {"metric": "recall"}, False),
)

"""The files of a new plug-in: a whole, working one of each kind, to change."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.support.files import write_text
from cirbench.support.plugins import NAME

if TYPE_CHECKING:
    from pathlib import Path

SPEC = '''\
"""{name}: say in one line what it is."""

from cirbench.methods.interface import MethodSpec, Parameters


class {title}Parameters(Parameters, frozen=True):
    """What can be set.

    Attributes:
        weight: The weight of the image, beside the text's 1.
    """

    weight: float = 0.5


SPEC = MethodSpec(
    name="{name}",
    title="{title}: a weighted sum of image and text",
    implementation=f"{{__name__}}.method:{title}",
    parameters={title}Parameters,
)
'''

METHOD = '''\
"""How queries and gallery items become vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.methods.interface import sentences
from cirbench.ranking import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from cirbench.protocol import Item, Query
    from cirbench.backbones.encoder import Encoder
    from numpy.typing import NDArray

    from {module} import {title}Parameters


class {title}:
    """n(w n(v) + n(t))."""

    def __init__(self, encoder: Encoder, parameters: {title}Parameters, checkpoint: Path | None = None) -> None:
        self.encoder = encoder
        self.weight = parameters.weight

    def encode_gallery(self, items: Sequence[Item]) -> NDArray[np.float32]:
        """One row per gallery item, (N, D)."""
        return self.encoder.images(items)

    def encode_queries(self, queries: Sequence[Query]) -> NDArray[np.float32]:
        """One row per query, (Q, D)."""
        ids = [query.id for query in queries]
        images_QD = unit_rows(self.encoder.images([query.reference for query in queries]), ids)
        texts_QD = unit_rows(self.encoder.texts(sentences(queries)), ids)
        return self.weight * images_QD + texts_QD
'''

BENCHMARK = '''\
"""{name}: say in one line what it is, and cite its paper."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cirbench.benchmarks.annotation_files import locate
from cirbench.benchmarks.interface import Collection, DatasetFiles, ImageSet, RemoteFile
from cirbench.benchmarks.images import ImageFiles
from cirbench.benchmarks.interface import Benchmark, ProtocolEntry
from cirbench.metrics import Measure
from cirbench.protocol import EvaluationProtocol, Gallery, Item, Labels, Query

if TYPE_CHECKING:
    from pathlib import Path

PICTURES = Collection("{name}", ("{name}/images",))


def load(variant: str, data_root: Path) -> EvaluationProtocol:
    """Load {name}/val from rows of reference, text and target in {name}/val.json."""
    rows = json.loads(locate(data_root, "{name}/val.json").read_text(encoding="utf-8"))
    ids = tuple(dict.fromkeys(row[side] for row in rows for side in ("reference", "target")))
    images = ImageFiles(PICTURES, ids, data_root, "cirbench data check {name}")
    return EvaluationProtocol(
        id=f"{name}/{{variant}}",
        version=1,
        title="{title} val, reference removed",
        queries=tuple(
            Query(str(place), Item(row["reference"], images[row["reference"]]), (row["text"],))
            for place, row in enumerate(rows)
        ),
        gallery=Gallery(ids, [images[name] for name in ids]),
        labels=Labels(tuple((row["target"],) for row in rows)),
        measures=(Measure("Recall", 1), Measure("Recall", 10)),
        exclude_reference=True,
        captions="the text as annotated",
        licence="unknown",
    )


BENCHMARK = Benchmark(
    name="{name}",
    title="{title}: say in one line what it is",
    licence="unknown",
    citation="Authors, Title, Venue and year",
    load=load,
    protocols=(ProtocolEntry("{name}/val", "{title} val, reference removed", "val", None, None),),
    needs="{name}/val.json, {name}/images",
    files=DatasetFiles(
        (RemoteFile("https://example.org/{name}/val.json", "{name}/val.json", None, None),),
        (ImageSet("{title}'s images", PICTURES, None, "unknown", "{name}/images", by_hand="Ask its authors."),),
    ),
    columns=("Recall@1", "Recall@10"),
)
'''

BACKBONE = '''\
"""{name}: say in one line what it is."""

from cirbench.backbones.families import BackboneFamily

FAMILY = BackboneFamily("{name}", "{title}: say in one line what it is", f"{{__name__}}.model:load")
'''

MODEL = '''\
"""How the model is loaded. Here it is one of cirbench's own under another name; put yours in its place."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from cirbench.backbones import load_backbone

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone


def load(name: str, **options: Any) -> Backbone:
    """Load what ``--backbone {name}`` stands for; `cirbench.backbones.load_backbone` has the options."""
    backbone = load_backbone("scenes-vit", **options)
    backbone.identity = dataclasses.replace(backbone.identity, name=name)
    return backbone
'''

METRIC = '''\
"""{name}: say in one line what it measures, and cite its paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from cirbench.metrics import Metric, Ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray


def value(ranks: Ranks, k: int) -> NDArray[np.float64]:
    """Return the share of the first ``k`` candidates that is relevant, for each query."""
    relevant = ranks.relevant
    found_Q = np.bincount(relevant.row_of_value, weights=relevant.values <= k, minlength=len(relevant))
    return ranks.where_labelled(found_Q / k)


METRIC = Metric("{name}", "The share of the first K candidates that is relevant.", "Source", value, on_all=True)
'''

SERVER = '''\
"""The files of {name}'s test server: one object from query id to ten image ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cirbench.submissions.form import Inspected, Odd, Problem, ServerForm, broken_list, broken_queries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cirbench.protocol import EvaluationProtocol

LENGTH = 10


def problems(values: Mapping[str, object], protocol: str, known: EvaluationProtocol | None) -> Iterator[Problem]:
    """Yield every broken rule."""
    if known is not None:
        yield from broken_queries(values, [query.id for query in known.queries], protocol)
    for query, value in values.items():
        yield from broken_list(query, value, LENGTH, odd)


def odd(name: object) -> Odd | None:
    """Say what is wrong with an id."""
    return None if isinstance(name, str) else ("id", f"{{name!r}} is not text")


FORM = ServerForm(
    name="{name}",
    title="{title}: one object from query id to {{LENGTH}} image ids",
    upload="https://example.org/{name}",
    answers="Recall@1 and Recall@10",
    protocols=("{name}/test",),
    labels=("Recall@1", "Recall@10"),
    files=lambda lists: {{"json": {{query: list(ids[:LENGTH]) for query, ids in lists.rankings.items()}}}},
    inspect=lambda values, size, protocol, known: Inspected(len(values), problems(values, protocol, known)),
)
'''

README = """\
# {name}

{about}

    pip install -e .
    cirbench check {kind} {name}
    {use}

Without installing it: `cirbench check {kind} {module}/__init__.py:{object}`
"""

ABOUT = """\
What it does, equation by equation; the paper; where paper and public code differ and which is the default; what it was
trained and selected on; published numbers with their protocol, and what was measured here."""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "cirbench-{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["cirbench"]

[project.entry-points."cirbench.{kind}s"]
{name} = "{module}:{object}"

[tool.setuptools]
packages = ["{module}"]
"""


@dataclasses.dataclass(frozen=True, slots=True)
class _Kind:
    object: str
    files: dict[str, str]
    about: str
    use: str


_KINDS = {
    "method": _Kind(
        "SPEC", {"__init__.py": SPEC, "method.py": METHOD}, ABOUT, "cirbench run --method {name} --dataset scenes"
    ),
    "benchmark": _Kind(
        "BENCHMARK",
        {"__init__.py": BENCHMARK},
        "What it asks; the paper; where its files come from; what each protocol fixes.",
        "cirbench run --method image-text --dataset {name} --data-root DATA",
    ),
    "backbone": _Kind(
        "FAMILY",
        {"__init__.py": BACKBONE, "model.py": MODEL},
        "What the model is; the paper; what its weights were trained on.",
        "cirbench run --method image-text --dataset scenes --backbone {name}",
    ),
    "metric": _Kind(
        "METRIC",
        {"__init__.py": METRIC},
        "What it measures, as an equation; the paper; where public code differs.",
        "cirbench run --method image-text --dataset scenes --metric {name}@10",
    ),
    "server": _Kind(
        "FORM",
        {"__init__.py": SERVER},
        'What the server takes and answers; a benchmark names it with server="{name}".',
        "cirbench submit check FILE --protocol {name}/test",
    ),
}


def object_of(kind: str) -> str:
    """Return the name of the object that a plug-in of this kind registers."""
    return _KINDS[kind].object


def write_plugin(kind: str, name: str, parent: Path) -> list[Path]:
    """Write a working package of a plug-in into ``parent / name``.

    Args:
        kind: ``"method"``, ``"benchmark"``, ``"backbone"``, ``"metric"`` or ``"server"``.
        name: What it is called.
        parent: Where to.

    Returns:
        Its files; the one with the object that is registered first.

    Raises:
        UsageError: The name cannot be one, or the folder exists.
        CirbenchError: The folder cannot be written.
    """
    chosen = _KINDS[kind]
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot be the name of a {kind}.", hint=f"Use a-z, 0-9 and hyphens, for instance my-{kind}."
        )
    folder, module = parent / name, name.replace("-", "_")
    if folder.exists():
        raise UsageError(f"{folder} exists already.", hint="Choose another name, or another --path.")
    words = {
        "name": name,
        "module": module,
        "title": "".join(part.capitalize() for part in name.split("-")),
        "kind": kind,
        "object": chosen.object,
    }
    words |= {"about": chosen.about.format(**words), "use": chosen.use.format(**words)}
    texts = {folder / module / file: text for file, text in chosen.files.items()}
    texts |= {folder / "README.md": README, folder / "pyproject.toml": PYPROJECT}
    for path, text in texts.items():
        write_text(path, text.format(**words))
    return list(texts)

"""A new method's files: a whole, working one to change."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cirbench.errors import UsageError
from cirbench.support.files import write_text

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
    from cirbench.backbones.features.encoder import Encoder
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

README = """\
# {name}

What it does, equation by equation; the paper; where paper and public code differ and which is the default; what it was
trained and selected on; published numbers with their protocol, and what was measured here.

    pip install -e .
    cirbench check method {name}
    cirbench run --method {name} --dataset scenes

Without installing it: `cirbench check method {module}/__init__.py:SPEC`
"""

PYPROJECT = """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "cirbench-{name}"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["cirbench"]

[project.entry-points."cirbench.methods"]
{name} = "{module}:SPEC"

[tool.setuptools]
packages = ["{module}"]
"""


def write_method(name: str, parent: Path) -> list[Path]:
    """Write a working method package into ``parent / name``; return its files, the SPEC first.

    Raises:
        UsageError: The name cannot be one, or the folder exists.
        CirbenchError: The folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(
            f"{name!r} cannot be the name of a method.", hint="Use a-z, 0-9 and hyphens, for instance my-method."
        )
    folder, module = parent / name, name.replace("-", "_")
    if folder.exists():
        raise UsageError(f"{folder} exists already.", hint="Choose another name, or another --path.")
    words = {"name": name, "module": module, "title": "".join(part.capitalize() for part in name.split("-"))}
    texts = {
        folder / module / "__init__.py": SPEC,
        folder / module / "method.py": METHOD,
        folder / "README.md": README,
        folder / "pyproject.toml": PYPROJECT,
    }
    for path, text in texts.items():
        write_text(path, text.format(**words))
    return list(texts)

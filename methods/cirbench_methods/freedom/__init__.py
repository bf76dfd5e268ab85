"""FREEDOM: the words of a memory that name what the reference and its neighbours in the gallery show."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters


class FreedomParameters(Parameters, frozen=True):
    """How the reference becomes words.

    Attributes:
        memory: The words that images are named by: FILE.txt with one a line, FILE.csv whose first column they are, or
            scenes. The paper takes the 20,931 class names of Open Images V7.
        proxies: Images that are named: the reference and its nearest in the gallery, together (k). With 1, it is the
            reference alone, and the gallery is not looked at.
        names: Words that each of them is named by (n).
        kept: Words that are kept, the most frequent of these (m).
        text: The text of a word, {name}, and the relative caption, {relative}.
    """

    memory: str | None = None
    proxies: Annotated[int, msgspec.Meta(ge=1)] = 20
    names: Annotated[int, msgspec.Meta(ge=1)] = 7
    kept: Annotated[int, msgspec.Meta(ge=1)] = 7
    text: str = "{name} {relative}"


SPEC = MethodSpec(
    name="freedom",
    title="FREEDOM: words of a memory for the reference and its neighbours in the gallery",
    implementation="cirbench_methods.freedom.method:Freedom",
    parameters=FreedomParameters,
    inference_presets={"scenes-vit": FreedomParameters(memory="scenes")},
    paper="arXiv:2412.03297",
    transductive=lambda parameters: parameters.proxies > 1,
)

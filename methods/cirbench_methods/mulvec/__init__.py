"""MulVec's scoring: probes of a query in words against the regions of an image, by late interaction."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters

Weight = Annotated[float, msgspec.Meta(ge=0)]


class MulVecParameters(Parameters, frozen=True):
    """Where the probes come from, and how much each of their roles counts.

    Attributes:
        answers: FILE.jsonl of recorded answers about each reference with its captions: the target in words (whole), and
            what must be there (desired), stay (preserved) and not be there (forbidden), one a line.
        regions: Rows and columns of regions that the patches of an image are averaged to; 8 gives 64 vectors an item.
        temperature: Of the softmax over regions that a probe is compared with.
        whole: The weight of the whole target.
        desired: The weight of what must be there.
        preserved: The weight of what must stay.
        forbidden: The weight of what must not be there, which is subtracted.
    """

    answers: str | None = None
    regions: Annotated[int, msgspec.Meta(ge=1)] = 8
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 0.02
    whole: Weight = 1.0
    desired: Weight = 1.0
    preserved: Weight = 1.0
    forbidden: Weight = 1.0


SPEC = MethodSpec(
    name="mulvec",
    title="MulVec's late interaction: probes in words against regions",
    implementation="cirbench_methods.mulvec.method:MulVec",
    parameters=MulVecParameters,
    inference_presets={"scenes-vit": MulVecParameters(regions=4)},
    uses_llm="yes",
)

"""Image and text feature fused without training: on the sphere, by a weighted mean, or by a product of similarities."""

from __future__ import annotations

from typing import Annotated

import msgspec

from cirbench.methods.interface import MethodSpec
from cirbench_methods.baselines import TextParameters


class SlerpParameters(TextParameters, frozen=True):
    """How far the query is on the way from the image to the text.

    Attributes:
        alpha: 0 is the image and 1 the text. Published are .8 for CIRCO and FashionIQ, and .9 for CIRR.
    """

    alpha: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8


class WeiMoCirParameters(TextParameters, frozen=True):
    """How the mean of image and text is weighted.

    Attributes:
        alpha: The weight of the text; that of the image is 1 - alpha. Published are .8 for CLIP and .95 for BLIP.
    """

    alpha: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8


SLERP = MethodSpec(
    name="slerp",
    title="Slerp: a point on the great circle from the image to the text",
    implementation="cirbench_methods.fusion.method:Slerp",
    parameters=SlerpParameters,
    inference_presets={"scenes-vit": SlerpParameters(alpha=0.55)},
    paper="arXiv:2405.00571",
)
WEIMOCIR = MethodSpec(
    name="weimocir",
    title="WeiMoCIR's query: the weighted mean of both features, at their own lengths",
    implementation="cirbench_methods.fusion.method:WeiMoCir",
    parameters=WeiMoCirParameters,
    inference_presets={"scenes-vit": WeiMoCirParameters(alpha=0.5)},
    paper="arXiv:2409.04918",
)
PRODUCT = MethodSpec(
    name="product",
    title="Product: similarity to the image times similarity to the text",
    implementation="cirbench_methods.fusion.method:Product",
    parameters=TextParameters,
)

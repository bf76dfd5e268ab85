"""BASIC: similarities to image and text, centred, projected, normalised, and multiplied."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters

GALLERY = "gallery"


class BasicParameters(Parameters, frozen=True):
    """Which statistics there are, and how the two similarities become a score.

    Attributes:
        subjects: Words for what images show: FILE.txt with one a line, FILE.csv whose first column they are, or scenes.
        styles: Words for how they show it, in the same forms.
        images: Images whose mean feature is subtracted from all: FILE.npy with it, anything that cirbench train --data
            takes, or gallery.
        pairs: Images with captions that give the smallest similarities: FILE.npz with the arrays images and texts, or
            anything that cirbench train --data takes. Null for similarities as they are.
        text_unit: What the text similarity is divided by: the smallest similarity of images, as the public code does,
            or of texts, as the paper says.
        contrast: The weight of the styles in the projection, beside that of the subjects.
        components: Directions that the projection keeps, at most; 0 for no projection.
        context: Subjects that are written before and after the caption, whose texts are averaged; 0 for the caption.
        neighbours: Nearest images of the gallery that the reference is averaged with (query expansion); 0 for none.
        penalty: The weight of the squared sum of both similarities, which is subtracted from their product.
    """

    subjects: str | None = None
    styles: str | None = None
    images: str | None = None
    pairs: str | None = None
    text_unit: Literal["image", "text"] = "image"
    contrast: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.2
    components: Annotated[int, msgspec.Meta(ge=0)] = 250
    context: Annotated[int, msgspec.Meta(ge=0)] = 100
    neighbours: Annotated[int, msgspec.Meta(ge=0)] = 0
    penalty: Annotated[float, msgspec.Meta(ge=0)] = 0.1


SPEC = MethodSpec(
    name="basic",
    title="BASIC: the product of centred, projected and normalised similarities",
    implementation="cirbench_methods.basic.method:Basic",
    parameters=BasicParameters,
    inference_presets={
        "scenes-vit": BasicParameters(
            subjects="scenes", images="scenes:2000", pairs="scenes:500", components=0, context=0, penalty=0
        )
    },
    paper="arXiv:2510.25387",
    transductive=lambda parameters: parameters.neighbours > 0 or parameters.images == GALLERY,
)

"""Methods on what a language model said of a query: CIReVL, LDRE, SEIZE, OSrCIR, SDR-CIR, and PDV on any of them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters

Part = Annotated[float, msgspec.Meta(ge=0, le=1)]


class AnswersParameters(Parameters, frozen=True):
    """Where the texts of a query come from.

    Attributes:
        answers: FILE.jsonl of recorded answers; or oracle, which knows the ground truths of scenes: an upper bound.
        noise: How often the oracle errs, from 0 to 1.
    """

    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {"noise": ("answers", "oracle")}

    answers: str | None = None
    noise: Part = 0.25


class SeveralParameters(AnswersParameters, frozen=True):
    """Several texts of each query.

    Attributes:
        samples: How many captions of a reference are edited and averaged.
    """

    samples: Annotated[int, msgspec.Meta(ge=1)] = 15


class LdreParameters(SeveralParameters, frozen=True):
    """How the texts are weighted.

    Attributes:
        weighting: The mean, as the public code has it for CIRR; or published, as it has it for CIRCO: a weight for the
            first text of all queries, one for the second, and so on, read off all queries and the whole gallery.
        temperature: Of the softmax over the weights.
        most: How many items of each query count for a weight, those that lose most similarity by the edit.
    """

    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {
        "temperature": ("weighting", "published"),
        "most": ("weighting", "published"),
    }

    weighting: Literal["mean", "published"] = "mean"
    temperature: Annotated[float, msgspec.Meta(gt=0)] = 0.04
    most: Annotated[int, msgspec.Meta(ge=1)] = 50


class SeizeParameters(SeveralParameters, frozen=True):
    """How much of what the edit changes is added. Published for CIRCO, CIRR and FashionIQ: 2.1/.13, 1/.22 and 0/0.

    Attributes:
        neg: The part of what is lost.
        pos: The part of what is gained.
    """

    neg: float = 2.1
    pos: float = 0.13


class SdrParameters(AnswersParameters, frozen=True):
    """How image and texts are weighted. Published for CIRCO, CIRR and FashionIQ: .15/.35, .05/.5 and .2/.4.

    Attributes:
        alpha: The weight of the reference image; that of the target's text is 1 - alpha.
        beta: How much of what the target's text owes to the reference is taken off.
    """

    alpha: Part = 0.15
    beta: Annotated[float, msgspec.Meta(ge=0)] = 0.35


class PdvParameters(AnswersParameters, frozen=True):
    """On which method, and how far. Published for CIReVL on CIRCO and CIRR: 1.4, 1.2 and .75.

    Attributes:
        base: A method that makes a text of the query, with and without the change.
        settings: Parameters of that method, as key=value, separated by commas.
        checkpoint: The folder of its checkpoint, where it is trained.
        image: How far the image is moved along the change.
        text: How far the text is moved.
        beta: The weight of the moved text; that of the moved image is 1 - beta.
    """

    base: str = "cirevl"
    settings: str = ""
    checkpoint: str | None = None
    image: float = 1.4
    text: float = 1.2
    beta: Part = 0.75


def _oracle(parameters: AnswersParameters) -> bool:
    from cirbench_methods.language.answers import knows_ground_truths

    return knows_ground_truths(parameters)


def _oracle_in_base(parameters: PdvParameters) -> bool:
    from cirbench.methods.interface import find_method

    reads_answers = issubclass(find_method(parameters.base).parameters, AnswersParameters)
    return reads_answers and _oracle(parameters)


CIREVL = MethodSpec(
    name="cirevl",
    title="CIReVL: the reference described, the description edited by a language model",
    implementation="cirbench_methods.language.method:Cirevl",
    parameters=AnswersParameters,
    inference_presets={"scenes-vit": AnswersParameters(answers="oracle")},
    paper="arXiv:2310.09291",
    uses_llm="yes",
    oracle=_oracle,
)
LDRE = MethodSpec(
    name="ldre",
    title="LDRE: the mean of several edited descriptions",
    implementation="cirbench_methods.language.method:Ldre",
    parameters=LdreParameters,
    inference_presets={"scenes-vit": LdreParameters(answers="oracle")},
    paper="https://github.com/yzy-bupt/LDRE",
    uses_llm="yes",
    transductive=lambda parameters: parameters.weighting == "published",
    oracle=_oracle,
)
SEIZE = MethodSpec(
    name="seize",
    title="SEIZE: LDRE's mean, and what the edit changes of each similarity",
    implementation="cirbench_methods.language.method:Seize",
    parameters=SeizeParameters,
    inference_presets={"scenes-vit": SeizeParameters(answers="oracle")},
    paper="https://github.com/yzy-bupt/SEIZE",
    uses_llm="yes",
    oracle=_oracle,
)
OSRCIR = MethodSpec(
    name="osrcir",
    title="OSrCIR: the target described in one call by a model that sees the reference",
    implementation="cirbench_methods.language.method:Osrcir",
    parameters=AnswersParameters,
    inference_presets={"scenes-vit": AnswersParameters(answers="oracle")},
    paper="arXiv:2412.11077",
    uses_llm="yes",
    oracle=_oracle,
)
SDR = MethodSpec(
    name="sdr",
    title="SDR-CIR: the target described, less what the description owes to the reference",
    implementation="cirbench_methods.language.method:Sdr",
    parameters=SdrParameters,
    inference_presets={"scenes-vit": SdrParameters(answers="oracle")},
    paper="arXiv:2602.04451",
    uses_llm="yes",
    oracle=_oracle,
)
PDV = MethodSpec(
    name="pdv",
    title="PDV: image and text moved along the direction of the change, on another method's texts",
    implementation="cirbench_methods.language.pdv:Pdv",
    parameters=PdvParameters,
    inference_presets={"scenes-vit": PdvParameters(answers="oracle")},
    paper="arXiv:2502.07215",
    supervision="training-free",
    uses_llm="unknown",
    oracle=_oracle_in_base,
)

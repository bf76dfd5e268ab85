"""Judges: a vision-language model that reads reference, text and candidates together, and an oracle to hold it to."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from cirbench.methods.interface import MethodSpec, Parameters


class JudgeParameters(Parameters, frozen=True):
    """Which model judges, what it is asked, and how it is shown the images.

    Attributes:
        model: A vision-language model that answers: a folder as transformers saves it, or owner/model of the hub, with
            @revision for one of its commits.
        mode: What it sees at once: pointwise one candidate, to say yes or no; pairwise two, to say which is better, for
            every two in both orders; listwise all, to say which is best.
        prompt: The question behind the images, {} for the relative caption; the one of the mode if not given.
        pixels: Pixels of an image, at most; larger ones are scaled down before the model's own preprocessing.
        precision: In which the model runs; answers are scored in float32 either way.
        batch_size: Questions at once.
        answers: A file of recorded answers that takes the place of the model.
    """

    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {
        "model": ("answers", None),
        "prompt": ("answers", None),
        "pixels": ("answers", None),
        "precision": ("answers", None),
        "batch_size": ("answers", None),
    }

    model: str = "Qwen/Qwen3-VL-Reranker-2B"
    mode: Literal["pointwise", "pairwise", "listwise"] = "pointwise"
    prompt: str | None = None
    pixels: Annotated[int, msgspec.Meta(ge=1024)] | None = None
    precision: Literal["fp32", "bf16"] = "bf16"
    batch_size: Annotated[int, msgspec.Meta(ge=1)] = 8
    answers: str | None = None


class OracleParameters(Parameters, frozen=True):
    """How often the oracle errs.

    Attributes:
        noise: The chance that it takes a right image for a wrong one, or a wrong one for a right one.
        seed: Decides about which it errs.
    """

    noise: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    seed: Annotated[int, msgspec.Meta(ge=0)] = 0


JUDGE = MethodSpec(
    name="judge",
    title="A vision-language model says whether a candidate is what is asked for",
    implementation="cirbench_methods.judge.method:Judge",
    parameters=JudgeParameters,
    paper="arXiv:2601.04720",
    needs=("images",),
    uses_llm="yes",
    reranks=True,
)
ORACLE = MethodSpec(
    name="oracle-judge",
    title="An oracle that knows the ground truths of scenes, and errs at a known rate",
    implementation="cirbench_methods.judge.oracle:OracleJudge",
    parameters=OracleParameters,
    needs=("images",),
    reranks=True,
    oracle=True,
)

"""What a step of masked tuning costs, as ratios within one process: CPU seconds, one thread, medians of rounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch

from cirbench.backbones import load_backbone
from cirbench.training.loop import optimizer_for
from cirbench.training.models import write_random_model
from cirbench.training.objective import Batch
from cirbench_methods.pli import PliTraining
from cirbench_methods.pli.train import MaskedTuning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

pytestmark = [pytest.mark.performance, pytest.mark.usefixtures("one_thread", "no_denormals")]
CAPTIONS = (
    "two dogs of the same breed running on grass",
    "a woman holding a red umbrella in the rain",
    "a wooden table with a vase of flowers and an open book on it",
    "a city street at night",
) * 4


@pytest.fixture
def no_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.parametrize(("architecture", "batch_size", "floor"), [("ViT-B-32", 16, 2.4), ("ViT-L-14", 4, 3.0)])
def test_a_step_on_a_quarter_of_the_patches_and_trimmed_captions_beats_the_full_one(
    architecture: str,
    batch_size: int,
    floor: float,
    benchmark: Any,
    tmp_path: Path,
    median_cpu_seconds: Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]],
) -> None:
    config = {"model_cfg": open_clip.get_model_config(architecture), "activation": "gelu"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    write_random_model(tmp_path, tmp_path, seed=0)
    backbone: Any = load_backbone(str(tmp_path), device="cpu")

    class Padded:
        """The same backbone, which reads all 77 positions of every caption."""

        model, identity = backbone.model, backbone.identity
        tokenize, encode_images = staticmethod(backbone.tokenize), staticmethod(backbone.encode_images)
        encode_tokens = staticmethod(backbone.model.encode_text)

    padded: Any = Padded()
    whole, masked = PliTraining(mask_ratio=0.0), PliTraining(mask_ratio=0.75)
    batch = Batch(torch.randn(batch_size, 3, 224, 224), CAPTIONS[:batch_size])
    optimizer = optimizer_for(backbone.model, masked)

    def step(objective: MaskedTuning) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            objective.loss(batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        return run

    best = step(MaskedTuning(backbone, masked))
    benchmark.pedantic(best, rounds=1, warmup_rounds=1)
    taken = median_cpu_seconds(
        {
            "all patches, padded": step(MaskedTuning(padded, whole)),
            "a quarter, padded": step(MaskedTuning(padded, masked)),
            "a quarter, trimmed": best,
        },
        3,
    )
    benchmark.extra_info |= {f"{name} (CPU s)": round(seconds, 2) for name, seconds in taken.items()}
    ratio = taken["all patches, padded"] / taken["a quarter, trimmed"]
    benchmark.extra_info["times the speed"] = round(ratio, 2)
    assert ratio >= floor, taken

"""What a step of masked tuning costs, as ratios within one process: CPU seconds, one thread, medians of rounds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch
from torch.nn import functional

from cirbench.backbones import load_backbone
from cirbench.training.loop import optimizer_for
from cirbench.training.models import write_random_model
from cirbench_methods.pli import PliTraining
from cirbench_methods.pli.masking import MaskedTower

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


@pytest.mark.parametrize(
    ("architecture", "batch_size", "least", "least_of_queries"), [("ViT-B-32", 16, 1.5, 2.4), ("ViT-L-14", 2, 1.4, 3.0)]
)
def test_a_quarter_of_the_patches_and_trimmed_captions_beat_all_of_both(
    architecture: str,
    batch_size: int,
    least: float,
    least_of_queries: float,
    benchmark: Any,
    tmp_path: Path,
    median_cpu_seconds: Callable[[Mapping[str, Callable[[], object]], int], dict[str, float]],
) -> None:
    """Of the whole step, and of its queries alone: the targets, whole images with gradients, are spared by nothing."""
    config = {"model_cfg": open_clip.get_model_config(architecture), "activation": "gelu"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    write_random_model(tmp_path, tmp_path, seed=0)
    backbone: Any = load_backbone(str(tmp_path), device="cpu")
    masked, tokens_BL = MaskedTower(backbone), backbone.tokenize(CAPTIONS[:batch_size])
    pixels_B3SS = torch.randn(batch_size, 3, 224, 224)
    optimizer = optimizer_for(backbone.model, PliTraining())

    def queries(ratio: float, encode: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], torch.Tensor]:
        return lambda: masked(pixels_B3SS, masked.draw(batch_size, ratio)) + encode(tokens_BL)

    def step(make_queries: Callable[[], torch.Tensor], *, whole: bool) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad(set_to_none=True)
            targets_BD = backbone.encode_images(pixels_B3SS) if whole else torch.randn(batch_size, backbone.dim)
            loss = functional.cross_entropy(make_queries() @ targets_BD.T, torch.arange(batch_size))
            loss.backward()  # type: ignore[no-untyped-call]
            if whole:
                optimizer.step()

        return run

    everything, little = queries(0.0, backbone.model.encode_text), queries(0.75, backbone.encode_tokens)
    best = step(little, whole=True)
    benchmark.pedantic(best, rounds=1, warmup_rounds=1)
    taken = median_cpu_seconds(
        {
            "step, all": step(everything, whole=True),
            "step, masked and trimmed": best,
            "queries, all": step(everything, whole=False),
            "queries, masked and trimmed": step(little, whole=False),
        },
        3,
    )
    benchmark.extra_info |= {f"{name} (CPU s)": round(seconds, 2) for name, seconds in taken.items()}
    all_step, best_step, all_queries, best_queries = taken.values()
    benchmark.extra_info["step, times the speed"] = round(all_step / best_step, 2)
    benchmark.extra_info["queries, times the speed"] = round(all_queries / best_queries, 2)
    assert all_step / best_step >= least, taken
    assert all_queries / best_queries >= least_of_queries, taken

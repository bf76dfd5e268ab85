"""What a step of masked tuning costs, as ratios within one process: CPU seconds, one thread, medians of rounds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch

from cirbench.backbones import load_backbone
from cirbench.training.contrastive import write_random_model
from cirbench.training.interface import TrainingParameters
from cirbench.training.log import About, MetricsFile, StepMetrics, smoothed
from cirbench.training.state import suspicion
from tests.training_steps import matrix_operations, measure, steps_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.performance, pytest.mark.usefixtures("one_thread", "no_denormals")]


@pytest.fixture
def no_denormals() -> Iterator[None]:
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


def multiplies_bf16() -> bool:
    """Whether the processor has instructions for products of bf16, without which bf16 is slower than fp32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@pytest.mark.parametrize(
    ("architecture", "batch_size", "least", "least_of_bf16"), [("ViT-B-32", 16, 1.5, 2.5), ("ViT-L-14", 2, 1.5, 3.0)]
)
def test_a_quarter_of_the_patches_and_trimmed_captions_in_bf16_take_a_third_of_a_plain_step(
    architecture: str,
    batch_size: int,
    least: float,
    least_of_bf16: float,
    benchmark: Any,
    tmp_path: Path,
) -> None:
    """In fp32 the matrix products that are left are the bound: the targets, whole images, are spared by nothing."""
    config = {"model_cfg": open_clip.get_model_config(architecture), "activation": "gelu"}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    write_random_model(tmp_path, tmp_path, seed=0)
    backbone = load_backbone(str(tmp_path), device="cpu")
    operations, taken = {}, {}
    for name, changes in {"plain": {}, "ours, fp32": {}, "ours, bf16": {"precision": "bf16"}}.items():
        steps = steps_of("pli", backbone, batch_size, **changes)  # one after the other: each holds its own weights
        take = steps.plain if name == "plain" else steps.ours
        operations[name] = matrix_operations(take)
        taken[name] = measure(take, backbone.device, 3, time.process_time).seconds
    benchmark.pedantic(take, rounds=1)
    found = {name: round(taken["plain"] / seconds, 2) for name, seconds in taken.items()}
    benchmark.extra_info |= {f"{name} (CPU s)": round(seconds, 2) for name, seconds in taken.items()}
    benchmark.extra_info |= {f"{name} (10^12 operations)": round(n / 1e12, 3) for name, n in operations.items()}
    benchmark.extra_info |= {f"{name}, times the speed": ratio for name, ratio in found.items()}
    assert found["ours, fp32"] >= least, taken
    if multiplies_bf16():
        assert found["ours, bf16"] >= least_of_bf16, taken


def test_recording_every_step_adds_less_than_two_percent_to_the_step_of_a_small_model(
    benchmark: Any, tmp_path: Path
) -> None:
    """What a step is followed by: its line in metrics.jsonl, the mean of the last losses, and the look at them."""
    take = steps_of("pli", load_backbone("scenes-vit", device="cpu"), 16).ours
    about = About(method="pli", request="", training={}, total_steps=1000, steps_per_epoch=10)
    file, losses, parameters = MetricsFile(tmp_path, about, [], []), [0.5] * 10_000, TrainingParameters()

    def record_hundred() -> None:
        for step in range(100):
            file.step(StepMetrics(step=step, epoch=0.1, loss=0.5, lr=0.1, samples_per_second=100.0, seconds=1.0))
            f"step {step}, loss {smoothed(losses):.4g}"
            suspicion(losses, parameters)

    cpu = torch.device("cpu")
    step = measure(take, cpu, 5, time.process_time).seconds
    recording = measure(record_hundred, cpu, 5, time.process_time).seconds / 100
    benchmark.pedantic(record_hundred, rounds=1)
    file.close()
    benchmark.extra_info |= {"step (CPU s)": step, "recording (CPU s)": recording, "ratio": recording / step}
    assert recording < 0.02 * step

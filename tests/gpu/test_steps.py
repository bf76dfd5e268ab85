"""How fast steps of training are on a GPU, at ViT-L/14 with random weights and the batch sizes of the papers.

`make gpu` prints a line for each: images (LinCIR: texts) a second, peak memory, the share of the card's bf16 matrix
peak that the products of the step are, and how many times as fast as a plain loop it is (`tests/training_steps.py`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch

from cirbench.backbones import load_backbone
from cirbench.training.contrastive import write_random_model
from tests.training_steps import matrix_peak, speed

if TYPE_CHECKING:
    from cirbench.backbones.interface import Backbone

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU that torch can use"),
]
GPU = torch.device("cuda")


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    folder = tmp_path_factory.mktemp("ViT-L-14")
    config = {"model_cfg": open_clip.get_model_config("ViT-L-14"), "activation": "quick_gelu"}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_random_model(folder, folder, seed=0)
    return load_backbone(str(folder), device="cuda")


@pytest.fixture(scope="module")
def peak() -> float:
    return matrix_peak(GPU)


@pytest.mark.parametrize(
    ("method", "batch_size", "times", "share"),
    [("pli", 64, 8.0, None), ("pli", 1024, None, 0.45), ("pic2word", 128, None, None), ("lincir", 512, None, None)],
)
def test_a_step_is_several_times_as_fast_as_a_plain_one(
    method: str,
    batch_size: int,
    times: float | None,
    share: float | None,
    backbone: Backbone,
    peak: float,
    capsys: pytest.CaptureFixture[str],
    record_property: Any,
) -> None:
    found = speed(method, backbone, batch_size, peak)
    aims = [f"{found.times:.1f}x of {times:g}x" if times else "", f"{found.share:.0%} of {share:.0%}" if share else ""]
    with capsys.disabled():
        print(f"\n{torch.cuda.get_device_name()}: {found}", *(f"; aim: {aim}" for aim in aims if aim))
    record_property("speed", str(found))
    assert found.times > 1
    assert 0 < found.share < 1

"""A step in micro-batches, in bf16, or with recomputed activations is still that step."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
import torch
from safetensors.torch import load_file

from cirbench.errors import CirbenchError, UsageError
from cirbench.support.device import supports_bf16
from cirbench.training import loop
from cirbench.training.checkpoint import WEIGHTS, open_checkpoint, read_card
from cirbench.training.contrastive import contrastive_loss, in_full_precision, random_backbone
from cirbench.training.interface import TrainingParameters, tf32
from cirbench.training.train import Request, built, train
from tests.tiny_clip import some_pairs, tiny_backbone, write_design
from tests.training.quick import quick_request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


class PerSample:
    """A loss that is a mean over samples, so that a batch and its micro-batches have one gradient."""

    def __init__(self, backbone: Any, parameters: Any) -> None:
        self.backbone, self.module = backbone, backbone.model

    def loss(self, batch: Any) -> torch.Tensor:
        """How far the features of images are from one."""
        losses: torch.Tensor = (self.backbone.encode_images(batch.pixels_B3SS) - 1) ** 2
        return losses.mean()


class Preparing(PerSample):
    """Notes whether TF32 is allowed while it prepares, and while it computes a loss."""

    tf32_of: ClassVar[dict[str, tuple[bool, bool]]] = {}

    def prepare(self, source: Any, display: Any) -> None:
        """Note it; what methods encode here goes to the store that runs share."""
        self._note("prepare")

    def loss(self, batch: Any) -> torch.Tensor:
        """Note it."""
        self._note("loss")
        return super().loss(batch)

    def _note(self, when: str) -> None:
        self.tf32_of[when] = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


def losses(folder: Path, **settings: Any) -> list[float]:
    parameters = TrainingParameters(steps=5, batch_size=16, lr=1e-3, **settings)
    request = Request("per-sample", PerSample, parameters, tiny_backbone(), some_pairs())
    return read_card(train(request, folder=folder)).losses


def test_a_batch_in_micro_batches_is_one_step(tmp_path: Path) -> None:
    whole = losses(tmp_path / "whole")
    assert losses(tmp_path / "micro-batches", grad_accum_steps=4) == pytest.approx(whole, abs=1e-5)


def test_a_batch_that_cannot_be_split_into_equal_micro_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="A batch of 16 cannot be split into equal parts for 3 micro-batches"):
        losses(tmp_path, grad_accum_steps=3)


@pytest.mark.slow
def test_negatives_are_those_of_a_micro_batch(tmp_path: Path) -> None:
    first = {
        count: read_card(train(quick_request("clip", grad_accum_steps=count), folder=tmp_path / count)).losses[0]
        for count in ("1", "4")
    }
    assert first["4"] < first["1"]  # two to be told apart instead of eight


@pytest.mark.parametrize("name", ["clip", "pli"])
def test_recomputed_activations_change_nothing(tmp_path: Path, name: str) -> None:
    kept, again = (
        train(quick_request(name, steps="3", activation_checkpointing=value), folder=tmp_path / value)
        for value in ("false", "true")
    )
    assert read_card(again).losses == pytest.approx(read_card(kept).losses, abs=1e-6)
    assert read_card(again).training["activation_checkpointing"] is True


def test_a_model_that_cannot_recompute_its_activations_is_refused() -> None:
    with pytest.raises(UsageError, match="tiny cannot recompute its activations"):
        loop.enable_activation_checkpointing(torch.nn.Linear(2, 2), "tiny")


class Interrupted(PerSample):
    """Ends in the third step, as long as it shall."""

    calls, ends = 0, False

    def loss(self, batch: Any) -> torch.Tensor:
        """Count."""
        Interrupted.calls += 1
        if Interrupted.ends and Interrupted.calls == 3:
            raise RuntimeError("the power failed")
        return super().loss(batch)


@pytest.fixture
def convolutional(tmp_path: Path) -> Request:
    design = write_design(tmp_path / "model")
    config = json.loads((design / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 16}
    (design / "open_clip_config.json").write_text(json.dumps(config))
    backbone = random_backbone(design, seed=0, device="cpu")
    return Request("conv", Interrupted, TrainingParameters(steps=4, batch_size=8, lr=1e-3), backbone, some_pairs())


def test_a_convolutional_tower_has_its_channels_last_and_learns_the_same(
    tmp_path: Path, convolutional: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    with built(convolutional) as (objective, _):
        kernels = [each for each in objective.module.parameters() if each.ndim == 4 and each.shape[2] > 1]
        assert len(kernels) > 3
        assert all(each.is_contiguous(memory_format=torch.channels_last) for each in kernels)
    last = train(convolutional, folder=tmp_path / "last")
    monkeypatch.setattr("cirbench.training.train.lay_out_channels_last", lambda model: None)
    usual = train(convolutional, folder=tmp_path / "usual")
    assert read_card(last).losses == pytest.approx(read_card(usual).losses, rel=1e-3)


def test_a_convolutional_tower_that_was_interrupted_continues_bit_for_bit(
    tmp_path: Path, convolutional: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(convolutional, folder=tmp_path / "whole")
    monkeypatch.setattr(Interrupted, "calls", 0)
    with monkeypatch.context() as patched, pytest.raises(RuntimeError, match="the power failed"):
        patched.setattr(Interrupted, "ends", True)
        train(convolutional, folder=tmp_path / "parts", save_seconds=0)
    parts = train(convolutional, folder=tmp_path / "parts")
    assert (parts / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_a_vision_transformer_keeps_its_layout() -> None:
    model = copy.deepcopy(tiny_backbone().model)
    loop.lay_out_channels_last(model)
    patches = model.get_parameter("visual.conv1.weight")
    assert patches.is_contiguous()


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is compiled, in the form that the backend of a compiler is given; nothing is generated of it."""
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: Sequence[Any]) -> Callable[..., Any]:
        shapes = [tuple(each.shape) for each in inputs if not isinstance(each, torch.nn.Parameter)]
        seen.append(f"{shapes}, gradients: {torch.is_grad_enabled()}")
        return graph.forward

    monkeypatch.setattr(loop, "BACKEND", backend)
    torch._dynamo.reset()
    yield seen
    torch._dynamo.reset()


LOOKS_AT_GRADIENTS = pytest.mark.filterwarnings("ignore:The .grad attribute")
"""torch's compiler looks at what is no leaf, and ignores the warning itself."""


@pytest.mark.slow
@LOOKS_AT_GRADIENTS
@pytest.mark.parametrize("name", ["clip", "pli", "lincir", "early-fusion"])
def test_compiled_blocks_give_the_same_losses_and_no_shape_is_compiled_twice(
    tmp_path: Path, name: str, compilations: list[str]
) -> None:
    plain = read_card(train(quick_request(name, steps="12"), folder=tmp_path / "plain"))
    assert compilations == []
    compiled = read_card(train(quick_request(name, steps="12", compile="true"), folder=tmp_path / "compiled"))
    assert compiled.losses == pytest.approx(plain.losses, abs=1e-5)
    assert (plain.training["compile"], compiled.training["compile"]) == (False, True)
    assert compiled.request != plain.request
    assert compilations
    assert len(compilations) == len(set(compilations))


@pytest.mark.slow
@LOOKS_AT_GRADIENTS
def test_code_that_is_generated_for_a_cpu_gives_the_same_losses(tmp_path: Path) -> None:
    plain, compiled = (
        read_card(train(quick_request("clip", steps="3", compile=value), folder=tmp_path / value)).losses
        for value in ("false", "true")
    )
    assert compiled == pytest.approx(plain, abs=1e-5)


@pytest.mark.slow
@LOOKS_AT_GRADIENTS
def test_without_a_compiler_the_training_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(loop, "BACKEND", missing)
    torch._dynamo.reset()
    with pytest.raises(CirbenchError, match=r"stopped at step 1: torch cannot compile the towers .*No working") as said:
        train(quick_request("clip", compile="true"), folder=tmp_path)
    assert said.value.hint is not None
    assert said.value.hint.startswith("Leave out --set compile=true")


def test_a_model_without_blocks_is_not_compiled() -> None:
    with pytest.raises(UsageError, match="tiny has no repeated blocks to compile"):
        loop.compile_blocks(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)), "tiny")


@pytest.mark.slow
def test_in_bf16_the_towers_round_and_weights_and_losses_do_not(tmp_path: Path) -> None:
    exact, rounded = (
        train(quick_request("clip", precision=value), folder=tmp_path / value) for value in ("fp32", "bf16")
    )
    assert read_card(rounded).losses != read_card(exact).losses
    assert read_card(rounded).losses == pytest.approx(read_card(exact).losses, abs=0.1)
    assert {tensor.dtype for tensor in load_file(rounded / WEIGHTS).values()} == {torch.float32}
    assert read_card(rounded).training["precision"] == "bf16"


@pytest.mark.parametrize(("bf16", "chosen"), [(True, "bf16"), (False, "fp32")])
def test_an_open_precision_is_bf16_on_a_device_that_has_it(bf16: bool, chosen: str) -> None:
    assert TrainingParameters(precision="auto").settled(bf16=bf16).precision == chosen


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
@pytest.mark.parametrize("bf16", [True, False])
def test_a_precision_that_was_asked_for_is_kept_on_every_device(asked: Any, bf16: bool) -> None:
    assert TrainingParameters(precision=asked).settled(bf16=bf16).precision == asked


def test_a_cpu_is_not_a_device_for_bf16() -> None:
    assert not supports_bf16(torch.device("cpu"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_says_itself_whether_it_has_bf16() -> None:
    has_it = torch.cuda.get_device_capability() >= (8, 0)
    assert supports_bf16(torch.device("cuda")) is has_it


def test_an_open_precision_is_the_same_training_as_the_one_it_stands_for() -> None:
    exact, left_open = (quick_request("clip", precision=value) for value in ("fp32", "auto"))
    assert left_open.parameters == exact.parameters
    assert left_open.digest == exact.digest


def test_a_training_starts_from_fp32_also_where_encoding_runs_under_autocast() -> None:
    backbone = copy.copy(tiny_backbone())
    backbone.identity = dataclasses.replace(backbone.identity, precision="bf16-autocast")
    parameters = TrainingParameters(steps=1, batch_size=4)
    usual, beside = (
        Request("per-sample", PerSample, parameters, each, some_pairs()) for each in (tiny_backbone(), backbone)
    )
    assert beside.digest == usual.digest
    assert beside.backbone.identity.precision == "fp32"
    assert backbone.identity.precision == "bf16-autocast"


def test_a_checkpoint_records_the_precision_that_was_used(tmp_path: Path) -> None:
    card = read_card(train(quick_request("clip", precision="auto", steps="1"), folder=tmp_path))
    assert (card.training["precision"], card.training["tf32"]) == ("fp32", False)


def test_what_a_training_prepares_is_in_reference_precision(tmp_path: Path) -> None:
    parameters = TrainingParameters(steps=1, batch_size=4, tf32=True)
    train(Request("preparing", Preparing, parameters, tiny_backbone(), some_pairs()), folder=tmp_path)
    assert Preparing.tf32_of == {"prepare": (False, False), "loss": (True, True)}


def test_a_loss_is_computed_in_fp32_within_autocast() -> None:
    torch.manual_seed(0)
    images_BD, texts_BD = torch.randn(2, 8, 16).bfloat16()
    scale = torch.tensor(100.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = contrastive_loss(images_BD, texts_BD, scale, 0)
    assert found.dtype == torch.float32
    assert torch.equal(found, contrastive_loss(images_BD.float(), texts_BD.float(), scale, 0))


def test_float64_is_left_alone() -> None:
    double = torch.ones(2, dtype=torch.float64)
    assert in_full_precision(lambda values: values.sum())(double).dtype == torch.float64


def test_tf32_is_switched_for_a_training_and_back() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    with tf32(not before):
        assert torch.backends.cuda.matmul.allow_tf32 is not before
        assert torch.backends.cudnn.allow_tf32 is not before
    assert torch.backends.cuda.matmul.allow_tf32 is before


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("architecture", "ViT-L-14@" + "1" * 64, r"architecture .* against ViT-L-14@1"),  # another dimension or tower
        ("activation", "quick_gelu", "activation gelu against quick_gelu"),
        ("weights", "1" * 64, "weights [0-9a-f]{40} against 1{40}"),
    ],
)
def test_a_checkpoint_of_another_backbone_is_refused_by_what_differs(
    tmp_path: Path, field: str, value: str, message: str
) -> None:
    folder = train(quick_request("pli", steps="1"), folder=tmp_path)
    identity = dataclasses.replace(tiny_backbone().identity, name="other", **{field: value})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"was trained on .*, and the backbone here is other: {message}") as caught:
        open_checkpoint(folder, method="pli", backbone=identity)
    assert caught.value.hint is not None
    assert "Use --backbone" in caught.value.hint

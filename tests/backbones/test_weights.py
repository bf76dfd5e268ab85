"""Weights are tensors that fit, or an error; nothing in a weights file is ever run."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cirbench.backbones.weights import (
    choose_average,
    fit,
    guess_architecture,
    read_content,
    read_tensors,
    state_dict_of,
)
from cirbench.errors import CorruptFile, MissingData
from tests.backbones.small import CONFIG, model, state

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_usual_files_hold_the_same_tensors(tmp_path: Path) -> None:
    tensors = state(model())
    save_file(tensors, tmp_path / "model.safetensors")
    torch.save(tensors, tmp_path / "model.pt")
    torch.save({"epoch": 3, "name": "run", "state_dict": tensors, "optimizer": {}}, tmp_path / "epoch_3.pt")
    torch.save({"state_dict": {f"module.{name}": t for name, t in tensors.items()}}, tmp_path / "parallel.pt")
    torch.save(tensors, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    for path in tmp_path.iterdir():
        assert same(read_tensors(path), tensors), path


def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    torch.save({"state_dict": state(model()), "extra": Bomb(made)}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Bomb(made)))
    for name in ("bomb.pt", "plain.pkl"):
        with pytest.raises(CorruptFile, match=f"{name} .*refused") as caught:
            read_tensors(tmp_path / name)
        assert "safetensors" in str(caught.value.hint)
    assert not made.exists()


def test_a_torchscript_archive_is_refused_because_it_holds_a_program(tmp_path: Path) -> None:
    path = tmp_path / "ViT-L-14.pt"
    (tmp_path / "inside").mkdir()
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ViT-L-14/constants.pkl", b"")
        archive.writestr("ViT-L-14/code/model.py", b"")
    with pytest.raises(CorruptFile, match="TorchScript archive") as caught:
        read_tensors(path)
    assert "--backbone ViT-L-14/openai" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -1000])
def test_a_truncated_file_is_damaged(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(state(model()), path)
    else:
        save_file(state(model()), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFile, match=f"{name} is damaged"):
        read_tensors(path)


@pytest.mark.parametrize("name", ["page.safetensors", "page.pt"])
def test_what_was_saved_in_place_of_weights_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html><body>404: not found</body></html>")
    with pytest.raises(CorruptFile, match=f"{name} is a web page"):
        read_tensors(tmp_path / name)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 2\n")
    with pytest.raises(CorruptFile, match=f"{name} is a pointer of git-lfs") as raised:
        read_tensors(tmp_path / name)
    assert "git lfs pull" in str(raised.value.hint)


def prefixed(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


WRAPPERS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "CLIP": lambda clip: {"epoch": 3, "CLIP": clip, "optimizer": {"state": {}}},
    "model": lambda clip: {
        "model": clip,
        "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}},
        "args": {"lr": 1.0},
    },
    "model_state_dict": lambda clip: {"model_state_dict": clip, "loss": 0.5},
    "state_dict": lambda clip: {"state_dict": prefixed("model.", clip), "global_step": 3},
    "nested": lambda clip: {"model": {"state_dict": prefixed("module._orig_mod.", clip)}},
    "the other way round": lambda clip: prefixed("_orig_mod.module.", clip),
    "thrice": lambda clip: prefixed("module.model.module.", clip),
    "a compiled tower": lambda clip: {
        name.replace("visual.", "visual._orig_mod."): tensor for name, tensor in clip.items()
    },
    "beside an average": lambda clip: {"model": clip, "model_ema": {name: t * 2 for name, t in clip.items()}},
    "beside an average by prefix": lambda clip: {
        "state_dict": prefixed("model.", clip) | prefixed("model_ema.", {name: t * 2 for name, t in clip.items()})
    },
    "a decay of an average": lambda clip: {"state_dict": clip, "ema": 0.999, "ema_decay": 0.999},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_state_dict_is_found_in_what_training_codes_put_around_it(tmp_path: Path, wrapper: str) -> None:
    tensors = state(model())
    torch.save(WRAPPERS[wrapper](tensors), tmp_path / "a.pt")
    assert same(read_tensors(tmp_path / "a.pt"), tensors)


AVERAGES: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "ema": lambda clip: {"epoch": 3, "ema": clip},
    "state_dict_ema": lambda clip: {"state_dict_ema": clip},
    "nested": lambda clip: {"model": {"ema_model": clip}},
    "by prefix": lambda clip: prefixed("model_ema.", clip),
    "torch's": lambda clip: {"n_averaged": torch.tensor(3), **prefixed("module.", clip)},
}


@pytest.mark.parametrize("wrapper", AVERAGES)
def test_averaged_weights_are_never_taken_unasked(tmp_path: Path, wrapper: str) -> None:
    tensors = state(model())
    torch.save(AVERAGES[wrapper](tensors), tmp_path / "a.pt")
    with pytest.raises(CorruptFile, match=r"holds averaged weights \(EMA\) alone"):
        read_tensors(tmp_path / "a.pt")
    asked = choose_average(read_content(tmp_path / "a.pt"), tmp_path / "a.pt", ema=True)
    assert same(state_dict_of(asked, tmp_path / "a.pt"), tensors)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"epoch": 3, "optimizer": {}}, "no tensor is under 'epoch', and its keys are epoch, optimizer; expected are"),
        ({"model": {"a": torch.zeros(1)}, "net": {"a": torch.zeros(1)}}, "holds several state dicts, under model, net"),
        ({"module.a": torch.zeros(1), "a": torch.zeros(1)}, "holds 'a' twice, under different prefixes"),
        ([torch.zeros(1)], "it is a list; expected are tensors by name"),
        ({"state_dict": {}}, "it is empty; expected are tensors by name"),
    ],
)
def test_what_was_found_and_what_was_expected_is_told(tmp_path: Path, content: Any, told: str) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CorruptFile) as raised:
        read_tensors(tmp_path / "a.pt")
    assert told in raised.value.message


def test_weights_of_8_bits_are_read(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2).to(torch.float8_e4m3fn), "b": torch.ones(2, dtype=torch.int8)}
    save_file(tensors, tmp_path / "a.safetensors")
    assert read_tensors(tmp_path / "a.safetensors").keys() == tensors.keys()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_blamed_on_the_file(tmp_path: Path, number: float) -> None:
    tensors = state(model())
    tensors["ln_final.bias"][1] = number
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(CorruptFile, match=r"a\.safetensors holds NaN or infinite numbers, in ln_final\.bias"):
        read_tensors(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [[1, 2], {}, {"weight": 3}, {4: torch.zeros(1)}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_said_to_have_none(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(CorruptFile, match=r"other\.pt holds no (state dict|tensor)"):
        read_tensors(tmp_path / "other.pt")


def test_an_absent_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"gone\.pt does not exist"):
        read_tensors(tmp_path / "gone.pt")


def test_openais_half_precision_weights_and_scalars_fit(tmp_path: Path) -> None:
    tensors = state(model())
    openai = {name: tensor.half() for name, tensor in tensors.items()}
    openai |= {key: torch.tensor(value) for key, value in (("input_resolution", 32), ("context_length", 77))}
    openai["vocab_size"] = torch.tensor(49408)
    target = model(1)
    fit(target, openai, path=tmp_path, architecture="small")
    assert same(state(target), {name: tensor.half().float() for name, tensor in tensors.items()})


def test_a_text_tower_with_a_name_of_its_own_takes_the_older_layout(tmp_path: Path) -> None:
    target = open_clip.CustomTextCLIP(**CONFIG)
    fit(target, state(model()), path=tmp_path, architecture="small")
    tokens = open_clip.tokenize(["a red square"])
    assert torch.equal(target.eval().encode_text(tokens), model().encode_text(tokens))


def test_a_logit_scale_of_another_shape_fits(tmp_path: Path) -> None:
    tensors = state(model())
    tensors["logit_scale"] = tensors["logit_scale"].reshape(1)
    fit(model(1), tensors, path=tmp_path, architecture="small")


def test_weights_of_another_shape_are_refused_with_the_first_tensors_named(tmp_path: Path) -> None:
    wider = {**CONFIG, "vision_cfg": {**CONFIG["vision_cfg"], "image_size": 64}}
    target = model(1)
    before = state(target)
    with pytest.raises(CorruptFile) as caught:
        fit(target, state(model(0, wider)), path=tmp_path / "wide.pt", architecture="small")
    assert "wide.pt does not fit the architecture small" in caught.value.message
    assert "visual.positional_embedding is (65, 32) in the file and (17, 32) in the architecture" in str(caught.value)
    assert same(state(target), before)


def test_missing_and_unknown_tensors_are_refused_and_counted(tmp_path: Path) -> None:
    tensors = state(model())
    moved = {f"student.{name}": tensor for name, tensor in tensors.items()}
    with pytest.raises(CorruptFile, match=r"not found: .*; found and not expected: student\."):
        fit(model(1), moved, path=tmp_path, architecture="small")
    del tensors["ln_final.bias"]
    with pytest.raises(CorruptFile, match=r"expected and not found: ln_final\.bias\."):
        fit(model(1), tensors, path=tmp_path, architecture="small")


@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16", "ViT-L-14", "ViT-L-14-336", "ViT-H-14"])
def test_the_architecture_is_guessed_from_the_shapes(name: str) -> None:
    config = open_clip.get_model_config(name)
    with torch.device("meta"):
        tensors = open_clip.CLIP(**config).state_dict()
    assert guess_architecture(tensors) == name
    assert guess_architecture({"weight": torch.zeros(1)}) is None


def test_the_guess_stands_in_the_hint(tmp_path: Path) -> None:
    with torch.device("meta"):
        tensors = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16")).state_dict()
    with pytest.raises(CorruptFile) as caught:
        fit(model(), tensors, path=tmp_path, architecture="ViT-B-32")
    assert "try --backbone ViT-B-16" in str(caught.value.hint)

"""Weights are tensors that fit, or an error; nothing in a weights file is ever run."""

from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING, Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from cirbench.backbones.weights import fit, guess_architecture, read_tensors
from cirbench.errors import CorruptFile, MissingData
from tests.backbones.small import CONFIG, model, state

if TYPE_CHECKING:
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
def test_a_page_saved_in_place_of_weights_is_damaged(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("<html><body>404: not found</body></html>")
    with pytest.raises(CorruptFile, match=f"{name} is damaged"):
        read_tensors(tmp_path / name)


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
    with pytest.raises(CorruptFile, match=rf"is missing; .* and {2 * len(tensors) - 4} more"):
        fit(model(1), moved, path=tmp_path, architecture="small")
    del tensors["ln_final.bias"]
    with pytest.raises(CorruptFile, match=r"ln_final\.bias is missing\."):
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

"""Published checkpoints, in files laid out as their authors lay them out, become checkpoints that run."""

from __future__ import annotations

import copy
import json
import pickle
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from cirbench.backbones import load_backbone
from cirbench.backbones.encoder import Encoder
from cirbench.cli import execute
from cirbench.errors import CorruptFile, MissingData, UsageError
from cirbench.methods.interface import find_method
from cirbench.methods.loading import build, parse_parameters
from cirbench.methods.training import convert, training_parameters
from cirbench.training.checkpoint import WEIGHTS, read_card
from cirbench.training.contrastive import write_random_model
from cirbench_methods.inversion.phi import Mapping, Phi
from tests.methods.test_inversion import QUERIES
from tests.tiny_clip import CONFIG, tiny_backbone, write_design

if TYPE_CHECKING:
    from collections.abc import Callable

SPECS = {
    "lincir": "cirbench_methods.lincir:SPEC",
    "pic2word": "cirbench_methods.pic2word:SPEC",
    "searle": "cirbench_methods.searle:SEARLE",
    "pli": "cirbench_methods.pli:SPEC",
}


@cache
def design(activation: str = "quick_gelu", **sizes: int) -> Path:
    """A small CLIP, by default with the activation of OpenAI's weights."""
    folder = write_design(Path(mkdtemp()) / f"tiny-{activation}")
    config: dict[str, Any] = copy.deepcopy({**CONFIG, "activation": activation})
    config["model_cfg"]["embed_dim"] = sizes.get("dim", 16)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    write_random_model(folder, folder, seed=0)
    return folder


@cache
def openai_like() -> Any:
    return load_backbone(str(design()), device="cpu")


def network(kind: Any, seed: int = 1) -> Any:
    backbone = openai_like()
    torch.manual_seed(seed)
    return kind.for_backbone(backbone).eval()


def parallel(tensors: Any) -> dict[str, torch.Tensor]:
    return {f"module.{name}": tensor for name, tensor in tensors.items()}


def saved(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def pic2word_file(folder: Path, towers: Any = None) -> Path:
    """As main.py of the public code saves it: towers and network of a parallel training, and the optimiser."""
    trained = network(Mapping)
    optimizer = torch.optim.AdamW(trained.parameters())
    trained(torch.zeros(1, 16)).sum().backward()
    optimizer.step()
    half = {name: tensor.half() for name, tensor in (towers or openai_like().model.state_dict()).items()}
    content = {
        "epoch": 30,
        "name": "a run",
        "state_dict": parallel(half),
        "state_dict_img2text": parallel(network(Mapping).state_dict()),
        "optimizer": optimizer.state_dict(),
    }
    return saved(folder / "pic2word_model.pt", content)


def converted(method: str, path: Path, backbone: Any = None, **values: str) -> Path:
    spec = find_method(SPECS[method])
    parameters = training_parameters(spec, "", values)
    return convert(spec, path, backbone or openai_like(), parameters, output=path.parent / "converted")


def words(checkpoint: Path, method: str) -> Any:
    spec = find_method(SPECS[method])
    encoder = Encoder(openai_like(), None, batch_size=8)
    built: Any = build(spec, encoder, parse_parameters(spec, {}), checkpoint)
    items = [query.reference for query in QUERIES]
    return built._method.invert(items), torch.from_numpy(encoder.images(items))


@pytest.mark.parametrize(
    ("method", "layout"),
    [
        ("searle", lambda tensors: {"epoch": 20, "Phi": tensors}),
        ("lincir", lambda tensors: {"epoch": 20_000, "Phi": tensors}),
        ("lincir", lambda tensors: tensors),
        ("lincir", parallel),
    ],
    ids=["SEARLE", "LinCIR", "a state dict alone", "of a parallel training"],
)
def test_a_published_phi_makes_the_words_that_it_made(tmp_path: Path, method: str, layout: Any) -> None:
    folder = converted(method, saved(tmp_path / "phi.pt", layout(network(Phi).state_dict())))
    found, features = words(folder, method)
    with torch.no_grad():
        np.testing.assert_allclose(found, network(Phi)(features).numpy(), atol=1e-6)


def test_a_published_pic2word_makes_the_words_that_it_made(tmp_path: Path) -> None:
    found, features = words(converted("pic2word", pic2word_file(tmp_path)), "pic2word")
    with torch.no_grad():
        np.testing.assert_allclose(found, network(Mapping)(features).numpy(), atol=1e-6)


def tuned() -> dict[str, torch.Tensor]:
    """The small CLIP after a little tuning, in OpenAI's layout."""
    torch.manual_seed(2)
    own = openai_like().model.state_dict()
    return {name: tensor + 1e-3 * torch.randn_like(tensor) for name, tensor in own.items() if name != "logit_scale"}


def halves(tensors: dict[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    visual = {name.removeprefix("visual."): tensors[name] for name in tensors if name.startswith("visual.")}
    text = {name: tensors[name] for name in tensors if not name.startswith("visual.")}
    return {"image_encoder": {**visual, "vision_mask_token": torch.zeros(32)}, "text_encoder": text}


def below(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"model.{name}": tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize(
    "layout",
    [
        lambda tensors: tensors,
        lambda tensors: {"epoch": 2, "state_dict": parallel(tensors)},
        lambda tensors: {"model_state_dict": halves(tensors), "optimizer_state_dict": {"image_encoder": {}}},
        lambda tensors: {"model_state_dict": {kind: below(half) for kind, half in halves(tensors).items()}},
    ],
    ids=["one state dict", "wrapped, parallel", "a state dict of each tower", "towers under a name of their own"],
)
def test_a_tuned_clip_of_pli_encodes_as_it_did(tmp_path: Path, layout: Any) -> None:
    folder = converted("pli", saved(tmp_path / "epoch_2.pth", layout(tuned())), mask_ratio="0.5")
    assert read_card(folder).training["mask_ratio"] == 0.5
    spec = find_method("pli")
    encoder = Encoder(openai_like(), None, batch_size=8)
    rows = build(spec, encoder, parse_parameters(spec, {}), folder).encode_gallery([q.reference for q in QUERIES])
    model = copy.deepcopy(openai_like())
    model.model.load_state_dict(tuned(), strict=False)
    np.testing.assert_allclose(rows, Encoder(model, None).images([q.reference for q in QUERIES]), atol=1e-4)
    assert not np.allclose(rows, encoder.images([q.reference for q in QUERIES]), atol=1e-4)


def test_the_card_says_where_the_weights_come_from_and_a_second_conversion_does_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "SEARLE_ViT-B32.pt", {"epoch": 1, "Phi": network(Phi).state_dict()})
    folder = converted("searle", path)
    card = read_card(folder)
    assert card.data == "not stated; converted from SEARLE_ViT-B32.pt"
    assert (card.method, card.steps, card.losses) == ("searle", 0, [])
    written = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert converted("searle", path) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == written
    saved(path, {"epoch": 2, "Phi": network(Phi, seed=3).state_dict()})
    with pytest.raises(UsageError, match="holds another checkpoint"):
        converted("searle", path)


def test_a_pickle_that_could_run_code_is_refused(tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> Any:
            return (Path(tmp_path / "ran").touch, ())

    path = tmp_path / "phi.pt"
    path.write_bytes(pickle.dumps({"Phi": Harmful()}))
    with pytest.raises(CorruptFile, match="holds more than tensors, and unpickling it could run any code: refused"):
        converted("searle", path)
    saved(path, {"Phi": network(Phi)})
    with pytest.raises(CorruptFile, match="could run any code: refused"):
        converted("searle", path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (lambda: {"Phi": Phi(24, 32).state_dict()}, "words of 32 numbers from features of 24, and .* features of 16"),
        (lambda: {"Phi": Phi(16, 48).state_dict()}, "words of 48 numbers from features of 16, and .* words of 32"),
        (lambda: {"Phi": Mapping(16, 32).state_dict()}, r"its tensor 'fc_out\.bias' is not part of it"),
        (
            lambda: {"epoch": 3},
            "holds no state dict: .*its keys are epoch; expected are tensors by name, or .* under Phi or",
        ),
    ],
)
def test_a_network_for_another_backbone_or_none_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        converted("lincir", saved(tmp_path / "phi.pt", content()))


WRAPPERS: dict[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "as published": lambda phi: {"epoch": 3, "Phi": phi, "optimizer": {"state": {0: torch.zeros(2)}}},
    "alone": lambda phi: phi,
    "model": lambda phi: {"model": phi, "step": 3},
    "a trainer": lambda phi: {"state_dict": {f"model.module.{name}": tensor for name, tensor in phi.items()}},
    "compiled": lambda phi: {"model_state_dict": {f"_orig_mod.{name}": tensor for name, tensor in phi.items()}},
    "nested": lambda phi: {"model": {"Phi": parallel({f"_orig_mod.{name}": phi[name] for name in phi})}},
    "beside an average": lambda phi: {"Phi": phi, "ema": {"Phi": {name: phi[name] + 1 for name in phi}}},
}


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_network_is_found_in_what_training_codes_put_around_it(tmp_path: Path, wrapper: str) -> None:
    tensors = network(Phi).state_dict()
    folder = converted("searle", saved(tmp_path / "phi.pt", WRAPPERS[wrapper](tensors)))
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load_file(folder / WEIGHTS).items())


def test_averaged_weights_are_taken_if_they_are_asked_for_only(tmp_path: Path) -> None:
    tensors = network(Phi).state_dict()
    averaged = {name: tensor + 1 for name, tensor in tensors.items()}
    spec = find_method(SPECS["searle"])
    values = training_parameters(spec, "", {})
    alone = saved(tmp_path / "alone.pt", {"ema_state_dict": averaged})
    with pytest.raises(CorruptFile, match=r"alone\.pt holds averaged weights \(EMA\) alone"):
        convert(spec, alone, openai_like(), values, output=tmp_path / "a")
    both = saved(tmp_path / "both.pt", {"Phi": tensors, "ema": {"Phi": averaged}})
    for path in (alone, both):
        folder = convert(spec, path, openai_like(), values, output=tmp_path / path.stem, ema=True)
        assert all(torch.equal(tensor, averaged[name]) for name, tensor in load_file(folder / WEIGHTS).items())
    with pytest.raises(UsageError, match="holds another checkpoint"):
        convert(spec, both, openai_like(), values, output=tmp_path / "both")
    with pytest.raises(UsageError, match=r"plain\.pt holds no averaged weights"):
        convert(spec, saved(tmp_path / "plain.pt", {"Phi": tensors}), openai_like(), values, ema=True)


def test_weights_that_are_not_finite_are_blamed_on_the_file(tmp_path: Path) -> None:
    tensors = network(Phi).state_dict()
    tensors["layers.0.weight"][0, 0] = torch.nan
    with pytest.raises(CorruptFile, match=r"phi\.pt holds NaN or infinite numbers, in layers\.0\.weight"):
        converted("searle", saved(tmp_path / "phi.pt", {"Phi": tensors}))
    assert not (tmp_path / "converted").exists()


def test_networks_of_openais_towers_are_refused_on_towers_with_another_activation(tmp_path: Path) -> None:
    path = saved(tmp_path / "phi.pt", {"Phi": network(Phi).state_dict()})
    with pytest.raises(UsageError, match=r"trained on OpenAI's weights, with quick_gelu, and .*tiny has gelu"):
        converted("searle", path, tiny_backbone())
    with pytest.raises(UsageError, match=r"Pic2Word's network .* with quick_gelu, and .*tiny has gelu"):
        converted("pic2word", pic2word_file(tmp_path), tiny_backbone())


def test_a_phi_of_lincir_is_refused_on_towers_with_another_activation(tmp_path: Path) -> None:
    backbone = load_backbone(str(design("gelu", dim=768)), device="cpu")
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Phi(768, 32).state_dict().items()}
    path = saved(tmp_path / "phi.pt", {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()})
    with pytest.raises(UsageError, match=r"phi for 768 numbers was trained with quick_gelu, and .* has gelu"):
        converted("lincir", path, backbone)


def test_a_pic2word_whose_towers_are_not_the_backbones_is_refused(tmp_path: Path) -> None:
    other = {name: tensor + 0.1 for name, tensor in openai_like().model.state_dict().items()}
    with pytest.raises(UsageError, match=r"The towers in pic2word_model\.pt are not those of .*: visual\.proj differs"):
        converted("pic2word", pic2word_file(tmp_path, other))


def test_a_clip_that_was_not_tuned_from_the_backbone_or_is_none_is_refused(tmp_path: Path) -> None:
    other = {name: torch.randn_like(tensor) for name, tensor in tuned().items()}
    with pytest.raises(UsageError, match=r"epoch_0\.pth was not tuned from .*: .*class_embedding is another one"):
        converted("pli", saved(tmp_path / "epoch_0.pth", other))
    text = {"model_state_dict": {"text_encoder": halves(tuned())["text_encoder"]}}
    with pytest.raises(UsageError, match="holds no tuned CLIP: class_embedding is missing"):
        converted("pli", saved(tmp_path / "epoch_0.pth", text))
    wider = {**tuned(), "visual.proj": torch.zeros(32, 24)}
    with pytest.raises(CorruptFile, match=r"visual\.proj is \(32, 24\) in the file and \(32, 16\) in the architecture"):
        converted("pli", saved(tmp_path / "epoch_0.pth", wider))


def test_a_method_without_published_files_and_an_absent_file_are_said(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="does not exist"):
        converted("lincir", tmp_path / "absent.pt")
    code = execute(["convert", "image-text", str(tmp_path / "absent.pt"), "--backbone", "scenes-vit"])
    assert code == 2


def test_the_command_prints_the_folder_of_the_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path / "phi.pt", {"Phi": network(Phi).state_dict()})
    output = str(tmp_path / "checkpoint")
    command = ["convert", SPECS["searle"], str(path), "--backbone", str(design()), "--output", output]
    assert execute(command) == 0
    assert capsys.readouterr().out.strip() == output
    assert read_card(Path(output)).backbone.activation == "quick_gelu"

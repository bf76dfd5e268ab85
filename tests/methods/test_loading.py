"""A method is built from its SPEC, and what hinders that is said."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import pytest

from cirbench.backbones.encoder import Encoder
from cirbench.errors import MethodFailed, MissingData, PluginFailed, UnknownName, UsageError
from cirbench.methods.interface import MethodSpec, find_method
from cirbench.methods.loading import build, parse_parameters
from tests.tiny_clip import tiny_backbone

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return Encoder(tiny_backbone(), None)


def spec_of(implementation: str) -> MethodSpec:
    return MethodSpec(name="mine", title="Mine", implementation=implementation)


def test_an_unknown_parameter_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match=r"no parameter of image-text called 'weigth'\.\nNearest: weight"):
        parse_parameters(find_method("image-text"), {"weigth": "1"})


def test_a_parameter_of_the_training_is_sent_there() -> None:
    with pytest.raises(UnknownName, match=r"cirbench train pli --set mask_ratio=0\.5"):
        parse_parameters(find_method("pli"), {"mask_ratio": "0.5"})


def test_a_trained_method_needs_a_checkpoint_and_others_take_none(encoder: Encoder, tmp_path: Path) -> None:
    pli, plain = find_method("pli"), find_method("image-only")
    with pytest.raises(UsageError, match="The method pli has to be trained first") as caught:
        build(pli, encoder, parse_parameters(pli, {}))
    assert caught.value.hint is not None
    assert "cirbench train pli" in caught.value.hint
    with pytest.raises(MissingData, match="holds no checkpoint"):
        build(pli, encoder, parse_parameters(pli, {}), tmp_path)
    with pytest.raises(UsageError, match="The method image-only is not trained, so it takes no checkpoint"):
        build(plain, encoder, parse_parameters(plain, {}), tmp_path)


def test_an_implementation_that_cannot_be_imported_or_built_is_a_failure_of_the_method(
    encoder: Encoder, tmp_path: Path
) -> None:
    file = tmp_path / "failing.py"
    file.write_text(
        textwrap.dedent(
            """
            class Failing:
                def __init__(self, encoder, parameters, checkpoint=None):
                    raise RuntimeError("no weights here")
            """
        )
    )
    with pytest.raises(MethodFailed, match="The method mine cannot be built: RuntimeError: no weights here"):
        build(spec_of(f"{file}:Failing"), encoder, parse_parameters(spec_of(""), {}))
    with pytest.raises(PluginFailed, match="importing no_such_module failed with ModuleNotFoundError"):
        build(spec_of("no_such_module:Mine"), encoder, parse_parameters(spec_of(""), {}))

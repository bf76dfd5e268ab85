"""Methods are found by name or by reference, and a broken plug-in breaks only itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cirbench.errors import MissingData, PluginFailed, UnknownName, UsageError
from cirbench.methods.interface import MethodSpec, Parameters, find_baselines, find_method, list_methods, load_methods

BUILT_IN = sorted(
    (
        *("image-only", "image-text", "text-only", "captioning", "embedder"),
        *("basic", "freedom", "mulvec"),
        *("judge", "oracle-judge"),
        *("slerp", "product", "weimocir"),
        *("cirevl", "ldre", "seize", "osrcir", "sdr", "pdv"),
        *("pli", "pic2word", "searle", "searle-oti", "lincir", "palavra"),
        *("clip4cir", "combiner", "artemis", "tirg", "maaf", "cirplant", "blip4cir", "bi-blip4cir", "early-fusion"),
    )
)
SINGLE_FILE = """
from cirbench.methods.interface import MethodSpec


class Mine:
    SPEC = MethodSpec(name="mine", title="Mine", implementation=f"{__name__}:Mine")

    def __init__(self, encoder, parameters, checkpoint=None):
        self.encoder = encoder


PLAIN = MethodSpec(name="plain", title="Plain", implementation=f"{__name__}:Mine")
OTHER = 3
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, reference: str) -> None:
    """Register an entry point as an installed distribution does."""
    info = folder / f"{name}_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cirbench.methods]\n{name} = {reference}\n")
    monkeypatch.syspath_prepend(str(folder))


def test_the_methods_that_come_along_are_found_and_work() -> None:
    found, broken = load_methods()
    assert sorted(found) == BUILT_IN
    assert broken == {}


def test_every_method_folder_is_registered() -> None:
    root = Path(__file__).parent.parent.parent / "methods" / "cirbench_methods"
    folders = {path.parent.name for path in root.glob("*/__init__.py") if "MethodSpec(" in path.read_text()}
    packages = {find_method(name).implementation.split(".")[1] for name in list_methods()}
    assert folders == packages


def test_loading_every_spec_imports_no_torch() -> None:
    program = (
        "import sys; from cirbench.methods.interface import load_methods; load_methods(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownName, match=r"There is no method called 'image-txt'\.\nNearest: image-text"):
        find_method("image-txt")


def test_a_plug_in_that_cannot_be_imported_breaks_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "broken_plugin.py").write_text("import a_package_that_is_not_there\n")
    install(tmp_path, monkeypatch, "broken", "broken_plugin:SPEC")
    found, broken = load_methods()
    assert sorted(found) == BUILT_IN
    assert list(broken) == ["broken"]
    assert broken["broken"].message == (
        "The method broken cannot be loaded: importing broken_plugin failed with "
        "ModuleNotFoundError: No module named 'a_package_that_is_not_there'"
    )
    assert broken["broken"].exit_code == 5
    assert "broken" in list_methods()


def test_a_plug_in_that_exits_on_import_breaks_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_plugin.py").write_text("import sys\nsys.exit('no')\n")
    install(tmp_path, monkeypatch, "leaving", "leaving_plugin:SPEC")
    assert "SystemExit: no" in load_methods()[1]["leaving"].message


def test_a_plug_in_must_call_itself_as_it_is_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "renamed_plugin.py").write_text(SINGLE_FILE)
    install(tmp_path, monkeypatch, "renamed", "renamed_plugin:PLAIN")
    with pytest.raises(PluginFailed, match="The method renamed calls itself 'plain' in its SPEC"):
        find_method("renamed")


def test_a_method_may_be_a_class_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SINGLE_FILE)
    spec = find_method(f"{file}:Mine")
    assert spec.name == "mine"
    assert find_method(f"{file}:Mine") is spec
    assert find_method(f"{file}:PLAIN").name == "plain"


def test_a_method_may_be_a_class_in_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "someones_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mine.py").write_text(SINGLE_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_method("someones_package.mine:Mine").name == "mine"


def test_what_is_no_method_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SINGLE_FILE)
    with pytest.raises(PluginFailed, match="is not a method: it is neither a MethodSpec nor a class with one as SPEC"):
        find_method(f"{file}:OTHER")
    with pytest.raises(UnknownName, match=r"There is no object in .*mine.py called 'Mien'.\nNearest: Mine"):
        find_method(f"{file}:Mien")
    with pytest.raises(MissingData, match=r"absent.py does not exist"):
        find_method(f"{tmp_path / 'absent.py'}:Mine")
    with pytest.raises(UsageError, match="names no object"):
        find_method("some.module:")


def test_a_file_that_fails_is_tried_again_once_it_is_mended(tmp_path: Path) -> None:
    file = tmp_path / "mended.py"
    file.write_text("1 / 0")
    with pytest.raises(PluginFailed, match="ZeroDivisionError: division by zero"):
        find_method(f"{file}:Mine")
    file.write_text(SINGLE_FILE + "# mended, and of another length\n")
    assert find_method(f"{file}:Mine").name == "mine"


def test_the_baselines_are_found_by_the_side_of_the_query_that_they_declare() -> None:
    found = {side: spec.name for side, spec in find_baselines().items()}
    assert found == {"image": "image-only", "text": "text-only", "image+text": "image-text"}


def test_a_broken_method_does_not_hide_the_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, monkeypatch, "broken", "no_such_package_anywhere:SPEC")
    assert {*find_baselines()} == {"image", "text", "image+text"}


def test_a_name_that_comes_with_cirbench_cannot_be_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "taking.py").write_text(SINGLE_FILE)
    install(tmp_path, monkeypatch, "pli", "taking:PLAIN")
    found, broken = load_methods()
    assert found["pli"].title != "Plain"
    assert broken["pli of pli-plugin"].message == (
        "The method pli of pli-plugin is not used: cirbench registers that name already."
    )


def test_parameters_may_decide_whether_a_method_is_transductive() -> None:
    class Expanding(Parameters, frozen=True):
        """How it expands.

        Attributes:
            neighbours: How many.
        """

        neighbours: int = 0

    spec = MethodSpec("a", "A", "a:A", parameters=Expanding, transductive=lambda found: found.neighbours > 0)
    assert [spec.transductive_with(Expanding(neighbours=count)) for count in (0, 3)] == ["no", "yes"]
    assert MethodSpec("b", "B", "b:B", transductive="unknown").transductive_with(Parameters()) == "unknown"

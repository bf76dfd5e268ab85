"""A stranger's package adds one plug-in of each kind, and a broken one of each, without an edit elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from PIL import Image

from cirbench import cli
from cirbench.support.scaffold import object_of, write_plugin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KINDS = ("method", "benchmark", "backbone", "metric", "server")
PLURAL = {kind: f"{kind}s" for kind in KINDS}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One installed distribution with a plug-in of each kind as `cirbench new` writes it, and a broken one of each."""
    groups = []
    for kind in KINDS:
        write_plugin(kind, f"strange-{kind}", tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path / f"strange-{kind}"))
        working = f"strange-{kind} = strange_{kind}:{object_of(kind)}"
        groups.append(f"[cirbench.{PLURAL[kind]}]\n{working}\nbroken-{kind} = a_module_that_is_not_there:X\n")
    info = tmp_path / "strange-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("CIRBENCH_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("strange_")]:
        del sys.modules[name]


@pytest.mark.usefixtures("installed")
def test_each_is_listed_and_a_broken_one_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    for kind in KINDS:
        assert cli.execute(["list", PLURAL[kind], "--json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert f"strange-{kind}" in rows
        assert "broken: " in str(rows[f"broken-{kind}"]) and "a_module_that_is_not_there" in str(rows[f"broken-{kind}"])
        assert {tuple(row) for row in rows.values()} == {tuple(rows[f"strange-{kind}"])}
    assert cli.execute(["doctor", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    for kind in (*KINDS[:-1], "server form"):
        short = kind.partition(" ")[0]
        assert f"strange-{short}" in facts[f"{kind}s"]
        assert facts[f"{kind} broken-{short}"].startswith(f"broken: The {kind} broken-{short} cannot be loaded")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_each_passes_its_check_at_once_by_name_and_by_file(
    installed: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = installed / f"strange-{kind}" / f"strange_{kind}" / "__init__.py"
    if kind == "server":
        # Its protocol is of no benchmark yet: the check says so.
        assert cli.execute(["check", kind, f"strange-{kind}"]) == 4
        assert "no benchmark has the protocol 'strange-server/test'" in capsys.readouterr().out
        return
    for name in (f"strange-{kind}", f"{file}:{object_of(kind)}"):
        assert cli.execute(["check", kind, name, "--json"]) == 0, name
        findings = json.loads(capsys.readouterr().out)
        assert len(findings) >= 4 and all(finding["problem"] is None for finding in findings)
    assert cli.execute(["check", kind, f"broken-{kind}"]) == 5
    assert "a_module_that_is_not_there" in capsys.readouterr().err


@pytest.mark.slow
def test_they_work_together_in_one_run(installed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = installed / "DATA" / "strange-benchmark"
    (folder / "images").mkdir(parents=True)
    colours = ("red", "green", "blue", "white")
    for colour in colours:
        Image.new("RGB", (32, 32), colour).save(folder / "images" / f"{colour}.png")
    rows = [
        {"reference": one, "text": f"make it {other}", "target": other}
        for one, other in zip(colours, (*colours[1:], colours[0]), strict=True)
    ]
    (folder / "val.json").write_text(json.dumps(rows))
    run = ["run", "--method", "strange-method", "--dataset", "strange-benchmark", "--data-root", "DATA", "-o", "runs"]
    assert cli.execute([*run, "--backbone", "strange-backbone:small", "--metric", "strange-metric@2"]) == 0
    out = capsys.readouterr().out
    assert "strange-benchmark/val@1" in out and "strange-metric@2" in out and "strange-backbone:small" in out
    assert cli.execute(["check", "benchmark", "strange-benchmark", "--data-root", "DATA"]) == 0
    assert "ok      strange-benchmark/val loads and is what it is said to be" in capsys.readouterr().out
    assert cli.execute(["data", "plan", "strange-benchmark"]) == 0
    assert "https://example.org/strange-benchmark/val.json" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_names_that_cannot_be_typed_are_refused_and_nothing_is_overwritten(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = ["new", kind, "--path", str(tmp_path)]
    assert cli.execute([*new, "Fresh_1"]) == 2
    assert f"'Fresh_1' cannot be the name of a {kind}." in capsys.readouterr().err
    assert cli.execute([*new, "fresh"]) == 0
    assert cli.execute([*new, "fresh"]) == 2
    assert "fresh exists already" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_listing_all_kinds_imports_no_torch() -> None:
    code = "import sys; from cirbench import cli; [cli.execute(['list', kind]) for kind in sys.argv[1:]]; "
    code += "sys.exit('torch' in sys.modules)"
    kinds = ["methods", "benchmarks", "protocols", "backbones", "metrics", "servers"]
    subprocess.run([sys.executable, "-c", code, *kinds], check=True, capture_output=True)

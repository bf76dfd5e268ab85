"""A configuration says what it does not understand, and survives the way through TOML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import MissingData, UnknownName, UsageError
from cirbench.runs.config import RunConfig, Settings, read_config, resolve, to_toml
from cirbench_methods.baselines import SumParameters, TextParameters

if TYPE_CHECKING:
    from cirbench.backbones.interface import Precision

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
VALUES = TEXT | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
CONFIGS = st.builds(
    RunConfig,
    method=st.lists(TEXT, min_size=1).map(tuple),
    dataset=TEXT,
    split=st.none() | TEXT,
    weights=st.none() | TEXT,
    activation=st.sampled_from([None, "gelu", "quick_gelu"]),
    set=st.dictionaries(TEXT, VALUES, max_size=4),
    train=st.dictionaries(TEXT, VALUES, max_size=4),
    batch_size=st.integers(0, 4096),
    limit=st.none() | st.integers(1, 100),
    seed=st.integers(0, 2**31),
)


@given(CONFIGS)
def test_a_configuration_written_as_toml_reads_back_as_itself(config: RunConfig) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(to_toml(config), encoding="utf-8")
        assert read_config(file, {}) == config


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('method = ["pli"]\ndataset = "scenes"\nseed = 1\n[set]\na = 1\nb = 2\n')
    config = read_config(file, {"seed": 0, "split": None, "set": {"b": 3}})
    assert (config.seed, config.split, config.set) == (0, None, {"a": 1, "b": 3})


def test_an_unknown_key_offers_the_nearest(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('metod = ["pli"]\n')
    with pytest.raises(UnknownName, match=r"There is no key in .*config.toml called 'metod'.\nNearest: method"):
        read_config(file, {})


def test_a_value_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('method = ["pli"]\ndataset = "scenes"\nseed = "one"\n')
    with pytest.raises(UsageError, match=r"Expected `int`, got `str` - at `\$.seed`"):
        read_config(file, {})


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("method: pli\n")
    with pytest.raises(UsageError, match=r"config.toml is not TOML"):
        read_config(file, {})


def test_an_absent_file_is_missing_data(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="There is no configuration file"):
        read_config(tmp_path / "config.toml", {})


@pytest.mark.parametrize(
    ("options", "missing"), [({"dataset": "scenes"}, "--method"), ({"method": ["pli"]}, "--dataset")]
)
def test_method_and_dataset_must_be_given(options: dict[str, object], missing: str) -> None:
    with pytest.raises(UsageError, match=f"{missing} is missing"):
        read_config(None, dict(options))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("seed = -1", r"Expected `int` >= 0 - at `\$\.seed`"),
        ("seed = 100000000000000000000000", r"at most 64 bits - at `\$\.seed`"),
        ("limit = 0", r"Expected `int` >= 1 - at `\$\.limit`"),
        ("batch_size = -3", r"Expected `int` >= 0 - at `\$\.batch_size`"),
        ("set = {weight = 1e400}", r"Expected a finite number, got inf - at `\$\.set\.weight`"),
        ("set = {weight = nan}", r"Expected a finite number, got nan - at `\$\.set\.weight`"),
        ("train = {steps = -100000000000000000000}", r"at most 64 bits - at `\$\.train\.steps`"),
        ("seed = 1" + "0" * 5000, "is not TOML"),
        ("set = 3", r"gives set as 3; it is a table, \[set\]"),
    ],
)
def test_a_number_out_of_range_is_a_usage_error_that_names_it(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(f'method = "image-text"\ndataset = "scenes"\n{line}\n')
    with pytest.raises(UsageError, match=said):
        read_config(file, {})


@pytest.mark.parametrize("asked", ["fp32", "bf16", "bf16-autocast"])
def test_a_precision_that_is_asked_for_is_kept(asked: Precision) -> None:
    config = RunConfig(method=("image-only",), dataset="scenes", device="cpu", precision=asked)
    assert resolve(config).config == config


def test_an_open_precision_is_the_one_it_stands_for_before_a_finished_run_is_looked_for() -> None:
    left_open, usual = (
        RunConfig(method=("image-only",), dataset="scenes", device="cpu", precision=asked) for asked in ("auto", "fp32")
    )
    assert resolve(left_open) == resolve(usual)


def test_one_method_need_not_be_a_list(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('method = "image-text, pli"\ndataset = "scenes"\n')
    assert read_config(file, {}).method == ("image-text", "pli")


def test_a_parameter_of_one_of_several_methods_carries_its_name() -> None:
    settings: Settings = {"prompt": "so {}", "image-text.weight": "0.5", "text-only.prompt": "{}!"}
    asked = RunConfig(method=("image-text", "text-only"), dataset="scenes", set=settings)
    found = {each.spec.name: each.parameters for each in resolve(asked).entrants}
    assert found["image-text"] == SumParameters(prompt="so {}", weight=0.5)
    assert found["text-only"] == TextParameters(prompt="{}!")


def test_a_parameter_of_a_method_that_is_not_asked_for_is_refused() -> None:
    asked = RunConfig(method=("text-only",), dataset="scenes", set={"text-onyl.prompt": "{}!"})
    with pytest.raises(UnknownName, match="no method of this run called 'text-onyl'") as caught:
        resolve(asked)
    assert "Nearest: text-only" in str(caught.value.hint)

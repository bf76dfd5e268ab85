"""docs/training.md says what there is, and its code runs."""

from __future__ import annotations

import re
from pathlib import Path

from cirbench.support.parameters import describe
from cirbench.training.checkpoint import read_card
from cirbench.training.interface import TrainingParameters

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()


def test_the_page_has_every_parameter_that_all_trainings_share() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert {field.name for field in describe(TrainingParameters)} - named == set()


def test_the_code_of_the_page_trains() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    assert isinstance(names["folder"], Path)
    assert read_card(names["folder"]).steps == 2

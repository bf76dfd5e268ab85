"""Parameters are typed, have defaults, and say what is wrong with a value."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
import pytest

from cirbench.errors import UnknownName, UsageError
from cirbench.support.parameters import Parameters, describe, pairs, parse


class Knobs(Parameters, frozen=True):
    """Knobs.

    Attributes:
        rate: How fast; a description
            may go on in the next line.
        mode: Which way.
    """

    rate: Annotated[float, msgspec.Meta(ge=0)] = 0.5
    mode: Literal["up", "down"] = "up"
    weight: float | None = None
    steps: tuple[int, ...] = ()
    loud: bool = False


def test_texts_are_converted_to_the_types_of_the_fields() -> None:
    values = {"rate": "0.25", "mode": "down", "weight": "null", "steps": "5, 8", "loud": "true"}
    assert parse(Knobs, values, owner="knobs") == Knobs(rate=0.25, mode="down", steps=(5, 8), loud=True)


def test_values_of_toml_are_taken_as_they_are() -> None:
    assert parse(Knobs, {"rate": 1, "steps": [1, 2]}, owner="knobs") == Knobs(rate=1.0, steps=(1, 2))


def test_what_is_not_set_comes_from_the_base() -> None:
    assert parse(Knobs, {"rate": "2"}, owner="knobs", base=Knobs(mode="down")) == Knobs(rate=2.0, mode="down")


def test_an_unknown_parameter_is_answered_with_the_nearest_names() -> None:
    with pytest.raises(UnknownName, match=r"There is no parameter of knobs called 'wieght'\.\nNearest: weight"):
        parse(Knobs, {"wieght": "1"}, owner="knobs")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rate", "fast", "float"),
        ("rate", "-1", ">= 0.0"),
        ("mode", "left", "Invalid enum value"),
        ("steps", "a", "int"),
    ],
)
def test_a_wrong_value_is_answered_with_the_parameter_its_type_and_its_default(
    name: str, value: str, expected: str
) -> None:
    with pytest.raises(UsageError, match=f"The parameter {name} of knobs cannot be") as caught:
        parse(Knobs, {name: value}, owner="knobs")
    assert expected in caught.value.message
    assert caught.value.hint is not None
    assert caught.value.hint.endswith(f"Its default is {getattr(Knobs(), name)!r}.")


def test_a_wrong_choice_is_answered_with_all_of_them() -> None:
    with pytest.raises(UsageError, match=r"It is one of down, up\. Its default is 'up'\."):
        parse(Knobs, {"mode": "left"}, owner="knobs")


def test_key_value_texts_are_split_at_the_first_equals_sign() -> None:
    assert pairs(["prompt=a = {}", " weight = 1 "]) == {"prompt": "a = {}", "weight": "1"}
    with pytest.raises(UsageError, match="KEY=VALUE, not 'weight'"):
        pairs(["weight"])


def test_descriptions_come_from_the_docstring() -> None:
    fields = {field.name: field for field in describe(Knobs)}
    assert fields["rate"].text == "How fast; a description may go on in the next line."
    assert fields["rate"].default == 0.5
    assert fields["weight"].text == ""


def test_a_subclass_inherits_descriptions() -> None:
    class More(Knobs, frozen=True):
        """More.

        Attributes:
            extra: One more.
        """

        extra: int = 1

    assert {field.name: field.text for field in describe(More)}["mode"] == "Which way."

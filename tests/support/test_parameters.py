"""Parameters are typed, have defaults, and say what is wrong with a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cirbench.errors import UnknownName, UsageError
from cirbench.support.parameters import Parameters, describe, named_files, pairs, parse, settings_of

if TYPE_CHECKING:
    from pathlib import Path


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


class Course(Parameters, frozen=True):
    """How far to go: by turns unless miles or hours are set; a limit for those who go by car."""

    EXCLUSIVE: ClassVar[tuple[tuple[str, ...], ...]] = (("turns", "miles", "hours"),)
    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {"limit": ("by", "car")}

    turns: int = 1
    miles: int | None = 5
    hours: int | None = None
    by: Literal["foot", "car"] = "foot"
    limit: tuple[int, ...] = (50,)


class Voyage(Course, frozen=True):
    """A course by sea."""

    ONLY_WITH: ClassVar[dict[str, tuple[str, Any]]] = {"knots": ("sail", True)}

    sail: bool = False
    knots: int | None = None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"turns": "3"}, (3, None, None)),
        ({"hours": "2"}, (1, None, 2)),
        ({"miles": "7"}, (1, 7, None)),
        ({"turns": "3", "miles": "null"}, (3, None, None)),
        ({"by": "car"}, (1, 5, None)),
    ],
)
def test_a_parameter_that_is_set_clears_those_of_the_preset_that_it_excludes(
    given: dict[str, str], expected: tuple[int | None, ...]
) -> None:
    for base in (None, Voyage()):
        course = parse(Voyage, given, owner="a voyage", base=base)
        assert (course.turns, course.miles, course.hours) == expected


def test_two_parameters_that_exclude_each_other_are_refused_by_name() -> None:
    with pytest.raises(UsageError, match="The parameters turns and hours of a voyage exclude each other") as caught:
        parse(Voyage, {"hours": "2", "turns": "1"}, owner="a voyage")
    assert caught.value.hint == "Set one of them only: turns=1 or hours=2"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": "30"}, "The parameter limit of a voyage has an effect only with by=car, and by is foot"),
        ({"knots": "4"}, "The parameter knots of a voyage has an effect only with sail=true, and sail is false"),
    ],
)
def test_a_parameter_that_would_have_no_effect_is_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(Voyage, given, owner="a voyage")
    parse(Voyage, {**given, "by": "car", "sail": "true"}, owner="a voyage")


def test_a_null_in_place_of_another_value_is_a_setting_too() -> None:
    preset, wanted = Voyage(sail=True, knots=4), Voyage(sail=True, knots=None)
    assert settings_of(wanted, preset)["knots"] == "null"
    assert parse(Voyage, settings_of(wanted, preset), owner="a voyage", base=preset) == wanted


@given(
    st.builds(
        Voyage,
        turns=st.integers(1, 9),
        miles=st.none() | st.integers(1, 9),
        by=st.sampled_from(["foot", "car"]),
        sail=st.booleans(),
        knots=st.none() | st.integers(1, 9),
    )
)
def test_the_settings_of_parameters_can_be_set_again_and_give_what_has_an_effect(voyage: Voyage) -> None:
    again = parse(Voyage, settings_of(voyage), owner="a voyage", base=Voyage(miles=None))
    assert (again.miles, again.hours, again.by, again.sail) == (voyage.miles, voyage.hours, voyage.by, voyage.sail)
    assert again.turns == (voyage.turns if voyage.miles is None else 1)
    assert again.knots == (voyage.knots if voyage.sail else None)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    class Weighted(Parameters, frozen=True):
        weight: float = 1.0

    with pytest.raises(UsageError, match=f"The parameter weight of a method cannot be '{text}'"):
        parse(Weighted, {"weight": text}, owner="a method")


class Naming(Parameters, frozen=True):
    """Parameters that may name files."""

    one: str | None = None
    some: tuple[str, ...] = ()


def test_files_and_folders_that_parameters_name_are_found_wherever_they_are_named(tmp_path: Path) -> None:
    file, folder = tmp_path / "a.txt", tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for path in (file, folder / "sub" / "b.txt"):
        path.write_text("1")
    parameters = Naming(one=str(folder), some=(str(file), "a photo of", "x" * 5000, "\0", ""))
    before = named_files(parameters)
    assert set(before) == {str(file), str(folder)}
    assert named_files(parameters) == before
    (folder / "sub" / "b.txt").write_text("12")
    changed = named_files(parameters)
    assert changed[str(folder)] != before[str(folder)]
    file.write_text("2")
    assert named_files(parameters)[str(file)] != before[str(file)]

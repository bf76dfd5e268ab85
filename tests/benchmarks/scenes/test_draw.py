"""Scenes as pixels."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cirbench.benchmarks.scenes.benchmark import SceneImage
from cirbench.benchmarks.scenes.draw import SIZE, render
from cirbench.benchmarks.scenes.world import (
    COLOURS,
    GROUNDS,
    SHAPES,
    SIZES,
    STYLES,
    TEXTURES,
    VIEWPOINTS,
    Dice,
    Place,
    Scene,
    Thing,
    is_sound,
    random_scene,
)

SCENE = Scene((Thing("star", "red", "large", "plain", (Place(1, 1),)),), "meadow", "front", "painting")


def with_thing(**fields: Any) -> Scene:
    return dataclasses.replace(SCENE, things=(dataclasses.replace(SCENE.things[0], **fields),))


ATTRIBUTES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "texture": TEXTURES}
SETTINGS: dict[str, Any] = {"ground": GROUNDS, "viewpoint": VIEWPOINTS, "style": STYLES}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("viewpoint", VIEWPOINTS)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_every_value_of_an_attribute_shows_in_the_picture(name: str, viewpoint: str, style: str) -> None:
    pictures = [
        render(dataclasses.replace(with_thing(**{name: value}), viewpoint=viewpoint, style=style)).astype(int)
        for value in ATTRIBUTES[name]
    ]
    for one, other in itertools.combinations(pictures, 2):
        assert np.count_nonzero(np.abs(one - other).max(axis=2) > 16) >= 6


@pytest.mark.parametrize("name", SETTINGS)
def test_every_value_of_a_setting_shows_in_the_picture(name: str) -> None:
    pictures = [render(dataclasses.replace(SCENE, **{name: value})).astype(int) for value in SETTINGS[name]]
    for one, other in itertools.combinations(pictures, 2):
        assert np.count_nonzero(np.abs(one - other).max(axis=2) > 8) >= SIZE


@given(seed=st.integers(0, 10_000), things=st.integers(1, 4))
@settings(max_examples=50)
def test_objects_never_share_a_cell_and_random_scenes_are_sound(seed: int, things: int) -> None:
    scene = random_scene(Dice("test", seed), things=things)
    cells = [(place.column, place.row) for thing in scene.things for place in thing.places]
    assert len(set(cells)) == len(cells)
    assert is_sound(scene)


def test_the_order_in_which_things_are_listed_does_not_show() -> None:
    scene = random_scene(Dice("order"), things=3)
    turned = dataclasses.replace(scene, things=scene.things[::-1])
    assert np.array_equal(render(scene), render(turned))
    assert SceneImage(scene).content == SceneImage(turned).content


def test_moving_an_object_by_one_pixel_changes_content_and_picture_but_not_structure() -> None:
    moved = with_thing(places=(Place(1, 1, dx=1),))
    assert SceneImage(moved).content != SceneImage(SCENE).content
    assert not np.array_equal(render(moved), render(SCENE))
    assert moved.structure == SCENE.structure


def test_a_scene_opens_as_a_64_pixel_rgb_image_and_can_be_drawn_larger() -> None:
    image = SceneImage(SCENE).open()
    assert (image.mode, image.size) == ("RGB", (SIZE, SIZE))
    assert render(SCENE, 256).shape == (256, 256, 3)


def test_a_larger_picture_shows_the_same_scene() -> None:
    for seed in range(20):
        scene = random_scene(Dice("zoom", seed), things=3)
        large = render(scene, 4 * SIZE).reshape(SIZE, 4, SIZE, 4, 3).mean(axis=(1, 3))
        assert np.abs(large - render(scene)).mean() < 12


def test_a_scene_names_itself_in_messages() -> None:
    assert "1 large red plain star; meadow; front; painting" in str(SceneImage(SCENE))

"""A training can be told to look at the first samples only."""

from __future__ import annotations

from cirbench.methods.interface import find_method
from cirbench.methods.training import training_parameters, training_request
from tests.tiny_clip import coloured_pairs, tiny_backbone


def test_a_training_on_the_first_samples_is_another_training_on_a_shorter_source() -> None:
    pli, source = find_method("pli"), coloured_pairs()
    whole, part = (
        training_request(pli, tiny_backbone(), source, training_parameters(pli, "tiny", values))
        for values in ({}, {"samples": "8"})
    )
    assert part.source.samples == source.samples[:8]
    assert part.source.name == "colours (the first 8)"
    assert part.source.digest != whole.source.digest
    assert part.digest != whole.digest


def test_more_samples_than_there_are_is_all_of_them() -> None:
    source = coloured_pairs()
    assert source.first(1000) is source

"""The sentences in which PALAVRA and SEARLE encode words and concepts."""

from __future__ import annotations


def _templates(*illustration: str) -> tuple[str, ...]:
    return (
        *("This is a photo of a {}", "This photo contains a {}", "A photo of a {}"),
        *illustration,
        *("This is a sketch of a {}", "This sketch contains a {}", "A sketch of a {}"),
        *("This is a diagram of a {}", "This diagram contains a {}", "A diagram of a {}"),
        *("A {}", "We see a {}", "{}"),
        *("We see a {} in this photo", "We see a {} in this image", "We see a {} in this illustration"),
        *("We see a {} photo", "We see a {} image", "We see a {} illustration"),
        *("{} photo", "{} image", "{} illustration"),
    )


TEMPLATES = {
    "searle": _templates(
        "This is an illustration of a {}", "This illustration contains a {}", "An illustrations of a {}"
    ),
    "palavra": _templates(
        "This is an illustrations of a {}", "This illustrations contains a {}", "An illustrations of a {}"
    ),
}
"""The 24 of PALAVRA (arXiv:2204.01694, appendix A), spelling included, and as SEARLE's public code writes them."""

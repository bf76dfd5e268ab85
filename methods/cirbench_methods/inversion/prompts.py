"""The sentences in which a word and a caption stand together."""

from __future__ import annotations

import dataclasses

from cirbench.backbones.text import PLACEHOLDER
from cirbench.errors import UsageError

CAPTION = "{}"


@dataclasses.dataclass(frozen=True, slots=True)
class Prompt:
    """A sentence with a place for the word and one for the caption.

    Attributes:
        template: The sentence.
        without: What is taken off a caption that begins with it.
    """

    template: str
    without: str = ""

    def fill(self, caption: str) -> str:
        """Put a caption into its place; the word's place stays the first placeholder."""
        caption = caption.removeprefix(self.without)
        if self.template.index(CAPTION) < self.template.index(PLACEHOLDER):
            caption = caption.replace(PLACEHOLDER, "")
        return self.template.replace(CAPTION, caption)


PUBLISHED = {
    "that": Prompt("a photo of $ that {}"),
    "comma": Prompt("a photo of $ , {}"),
    "domain": Prompt("{} $"),
    "and": Prompt("a photo of $ and {}", without="a photo of "),
}
"""SEARLE and LinCIR use ``that`` on every benchmark. Pic2Word uses ``comma`` on CIRR and FashionIQ, ``domain`` on
ImageNet-R, whose captions are "a cartoon of" and the like, and ``and`` on COCO, whose captions begin with "a photo of".
"""


def find_prompt(text: str) -> Prompt:
    """Find a published prompt by name, or take a text as one.

    Raises:
        UsageError: It lacks a place for the word or the caption.
    """
    if text in PUBLISHED:
        return PUBLISHED[text]
    for place, what in ((PLACEHOLDER, "the image's word"), (CAPTION, "the caption")):
        if place not in text:
            raise UsageError(
                f"The prompt {text!r} has no place for {what}.",
                hint=f"Write {place} where it belongs, or name one of {', '.join(PUBLISHED)}.",
            )
    return Prompt(text)

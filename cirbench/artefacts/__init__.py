"""What models said, written down once: captions of images, and answers to questions about images and texts.

A method that needs a language model, a captioner or a judge asks by `Question`, and takes what `answered` returns:
what is recorded in an `Artefact`, and what the model says now, if there is one. So a run is replayed without the model.
"""

from cirbench.artefacts.answers import (
    Answer,
    Answers,
    Artefact,
    ArtefactRecord,
    Maker,
    Question,
    answered,
    kept,
    merge,
)
from cirbench.artefacts.captions import describe, kept_captions

__all__ = [
    "Answer",
    "Answers",
    "Artefact",
    "ArtefactRecord",
    "Maker",
    "Question",
    "answered",
    "describe",
    "kept",
    "kept_captions",
    "merge",
]

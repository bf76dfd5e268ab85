"""Text that somebody else wrote, made harmless: nothing in it acts on a terminal or turns the page around."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # parts of words and of emoji
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""Show each control, bidirectional, invisible or broken character as an escape, ``\x1b`` or ``\u202e``."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(sign) if hidden(sign) else sign for sign in text)


def hidden(sign: str) -> bool:
    """Whether a character acts without being seen: C0 and C1 controls, bidi controls, separators, lone surrogates."""
    return unicodedata.category(sign) in _HIDDEN and sign not in _JOINERS


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode("ascii")

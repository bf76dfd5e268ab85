"""cirbench: the harness and leaderboard for composed image retrieval."""

from __future__ import annotations

__version__ = "0.1.0"

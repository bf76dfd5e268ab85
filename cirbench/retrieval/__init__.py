"""Exact ranking, in memory or streamed from disk."""
